//! What nobody uses: flows that nobody speaks in stay, and rows that hold nothing are not mapped.

use super::frames::{frame, tcp_key};
use super::lab::{Lab, OPENED, Verdict, config, in_own_namespaces};
use crate::layout::EpochCell;
use crate::mapped_array::{MappedArray, WINDOW_ROWS};
use aya::maps::{Array, MapData};
use margay_core::id::SlotIndex;
use margay_core::port::FlowEntries;
use std::sync::atomic::Ordering::Relaxed;

const IDLE: u16 = 10_000;

/// Room for the idle flows and some others.
const ROOM: u16 = IDLE + 1_000;

/// The `number`th flow of the client, in a pair of slots of its own.
fn flow(lab: &Lab, number: u16) -> FlowEntries {
    let mut key = tcp_key();
    key.source.set_port(number);
    let mut entries = lab.entries(key);
    entries.forward.slot = SlotIndex(2 * u32::from(number));
    entries.reverse.slot = SlotIndex(2 * u32::from(number) + 1);
    entries
}

#[test]
fn ten_thousand_idle_flows_stay_while_others_come_and_go_and_fill_the_table() {
    in_own_namespaces(|| {
        let mut lab = Lab::with_room_for(2 * u32::from(ROOM));
        for number in 0..IDLE {
            let entries = flow(&lab, number);
            lab.datapath.open_flow(&entries, OPENED).unwrap();
        }
        for _ in 0..3 {
            for number in IDLE..ROOM {
                let entries = flow(&lab, number);
                lab.datapath.open_flow(&entries, OPENED).unwrap();
            }
            let one_more = lab.datapath.open_flow(&flow(&lab, ROOM), OPENED);
            assert!(one_more.is_err(), "the table is full");
            for number in IDLE..ROOM {
                lab.close(&flow(&lab, number));
            }
        }
        for number in 0..IDLE {
            let entries = flow(&lab, number);
            let packet = frame(entries.forward.key);
            let verdict = lab.instance_sends(lab.client_ifindex, &packet);
            assert_eq!(verdict, Verdict::Redirected(packet), "flow {number}");
            assert_eq!(lab.reading(&entries).forward.packets, 1);
        }
        lab.assert_drops(&[]);
    });
}

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

#[test]
fn a_look_at_every_row_maps_none_for_good() {
    in_own_namespaces(|| {
        drop(Lab::new());
        let (len, pin) = (2 * WINDOW_ROWS as u32 + 1, config().pin_dir.join("rows"));
        let mut map = Array::<MapData, u64>::create(len, MMAPABLE).unwrap();
        map.set(len - 1, 7, 0).unwrap();
        map.pin(&pin).unwrap();
        let map = MapData::from_pin(pin).unwrap();
        let array = MappedArray::<EpochCell>::new(&map).unwrap();

        let mut seen = Vec::new();
        array.each(|index, row| seen.push((index, row.number.load(Relaxed))));

        let rows = (0..len).map(|index| (index, if index == len - 1 { 7 } else { 0 }));
        assert_eq!(seen, rows.collect::<Vec<_>>());
        assert_eq!(array.mapped_windows(), 1);
        assert_eq!(array.row(len - 1).unwrap().number.load(Relaxed), 7);
        assert_eq!(array.mapped_windows(), 2);
    });
}

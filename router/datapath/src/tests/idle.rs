//! Many flows that nobody speaks in: whatever comes and goes beside them, their entries stay.

use super::frames::{frame, tcp_key};
use super::lab::{Lab, OPENED, Verdict, in_own_namespaces};
use margay_core::id::SlotIndex;
use margay_core::port::FlowEntries;

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

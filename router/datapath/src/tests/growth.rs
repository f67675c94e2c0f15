//! An upgrade that changes the maps' layout: flows go on.

use super::frames::{frame, udp_key};
use super::lab::{Lab, Verdict, config, in_own_namespaces};
use crate::datapath::Datapath;
use crate::layout::LAYOUT_VERSION;
use aya::maps::{Array, Map, MapData};
use std::path::PathBuf;

/// What an older layout's slot lacks of today's, in bytes: the last field, when a flow was opened.
const OLD_SLOT_BYTES: usize = size_of::<crate::layout::Slot>() - 8;

/// Maps that an older layout did not have.
const YOUNGER_MAPS: [&str; 3] = ["aggregates", "aggregate_rows", "epochs"];

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

fn pin(name: &str) -> PathBuf {
    config().pin_dir.join(name)
}

fn array<T: aya::Pod>(name: &str) -> Array<MapData, T> {
    let map = Map::from_map_data(MapData::from_pin(pin(name)).unwrap());
    Array::try_from(map.unwrap()).unwrap()
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct OldSlot([u8; OLD_SLOT_BYTES]);
// SAFETY: bytes are plain data.
unsafe impl aya::Pod for OldSlot {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct NewSlot([u8; OLD_SLOT_BYTES + 8]);
// SAFETY: bytes are plain data.
unsafe impl aya::Pod for NewSlot {}

/// Makes the pins what a version before this one would have left: shorter slots, fewer maps.
fn age() {
    let slots = array::<NewSlot>("slots");
    let mut old = Array::<MapData, OldSlot>::create(slots.len(), MMAPABLE).unwrap();
    for index in 0..slots.len() {
        let row = slots.get(&index, 0).unwrap().0;
        let (kept, _) = row.split_first_chunk().unwrap();
        old.set(index, OldSlot(*kept), 0).unwrap();
    }
    std::fs::remove_file(pin("slots")).unwrap();
    old.pin(pin("slots")).unwrap();
    for map in YOUNGER_MAPS {
        std::fs::remove_file(pin(map)).unwrap();
    }
    array::<u32>("layout_version")
        .set(0, LAYOUT_VERSION - 1, 0)
        .unwrap();
}

#[test]
fn flows_go_on_over_maps_whose_rows_have_grown() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let entries = lab.open(udp_key());
        lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        age();

        lab.datapath = Datapath::open(&config()).unwrap();

        let adopted = lab.datapath.adopt_flows().unwrap();
        assert_eq!(adopted.len(), 1);
        assert_eq!(adopted[0].entries, entries);
        let sent = lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        assert!(matches!(sent, Verdict::Redirected(_)), "{sent:?}");
        assert_eq!(lab.reading(&entries).forward.packets, 2);
        assert!(!pin("new-slots").exists());
        assert_eq!(array::<NewSlot>("slots").len(), 16);
        assert_eq!(
            array::<u32>("layout_version").get(&0, 0).unwrap(),
            LAYOUT_VERSION
        );
    });
}

/// An upgrade that died after it had made the successor, and one that died before the version was
/// written, are done again from what is there.
#[test]
fn an_upgrade_that_died_half_way_is_done_again() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let entries = lab.open(udp_key());
        age();
        let unfilled = Array::<MapData, NewSlot>::create(16, MMAPABLE).unwrap();
        unfilled.pin(pin("new-slots")).unwrap();
        drop(Datapath::open(&config()).unwrap());
        array::<u32>("layout_version")
            .set(0, LAYOUT_VERSION - 1, 0)
            .unwrap();

        lab.datapath = Datapath::open(&config()).unwrap();

        assert_eq!(lab.datapath.adopt_flows().unwrap()[0].entries, entries);
    });
}

#[test]
fn rows_that_have_changed_otherwise_are_refused() {
    in_own_namespaces(|| {
        drop(Lab::new());
        age();
        let longer = Array::<MapData, [u64; 40]>::create(16, MMAPABLE).unwrap();
        std::fs::remove_file(pin("slots")).unwrap();
        longer.pin(pin("slots")).unwrap();

        let Err(error) = Datapath::open(&config()) else {
            panic!("rows that are too long were taken")
        };

        assert!(error.to_string().contains("map slots has"), "{error}");
    });
}

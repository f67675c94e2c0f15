//! Opening and closing flows: never overwriting, never half.

use super::frames::{every_kind_of_key, frame, tcp_key, udp_key};
use super::lab::{Lab, OPENED, Verdict, in_own_namespaces};
use crate::flow_maps::FlowError;
use margay_core::id::{LocationIndex, SlotIndex};
use margay_core::port::FlowEntries;
use margay_core::way::Way;
use std::net::SocketAddr;

/// Another flow in other slots, whose forward key has source port `port`.
fn another(lab: &Lab, port: u16) -> FlowEntries {
    let mut key = udp_key();
    key.source = SocketAddr::new(key.source.ip(), port);
    let mut entries = lab.entries(key);
    entries.forward.slot = SlotIndex(7);
    entries.reverse.slot = SlotIndex(8);
    entries
}

#[test]
fn opening_a_flow_twice_changes_nothing() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let entries = lab.open(udp_key());
        lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        lab.datapath.open_flow(&entries, OPENED).unwrap();
        assert_eq!(lab.reading(&entries).forward.packets, 1);
    });
}

/// ```text
///   slots:  0 … 4095 | 4096 … 8191 | 8192 … 9999
///                          ^ forward     ^ reverse      each mapped when it is first used
/// ```
#[test]
fn slots_far_apart_count_each_for_itself() {
    in_own_namespaces(|| {
        let mut lab = Lab::with_room_for(10_000);
        let mut entries = lab.entries(udp_key());
        (entries.forward.slot, entries.reverse.slot) = (SlotIndex(4096), SlotIndex(9999));
        lab.datapath.open_flow(&entries, OPENED).unwrap();

        lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        lab.instance_sends(lab.server_ifindex, &frame(entries.reverse.key));

        let reading = lab.reading(&entries);
        assert_eq!((reading.forward.packets, reading.reverse.packets), (2, 1));
        let mut elsewhere = entries;
        (elsewhere.forward.slot, elsewhere.reverse.slot) = (SlotIndex(0), SlotIndex(4097));
        let reading = lab.reading(&elsewhere);
        assert_eq!((reading.forward.packets, reading.reverse.packets), (0, 0));
    });
}

#[test]
fn a_reopened_flow_counts_from_zero() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let entries = lab.open(udp_key());
        lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        lab.close(&entries);
        lab.open(udp_key());
        assert_eq!(lab.reading(&entries).forward.packets, 0);
    });
}

/// ```text
///   flow 1: A:40000 -> V, answers B:80 -> A:40000
///   flow 2: A:40001 -> V, answers B:80 -> A:40000   the same: refused, flow 1 goes on
/// ```
#[test]
fn a_taken_reverse_key_refuses_the_flow_and_harms_nobody() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let first = lab.open(udp_key());
        let mut second = another(&lab, 40_001);
        second.reverse.key = first.reverse.key;
        assert!(matches!(
            lab.datapath.open_flow(&second, OPENED),
            Err(FlowError::KeyTaken { key }) if key == first.reverse.key
        ));
        lab.instance_sends(lab.server_ifindex, &frame(first.reverse.key));
        assert_eq!(lab.reading(&first).reverse.packets, 1);
        assert_eq!(lab.datapath.adopt_flows().unwrap().len(), 1);
    });
}

#[test]
fn a_taken_forward_key_leaves_no_reverse_entry_behind() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let first = lab.open(udp_key());
        let mut second = another(&lab, 40_001);
        second.forward.key = first.forward.key;
        assert!(matches!(
            lab.datapath.open_flow(&second, OPENED),
            Err(FlowError::KeyTaken { key }) if key == first.forward.key
        ));
        let answer = frame(second.reverse.key);
        lab.instance_sends(lab.server_ifindex, &answer);
        assert_eq!(lab.reading(&second).reverse.packets, 0);
    });
}

/// Sixteen entries are eight flows; live ones go on.
#[test]
fn a_full_table_refuses_new_flows_and_keeps_live_ones() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let mut refused = 0;
        for n in 0..9 {
            let mut entries = another(&lab, 50_000 + n);
            entries.forward.slot = SlotIndex(u32::from(n) * 2 % 16);
            entries.reverse.slot = SlotIndex(u32::from(n) * 2 % 16 + 1);
            match lab.datapath.open_flow(&entries, OPENED) {
                Ok(()) => {}
                Err(FlowError::TableFull) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(refused, 1);
        let mut live = udp_key();
        live.source.set_port(50_003);
        let verdict = lab.instance_sends(lab.client_ifindex, &frame(live));
        assert_eq!(verdict, Verdict::Redirected(frame(live)));
    });
}

#[test]
fn a_slot_beyond_the_table_is_refused() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let mut entries = lab.entries(tcp_key());
        entries.reverse.slot = SlotIndex(16);
        assert!(matches!(
            lab.datapath.open_flow(&entries, OPENED),
            Err(FlowError::NoSuchSlot { slots: 16, .. })
        ));
    });
}

#[test]
fn closing_flows_passes_over_those_that_are_not_there() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let first = lab.open(udp_key());
        let second = another(&lab, 40_001);
        let third = another(&lab, 40_002);
        lab.datapath.open_flow(&third, OPENED).unwrap();
        let keys = [&second, &first, &second, &third, &second].map(FlowEntries::keys);
        lab.datapath.close_flows(&keys).unwrap();
        assert_eq!(lab.datapath.adopt_flows().unwrap(), []);
        lab.datapath.close_flows(&keys).unwrap();
        lab.datapath.close_flows(&[]).unwrap();
    });
}

/// ```text
///   key -> [slot of another flow]: the row says so, and the packet has missed
/// ```
#[test]
fn a_row_that_belongs_to_another_flow_is_a_miss() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        lab.open(udp_key());
        // The slots now describe another flow, as if recycled under a packet's feet.
        let stolen = lab.entries(every_kind_of_key()[4]);
        lab.datapath.open_flow(&stolen, OPENED).unwrap();
        lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        assert_eq!(lab.reading(&stolen).forward.packets, 0);
    });
}

#[test]
fn locations_can_move_again_and_again_within_their_rows() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let (client, server) = (lab.client_ifindex, lab.server_ifindex);
        let moved = |lab: &mut Lab, way| lab.datapath.set_location(LocationIndex(2), way);
        for _ in 0..100 {
            moved(&mut lab, Way::Device(client)).unwrap();
            moved(&mut lab, Way::Nowhere).unwrap();
            moved(&mut lab, Way::Device(server)).unwrap();
        }
        moved(&mut lab, Way::Nowhere).unwrap();
        lab.open(udp_key());
        let verdict = lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        assert_eq!(verdict, Verdict::Dropped);
    });
}

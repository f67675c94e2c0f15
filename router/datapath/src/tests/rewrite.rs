//! Rewritten packets: equal, bit for bit, to what a sender had written to the new 5-tuple.

use super::frames::{every_kind_of_key, frame, udp_key};
use super::lab::{Lab, OPENED, Verdict, addresses, in_own_namespaces};
use margay_core::flow_key::{FlowKey, Protocol};
use std::net::SocketAddr;

/// Offset of UDP's checksum in a frame over IPv4.
const UDP_CHECKSUM: std::ops::Range<usize> = 40..42;

/// Every way to rewrite some of source, destination, source port and destination port.
fn every_rewrite(key: FlowKey) -> Vec<FlowKey> {
    let (source, destination) = if key.source.is_ipv4() {
        (addresses(7).caller.v4.into(), addresses(8).called.v4.into())
    } else {
        (addresses(7).caller.v6.into(), addresses(8).called.v6.into())
    };
    let destination_port = match key.protocol {
        Protocol::Echo => 0,
        _ => 8080,
    };
    (1..16u8)
        .map(|parts| {
            let part = |bit: u8| parts & 1 << bit != 0;
            let pick = |bit: u8, old, new| if part(bit) { new } else { old };
            FlowKey {
                source: SocketAddr::new(
                    pick(0, key.source.ip(), source),
                    if part(2) { 51_234 } else { key.source.port() },
                ),
                destination: SocketAddr::new(
                    pick(1, key.destination.ip(), destination),
                    if part(3) {
                        destination_port
                    } else {
                        key.destination.port()
                    },
                ),
                protocol: key.protocol,
            }
        })
        .collect()
}

/// ```text
///   client --[A:40000 -> V:80]-->  rewritten  --[A':51234 -> B:8080]--> server
///   client <--[V:80 -> A:40000]--  rewritten  <--[B:8080 -> A':51234]-- server
/// ```
#[test]
fn a_rewritten_packet_is_as_if_its_sender_had_written_it_so() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in every_kind_of_key() {
            for delivered in every_rewrite(key) {
                let entries = lab.rewritten_entries(key, delivered);
                lab.datapath.open_flow(&entries, OPENED).unwrap();
                assert_eq!(
                    lab.instance_sends(lab.client_ifindex, &frame(key)),
                    Verdict::Redirected(frame(delivered)),
                    "{key} as {delivered}"
                );
                assert_eq!(
                    lab.instance_sends(lab.server_ifindex, &frame(delivered.reversed())),
                    Verdict::Redirected(frame(key.reversed())),
                    "answers to {delivered}"
                );
                lab.close(&entries);
            }
        }
        lab.assert_drops(&[]);
    });
}

#[test]
fn udp_without_a_checksum_stays_without() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let key = udp_key();
        let delivered = every_rewrite(key).pop().unwrap();
        lab.datapath
            .open_flow(&lab.rewritten_entries(key, delivered), OPENED)
            .unwrap();
        let (mut packet, mut expected) = (frame(key), frame(delivered));
        packet[UDP_CHECKSUM].fill(0);
        expected[UDP_CHECKSUM].fill(0);
        assert_eq!(
            lab.instance_sends(lab.client_ifindex, &packet),
            Verdict::Redirected(expected)
        );
    });
}

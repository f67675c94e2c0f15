//! Rewritten packets: equal, bit for bit, to what a sender had written to the new 5-tuple.

use super::frames::{every_kind_of_key, frame, udp_key};
use super::lab::{Lab, OPENED, Verdict, addresses, in_own_namespaces};
use margay_core::flow_key::{FlowKey, Protocol};
use std::net::SocketAddr;

/// Where UDP's checksum is in a frame over IPv4.
const UDP_CHECKSUM: std::ops::Range<usize> = 40..42;

/// Where it is over IPv6.
const UDP6_CHECKSUM: std::ops::Range<usize> = 60..62;

fn udp6_key() -> FlowKey {
    every_kind_of_key()[4]
}

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

/// Zero says "none" over IPv4 (RFC 768), and over IPv6 where both sides agreed to it (RFC 6935).
#[test]
fn udp_without_a_checksum_stays_without() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for (key, checksum) in [(udp_key(), UDP_CHECKSUM), (udp6_key(), UDP6_CHECKSUM)] {
            for delivered in every_rewrite(key) {
                let entries = lab.rewritten_entries(key, delivered);
                lab.datapath.open_flow(&entries, OPENED).unwrap();
                let (mut packet, mut expected) = (frame(key), frame(delivered));
                packet[checksum.clone()].fill(0);
                expected[checksum.clone()].fill(0);
                let verdict = lab.instance_sends(lab.client_ifindex, &packet);
                assert_eq!(
                    verdict,
                    Verdict::Redirected(expected),
                    "{key} as {delivered}"
                );
                lab.close(&entries);
            }
        }
    });
}

/// A sum that comes out as zero is written as its other form: it is not "none".
#[test]
fn a_udp_checksum_that_becomes_zero_is_written_as_all_ones() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for (key, checksum) in [(udp_key(), UDP_CHECKSUM), (udp6_key(), UDP6_CHECKSUM)] {
            let delivered = every_rewrite(key).pop().unwrap();
            let entries = lab.rewritten_entries(key, delivered);
            lab.datapath.open_flow(&entries, OPENED).unwrap();
            let (mut packet, mut expected) = (frame(key), frame(delivered));
            let sum = |frame: &[u8]| {
                u16::from_be_bytes([frame[checksum.start], frame[checksum.start + 1]])
            };
            // Less by what the rewritten one is: as if the payload had made up for it.
            let (difference, borrow) = sum(&packet).overflowing_sub(sum(&expected));
            let difference = difference - u16::from(borrow);
            packet[checksum.clone()].copy_from_slice(&difference.to_be_bytes());
            expected[checksum.clone()].fill(0xff);
            let verdict = lab.instance_sends(lab.client_ifindex, &packet);
            assert_eq!(
                verdict,
                Verdict::Redirected(expected),
                "{key} as {delivered}"
            );
            lab.close(&entries);
        }
    });
}

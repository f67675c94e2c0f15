//! IPv6 extension headers: walked within bounds, and no hiding place.

use super::frames::{ETHERNET_LEN, every_kind_of_key, frame};
use super::lab::{CLIENT, Lab, OPENED, Verdict, addresses, in_own_namespaces};
use margay_core::drop_reason::DropReason;
use margay_core::flow_key::FlowKey;
use std::net::SocketAddr;

const IPV6_LEN: usize = 40;
const NEXT_HEADER: usize = ETHERNET_LEN + 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// An extension header: its number, and what follows its first byte.
type Extension = (u8, Vec<u8>);

/// A header of options that is all padding, of 8 × (`more` + 1) bytes.
fn options(number: u8, more: u8) -> Extension {
    let padding = 6 + 8 * usize::from(more);
    let mut rest = vec![more, 1, (padding - 2) as u8];
    rest.resize(1 + padding, 0);
    (number, rest)
}

fn routing(segments_left: u8) -> Extension {
    (ROUTING, vec![0, 4, segments_left, 0, 0, 0, 0])
}

/// A fragment header of a packet in one piece (RFC 6946).
fn atomic_fragment() -> Extension {
    (FRAGMENT, vec![0, 0, 0, 0, 0, 0, 5])
}

/// A frame over IPv6 with these extension headers before the transport.
fn extended(frame: &[u8], extensions: &[Extension]) -> Vec<u8> {
    let (header, rest) = frame.split_at(ETHERNET_LEN + IPV6_LEN);
    let mut bytes = header.to_vec();
    let transport = bytes[NEXT_HEADER];
    let mut next_at = NEXT_HEADER;
    for (number, following) in extensions {
        bytes[next_at] = *number;
        next_at = bytes.len();
        bytes.push(transport);
        bytes.extend(following);
    }
    bytes.extend(rest);
    let payload_len = (bytes.len() - ETHERNET_LEN - IPV6_LEN) as u16;
    bytes[ETHERNET_LEN + 4..ETHERNET_LEN + 6].copy_from_slice(&payload_len.to_be_bytes());
    bytes
}

fn ipv6_keys() -> Vec<FlowKey> {
    let keys = every_kind_of_key().into_iter();
    keys.filter(|key| key.source.is_ipv6()).collect()
}

fn chains() -> Vec<Vec<Extension>> {
    vec![
        vec![options(HOP_BY_HOP, 0)],
        vec![options(DESTINATION_OPTIONS, 3)],
        vec![routing(0)],
        vec![atomic_fragment()],
        vec![
            options(HOP_BY_HOP, 1),
            options(DESTINATION_OPTIONS, 0),
            routing(0),
            atomic_fragment(),
            options(DESTINATION_OPTIONS, 2),
        ],
    ]
}

#[test]
fn extension_headers_do_not_hide_a_flow() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in ipv6_keys() {
            let entries = lab.open(key);
            for chain in chains() {
                let packet = extended(&frame(key), &chain);
                let verdict = lab.instance_sends(lab.client_ifindex, &packet);
                assert_eq!(verdict, Verdict::Redirected(packet), "{key} {chain:?}");
            }
            let packets = lab.reading(&entries).forward.packets;
            assert_eq!(packets, chains().len() as u64);
            lab.close(&entries);
        }
        lab.assert_drops(&[]);
    });
}

#[test]
fn packets_are_rewritten_behind_their_extension_headers() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for delivered in ipv6_keys() {
            let mut key = delivered;
            let elsewhere = addresses(9).called.v6;
            key.destination = SocketAddr::new(elsewhere.into(), delivered.destination.port());
            key.source.set_port(50_001);
            let entries = lab.rewritten_entries(key, delivered);
            lab.datapath.open_flow(&entries, OPENED).unwrap();
            for chain in chains() {
                assert_eq!(
                    lab.instance_sends(lab.client_ifindex, &extended(&frame(key), &chain)),
                    Verdict::Redirected(extended(&frame(delivered), &chain)),
                    "{key} {chain:?}"
                );
            }
            lab.close(&entries);
        }
    });
}

#[test]
fn a_first_packet_with_extension_headers_goes_up_and_comes_back() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in ipv6_keys() {
            for chain in chains() {
                let packet = extended(&frame(key), &chain);
                let verdict = lab.instance_sends(lab.client_ifindex, &packet);
                let Verdict::Redirected(up) = verdict else {
                    panic!("{key} {chain:?}");
                };
                assert_eq!(up[12..], packet[12..]);
                lab.datapath.upcall_done(CLIENT);
                let entries = lab.open(key);
                assert_eq!(lab.router_sends(&up), Verdict::Redirected(up.clone()));
                lab.close(&entries);
            }
        }
        lab.assert_drops(&[]);
    });
}

#[test]
fn chains_without_end_and_detours_are_dropped() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let key = ipv6_keys()[1];
        lab.open(key);
        let endless = vec![options(DESTINATION_OPTIONS, 0); 10];
        for chain in [endless, vec![routing(1)]] {
            let packet = extended(&frame(key), &chain);
            let verdict = lab.instance_sends(lab.client_ifindex, &packet);
            assert_eq!(verdict, Verdict::Dropped, "{chain:?}");
        }
        lab.assert_drops(&[(DropReason::ExtensionHeaders, 2)]);
    });
}

/// A chain that claims to go on behind the packet's end, and one that ends in what nobody carries.
#[test]
fn chains_that_lead_nowhere_are_dropped() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let key = ipv6_keys()[1];
        lab.open(key);
        let mut too_long = extended(&frame(key), &[options(HOP_BY_HOP, 0)]);
        too_long[ETHERNET_LEN + IPV6_LEN + 1] = 200;
        let mut to_security = extended(&frame(key), &[options(HOP_BY_HOP, 0)]);
        to_security[ETHERNET_LEN + IPV6_LEN] = 50;
        for packet in [too_long, to_security] {
            let verdict = lab.instance_sends(lab.client_ifindex, &packet);
            assert_eq!(verdict, Verdict::Dropped);
        }
        lab.assert_drops(&[(DropReason::Truncated, 1), (DropReason::UnknownProtocol, 1)]);
    });
}

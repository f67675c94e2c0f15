//! Packets in pieces: the first names the ports, the later ones follow it.

use super::frames::{ETHERNET_LEN, every_kind_of_key, long_frame, udp_key, with_source};
use super::lab::{CLIENT, Lab, OPENED, Verdict, addresses, in_own_namespaces};
use margay_core::drop_reason::DropReason;
use margay_core::flow_key::{FlowKey, Protocol};
use std::net::{IpAddr, SocketAddr};

/// What the packets of these tests carry.
const PAYLOAD_LEN: usize = 1_000;

/// What each fragment carries, the last excepted.
const PIECE_LEN: usize = 256;

/// The fragments of a frame (RFC 791 section 2.3, RFC 8200 section 4.5), in order.
fn fragments(frame: &[u8], identification: u16) -> Vec<Vec<u8>> {
    let is_ipv4 = frame[ETHERNET_LEN] >> 4 == 4;
    let header_len = ETHERNET_LEN + if is_ipv4 { 20 } else { 40 };
    let (header, payload) = frame.split_at(header_len);
    let pieces = payload.chunks(PIECE_LEN).enumerate();
    let last = payload.len().div_ceil(PIECE_LEN) - 1;
    pieces
        .map(|(number, piece)| {
            let offset = (number * PIECE_LEN / 8) as u16;
            let more = number < last;
            if is_ipv4 {
                fragment_of_ipv4(header, piece, identification, offset, more)
            } else {
                fragment_of_ipv6(header, piece, identification, offset, more)
            }
        })
        .collect()
}

fn fragment_of_ipv4(header: &[u8], piece: &[u8], id: u16, offset: u16, more: bool) -> Vec<u8> {
    let mut header = header.to_vec();
    let ip = etherparse::Ipv4HeaderSlice::from_slice(&header[ETHERNET_LEN..]).unwrap();
    let mut ip = ip.to_header();
    ip.set_payload_len(piece.len()).unwrap();
    ip.identification = id;
    ip.dont_fragment = false;
    ip.more_fragments = more;
    ip.fragment_offset = offset.try_into().unwrap();
    header.truncate(ETHERNET_LEN);
    ip.write(&mut header).unwrap();
    [&header, piece].concat()
}

fn fragment_of_ipv6(header: &[u8], piece: &[u8], id: u16, offset: u16, more: bool) -> Vec<u8> {
    let mut header = header.to_vec();
    let protocol = std::mem::replace(&mut header[ETHERNET_LEN + 6], 44);
    let length = (8 + piece.len()) as u16;
    header[ETHERNET_LEN + 4..ETHERNET_LEN + 6].copy_from_slice(&length.to_be_bytes());
    header.extend([protocol, 0]);
    header.extend((offset * 8 + u16::from(more)).to_be_bytes());
    header.extend(u32::from(id).to_be_bytes());
    [&header, piece].concat()
}

fn redirected(packets: &[Vec<u8>]) -> Vec<Verdict> {
    packets.iter().cloned().map(Verdict::Redirected).collect()
}

/// Sends frames in their order from one device.
fn send_all(lab: &mut Lab, ifindex: u32, frames: &[Vec<u8>]) -> Vec<Verdict> {
    let verdicts = frames
        .iter()
        .map(|frame| lab.instance_sends(ifindex, frame));
    verdicts.collect()
}

/// `key` as if it had been sent to instance 9's address from another port.
fn called_elsewhere(delivered: FlowKey) -> FlowKey {
    let elsewhere = addresses(9).called;
    let elsewhere: IpAddr = if delivered.source.is_ipv4() {
        elsewhere.v4.into()
    } else {
        elsewhere.v6.into()
    };
    let mut key = delivered;
    key.destination = SocketAddr::new(elsewhere, delivered.destination.port());
    key.source.set_port(delivered.source.port() + 1);
    key
}

/// ```text
///   client --[1: ports][2][3][4]--> the flow's server
/// ```
#[test]
fn every_fragment_of_a_flows_packet_is_delivered_and_counted() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in every_kind_of_key() {
            let entries = lab.open(key);
            let there = fragments(&long_frame(key, PAYLOAD_LEN), 7);
            let back = fragments(&long_frame(key.reversed(), PAYLOAD_LEN), 7);
            let (client, server) = (lab.client_ifindex, lab.server_ifindex);
            assert_eq!(
                send_all(&mut lab, client, &there),
                redirected(&there),
                "{key}"
            );
            assert_eq!(
                send_all(&mut lab, server, &back),
                redirected(&back),
                "{key}"
            );
            let reading = lab.reading(&entries);
            assert_eq!(reading.forward.packets, there.len() as u64);
            assert_eq!(reading.forward.bytes, there.concat().len() as u64);
            assert_eq!(reading.reverse.packets, back.len() as u64);
            lab.close(&entries);
        }
        lab.assert_drops(&[]);
    });
}

/// ```text
///   client --[A:40001 -> V:80] in pieces--> rewritten --[A:40000 -> B:80] in pieces--> server
/// ```
#[test]
fn rewritten_fragments_are_those_of_the_rewritten_packet() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for delivered in every_kind_of_key() {
            let key = called_elsewhere(delivered);
            let entries = lab.rewritten_entries(key, delivered);
            lab.datapath.open_flow(&entries, OPENED).unwrap();
            let pieces = |key| fragments(&long_frame(key, PAYLOAD_LEN), 8);
            let (client, server) = (lab.client_ifindex, lab.server_ifindex);
            assert_eq!(
                send_all(&mut lab, client, &pieces(key)),
                redirected(&pieces(delivered)),
                "{key}"
            );
            assert_eq!(
                send_all(&mut lab, server, &pieces(delivered.reversed())),
                redirected(&pieces(key.reversed())),
                "{key}"
            );
            lab.close(&entries);
        }
        lab.assert_drops(&[]);
    });
}

/// ```text
///   client <--[called B] rewritten <--[caller B] in pieces-- server, bound to no address
/// ```
#[test]
fn fragments_of_an_answer_from_the_caller_address_are_delivered_too() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let keys = every_kind_of_key();
        for key in keys.into_iter().filter(|key| key.protocol == Protocol::Udp) {
            lab.open(key);
            let caller = addresses(2).caller;
            let caller: IpAddr = if key.source.is_ipv4() {
                caller.v4.into()
            } else {
                caller.v6.into()
            };
            let answer = with_source(key.reversed(), caller);
            let server = lab.server_ifindex;
            let sent = fragments(&long_frame(answer, PAYLOAD_LEN), 9);
            let expected = fragments(&long_frame(key.reversed(), PAYLOAD_LEN), 9);
            assert_eq!(
                send_all(&mut lab, server, &sent),
                redirected(&expected),
                "{key}"
            );
            lab.close(&lab.entries(key));
        }
        lab.assert_drops(&[]);
    });
}

#[test]
fn a_later_fragment_before_its_first_is_dropped() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let client = lab.client_ifindex;
        for key in every_kind_of_key() {
            let entries = lab.open(key);
            let pieces = fragments(&long_frame(key, PAYLOAD_LEN), 10);
            for later in &pieces[1..] {
                assert_eq!(lab.instance_sends(client, later), Verdict::Dropped);
            }
            let other = fragments(&long_frame(key, PAYLOAD_LEN), 11);
            lab.instance_sends(client, &other[0]);
            assert_eq!(lab.instance_sends(client, &pieces[1]), Verdict::Dropped);
            lab.close(&entries);
        }
        let count = every_kind_of_key().into_iter().map(|key| {
            let pieces = fragments(&long_frame(key, PAYLOAD_LEN), 0);
            pieces.len() as u64
        });
        lab.assert_drops(&[(DropReason::Fragment, count.sum())]);
    });
}

/// ```text
///   server --[first fragment, source: the client's]--> forged
///   client --[later fragment of the same number]--> its own first one never came
/// ```
#[test]
fn nobody_names_the_ports_of_anothers_fragments() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        lab.open(udp_key());
        let pieces = fragments(&long_frame(udp_key(), PAYLOAD_LEN), 12);
        let (client, server) = (lab.client_ifindex, lab.server_ifindex);
        assert_eq!(lab.instance_sends(server, &pieces[0]), Verdict::Dropped);
        assert_eq!(lab.instance_sends(client, &pieces[1]), Verdict::Dropped);
        lab.assert_drops(&[(DropReason::ForgedSource, 1), (DropReason::Fragment, 1)]);
    });
}

/// ```text
///   client --[1][2][3][4]--> TAP --> core opens the flow --> TAP --[1][2][3][4]--> server
/// ```
#[test]
fn fragments_of_a_first_packet_wait_for_the_decision_and_are_delivered() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let client = lab.client_ifindex;
        for key in every_kind_of_key() {
            let pieces = fragments(&long_frame(key, PAYLOAD_LEN), 13);
            let upcalled: Vec<Vec<u8>> = send_all(&mut lab, client, &pieces)
                .into_iter()
                .map(|verdict| match verdict {
                    Verdict::Redirected(up) => up,
                    other => panic!("{key}: {other:?}"),
                })
                .collect();
            assert_eq!(upcalled[1][6..12], [0x02, 0x01, 0, 0, 0, CLIENT.0 as u8]);
            let refused = lab.router_sends(&upcalled[1]);
            assert_eq!(refused, Verdict::Dropped, "there is no flow yet");

            lab.datapath.upcalls_reset(CLIENT);
            let entries = lab.open(key);
            for up in &upcalled {
                assert_eq!(
                    lab.router_sends(up),
                    Verdict::Redirected(up.clone()),
                    "{key}"
                );
            }
            assert_eq!(lab.reading(&entries).forward.packets, pieces.len() as u64);
            lab.close(&entries);
        }
        let kinds = every_kind_of_key().len() as u64;
        lab.assert_drops(&[(DropReason::UpcallMiss, kinds)]);
    });
}

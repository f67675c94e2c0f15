//! Packets and refusals: tables of known bytes, and arbitrary bytes that must never panic.

use super::*;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

const A4: [u8; 4] = [100, 64, 0, 1];
const B4: [u8; 4] = [100, 96, 0, 1];
const A6: [u8; 16] = [0xfd, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const B6: [u8; 16] = [0xfd, 1, 2, 3, 4, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];

fn both_families() -> [etherparse::PacketBuilderStep<etherparse::IpHeaders>; 2] {
    [
        PacketBuilder::ipv4(A4, B4, 64),
        PacketBuilder::ipv6(A6, B6, 64),
    ]
}

fn tcp(
    flags: impl Fn(
        etherparse::PacketBuilderStep<etherparse::TcpHeader>,
    ) -> etherparse::PacketBuilderStep<etherparse::TcpHeader>,
    payload: &[u8],
) -> [Vec<u8>; 2] {
    both_families().map(|ip| {
        let mut bytes = Vec::new();
        flags(ip.tcp(40_000, 80, 1_000, 64))
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    })
}

fn udp() -> [Vec<u8>; 2] {
    both_families().map(|ip| {
        let mut bytes = Vec::new();
        ip.udp(5_000, 53).write(&mut bytes, b"question").unwrap();
        bytes
    })
}

#[test]
fn keys_are_read_from_both_families() {
    for bytes in tcp(|tcp| tcp.syn(), b"") {
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.key.source.port(), 40_000);
        assert_eq!(packet.key.destination.port(), 80);
        assert_eq!(packet.key.protocol, Protocol::Tcp);
        assert!(packet.opens_a_flow());
    }
    let [v4, v6] = udp().map(|bytes| Packet::parse(&bytes).unwrap().key);
    assert_eq!(v4.to_string(), "udp 100.64.0.1:5000 -> 100.96.0.1:53");
    assert_eq!(v6.source.ip(), IpAddr::from(A6));
}

#[test]
fn echo_carries_its_id_as_the_asking_sides_port() {
    let mut request = Vec::new();
    let ping = PacketBuilder::ipv4(A4, B4, 64).icmpv4_echo_request(77, 1);
    ping.write(&mut request, b"x").unwrap();
    let mut reply = Vec::new();
    let pong = PacketBuilder::ipv6(B6, A6, 64).icmpv6_echo_reply(77, 1);
    pong.write(&mut reply, b"x").unwrap();

    let request = Packet::parse(&request).unwrap();
    let reply = Packet::parse(&reply).unwrap();
    assert_eq!(
        (request.key.source.port(), request.key.destination.port()),
        (77, 0)
    );
    assert_eq!(
        (reply.key.source.port(), reply.key.destination.port()),
        (0, 77)
    );
    assert!(request.opens_a_flow());
    assert!(!reply.opens_a_flow());
}

#[test]
fn only_a_lone_syn_opens_a_tcp_flow() {
    let opens = |bytes: [Vec<u8>; 2]| bytes.map(|b| Packet::parse(&b).unwrap().opens_a_flow());
    assert_eq!(opens(tcp(|tcp| tcp.syn(), b"")), [true; 2]);
    assert_eq!(opens(tcp(|tcp| tcp.syn().ack(9), b"")), [false; 2]);
    assert_eq!(opens(tcp(|tcp| tcp.ack(9), b"data")), [false; 2]);
    assert_eq!(opens(tcp(|tcp| tcp.syn().fin(), b"")), [false; 2]);
    assert_eq!(opens(tcp(|tcp| tcp.rst(), b"")), [false; 2]);
}

#[test]
fn first_fragment_names_its_flow_and_a_later_one_does_not() {
    for bytes in udp() {
        let key = Packet::parse(&bytes).unwrap().key;
        let v4 = key.source.is_ipv4();
        let (first, later) = (in_pieces(&bytes, 1), in_pieces(&bytes, 8 << 3));
        assert_eq!(Packet::parse(&first).unwrap().key, key);
        let source = key.source.ip();
        let expected = Upcalled::LaterFragment { source };
        assert_eq!(Upcalled::parse(&later), Ok(expected), "v4: {v4}");
    }
}

/// A fragment of `bytes`; `place` is the offset in bytes, or 1 for the first of several.
fn in_pieces(bytes: &[u8], place: u16) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes[0] >> 4 == 4 {
        let bits = if place == 1 { 0x2000 } else { place / 8 };
        bytes[6..8].copy_from_slice(&bits.to_be_bytes());
    } else {
        let protocol = std::mem::replace(&mut bytes[6], 44);
        let [high, low] = place.to_be_bytes();
        bytes[5] += 8;
        bytes.splice(40..40, [protocol, 0, high, low, 0, 0, 0, 9]);
    }
    bytes
}

#[test]
fn what_cannot_be_carried_has_its_reason() {
    let syn = &tcp(|tcp| tcp.syn(), b"")[0];
    let mut fragment = syn.clone();
    fragment[7] = 1; // not the first
    let mut igmp = syn.clone();
    igmp[9] = 132; // SCTP
    let mut version = syn.clone();
    version[0] = 0x95;
    let mut time_exceeded = Vec::new();
    let icmp = PacketBuilder::ipv4(A4, B4, 64).icmpv4_raw(11, 0, [0; 4]);
    icmp.write(&mut time_exceeded, syn).unwrap();
    let mut redirect = time_exceeded.clone();
    redirect[20] = 5;

    let reason = |bytes: &[u8]| Packet::parse(bytes).unwrap_err();
    assert_eq!(reason(&fragment), DropReason::Fragment);
    assert_eq!(reason(&igmp), DropReason::UnknownProtocol);
    assert_eq!(reason(&version), DropReason::NotUnderstood);
    assert_eq!(reason(&time_exceeded), DropReason::UnknownProtocol);
    assert_eq!(reason(&redirect), DropReason::UnknownProtocol);
    assert_eq!(reason(&syn[..25]), DropReason::Truncated);
    assert_eq!(reason(&[]), DropReason::Truncated);
}

/// The checksum over a packet that carries a right one is zero.
fn checksums_hold(bytes: &[u8]) -> bool {
    let sliced = SlicedPacket::from_ip(bytes).unwrap();
    let (from, to, header_ok) = match sliced.net.unwrap() {
        NetSlice::Ipv4(net) => {
            let header = net.header().to_header();
            let ok = header.header_checksum == header.calc_header_checksum();
            (
                net.header().source().to_vec(),
                net.header().destination().to_vec(),
                ok,
            )
        }
        NetSlice::Ipv6(net) => (
            net.header().source().to_vec(),
            net.header().destination().to_vec(),
            true,
        ),
        NetSlice::Arp(_) => return false,
    };
    header_ok
        && match sliced.transport.unwrap() {
            TransportSlice::Tcp(tcp) => {
                let right = match (
                    <[u8; 4]>::try_from(&from[..]),
                    <[u8; 16]>::try_from(&from[..]),
                ) {
                    (Ok(from), _) => tcp.calc_checksum_ipv4(from, to.try_into().unwrap()),
                    (_, Ok(from)) => tcp.calc_checksum_ipv6(from, to.try_into().unwrap()),
                    _ => return false,
                };
                tcp.checksum() == right.unwrap()
            }
            TransportSlice::Icmpv4(icmp) => {
                icmp.icmp_type().calc_checksum(icmp.payload()) == icmp.checksum()
            }
            TransportSlice::Icmpv6(icmp) => {
                icmp.is_checksum_valid(from.try_into().unwrap(), to.try_into().unwrap())
            }
            _ => false,
        }
}

#[test]
fn syn_is_reset_with_an_acknowledgement_of_it() {
    for bytes in tcp(|tcp| tcp.syn(), b"") {
        let asked = Packet::parse(&bytes).unwrap();
        let answer = reset(&asked).unwrap();
        assert!(checksums_hold(&answer));
        let packet = Packet::parse(&answer).unwrap();
        let Transport::Tcp(segment) = packet.transport else {
            panic!("{packet:?}");
        };
        assert_eq!(packet.key, asked.key.reversed());
        assert!(segment.rst && segment.ack && !segment.syn);
        assert_eq!((segment.sequence, segment.acknowledgement), (0, 1_001));
    }
}

#[test]
fn acknowledging_segment_is_reset_where_it_expects() {
    for bytes in tcp(|tcp| tcp.ack(555), b"data") {
        let answer = reset(&Packet::parse(&bytes).unwrap()).unwrap();
        assert!(checksums_hold(&answer));
        let Transport::Tcp(segment) = Packet::parse(&answer).unwrap().transport else {
            panic!("{answer:?}");
        };
        assert!(segment.rst && !segment.ack);
        assert_eq!((segment.sequence, segment.acknowledgement), (555, 0));
    }
}

#[test]
fn sequence_space_counts_payload_and_fin() {
    let bytes = &tcp(|tcp| tcp.fin(), b"data")[0];
    let answer = reset(&Packet::parse(bytes).unwrap()).unwrap();
    let Transport::Tcp(segment) = Packet::parse(&answer).unwrap().transport else {
        panic!("{answer:?}");
    };
    assert_eq!(segment.acknowledgement, 1_005);
}

#[test]
fn resets_and_datagrams_are_never_reset() {
    for bytes in tcp(|tcp| tcp.rst(), b"").iter().chain(&udp()) {
        assert_eq!(reset(&Packet::parse(bytes).unwrap()), None);
    }
}

#[test]
fn unreachable_embeds_the_original_within_its_limit() {
    for (bytes, max, codes) in [
        (
            &udp()[0],
            576,
            [
                (Unreachable::Prohibited, 13),
                (Unreachable::Host, 1),
                (Unreachable::Port, 3),
            ],
        ),
        (
            &udp()[1],
            1280,
            [
                (Unreachable::Prohibited, 1),
                (Unreachable::Host, 3),
                (Unreachable::Port, 4),
            ],
        ),
    ] {
        let packet = Packet::parse(bytes).unwrap();
        let mut long = bytes.clone();
        long.resize(4_000, 7);
        for (why, code) in codes {
            let short_answer = unreachable(&packet, bytes, why).unwrap();
            assert!(short_answer.ends_with(bytes));
            let answer = unreachable(&packet, &long, why).unwrap();
            assert_eq!(answer.len(), max);
            assert!(checksums_hold(&answer));
            let sliced = SlicedPacket::from_ip(&answer).unwrap();
            let found = match sliced.transport.unwrap() {
                TransportSlice::Icmpv4(icmp) => (icmp.type_u8(), icmp.code_u8()),
                TransportSlice::Icmpv6(icmp) => (icmp.type_u8() + 2, icmp.code_u8()),
                other => panic!("{other:?}"),
            };
            assert_eq!(found, (3, code));
        }
    }
}

#[test]
fn multicast_and_replies_are_not_answered() {
    let mut multicast = Vec::new();
    let group = PacketBuilder::ipv4(A4, [224, 0, 0, 1], 1).udp(1, 2);
    group.write(&mut multicast, b"").unwrap();
    let mut reply = Vec::new();
    let pong = PacketBuilder::ipv4(A4, B4, 64).icmpv4_echo_reply(1, 1);
    pong.write(&mut reply, b"").unwrap();
    for bytes in [multicast, reply] {
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(unreachable(&packet, &bytes, Unreachable::Host), None);
    }
}

/// Bytes that get past the first checks more often than pure noise does.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..200);
    let seeds = [tcp(|tcp| tcp.syn(), b"some data"), udp()].concat();
    let damaged = (
        proptest::sample::select(seeds),
        proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        any::<proptest::sample::Index>(),
    )
        .prop_map(|(mut bytes, changes, cut)| {
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            bytes
        });
    prop_oneof![noise, damaged]
}

proptest! {
    #[test]
    fn no_bytes_make_reading_or_answering_panic(bytes in hostile()) {
        if let Ok(packet) = Packet::parse(&bytes) {
            if let Some(answer) = reset(&packet) {
                prop_assert!(checksums_hold(&answer));
            }
            for why in [Unreachable::Prohibited, Unreachable::Host, Unreachable::Port] {
                if let Some(answer) = unreachable(&packet, &bytes, why) {
                    prop_assert!(checksums_hold(&answer));
                    prop_assert!(answer.len() <= 1280);
                }
            }
        }
    }
}

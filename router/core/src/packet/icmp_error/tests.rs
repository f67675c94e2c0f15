//! Errors read and translated: equal, bit for bit, to one about the packet as its sender wrote it.

use super::*;
use crate::packet::Upcalled;
use etherparse::{Icmpv6Header, PacketBuilder};
use std::net::SocketAddr;

fn key(v6: bool, protocol: Protocol, host: u16, port: u16) -> FlowKey {
    let addr = |part: u16| -> IpAddr {
        if v6 {
            [0xfd00, 1, 2, 3, 4, 5, part, host].into()
        } else {
            let [high, low] = host.to_be_bytes();
            [100, 64 + part as u8, high, low].into()
        }
    };
    let destination_port = if protocol == Protocol::Echo { 0 } else { 53 };
    FlowKey {
        source: SocketAddr::new(addr(1), port),
        destination: SocketAddr::new(addr(2), destination_port),
        protocol,
    }
}

/// The packet of a key, from the side that asks.
fn packet(key: FlowKey) -> Vec<u8> {
    let headers = ip(key.source.ip(), key.destination.ip()).unwrap();
    let (from, to) = (key.source.port(), key.destination.port());
    let payload = b"thirteen more";
    let mut bytes = Vec::new();
    match (key.protocol, key.source.is_ipv4()) {
        (Protocol::Tcp, _) => headers.tcp(from, to, 7, 8).write(&mut bytes, payload),
        (Protocol::Udp, _) => headers.udp(from, to).write(&mut bytes, payload),
        (Protocol::Echo, true) => headers
            .icmpv4_echo_request(from, 1)
            .write(&mut bytes, payload),
        (Protocol::Echo, false) => headers
            .icmpv6_echo_request(from, 1)
            .write(&mut bytes, payload),
    }
    .unwrap();
    bytes
}

/// The error of `kind` that the receiver of `about` reports, with `detail` and what it embeds.
fn error(about: FlowKey, kind: u8, detail: [u8; 4], embedded: &[u8]) -> Vec<u8> {
    let headers = ip(about.destination.ip(), about.source.ip()).unwrap();
    let mut bytes = Vec::new();
    if about.source.is_ipv4() {
        let icmp = headers.icmpv4_raw(kind, 4, detail);
        icmp.write(&mut bytes, embedded).unwrap();
    } else {
        let icmp = headers.icmpv6_raw(kind, 0, detail);
        icmp.write(&mut bytes, embedded).unwrap();
    }
    bytes
}

fn read(bytes: &[u8]) -> IcmpError<'_> {
    match Upcalled::parse(bytes) {
        Ok(Upcalled::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn every_kind() -> impl Iterator<Item = (bool, Protocol)> {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Echo];
    [false, true]
        .into_iter()
        .flat_map(move |v6| protocols.map(|protocol| (v6, protocol)))
}

/// ```text
///   client wrote:  A:1000 -> V:53     server saw, and embeds:  A':2000 -> B:53
/// ```
#[test]
fn translated_error_is_as_if_it_were_about_the_packet_as_it_was_written() {
    for (v6, protocol) in every_kind() {
        let (wrote, saw) = (
            key(v6, protocol, 1, 1_000),
            key(v6, protocol, 0xfe02, 2_000),
        );
        let too_big = if v6 { 2 } else { 3 };
        let mtu = [0, 0, 5, 0];
        for len in [8, 13, 20, packet(saw).len()] {
            let headers = if v6 { 40 } else { 20 };
            let embed = |key| {
                let whole = packet(key);
                whole[..whole.len().min(headers + len)].to_vec()
            };
            let reported = error(saw, too_big, mtu, &embed(saw));
            let read = read(&reported);
            assert_eq!((read.source, read.about), (saw.destination.ip(), saw));
            let (from, to) = (wrote.destination.ip(), wrote.source.ip());
            let translated = read.translate(from, to, wrote).unwrap();
            assert_eq!(
                translated,
                error(wrote, too_big, mtu, &embed(wrote)),
                "{wrote} embedded to {len}"
            );
        }
    }
}

#[test]
fn errors_about_replies_name_the_asking_side_by_its_identifier() {
    let asked = key(false, Protocol::Echo, 1, 77);
    let mut reply = packet(asked.reversed());
    reply[20] = icmpv4::TYPE_ECHO_REPLY;
    reply[24..26].copy_from_slice(&77u16.to_be_bytes());
    let reported = error(asked.reversed(), 11, [0; 4], &reply);
    assert_eq!(read(&reported).about, asked.reversed());
}

#[test]
fn datagram_without_checksum_is_embedded_without() {
    for v6 in [false, true] {
        let (wrote, saw) = (key(v6, Protocol::Udp, 1, 1), key(v6, Protocol::Udp, 2, 2));
        let checksum = if v6 { 46 } else { 26 };
        let mut embedded = packet(saw);
        embedded[checksum..checksum + 2].fill(0);
        let reported = error(saw, 1 + 2 * u8::from(!v6), [0; 4], &embedded);
        let (from, to) = (wrote.destination.ip(), wrote.source.ip());
        let translated = read(&reported).translate(from, to, wrote).unwrap();
        let about = translated.len() - embedded.len();
        assert_eq!(translated[about + checksum..][..2], [0, 0]);
    }
}

#[test]
fn what_is_no_error_about_a_flow_has_its_reason() {
    let about = key(false, Protocol::Udp, 1, 1_000);
    let whole = packet(about);
    let mut later = whole.clone();
    later[7] = 9;
    let mut security = whole.clone();
    security[9] = 50;
    let nested = error(about, 3, [0; 4], &whole);
    let other_family = packet(key(true, Protocol::Udp, 1, 1_000));
    let reason = |embedded: &[u8]| {
        let bytes = error(about, 3, [0; 4], embedded);
        Upcalled::parse(&bytes).unwrap_err()
    };
    assert_eq!(reason(&later), DropReason::ErrorWithoutFlow);
    assert_eq!(reason(&security), DropReason::ErrorWithoutFlow);
    assert_eq!(reason(&nested), DropReason::ErrorWithoutFlow);
    assert_eq!(reason(&other_family), DropReason::NotUnderstood);
    assert_eq!(reason(&whole[..27]), DropReason::Truncated);
    assert_eq!(reason(&[]), DropReason::Truncated);
}

#[test]
fn other_messages_are_no_errors() {
    let about = key(true, Protocol::Udp, 1, 1_000);
    for kind in [0, 5, 100, 127, 139] {
        let bytes = error(about, kind, [0; 4], &packet(about));
        assert_eq!(Upcalled::parse(&bytes), Err(DropReason::UnknownProtocol));
    }
    // ICMPv6 over IPv4.
    let v4 = key(false, Protocol::Udp, 1, 1_000);
    let mut bytes = Vec::new();
    let icmp = Icmpv6Header::new(etherparse::Icmpv6Type::Unknown {
        type_u8: 1,
        code_u8: 0,
        bytes5to8: [0; 4],
    });
    icmp.write(&mut bytes).unwrap();
    bytes.extend(packet(v4));
    let mut mixed = Vec::new();
    let headers = PacketBuilder::ipv4([1, 2, 3, 4], [5, 6, 7, 8], 64);
    headers
        .write(&mut mixed, etherparse::IpNumber::IPV6_ICMP, &bytes)
        .unwrap();
    assert_eq!(Upcalled::parse(&mixed), Err(DropReason::UnknownProtocol));
}

//! Frames as their senders write them, with checksums computed in software.

use etherparse::PacketBuilder;
use margay_core::flow_key::{FlowKey, Protocol};
use std::net::{IpAddr, SocketAddr};

pub(super) const SENDER_MAC: [u8; 6] = [0x02, 0x0a, 0, 0, 0, 1];
pub(super) const GATEWAY_MAC: [u8; 6] = [0x02, 0x0a, 0, 0, 0, 2];
pub(super) const ETHERNET_LEN: usize = 14;

/// The TCP flags that the data path looks at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TcpFlags {
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
}

/// A frame that `key` describes, with a small payload.
pub(super) fn frame(key: FlowKey) -> Vec<u8> {
    let ack = TcpFlags {
        ack: true,
        ..TcpFlags::default()
    };
    frame_with(key, ack, b"seven..")
}

/// As [`frame`], with these TCP flags.
pub(super) fn tcp_frame(key: FlowKey, flags: TcpFlags) -> Vec<u8> {
    frame_with(key, flags, b"")
}

/// As [`frame`], with a payload of this many bytes.
pub(super) fn long_frame(key: FlowKey, payload_len: usize) -> Vec<u8> {
    let ack = TcpFlags {
        ack: true,
        ..TcpFlags::default()
    };
    let payload: Vec<u8> = (0..payload_len).map(|n| (n / 8) as u8).collect();
    frame_with(key, ack, &payload)
}

fn frame_with(key: FlowKey, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(SENDER_MAC, GATEWAY_MAC);
    let (source, destination) = (key.source, key.destination);
    let ip = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet.ipv4(source.octets(), destination.octets(), 64)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet.ipv6(source.octets(), destination.octets(), 64)
        }
        mixed => panic!("no packet has addresses {mixed:?}"),
    };
    let mut bytes = Vec::new();
    match (key.protocol, source.port(), destination.port()) {
        (Protocol::Udp, from, to) => ip.udp(from, to).write(&mut bytes, payload),
        (Protocol::Tcp, from, to) => {
            let mut header = etherparse::TcpHeader::new(from, to, 1000, 500);
            header.syn = flags.syn;
            header.ack = flags.ack;
            header.fin = flags.fin;
            header.rst = flags.rst;
            ip.tcp_header(header).write(&mut bytes, payload)
        }
        (Protocol::Echo, id, 0) if source.is_ipv4() => {
            ip.icmpv4_echo_request(id, 9).write(&mut bytes, payload)
        }
        (Protocol::Echo, 0, id) if source.is_ipv4() => {
            ip.icmpv4_echo_reply(id, 9).write(&mut bytes, payload)
        }
        (Protocol::Echo, id, 0) => ip.icmpv6_echo_request(id, 9).write(&mut bytes, payload),
        (Protocol::Echo, 0, id) => ip.icmpv6_echo_reply(id, 9).write(&mut bytes, payload),
        (Protocol::Echo, ..) => panic!("an echo has one identifier: {key}"),
    }
    .unwrap();
    bytes
}

/// A frame with this Ethernet type and payload.
pub(super) fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [GATEWAY_MAC, SENDER_MAC].concat();
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Client 1 calls server 2: one key per protocol and family.
pub(super) fn every_kind_of_key() -> Vec<FlowKey> {
    let client = super::lab::addresses(1).caller;
    let server = super::lab::addresses(2).called;
    let mut keys = Vec::new();
    for (client, server) in [
        (IpAddr::from(client.v4), IpAddr::from(server.v4)),
        (IpAddr::from(client.v6), IpAddr::from(server.v6)),
    ] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            keys.push(FlowKey::new((client, 40_000), (server, 80), protocol));
        }
        keys.push(FlowKey::new((client, 0x1234), (server, 0), Protocol::Echo));
    }
    keys
}

/// Client 1 calls server 2 by UDP over IPv4.
pub(super) fn udp_key() -> FlowKey {
    every_kind_of_key()[1]
}

/// Client 1 calls server 2 by TCP over IPv4.
pub(super) fn tcp_key() -> FlowKey {
    every_kind_of_key()[0]
}

/// `key` with another source.
pub(super) fn with_source(key: FlowKey, source: IpAddr) -> FlowKey {
    FlowKey {
        source: SocketAddr::new(source, key.source.port()),
        ..key
    }
}

/// `key` with another destination.
pub(super) fn with_destination(key: FlowKey, destination: IpAddr) -> FlowKey {
    FlowKey {
        destination: SocketAddr::new(destination, key.destination.port()),
        ..key
    }
}

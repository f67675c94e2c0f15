//! Refusals: the RST or ICMP error by which a sender learns at once that its packet leads nowhere.

use super::{Segment, Transport};
use crate::packet::Packet;
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{Icmpv4Type, Icmpv6Type, IpHeaders, PacketBuilder, PacketBuilderStep};
use std::net::IpAddr;

/// Initial TTL and hop limit of what core sends (RFC 1700; Linux uses the same).
const HOPS: u8 = 64;

/// The largest ICMP error for IPv4 (RFC 1812 section 4.3.2.3).
const ICMPV4_ERROR_BYTES_MAX: usize = 576;

/// The largest ICMPv6 error: the minimum MTU of IPv6 (RFC 4443 section 2.4 (c)).
const ICMPV6_ERROR_BYTES_MAX: usize = 1280;

/// IPv4 header without options and ICMP header.
const ICMPV4_HEADERS_BYTES: usize = 20 + 8;

/// IPv6 header and ICMPv6 header.
const ICMPV6_HEADERS_BYTES: usize = 40 + 8;

/// Why a destination cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Policy forbids it.
    Prohibited,
    /// Nobody holds the address, or nothing leads there.
    Host,
    /// Nobody serves the port.
    Port,
}

/// Answers a TCP segment that belongs to no connection (RFC 9293 section 3.10.7.1).
///
/// `None` for what must not be answered: a reset, and anything but TCP.
pub fn reset(packet: &Packet) -> Option<Vec<u8>> {
    let Transport::Tcp(segment) = packet.transport else {
        return None;
    };
    if segment.rst {
        return None;
    }
    let (from, to) = (packet.key.destination, packet.key.source);
    let headers = ip(from.ip(), to.ip())?;
    let tcp = headers
        .tcp(from.port(), to.port(), reset_sequence(segment), 0)
        .rst();
    let tcp = if segment.ack {
        tcp
    } else {
        tcp.ack(segment.sequence.wrapping_add(segment.length))
    };
    let mut bytes = Vec::with_capacity(tcp.size(0));
    tcp.write(&mut bytes, &[]).ok()?;
    Some(bytes)
}

/// Where the other side expects the next octet, if it said so.
fn reset_sequence(segment: Segment) -> u32 {
    if segment.ack {
        segment.acknowledgement
    } else {
        0
    }
}

/// Answers a packet with "destination unreachable" (RFC 792, RFC 4443 section 3.1) that embeds as
/// much of `original` as its family allows.
///
/// `None` for what must not be answered: an echo reply, and senders or destinations that are no
/// single host (RFC 1122 section 3.2.2).
pub fn unreachable(packet: &Packet, original: &[u8], why: Unreachable) -> Option<Vec<u8>> {
    let (from, to) = (packet.key.destination.ip(), packet.key.source.ip());
    let single = |addr: IpAddr| !addr.is_multicast() && !addr.is_unspecified();
    if packet.transport == Transport::EchoReply || !single(from) || !single(to) {
        return None;
    }
    let embed = |max: usize| original.get(..max.min(original.len())).unwrap_or_default();
    let mut bytes = Vec::new();
    match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            let embedded = embed(ICMPV4_ERROR_BYTES_MAX - ICMPV4_HEADERS_BYTES);
            let icmp = ip(from, to)?.icmpv4(Icmpv4Type::DestinationUnreachable(why.into()));
            icmp.write(&mut bytes, embedded).ok()?;
        }
        (IpAddr::V6(_), IpAddr::V6(_)) => {
            let embedded = embed(ICMPV6_ERROR_BYTES_MAX - ICMPV6_HEADERS_BYTES);
            let icmp = ip(from, to)?.icmpv6(Icmpv6Type::DestinationUnreachable(why.into()));
            icmp.write(&mut bytes, embedded).ok()?;
        }
        _ => return None,
    }
    Some(bytes)
}

/// The headers of a packet; `None` if the families differ, which no parsed packet's do.
pub(super) fn ip(from: IpAddr, to: IpAddr) -> Option<PacketBuilderStep<IpHeaders>> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Some(PacketBuilder::ipv4(from.octets(), to.octets(), HOPS))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Some(PacketBuilder::ipv6(from.octets(), to.octets(), HOPS))
        }
        _ => None,
    }
}

impl From<Unreachable> for DestUnreachableHeader {
    fn from(why: Unreachable) -> Self {
        match why {
            Unreachable::Prohibited => DestUnreachableHeader::FilterProhibited,
            Unreachable::Host => DestUnreachableHeader::Host,
            Unreachable::Port => DestUnreachableHeader::Port,
        }
    }
}

impl From<Unreachable> for DestUnreachableCode {
    fn from(why: Unreachable) -> Self {
        match why {
            Unreachable::Prohibited => DestUnreachableCode::Prohibited,
            Unreachable::Host => DestUnreachableCode::Address,
            Unreachable::Port => DestUnreachableCode::Port,
        }
    }
}

//! ICMP errors (RFC 792, RFC 4443): about which packet they are, and how the other side of a flow
//! shall read them.

use super::Network;
use super::refusal::ip;
use crate::drop_reason::DropReason;
use crate::flow_key::{FlowKey, Protocol};
use etherparse::{IpNumber, icmpv4, icmpv6};
use std::net::IpAddr;

/// The headers before what an error embeds: IPv6 and ICMPv6.
const HEADERS_BYTES_MAX: usize = 40 + 8;

/// Offset of the checksum in an IPv4 header.
const IPV4_CHECKSUM: usize = 10;

/// An error about a packet that its reporter received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError<'a> {
    /// Who reports.
    pub source: IpAddr,
    /// The packet that it is about, as the reporter saw it.
    pub about: FlowKey,
    kind: u8,
    code: u8,
    /// Bytes 5 to 8: an MTU, a pointer, or the length of what is embedded.
    detail: [u8; 4],
    embedded: &'a [u8],
}

impl<'a> IcmpError<'a> {
    /// Reads a packet whose payload is of ICMP; `None` if it is no error.
    pub(super) fn read(network: &Network<'a>) -> Option<Result<Self, DropReason>> {
        // The first eight bytes of both versions have the same shape.
        let (&[kind, code, _, _, a, b, c, d], embedded) = network.payload.split_first_chunk()?;
        let is_error = match network.source {
            IpAddr::V4(_) => [
                icmpv4::TYPE_DEST_UNREACH,
                icmpv4::TYPE_TIME_EXCEEDED,
                icmpv4::TYPE_PARAMETER_PROBLEM,
            ]
            .contains(&kind),
            IpAddr::V6(_) => {
                (icmpv6::TYPE_DST_UNREACH..=icmpv6::TYPE_PARAMETER_PROBLEM).contains(&kind)
            }
        };
        let error = |about: FlowKey| IcmpError {
            source: network.source,
            about,
            kind,
            code,
            detail: [a, b, c, d],
            embedded,
        };
        is_error.then(|| key_of(embedded, network.source).map(error))
    }

    /// The error as `to` shall read it: reported by `from`, about `about` as `to` wrote it.
    ///
    /// `None` if the families differ, which those of a flow do not.
    pub fn translate(&self, from: IpAddr, to: IpAddr, about: FlowKey) -> Option<Vec<u8>> {
        let embedded = readdress(self.embedded, about)?;
        let headers = ip(from, to)?;
        let mut bytes = Vec::with_capacity(HEADERS_BYTES_MAX + embedded.len());
        let written = match from {
            IpAddr::V4(_) => headers
                .icmpv4_raw(self.kind, self.code, self.detail)
                .write(&mut bytes, &embedded),
            IpAddr::V6(_) => headers
                .icmpv6_raw(self.kind, self.code, self.detail)
                .write(&mut bytes, &embedded),
        };
        written.ok()?;
        Some(bytes)
    }
}

/// The 5-tuple of a packet, of the family of `reporter`, that may end after the first eight bytes
/// of its transport header.
fn key_of(packet: &[u8], reporter: IpAddr) -> Result<FlowKey, DropReason> {
    let network = Network::read(packet)?;
    if network.source.is_ipv4() != reporter.is_ipv4() {
        return Err(DropReason::NotUnderstood);
    }
    if network.is_later_fragment {
        return Err(DropReason::ErrorWithoutFlow);
    }
    let head = network.payload.first_chunk();
    let [a, b, c, d, e, f, _, _] = *head.ok_or(DropReason::Truncated)?;
    let (protocol, source_port, destination_port) = match (network.protocol, a) {
        (IpNumber::TCP, _) => (Protocol::Tcp, [a, b], [c, d]),
        (IpNumber::UDP, _) => (Protocol::Udp, [a, b], [c, d]),
        _ if !network.is_icmp() => return Err(DropReason::ErrorWithoutFlow),
        (_, icmpv4::TYPE_ECHO_REQUEST | icmpv6::TYPE_ECHO_REQUEST) => {
            (Protocol::Echo, [e, f], [0, 0])
        }
        (_, icmpv4::TYPE_ECHO_REPLY | icmpv6::TYPE_ECHO_REPLY) => (Protocol::Echo, [0, 0], [e, f]),
        _ => return Err(DropReason::ErrorWithoutFlow),
    };
    Ok(FlowKey::new(
        (network.source, u16::from_be_bytes(source_port)),
        (network.destination, u16::from_be_bytes(destination_port)),
        protocol,
    ))
}

/// A packet, perhaps cut off, with the addresses and ports of `to`.
///
/// Checksums are adjusted rather than computed (RFC 1624): most of what they cover is cut off.
fn readdress(packet: &[u8], to: FlowKey) -> Option<Vec<u8>> {
    let network = Network::read(packet).ok()?;
    let transport = network.payload_start;
    let checksum = transport
        + match to.protocol {
            Protocol::Tcp => 16,
            Protocol::Udp => 6,
            Protocol::Echo => 2,
        };
    let is_udp = to.protocol == Protocol::Udp;
    let mut readdressed = Readdressed {
        bytes: packet.to_vec(),
        transport_checksum: checksum,
        zero_is_none: is_udp,
    };
    match (network.source, to.source.ip(), to.destination.ip()) {
        (IpAddr::V4(_), IpAddr::V4(source), IpAddr::V4(destination)) => {
            let covered = to.protocol != Protocol::Echo;
            for (at, address) in [(12, source), (16, destination)] {
                readdressed.replace(at, &address.octets(), true, covered);
            }
        }
        (IpAddr::V6(_), IpAddr::V6(source), IpAddr::V6(destination)) => {
            for (at, address) in [(8, source), (24, destination)] {
                readdressed.replace(at, &address.octets(), false, true);
            }
        }
        _ => return None,
    }
    let (source_port, destination_port) = (to.source.port(), to.destination.port());
    if to.protocol == Protocol::Echo {
        // One of the two is 0, the other the identifier.
        let identifier = source_port | destination_port;
        readdressed.replace(transport + 4, &identifier.to_be_bytes(), false, true);
    } else {
        readdressed.replace(transport, &source_port.to_be_bytes(), false, true);
        readdressed.replace(transport + 2, &destination_port.to_be_bytes(), false, true);
    }
    Some(readdressed.bytes)
}

/// A packet on its way to other addresses.
struct Readdressed {
    bytes: Vec<u8>,
    transport_checksum: usize,
    /// A transport checksum of zero says that there is none (RFC 768).
    zero_is_none: bool,
}

impl Readdressed {
    /// Puts `new` at `at`, and adjusts the checksums that cover it and were not cut off.
    fn replace(&mut self, at: usize, new: &[u8], in_ipv4_header: bool, in_transport: bool) {
        let Some(field) = self.bytes.get_mut(at..at + new.len()) else {
            return;
        };
        let old = field.to_vec();
        field.copy_from_slice(new);
        if in_ipv4_header {
            self.adjust(IPV4_CHECKSUM, &old, new, false);
        }
        if in_transport {
            self.adjust(self.transport_checksum, &old, new, self.zero_is_none);
        }
    }

    fn adjust(&mut self, at: usize, old: &[u8], new: &[u8], zero_is_none: bool) {
        let Some(field) = self.bytes.get_mut(at..at + 2) else {
            return;
        };
        let checksum = u16::from_be_bytes([field[0], field[1]]);
        if checksum == 0 && zero_is_none {
            return;
        }
        let removed: u32 = words(old).map(|word| u32::from(!word)).sum();
        let added: u32 = words(new).map(u32::from).sum();
        let adjusted = !fold(u32::from(!checksum) + removed + added);
        let adjusted = if adjusted == 0 && zero_is_none {
            u16::MAX
        } else {
            adjusted
        };
        field.copy_from_slice(&adjusted.to_be_bytes());
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let pairs = bytes.chunks_exact(2);
    pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

/// Adds the carries to a sum of fewer than 65,536 words.
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests;

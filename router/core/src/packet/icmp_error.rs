//! ICMP errors (RFC 792, RFC 4443): about which packet they are, and how the other side of a flow
//! shall read them.

use super::Network;
use super::readdress::readdress;
use super::refusal::ip;
use crate::drop_reason::DropReason;
use crate::flow_key::{FlowKey, Protocol};
use etherparse::{IpNumber, icmpv4, icmpv6};
use std::net::IpAddr;

/// The headers before what an error embeds: IPv6 and ICMPv6.
const HEADERS_BYTES_MAX: usize = 40 + 8;

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

#[cfg(test)]
mod tests;

//! The packet of an upcall: what it says, read without ever trusting it.

mod refusal;

pub use refusal::{Unreachable, reset, unreachable};

use crate::drop_reason::DropReason;
use crate::flow_key::{FlowKey, Protocol};
use etherparse::err::packet::SliceError;
use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TcpSlice, TransportSlice};
use std::net::IpAddr;

/// What core needs to know of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its 5-tuple.
    pub key: FlowKey,
    /// What its transport header says beyond the 5-tuple.
    pub transport: Transport,
}

/// What a transport header says beyond the 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp(Segment),
    /// A UDP datagram.
    Udp,
    /// An echo request.
    EchoRequest,
    /// An echo reply.
    EchoReply,
}

/// What decides the fate of a TCP segment that belongs to no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The sender synchronizes sequence numbers.
    pub syn: bool,
    /// The acknowledgement number counts.
    pub ack: bool,
    /// The sender has no more data.
    pub fin: bool,
    /// The sender aborts.
    pub rst: bool,
    /// Sequence number of the first octet.
    pub sequence: u32,
    /// The next sequence number that the sender expects.
    pub acknowledgement: u32,
    /// Octets that the segment occupies in sequence space, SYN and FIN counted.
    pub length: u32,
}

impl Packet {
    /// Reads an IP packet; the error is the reason to drop it.
    pub fn parse(bytes: &[u8]) -> Result<Packet, DropReason> {
        let sliced = SlicedPacket::from_ip(bytes).map_err(|error| match error {
            SliceError::Len(_) => DropReason::Truncated,
            _ => DropReason::NotUnderstood,
        })?;
        let (source, destination, fragment) = match sliced.net {
            Some(NetSlice::Ipv4(net)) => (
                IpAddr::V4(net.header().source_addr()),
                IpAddr::V4(net.header().destination_addr()),
                net.is_payload_fragmented(),
            ),
            Some(NetSlice::Ipv6(net)) => (
                IpAddr::V6(net.header().source_addr()),
                IpAddr::V6(net.header().destination_addr()),
                net.is_payload_fragmented(),
            ),
            _ => return Err(DropReason::NotUnderstood),
        };
        if fragment {
            return Err(DropReason::Fragment);
        }
        let (protocol, transport, (source_port, destination_port)) =
            read_transport(sliced.transport)?;
        Ok(Packet {
            key: FlowKey::new(
                (source, source_port),
                (destination, destination_port),
                protocol,
            ),
            transport,
        })
    }

    /// Whether the packet may open a flow: a UDP datagram, an echo request, or a lone SYN.
    pub fn opens_a_flow(&self) -> bool {
        match self.transport {
            Transport::Tcp(segment) => segment.syn && !segment.ack && !segment.fin && !segment.rst,
            Transport::Udp | Transport::EchoRequest => true,
            Transport::EchoReply => false,
        }
    }
}

/// Protocol, transport and ports, the latter by the convention of [`FlowKey`].
fn read_transport(
    slice: Option<TransportSlice<'_>>,
) -> Result<(Protocol, Transport, (u16, u16)), DropReason> {
    let echo_request = |id| (Protocol::Echo, Transport::EchoRequest, (id, 0));
    let echo_reply = |id| (Protocol::Echo, Transport::EchoReply, (0, id));
    Ok(match slice {
        Some(TransportSlice::Tcp(tcp)) => (
            Protocol::Tcp,
            Transport::Tcp(read_segment(&tcp)),
            (tcp.source_port(), tcp.destination_port()),
        ),
        Some(TransportSlice::Udp(udp)) => (
            Protocol::Udp,
            Transport::Udp,
            (udp.source_port(), udp.destination_port()),
        ),
        Some(TransportSlice::Icmpv4(icmp)) => match icmp.icmp_type() {
            Icmpv4Type::EchoRequest(echo) => echo_request(echo.id),
            Icmpv4Type::EchoReply(echo) => echo_reply(echo.id),
            _ => return Err(DropReason::UnknownProtocol),
        },
        Some(TransportSlice::Icmpv6(icmp)) => match icmp.icmp_type() {
            Icmpv6Type::EchoRequest(echo) => echo_request(echo.id),
            Icmpv6Type::EchoReply(echo) => echo_reply(echo.id),
            _ => return Err(DropReason::UnknownProtocol),
        },
        _ => return Err(DropReason::UnknownProtocol),
    })
}

fn read_segment(tcp: &TcpSlice<'_>) -> Segment {
    let payload = u32::try_from(tcp.payload().len()).unwrap_or(u32::MAX);
    Segment {
        syn: tcp.syn(),
        ack: tcp.ack(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        sequence: tcp.sequence_number(),
        acknowledgement: tcp.acknowledgment_number(),
        length: payload
            .saturating_add(u32::from(tcp.syn()))
            .saturating_add(u32::from(tcp.fin())),
    }
}

#[cfg(test)]
mod tests;

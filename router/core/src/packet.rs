//! The packet of an upcall: what it says, read without ever trusting it.

mod icmp_error;
mod network;
mod readdress;
mod refusal;

pub use icmp_error::IcmpError;
pub use readdress::address_to;
pub use refusal::{Unreachable, reset, unreachable};

use crate::drop_reason::DropReason;
use crate::flow_key::{FlowKey, Protocol};
use etherparse::{
    Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, IpNumber, TcpSlice, UdpHeaderSlice,
};
use network::Network;
use std::net::IpAddr;

/// What the kernel hands up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upcalled<'a> {
    /// A packet, or its first fragment, that names its flow.
    Packet(Packet),
    /// A fragment that names no ports: it shares the fate of its first one.
    LaterFragment {
        /// Who sends it.
        source: IpAddr,
    },
    /// An ICMP error about another packet.
    Error(IcmpError<'a>),
}

impl<'a> Upcalled<'a> {
    /// Reads an IP packet; the error is the reason to drop it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let network = Network::read(bytes)?;
        if network.is_later_fragment {
            let source = network.source;
            return Ok(Upcalled::LaterFragment { source });
        }
        if network.is_icmp()
            && let Some(error) = IcmpError::read(&network)
        {
            return error.map(Upcalled::Error);
        }
        let (protocol, transport, (source_port, destination_port)) = read_transport(&network)?;
        let key = FlowKey::new(
            (network.source, source_port),
            (network.destination, destination_port),
            protocol,
        );
        Ok(Upcalled::Packet(Packet { key, transport }))
    }
}

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
    /// Reads an IP packet that names its flow; the error is the reason to drop it.
    pub fn parse(bytes: &[u8]) -> Result<Packet, DropReason> {
        match Upcalled::parse(bytes)? {
            Upcalled::Packet(packet) => Ok(packet),
            Upcalled::LaterFragment { .. } => Err(DropReason::Fragment),
            Upcalled::Error(_) => Err(DropReason::UnknownProtocol),
        }
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
fn read_transport(network: &Network<'_>) -> Result<(Protocol, Transport, (u16, u16)), DropReason> {
    let truncated = |_| DropReason::Truncated;
    let echo_request = |id| (Protocol::Echo, Transport::EchoRequest, (id, 0));
    let echo_reply = |id| (Protocol::Echo, Transport::EchoReply, (0, id));
    Ok(match network.protocol {
        IpNumber::TCP => {
            let tcp = TcpSlice::from_slice(network.payload).map_err(|_| DropReason::Truncated)?;
            let ports = (tcp.source_port(), tcp.destination_port());
            (Protocol::Tcp, Transport::Tcp(read_segment(&tcp)), ports)
        }
        IpNumber::UDP => {
            let udp = UdpHeaderSlice::from_slice(network.payload).map_err(truncated)?;
            let ports = (udp.source_port(), udp.destination_port());
            (Protocol::Udp, Transport::Udp, ports)
        }
        _ if !network.is_icmp() => return Err(DropReason::UnknownProtocol),
        IpNumber::ICMP => {
            let icmp = Icmpv4Slice::from_slice(network.payload).map_err(truncated)?;
            match icmp.icmp_type() {
                Icmpv4Type::EchoRequest(echo) => echo_request(echo.id),
                Icmpv4Type::EchoReply(echo) => echo_reply(echo.id),
                _ => return Err(DropReason::UnknownProtocol),
            }
        }
        _ => {
            let icmp = Icmpv6Slice::from_slice(network.payload).map_err(truncated)?;
            match icmp.icmp_type() {
                Icmpv6Type::EchoRequest(echo) => echo_request(echo.id),
                Icmpv6Type::EchoReply(echo) => echo_reply(echo.id),
                _ => return Err(DropReason::UnknownProtocol),
            }
        }
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

//! A flow's key: the 5-tuple as the sender of a packet writes it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The transport protocols that can form a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
    /// Echo of ICMP (RFC 792) or ICMPv6 (RFC 4443), by the family of the addresses.
    Echo,
}

/// A 5-tuple in the direction of travel.
///
/// Echo has no ports: a request carries its identifier as source port and 0 as destination port, a
/// reply the other way round, so that [`FlowKey::reversed`] holds for every protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Who sends.
    pub source: SocketAddr,
    /// Who is called.
    pub destination: SocketAddr,
    /// By which protocol.
    pub protocol: Protocol,
}

impl FlowKey {
    /// Builds a key from addresses and ports.
    pub fn new(source: (IpAddr, u16), destination: (IpAddr, u16), protocol: Protocol) -> Self {
        FlowKey {
            source: SocketAddr::new(source.0, source.1),
            destination: SocketAddr::new(destination.0, destination.1),
            protocol,
        }
    }

    /// The key of the answers, had nothing been rewritten.
    pub fn reversed(self) -> Self {
        FlowKey {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Echo => "echo",
        })
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} -> {}",
            self.protocol, self.source, self.destination
        )
    }
}

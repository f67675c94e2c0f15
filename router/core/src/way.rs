//! Ways: where packets come from and where they go, here or on another host.

use crate::id::LocationIndex;
use std::net::SocketAddr;

/// Where a location cell leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nowhere: packets are dropped with a reason.
    Nowhere,
    /// To an instance of this host, by the host side of its veth.
    Device(u32),
    /// To another host.
    Peer(Path),
}

/// How another host is reached.
///
/// Packets go in UDP datagrams, across whatever lies between. A neighbour is handed them as they are,
/// except that by an IPv4 address no host is handed IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// The device that they leave by.
    pub ifindex: u32,
    /// Whether the host is a neighbour on the device's link.
    pub on_link: bool,
    /// Where datagrams come from, as the other host sees it.
    pub source: SocketAddr,
    /// Where datagrams go, by the address of the neighbour.
    pub destination: SocketAddr,
}

/// Who alone may send the packets of one direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ingress {
    /// An instance of this host, by the host side of its veth.
    Device(u32),
    /// The host whose location cell this is.
    Peer(LocationIndex),
}

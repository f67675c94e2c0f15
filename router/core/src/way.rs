//! Ways: where packets come from and where they go, here or on another host.

use crate::id::LocationIndex;
use std::net::{IpAddr, SocketAddr};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// As they are, to a neighbour on the link of a device, in the family of its address.
    Plain {
        /// The device.
        ifindex: u32,
        /// The neighbour.
        via: IpAddr,
    },
    /// In UDP datagrams, across whatever lies between.
    Encapsulated {
        /// The device that they leave by.
        ifindex: u32,
        /// From where, as the other host sees it.
        source: SocketAddr,
        /// To where.
        destination: SocketAddr,
    },
}

/// Who alone may send the packets of one direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ingress {
    /// An instance of this host, by the host side of its veth.
    Device(u32),
    /// The host whose location cell this is.
    Peer(LocationIndex),
}

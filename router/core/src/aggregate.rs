//! Aggregates: decisions by which the kernel opens further flows itself.

use crate::flow_key::{FlowKey, Protocol};
use crate::id::{EndpointIndex, InstanceId};
use std::net::{Ipv4Addr, SocketAddr};

/// How many aggregates there may be: a thousand instances that call eight ports each. One more
/// takes the place of the oldest, whose next flow is decided anew.
pub const AGGREGATES_MAX: usize = 8_192;

/// The most targets of one aggregate: shares of weights are kept to one in 64.
pub const RING_MAX: usize = 64;

/// Cells of service epochs. Services share them when there are more: then a change of one has
/// flows of another decided anew, and nothing worse.
pub const SERVICE_CELLS: u32 = 4_095;

/// What an aggregate covers: the flows of one client to one called port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AggregateKey {
    /// Where the client is attached.
    pub client: EndpointIndex,
    /// What it calls; port 0 for echo.
    pub called: SocketAddr,
    /// By which protocol.
    pub protocol: Protocol,
}

impl AggregateKey {
    /// The aggregate that would cover a first packet.
    pub fn covering(client: EndpointIndex, first_packet: FlowKey) -> Self {
        AggregateKey {
            client,
            called: first_packet.destination,
            protocol: first_packet.protocol,
        }
    }

    /// The first of all keys of a client.
    pub(crate) fn lowest(client: EndpointIndex) -> Self {
        AggregateKey {
            client,
            called: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            protocol: Protocol::Tcp,
        }
    }
}

/// Whose changes end a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EpochCell {
    /// What compositions permit.
    Policy,
    /// The instances of the services that share this cell, below [`SERVICE_CELLS`].
    Service(u32),
}

/// A number that is raised when decisions made under it must be made anew; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u32);

impl Epoch {
    /// What every cell says at the start.
    pub const FIRST: Epoch = Epoch(1);

    /// The one that follows.
    pub fn next(self) -> Epoch {
        Epoch(self.0.checked_add(1).unwrap_or(Epoch::FIRST.0))
    }
}

/// A decision that the kernel may carry out for further flows while its epochs last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// What it covers.
    pub key: AggregateKey,
    /// Whose it is.
    pub client: InstanceId,
    /// In which epoch of the policy it was made.
    pub policy_epoch: Epoch,
    /// Whose epoch it depends on besides.
    pub service_cell: EpochCell,
    /// In which epoch of that.
    pub service_epoch: Epoch,
    /// Who serves the flows, each in turn; one to [`RING_MAX`], none of them the client.
    pub ring: Vec<EndpointIndex>,
}

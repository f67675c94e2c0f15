//! Aggregates and admissions: decisions by which the kernel opens further flows itself, on the
//! client's host and on the server's.

use crate::flow_key::{FlowKey, Protocol};
use crate::id::{EndpointIndex, InstanceId, LocationIndex};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How many aggregates there may be: a thousand instances that call eight ports each. One more
/// takes the place of the oldest, whose next flow is decided anew.
pub const AGGREGATES_MAX: usize = 8_192;

/// How many admissions there may be, as many as there may be aggregates; one more takes the place of
/// the oldest, whose client's router asks for its next flow.
pub const ADMISSIONS_MAX: usize = AGGREGATES_MAX;

/// The most targets of one aggregate: shares of weights are kept to one in 64.
pub const RING_MAX: usize = 64;

/// Cells of service epochs. Services share them when there are more, and with the instances that serve
/// other hosts: then a change of one has flows of another decided anew, and nothing worse.
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
    /// The services and admitted instances that share this cell, below [`SERVICE_CELLS`].
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
    pub ring: Vec<Target>,
}

/// Who serves a flow that the kernel opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An instance of this host.
    Here(EndpointIndex),
    /// An instance of another host, which has admitted the client.
    There(RemoteTarget),
}

/// An instance of another host that serves flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteTarget {
    /// Which.
    pub instance: InstanceId,
    /// Its host's cell.
    pub location: LocationIndex,
    /// The address under which its host delivers to it, in the aggregate's family.
    pub address: IpAddr,
}

/// What an admission covers: the flows of one client of another host to one port of an instance here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdmissionKey {
    /// The client's address, as its packets come.
    pub client: IpAddr,
    /// What they are delivered to; port 0 for echo.
    pub server: SocketAddr,
    /// By which protocol.
    pub protocol: Protocol,
}

impl AdmissionKey {
    /// The admission that would cover a first packet of another host.
    pub fn covering(first_packet: FlowKey) -> Self {
        AdmissionKey {
            client: first_packet.source.ip(),
            server: first_packet.destination,
            protocol: first_packet.protocol,
        }
    }
}

/// That another host need not ask for further flows of a client of its, while the epochs last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// What it covers.
    pub key: AdmissionKey,
    /// Who calls.
    pub client: InstanceId,
    /// The cell of the client's host, from which alone the packets may come.
    pub from: LocationIndex,
    /// Who serves the flows.
    pub server: InstanceId,
    /// Where that one is attached.
    pub endpoint: EndpointIndex,
    /// In which epoch of the policy it was made.
    pub policy_epoch: Epoch,
    /// The cell that tells when the server ceases to take flows.
    pub server_cell: EpochCell,
    /// In which epoch of that.
    pub server_epoch: Epoch,
}

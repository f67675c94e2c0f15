//! Peers: the other hosts that a router knows, and what they tell of their instances.

use crate::address::InstanceAddresses;
use crate::composition::CompositionName;
use crate::host::HostId;
use crate::id::{InstanceId, LocationIndex, Version};
use crate::name::{AutomatonName, InstanceName};
use crate::way::Path;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::sync::Arc;

/// What a router is told of other hosts.
#[derive(Clone, Debug)]
pub enum PeerInput {
    /// A host can be reached, from now on by this path.
    Up {
        /// Which.
        host: HostId,
        /// How.
        path: Path,
    },
    /// A host does not answer: no new flow goes to it. Live ones go on.
    Down {
        /// Which.
        host: HostId,
    },
    /// A host is gone with all that ran on it: live flows end.
    Lost {
        /// Which.
        host: HostId,
    },
    /// An instance of another host, as that host tells of it now.
    Instance(Arc<RemoteInstance>),
    /// An instance of another host is no more.
    InstanceGone {
        /// Which.
        instance: InstanceId,
    },
    /// Say with which hosts of other sites flows are open: [`Output::BusyWith`](crate::port::Output).
    BusyWanted,
    /// The search for a service's instances is over, whether any was found or not.
    Sought {
        /// Which service.
        service: AutomatonName,
    },
    /// A service frame came.
    Frame {
        /// Who sent it, by the host link's word.
        from: HostId,
        /// As it came.
        frame: Vec<u8>,
    },
}

/// An instance of another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteInstance {
    /// Its identity.
    pub instance: InstanceId,
    /// Where it is.
    pub host: HostId,
    /// Its name, `2.web`.
    pub name: InstanceName,
    /// Whose part it is.
    pub composition: CompositionName,
    /// Of which version.
    pub version: Version,
    /// Its addresses.
    pub addresses: InstanceAddresses,
    /// Whether it takes new flows.
    pub ready: bool,
    /// Its part of its service's flows.
    pub weight: NonZeroU32,
    /// How many flows it served when its host told of it.
    pub flows: u32,
    /// How much of the processor it used then, in thousandths of a core.
    pub processor: u32,
    /// How far it is.
    pub distance: Distance,
    /// Who passes first packets on to its host while no link to that host stands; `None`: nobody.
    pub via: Option<HostId>,
    /// How this host came to know of it.
    pub known: Known,
}

/// How many tiers lie between two hosts: 0 within one site, 1 between two sites of one region.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Distance(pub u8);

impl Distance {
    /// Within one site.
    pub const NONE: Distance = Distance(0);
}

/// How a host came to know of an instance of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// The site's catalog has it.
    #[default]
    Flooded,
    /// A summary led to it.
    Summarised,
    /// Kademlia led to it.
    LookedUp,
    /// It called an instance of this site.
    Called,
}

/// A peer's place among the location cells, which flows in the kernel name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLocation {
    /// Which host.
    pub host: HostId,
    /// Its cell.
    pub location: LocationIndex,
}

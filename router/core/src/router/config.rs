//! What a Router is told once.

use crate::address::Ipv4Block;
use crate::flow_table::FlowLimits;
use crate::host::HostId;
use crate::id::{InstanceId, LocationIndex};
use crate::name::{HostName, SitePath};
use crate::service_table::Rule;
use std::time::Duration;

/// Who a host is among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnHost {
    /// By its key.
    pub id: HostId,
    /// By its name.
    pub name: HostName,
}

/// What a Router is told once.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// The network's key; its IPv6 prefix follows from it.
    pub network_key: [u8; 32],
    /// Where this host's IPv4 addresses come from.
    pub v4_block: Ipv4Block,
    /// The site that this host's services belong to.
    pub site: SitePath,
    /// How many flows there may be.
    pub flow_limits: FlowLimits,
    /// Whether the kernel may open further flows by a decision that was made for one.
    pub aggregates: bool,
    /// How many instances there may be; the kernel's table of endpoints must have room for as many.
    pub instances_max: u32,
    /// Who this host is among others; `None`: it has no others.
    pub host: Option<OwnHost>,
    /// The first location cell for other hosts: above all that the kernel keeps for endpoints.
    pub peer_locations_from: LocationIndex,
    /// Time between SIGTERM and SIGKILL when an instance is taken away.
    pub grace: Duration,
    /// How long an instance of an older version waits for its successor to become ready.
    pub rollout_patience: Duration,
    /// The operator's own rules for first packets, beyond those that follow from compositions.
    pub rules: Vec<Rule>,
}

impl RouterConfig {
    /// As many instances as one host of today runs processes for; each costs a namespace.
    pub const INSTANCES_MAX: u32 = 1024;

    /// As many endpoints as the kernel's table has.
    pub const PEER_LOCATIONS_FROM: LocationIndex = LocationIndex(4_096);

    /// What most programs need to finish their requests (Docker's default too).
    pub const GRACE: Duration = Duration::from_secs(10);

    /// A version that is not ready by then is broken; the operator asked for it all the same.
    pub const ROLLOUT_PATIENCE: Duration = Duration::from_secs(120);

    /// The first identity that this host gives. Among others its IPv4 block, which is its alone, makes
    /// its identities different from theirs.
    pub fn first_instance(&self) -> InstanceId {
        let block = u64::from(self.v4_block.base().to_bits()) << 32;
        InstanceId(1 + self.host.as_ref().map_or(0, |_| block))
    }

    /// The defaults for a host that holds `v4_block` of the network whose key is `network_key`.
    pub fn new(network_key: [u8; 32], v4_block: Ipv4Block) -> Self {
        RouterConfig {
            network_key,
            v4_block,
            site: SitePath::everywhere(),
            flow_limits: FlowLimits::default(),
            aggregates: true,
            instances_max: Self::INSTANCES_MAX,
            host: None,
            peer_locations_from: Self::PEER_LOCATIONS_FROM,
            grace: Self::GRACE,
            rollout_patience: Self::ROLLOUT_PATIENCE,
            rules: Vec::new(),
        }
    }
}

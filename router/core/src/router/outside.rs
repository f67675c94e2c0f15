//! The outside, which is not Margay's: which packets the kernel hands to the host's own routing.
//!
//! The kernel decides (`bpf/leave.h`); what is told here is the same, for core only sees what it kept.

use super::Router;
use super::instances::Instance;
use crate::composition::Egress;
use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use std::net::{IpAddr, Ipv4Addr};

/// Why a packet to the outside does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    /// The caller's composition gives it no way out.
    NoEgress,
    /// The host's routing is asked to carry IPv4 only.
    Ipv6,
    /// What answers at link-local addresses is the host's alone.
    LinkLocal,
    /// It comes from another address than the one that the caller calls from.
    Source(Ipv4Addr),
}

impl Router {
    /// Whether no identity can ever hold `addr`.
    pub(super) fn is_outside(&self, addr: IpAddr) -> bool {
        let plan = self.identities.plan();
        match addr {
            IpAddr::V4(addr) => !plan.holds_v4(addr),
            IpAddr::V6(addr) => !plan.holds_v6(addr),
        }
    }

    /// Why a packet to an address that nobody holds is refused.
    pub(super) fn nobody_holds(&self, addr: IpAddr) -> DropReason {
        match self.is_outside(addr) {
            true => DropReason::NoEgress,
            false => DropReason::NoSuchAddress,
        }
    }
}

/// Whether `caller` gets out with a packet whose destination lies outside.
pub(super) fn way_out(caller: &Instance, key: &FlowKey) -> Result<(), Shut> {
    let own = caller.plan.addresses.caller.v4;
    match key.destination.ip() {
        _ if caller.plan.egress == Egress::None => Err(Shut::NoEgress),
        IpAddr::V6(_) => Err(Shut::Ipv6),
        IpAddr::V4(to) if to.is_link_local() => Err(Shut::LinkLocal),
        IpAddr::V4(_) if key.source.ip() != IpAddr::V4(own) => Err(Shut::Source(own)),
        IpAddr::V4(_) => Ok(()),
    }
}

/// Whether `addr` is one of many receivers at once, whom no packet of a flow is for.
pub(super) fn is_multicast(addr: IpAddr) -> bool {
    match addr {
        // 224.0.0.0/4, and 240.0.0.0/4, which holds the limited broadcast.
        IpAddr::V4(addr) => addr.octets()[0] >= 224,
        IpAddr::V6(addr) => addr.is_multicast(),
    }
}

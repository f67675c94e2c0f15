//! Hosts among others: who they are, how they reach each other, and what they tell of their instances.

use super::world::{World, config};
use crate::host::HostId;
use crate::peer::{Distance, Known, RemoteInstance};
use crate::router::{OwnHost, RouterConfig};
use crate::way::Path;
use std::net::SocketAddr;
use std::num::NonZeroU32;

pub(super) fn host(name: char) -> HostId {
    HostId::from_bytes([name as u8; 32])
}

/// How a host of that name is configured, with its addresses from `block`.
pub(super) fn config_of(name: char, block: &str) -> RouterConfig {
    RouterConfig {
        v4_block: block.parse().unwrap(),
        host: Some(OwnHost {
            id: host(name),
            name: name.to_string().parse().unwrap(),
        }),
        ..config()
    }
}

/// A way to a neighbour.
pub(super) fn path() -> Path {
    Path {
        ifindex: 9,
        on_link: true,
        source: SocketAddr::from(([192, 0, 2, 9], 4_899)),
        destination: SocketAddr::from(([192, 0, 2, 1], 4_899)),
    }
}

/// What a host tells of its instances to the others of its site.
pub(super) fn remotes(world: &World, name: char) -> impl Iterator<Item = RemoteInstance> {
    world.plans.values().map(move |plan| RemoteInstance {
        instance: plan.instance,
        host: host(name),
        name: plan.name.clone(),
        composition: plan.composition.clone(),
        version: plan.version,
        addresses: plan.addresses,
        ready: !world.drained.contains(&plan.instance),
        weight: NonZeroU32::new(1_000).unwrap(),
        flows: 0,
        processor: 0,
        distance: Distance::default(),
        via: None,
        known: Known::Flooded,
    })
}

//! What a host may say of its instances: the identity lies in one of its blocks, and the addresses are
//! that identity's.

use super::Neighbour;
use crate::address::AddressPlan;
use crate::catalog::Instance;
use crate::name::InstanceName;
use crate::peer::{Distance, Known, RemoteInstance};
use std::num::NonZeroU32;

/// Reads what a host says of an instance, if that is its to say.
pub(crate) fn read_claim(
    network_key: &[u8; 32],
    neighbour: &Neighbour,
    instance: &Instance,
) -> Option<RemoteInstance> {
    let (host, number) = (neighbour.host, instance.identity.number);
    let born_in = u32::try_from(number.0 >> 32).ok()?;
    let mut blocks = neighbour.blocks.iter();
    let block = *blocks.find(|block| block.base().to_bits() == born_in)?;
    let plan = AddressPlan::new(network_key, block);
    let (called, caller) = (instance.addresses.called, instance.addresses.caller);
    let its_own = instance.identity.born_at == host
        && plan.v4_called.contains(called.v4)
        && plan.v4_caller.contains(caller.v4)
        && plan.v6_of(number) == (called.v6, caller.v6);
    if !its_own {
        return None;
    }
    Some(RemoteInstance {
        instance: number,
        host,
        name: InstanceName {
            automaton: instance.service.automaton.clone(),
            ordinal: instance.ordinal.get(),
        },
        composition: instance.service.composition.clone(),
        version: instance.version,
        addresses: instance.addresses,
        ready: instance.takes_flows,
        weight: NonZeroU32::new(instance.weight)?,
        flows: instance.flows,
        processor: instance.processor,
        distance: Distance::default(),
        via: None,
        known: Known::Flooded,
    })
}

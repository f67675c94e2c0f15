//! What other hosts are told of the instances here.

use super::Router;
use super::balancing::part;
use crate::composition::WEIGHT;
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::peer::{Distance, Known, RemoteInstance};
use crate::port::Output;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often the loads of busy instances are looked at again: flows end without a word.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How many leading bits of a load are told: others choose by it, and a tenth more is no news.
const LOAD_BITS: u32 = 3;

/// What others were told last.
#[derive(Debug, Default)]
pub(super) struct Telling {
    told: BTreeMap<AutomatonName, BTreeMap<InstanceId, Arc<RemoteInstance>>>,
    again: Option<Moment>,
}

impl Telling {
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.again
    }

    /// The services of which others believe that their instances are busy.
    fn busy(&self) -> BTreeSet<AutomatonName> {
        let is_busy = |it: &Arc<RemoteInstance>| it.flows > 0 || it.processor > 0;
        let told = self.told.iter();
        let busy = told.filter(|(_, instances)| instances.values().any(is_busy));
        busy.map(|(automaton, _)| automaton.clone()).collect()
    }
}

impl Router {
    /// Tells others what has changed of a service's instances here.
    pub(super) fn tell_others(&mut self, automaton: &AutomatonName) {
        if self.config.host.is_none() {
            return;
        }
        let running = self.names.running(automaton);
        let shown: BTreeMap<_, _> = running
            .filter_map(|id| Some((id, Arc::new(self.as_remote(id)?))))
            .collect();
        let before = self.telling.told.remove(automaton).unwrap_or_default();
        for instance in before.keys().copied().filter(|id| !shown.contains_key(id)) {
            self.outputs.push_back(Output::InstanceGone { instance });
        }
        for (id, instance) in &shown {
            if before.get(id) != Some(instance) {
                self.outputs
                    .push_back(Output::Instance(Arc::clone(instance)));
            }
        }
        if !shown.is_empty() {
            self.telling.told.insert(automaton.clone(), shown);
        }
    }

    /// Has the loads that others were told looked at again before long.
    pub(super) fn tell_loads_again(&mut self, now: Moment) {
        if self.config.host.is_some() {
            self.telling.again.get_or_insert(now + LOOK_AGAIN);
        }
    }

    pub(super) fn telling_timeout(&mut self, now: Moment) {
        if self.telling.again.is_none_or(|again| now < again) {
            return;
        }
        let busy = self.telling.busy();
        self.telling.again = (!busy.is_empty()).then_some(now + LOOK_AGAIN);
        for automaton in busy {
            self.names.load_changed(&automaton, now);
        }
    }

    /// An instance here as others see it.
    fn as_remote(&self, id: InstanceId) -> Option<RemoteInstance> {
        let instance = self.instances.get(&id)?;
        let (plan, own) = (&instance.plan, self.config.host.as_ref()?);
        let service = self.services.find(&plan.name.automaton);
        let by_load = service.is_some_and(|service| service.balance.looks_at_loads());
        let load = |load| if by_load { roughly(load) } else { 0 };
        Some(RemoteInstance {
            instance: id,
            host: own.id,
            name: plan.name.clone(),
            composition: plan.composition.clone(),
            version: plan.version,
            addresses: plan.addresses,
            ready: instance.life.is_ready()
                && instance.network.is_some()
                && !instance.trust.is_out(),
            weight: service.map_or(WEIGHT, |service| part(service, instance)),
            flows: load(self.flows.load(id)),
            processor: load(instance.processor.permille()),
            distance: Distance::default(),
            via: None,
            known: Known::Flooded,
        })
    }
}

/// A load by its leading bits.
fn roughly(load: u32) -> u32 {
    let dropped = (u32::BITS - load.leading_zeros()).saturating_sub(LOAD_BITS);
    load >> dropped << dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_told_roughly() {
        let told: Vec<u32> = [0, 1, 7, 8, 9, 10, 1_000, 1_023, u32::MAX]
            .map(roughly)
            .to_vec();
        assert_eq!(told, [0, 1, 7, 8, 8, 10, 896, 896, 0xe000_0000]);
    }
}

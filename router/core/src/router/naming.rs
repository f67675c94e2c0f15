//! When names are published, and which.

use super::Router;
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::names::{NamedInstance, NamedService, NamesSnapshot};
use crate::port::Output;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How old the loads may be by which DNS orders its answers: flows of a burst this long are spread
/// by chance alone.
const LOADS_STALE_MAX: Duration = Duration::from_millis(250);

/// What is due to be published.
#[derive(Debug, Default)]
pub(super) struct Publication {
    due: bool,
    /// When the loads that changed are published at the latest.
    loads_due: Option<Moment>,
}

impl Publication {
    /// Something that DNS shows has changed.
    pub(super) fn changed(&mut self) {
        self.due = true;
    }

    /// A load by which answers are ordered has changed.
    pub(super) fn load_changed(&mut self, now: Moment) {
        self.loads_due.get_or_insert(now + LOADS_STALE_MAX);
    }

    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// Lets time pass; tells whether loads that changed are due.
    pub(super) fn handle_timeout(&mut self, now: Moment) -> bool {
        let loads_are_due = self.loads_due.is_some_and(|due| due <= now);
        if loads_are_due {
            self.loads_due = None;
            self.due = true;
        }
        loads_are_due
    }

    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.loads_due
    }
}

impl Router {
    /// The names as they are now, if they changed since they were published last.
    pub(super) fn poll_names(&mut self) -> Option<Output> {
        if !self.names.due {
            return None;
        }
        self.names = Publication::default();
        Some(Output::PublishNames(Arc::new(self.snapshot())))
    }

    fn snapshot(&self) -> NamesSnapshot {
        let mut running: BTreeMap<&AutomatonName, BTreeSet<InstanceId>> = BTreeMap::new();
        for (id, instance) in &self.instances {
            running
                .entry(&instance.plan.name.automaton)
                .or_default()
                .insert(*id);
        }
        let services = self.services.iter().map(|(name, service)| NamedService {
            name: name.clone(),
            balance: service.balance,
            declaration: Arc::clone(&service.declaration),
            vip: self.identities.vip(name),
            instances: self.named_instances(&service.instances),
            callers: running
                .iter()
                .filter(|(caller, _)| self.services.permissions.sees(caller, name))
                .flat_map(|(_, instances)| instances.iter().copied())
                .chain(
                    self.services
                        .permissions
                        .host_sees(name)
                        .then_some(InstanceId::HOST),
                )
                .collect(),
        });
        NamesSnapshot::new(self.identities.plan(), services)
    }

    /// A service's instances in the order of their names; of two with one name the ready one first,
    /// then the younger.
    fn named_instances(&self, of_service: &BTreeSet<InstanceId>) -> Vec<NamedInstance> {
        let instances = of_service.iter().filter_map(|id| self.instances.get(id));
        let named = instances.map(|instance| NamedInstance {
            instance: instance.plan.instance,
            ordinal: instance.plan.name.ordinal,
            version: instance.plan.version,
            addresses: instance.plan.addresses,
            ready: instance.life.is_ready(),
            load: self.flows.load(instance.plan.instance),
        });
        let mut named: Vec<_> = named.collect();
        named.sort_by_key(|one| (one.ordinal, !one.ready, Reverse(one.instance)));
        named
    }
}

//! When names are published, and which.

use super::Router;
use crate::address::AddressPlan;
use crate::composition::Egress;
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

/// Every instance by its automaton, declared or not.
type Running = BTreeMap<AutomatonName, BTreeSet<InstanceId>>;

/// What was published, and what is due to be.
#[derive(Debug, Default)]
pub(super) struct Publication {
    /// The names as they were published last.
    snapshot: NamesSnapshot,
    /// Services of which something that DNS shows has changed since.
    changed: BTreeSet<AutomatonName>,
    /// Services of which only loads have changed, by which answers are ordered.
    loads_changed: BTreeSet<AutomatonName>,
    /// When those are published at the latest.
    loads_due: Option<Moment>,
    /// Those who may ask.
    running: Running,
}

impl Publication {
    /// Begins with the names of addresses only.
    pub(super) fn new(plan: AddressPlan, seeks: bool) -> Self {
        let names = NamesSnapshot::new(plan, []);
        Publication {
            snapshot: if seeks { names.with_seeking() } else { names },
            ..Publication::default()
        }
    }

    /// Something that DNS shows of a service has changed.
    pub(super) fn changed(&mut self, service: &AutomatonName) {
        self.changed.insert(service.clone());
    }

    /// A service was sought and not found.
    pub(super) fn not_found(&mut self, service: &AutomatonName) {
        self.snapshot.note_not_found(service);
        self.changed(service);
    }

    /// A service may be sought again.
    pub(super) fn seek_again(&mut self, service: &AutomatonName) {
        self.snapshot.seek_again(service);
        self.changed(service);
    }

    /// A load by which a service's answers are ordered has changed.
    pub(super) fn load_changed(&mut self, service: &AutomatonName, now: Moment) {
        self.loads_changed.insert(service.clone());
        self.loads_due.get_or_insert(now + LOADS_STALE_MAX);
    }

    /// The instances of an automaton, whatever they do.
    pub(super) fn running(&self, automaton: &AutomatonName) -> impl Iterator<Item = InstanceId> {
        let running = self.running.get(automaton);
        running.into_iter().flatten().copied()
    }

    pub(super) fn is_due(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Lets time pass; tells whether loads that changed are due.
    pub(super) fn handle_timeout(&mut self, now: Moment) -> bool {
        let loads_are_due = self.loads_due.is_some_and(|due| due <= now);
        if loads_are_due {
            self.loads_due = None;
            self.changed.append(&mut self.loads_changed);
        }
        loads_are_due
    }

    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.loads_due
    }
}

impl Router {
    /// The names as they are now, if they changed since they were published last, behind what other
    /// hosts are told of it.
    pub(super) fn poll_names(&mut self) -> Option<Output> {
        if !self.names.is_due() {
            return None;
        }
        let mut changed = std::mem::take(&mut self.names.changed);
        changed.append(&mut self.names.loads_changed);
        self.names.loads_due = None;
        let mut snapshot = self.names.snapshot.clone();
        for name in changed {
            self.tell_others(&name);
            match self.named_service(&name, &self.names.running) {
                Some(service) => snapshot.insert(service),
                None => snapshot.remove(&name),
            }
        }
        self.names.snapshot = snapshot.clone();
        self.outputs
            .push_back(Output::PublishNames(Arc::new(snapshot)));
        self.outputs.pop_front()
    }

    /// An instance is there from now on: its own name shows it, and it may ask for what it needs.
    pub(super) fn name_instance(&mut self, instance: InstanceId, automaton: &AutomatonName) {
        let running = self.names.running.entry(automaton.clone()).or_default();
        running.insert(instance);
        let plan = self.instances.get(&instance).map(|found| &found.plan);
        if plan.is_some_and(|plan| plan.egress == Egress::All) {
            self.names.snapshot.let_out(instance);
        }
        self.rename(automaton);
    }

    /// An instance is no more.
    pub(super) fn unname_instance(&mut self, instance: InstanceId, automaton: &AutomatonName) {
        if let Some(running) = self.names.running.get_mut(automaton) {
            running.remove(&instance);
            if running.is_empty() {
                self.names.running.remove(automaton);
            }
        }
        self.names.snapshot.keep_in(instance);
        self.rename(automaton);
    }

    /// Publishes anew what changes with an automaton's instances: its own name, and those that it
    /// sees.
    fn rename(&mut self, automaton: &AutomatonName) {
        self.names.changed(automaton);
        for seen in self.services.permissions.seen_by(automaton) {
            self.names.changed(seen);
        }
    }

    /// A service as DNS shall show it now, if it is declared.
    fn named_service(&self, name: &AutomatonName, running: &Running) -> Option<NamedService> {
        let service = self.services.find(name)?;
        let callers = self.services.permissions.callers_of(name);
        let callers = callers.filter_map(|caller| running.get(caller));
        let host_sees = self.services.permissions.host_sees(name);
        let host = host_sees.then_some(InstanceId::HOST);
        Some(NamedService {
            name: name.clone(),
            balancer: self.balancer(service),
            declaration: Arc::clone(&service.declaration),
            vip: self.identities.vip(name),
            instances: self.named_instances(name, &service.instances),
            callers: callers.flatten().copied().chain(host).collect(),
        })
    }

    /// The names as they would be if all were published anew.
    #[cfg(test)]
    pub(super) fn names_from_scratch(&self) -> NamesSnapshot {
        let mut running = Running::new();
        for (id, instance) in &self.instances {
            let automaton = instance.plan.name.automaton.clone();
            running.entry(automaton).or_default().insert(*id);
        }
        let names = self.services.iter().map(|(name, _)| name);
        let services = names.filter_map(|name| self.named_service(name, &running));
        let outgoing = self.instances.values();
        let outgoing = outgoing.filter(|instance| instance.plan.egress == Egress::All);
        let outgoing = outgoing.map(|instance| instance.plan.instance).collect();
        NamesSnapshot::new(self.identities.plan(), services).with_outgoing(outgoing)
    }

    /// The names as they were published last.
    #[cfg(test)]
    pub(super) fn names_published(&self) -> &NamesSnapshot {
        &self.names.snapshot
    }

    /// A service's instances in the order of their names; of two with one name the ready one first,
    /// then the younger.
    fn named_instances(
        &self,
        service: &AutomatonName,
        of_service: &BTreeSet<InstanceId>,
    ) -> Vec<NamedInstance> {
        let instances = of_service.iter().filter_map(|id| self.instances.get(id));
        let named = instances.map(|instance| NamedInstance {
            instance: instance.plan.instance,
            ordinal: instance.plan.name.ordinal,
            version: instance.plan.version,
            addresses: instance.plan.addresses,
            ready: instance.life.is_ready(),
        });
        let elsewhere = self.peers.instances_of(service);
        let elsewhere = elsewhere.map(|remote| NamedInstance {
            instance: remote.instance,
            ordinal: remote.name.ordinal,
            version: remote.version,
            addresses: remote.addresses,
            ready: self.peers.taking_flows(remote.instance).is_some(),
        });
        let mut named: Vec<_> = named.chain(elsewhere).collect();
        named.sort_by_key(|one| (one.ordinal, !one.ready, Reverse(one.instance)));
        named
    }
}

//! The instances of other hosts: what the catalog shows of them, and what the Router was told.

use super::Neighbourhood;
use super::claim::read_claim;
use super::drops::NeighbourhoodDrop;
use crate::catalog::{Generation, Identity, Instance, Key, Service, Statement};
use crate::grouped::Grouped;
use crate::host::HostId;
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::peer::{PeerInput, RemoteInstance};
use crate::sites::SitesInput;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

/// The generation of an identity that never moved.
const BORN: Generation = Generation(1);

/// What a host says of an instance that runs on it.
pub(super) fn statement_of(own: &HostId, instance: &RemoteInstance) -> Statement {
    Statement::Instance(Instance {
        identity: identity(own, instance.instance),
        service: Service {
            composition: instance.composition.clone(),
            automaton: instance.name.automaton.clone(),
        },
        ordinal: NonZeroU32::new(instance.name.ordinal).unwrap_or(NonZeroU32::MIN),
        version: instance.version,
        addresses: instance.addresses,
        // The composition says them, and every host has it.
        ports: BTreeMap::new(),
        takes_flows: instance.ready,
        weight: instance.weight.get(),
        flows: instance.flows,
        processor: instance.processor,
        generation: BORN,
    })
}

/// By which a host takes back what it said of an instance.
pub(super) fn key_of(own: &HostId, instance: InstanceId) -> Key {
    Key::Instance(identity(own, instance))
}

fn identity(own: &HostId, number: InstanceId) -> Identity {
    Identity {
        born_at: *own,
        number,
    }
}

/// What the Router was told.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    told: BTreeMap<InstanceId, Arc<RemoteInstance>>,
    by_automaton: Grouped<AutomatonName>,
    by_host: Grouped<HostId>,
}

impl Remotes {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    /// The services that a host's instances are of.
    pub(super) fn services_of(&self, host: &HostId) -> BTreeSet<AutomatonName> {
        let ids = self.by_host.of(host);
        let remotes = ids.filter_map(|id| self.told.get(&id));
        remotes.map(|it| it.name.automaton.clone()).collect()
    }

    /// Forgets all instances of a host; those that there were.
    pub(super) fn forget_host(&mut self, host: &HostId) -> Vec<Arc<RemoteInstance>> {
        let ids: Vec<InstanceId> = self.by_host.of(host).collect();
        ids.into_iter().filter_map(|id| self.leave(id)).collect()
    }

    fn of_automaton(&self, automaton: &AutomatonName) -> Vec<Arc<RemoteInstance>> {
        let ids = self.by_automaton.of(automaton);
        ids.filter_map(|id| self.told.get(&id).cloned()).collect()
    }

    /// Takes what is so now; whether it is news.
    fn enter(&mut self, remote: &Arc<RemoteInstance>) -> bool {
        let id = remote.instance;
        if self.told.get(&id) == Some(remote) {
            return false;
        }
        self.leave(id);
        let automaton = remote.name.automaton.clone();
        self.by_automaton.insert(automaton, id);
        self.by_host.insert(remote.host, id);
        self.told.insert(id, Arc::clone(remote));
        true
    }

    fn leave(&mut self, id: InstanceId) -> Option<Arc<RemoteInstance>> {
        let remote = self.told.remove(&id)?;
        self.by_automaton.remove(&remote.name.automaton, id);
        self.by_host.remove(&remote.host, id);
        Some(remote)
    }
}

impl Neighbourhood {
    /// Tells the Router what is new of a service's instances on other hosts. Those of hosts that are
    /// down are hidden in the catalog and stay with the Router: their flows may go on.
    pub(super) fn look_at(&mut self, automaton: &AutomatonName, now: Moment) {
        let mut shown = BTreeMap::new();
        let mut serving = 0;
        for (host, instance) in self.catalog.instances_of(automaton) {
            serving += u32::from(instance.takes_flows);
            let Some(standing) = self.hosts.get(&host) else {
                continue;
            };
            match read_claim(&self.config.network_key, &standing.neighbour, &instance) {
                Some(remote) => drop(shown.insert(remote.instance, Arc::new(remote))),
                None => self.count(NeighbourhoodDrop::NotItsOwn),
            }
        }
        self.tell_sites(SitesInput::Serves(automaton.clone(), serving), now);
        for told in self.remotes.of_automaton(automaton) {
            let hidden = self.hosts.get(&told.host).is_some_and(|host| !host.up);
            if !hidden && !shown.contains_key(&told.instance) {
                let instance = told.instance;
                self.remotes.leave(instance);
                self.tell_router(PeerInput::InstanceGone { instance });
            }
        }
        for remote in shown.into_values() {
            if self.remotes.enter(&remote) {
                self.tell_router(PeerInput::Instance(remote));
            }
        }
    }
}

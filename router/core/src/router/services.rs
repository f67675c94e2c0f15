//! What the compositions declare: services, rules for their first packets, permission.

use super::config::RouterConfig;
use crate::composition::{Affinity, Automaton, Balance, Composition, CompositionName};
use crate::id::InstanceId;
use crate::name::{AutomatonName, SitePath};
use crate::names::Declaration;
use crate::permission::Permissions;
use crate::service_id::{ServiceId, ServiceIdPrefix};
use crate::service_table::{Action, Rule, ServiceTable};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A declared service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) id: ServiceId,
    pub(super) affinity: Affinity,
    pub(super) balance: Balance,
    /// What DNS tells of it, shared with every snapshot of names.
    pub(super) declaration: Arc<Declaration>,
    /// Its instances, ready or not.
    pub(super) instances: BTreeSet<InstanceId>,
    /// Counts the choices that were made between its instances.
    pub(super) turn: Cell<u64>,
}

/// All that follows from the compositions.
#[derive(Debug)]
pub(super) struct Services {
    site: SitePath,
    services: BTreeMap<AutomatonName, Service>,
    pub(super) table: ServiceTable,
    pub(super) permissions: Permissions,
}

impl Services {
    pub(super) fn new(config: &RouterConfig) -> Self {
        let mut table = ServiceTable::default();
        for rule in &config.rules {
            table.insert(*rule);
        }
        Services {
            site: config.site.clone(),
            services: BTreeMap::new(),
            table,
            permissions: Permissions::default(),
        }
    }

    /// Takes the compositions as they are now; what stays declared keeps its instances and counts.
    pub(super) fn declare(&mut self, compositions: &BTreeMap<CompositionName, Composition>) {
        self.permissions = Permissions::of(compositions.values());
        let mut before = std::mem::take(&mut self.services);
        for composition in compositions.values() {
            for (name, automaton) in &composition.automatons {
                let old = before.remove(name);
                let service = self.service(name, composition, automaton, old);
                self.table.insert(demux(service.id));
                self.services.insert(name.clone(), service);
            }
        }
        for gone in before.into_values() {
            self.table
                .remove(ServiceIdPrefix::service(gone.id), Action::Demux);
        }
    }

    pub(super) fn find(&self, name: &AutomatonName) -> Option<&Service> {
        self.services.get(name)
    }

    pub(super) fn find_mut(&mut self, name: &AutomatonName) -> Option<&mut Service> {
        self.services.get_mut(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&AutomatonName, &Service)> {
        self.services.iter()
    }

    fn service(
        &self,
        name: &AutomatonName,
        composition: &Composition,
        automaton: &Automaton,
        old: Option<Service>,
    ) -> Service {
        let (instances, turn) = old.map(|old| (old.instances, old.turn)).unwrap_or_default();
        Service {
            id: ServiceId::of(&self.site, name),
            declaration: Arc::new(Declaration {
                composition: composition.name.clone(),
                version: composition.version,
                ports: automaton.ports.clone(),
            }),
            affinity: automaton.affinity,
            balance: automaton.balance,
            instances,
            turn,
        }
    }
}

/// First packets to a service that this host declares go to its instances here.
fn demux(id: ServiceId) -> Rule {
    Rule {
        prefix: ServiceIdPrefix::service(id),
        action: Action::Demux,
        priority: 0,
        weight: 1,
    }
}

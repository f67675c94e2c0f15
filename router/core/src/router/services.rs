//! What the compositions declare: services, rules for their first packets, permission.

use super::config::RouterConfig;
use crate::balance::Lookup;
use crate::composition::{Affinity, Automaton, Balance, Composition};
use crate::id::InstanceId;
use crate::name::{AutomatonName, SitePath};
use crate::names::Declaration;
use crate::permission::Permissions;
use crate::service_id::{ServiceId, ServiceIdPrefix};
use crate::service_table::{Action, Rule, ServiceTable};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// A declared service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: AutomatonName,
    pub(super) id: ServiceId,
    pub(super) affinity: Affinity,
    pub(super) balance: Balance,
    /// How many instances are declared.
    pub(super) replicas: u32,
    /// The instances' parts of the flows, in the order of their numbers.
    pub(super) weights: Vec<NonZeroU32>,
    /// How long an instance that has become ready takes to get its whole part.
    pub(super) slow_start: Duration,
    /// Where callers are sent, as drawn up last.
    pub(super) lookup: RefCell<Option<Arc<Lookup>>>,
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
    /// Those that balance by what their instances use of the processor.
    by_processor: BTreeSet<AutomatonName>,
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
            by_processor: BTreeSet::new(),
            table,
            permissions: Permissions::default(),
        }
    }

    /// Takes a composition in place of what it was before; what stays declared keeps its instances
    /// and counts. Answers every service that it declares now or did.
    pub(super) fn declare(
        &mut self,
        before: Option<&Composition>,
        after: Option<&Composition>,
    ) -> BTreeSet<AutomatonName> {
        if let Some(before) = before {
            self.permissions.retract(before);
        }
        if let Some(after) = after {
            self.permissions.declare(after);
        }
        let names = |composition: Option<&Composition>| {
            let automatons = composition.map(|composition| composition.automatons.keys());
            automatons.into_iter().flatten().cloned().collect()
        };
        let mut touched: BTreeSet<AutomatonName> = names(before);
        touched.append(&mut names(after));
        for name in &touched {
            let old = self.services.remove(name);
            self.by_processor.remove(name);
            match after.and_then(|after| Some((after, after.automatons.get(name)?))) {
                Some((after, automaton)) => {
                    let service = self.service(name, after, automaton, old);
                    self.table.insert(demux(service.id));
                    if service.balance == Balance::LeastLoad {
                        self.by_processor.insert(name.clone());
                    }
                    self.services.insert(name.clone(), service);
                }
                None => {
                    if let Some(gone) = old {
                        let prefix = ServiceIdPrefix::service(gone.id);
                        self.table.remove(prefix, Action::Demux);
                    }
                }
            }
        }
        touched
    }

    pub(super) fn find(&self, name: &AutomatonName) -> Option<&Service> {
        self.services.get(name)
    }

    pub(super) fn find_mut(&mut self, name: &AutomatonName) -> Option<&mut Service> {
        self.services.get_mut(name)
    }

    /// The services that balance by processor time.
    pub(super) fn by_processor(&self) -> impl Iterator<Item = &Service> {
        let named = self.by_processor.iter();
        named.filter_map(|name| self.services.get(name))
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
            name: name.clone(),
            id: ServiceId::of(&self.site, name),
            declaration: Arc::new(Declaration {
                composition: composition.name.clone(),
                version: composition.version,
                ports: automaton.ports.clone(),
            }),
            affinity: automaton.affinity,
            balance: automaton.balance,
            replicas: automaton.replicas,
            weights: automaton.weights.clone(),
            slow_start: automaton.slow_start,
            lookup: RefCell::default(),
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

//! From what is declared to what runs: which instances begin, and which end when.

use super::Router;
use super::deploy::OperatorError;
use super::instances::Instance;
use crate::composition::{Automaton, Composition, Liveness, Readiness};
use crate::id::InstanceId;
use crate::lifecycle::{Beginning, LifecycleInput};
use crate::moment::Moment;
use crate::name::{AutomatonName, InstanceName};
use crate::port::{FlowEntries, InstancePlan, Output, Record};
use std::collections::BTreeSet;

/// An instance to begin.
#[derive(Debug)]
pub(super) struct Plan {
    plan: InstancePlan,
    probes: (Option<Readiness>, Option<Liveness>),
}

/// What shall become of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is what is declared.
    Stay,
    /// It is of an older version, and waits until its successor is ready.
    Wait,
    /// Nobody wants it.
    End,
}

/// Whether an instance made by `plan` runs what `automaton` declares.
fn runs(plan: &InstancePlan, automaton: &Automaton) -> bool {
    plan.command == automaton.command
        && plan.environment == automaton.environment
        && plan.user == automaton.user
        && plan.egress == automaton.egress
}

impl Router {
    /// Plans the instances that `composition` declares and that do not exist yet, with addresses;
    /// all or none.
    pub(super) fn plan(
        &mut self,
        composition: &Composition,
        now: Moment,
    ) -> Result<Vec<Plan>, OperatorError> {
        let missing = self.missing(composition);
        let wanted = self.instances.len() as u64 + missing.len() as u64;
        if wanted > u64::from(self.config.instances_max) {
            let max = self.config.instances_max;
            return Err(OperatorError::TooManyInstances { wanted, max });
        }
        let mut plans: Vec<Plan> = Vec::with_capacity(missing.len());
        for name in missing {
            match self.plan_one(composition, name, now) {
                Ok(plan) => plans.extend(plan),
                Err(error) => {
                    self.discard(plans, now);
                    return Err(error);
                }
            }
        }
        Ok(plans)
    }

    /// Gives the addresses of instances back that are not to begin after all.
    pub(super) fn discard(&mut self, plans: Vec<Plan>, now: Moment) {
        for Plan { plan, .. } in plans {
            self.identities.bury(plan.instance, plan.addresses, now);
        }
    }

    /// The names that are declared and that no instance bears which runs what is declared; at most
    /// one more than the host has room for.
    fn missing(&self, composition: &Composition) -> Vec<InstanceName> {
        let room = self.config.instances_max as usize + 1;
        let declared = composition.automatons.iter().flat_map(|(name, automaton)| {
            let existing: BTreeSet<u32> = self
                .instances_of(name)
                .filter(|instance| !instance.life.is_ending() && runs(&instance.plan, automaton))
                .map(|instance| instance.plan.name.ordinal)
                .collect();
            let own =
                (1..=automaton.replicas).filter(|ordinal| self.runs_here(automaton, *ordinal));
            let absent = own.filter(move |n| !existing.contains(n));
            absent.map(|ordinal| InstanceName {
                automaton: name.clone(),
                ordinal,
            })
        });
        declared.take(room).collect()
    }

    fn plan_one(
        &mut self,
        composition: &Composition,
        name: InstanceName,
        now: Moment,
    ) -> Result<Option<Plan>, OperatorError> {
        let Some(automaton) = composition.automatons.get(&name.automaton) else {
            return Ok(None);
        };
        let instance = self.next_instance;
        let addresses = self.identities.allocate(instance, &name.automaton, now)?;
        self.next_instance = InstanceId(instance.0 + 1);
        let plan = InstancePlan {
            instance,
            name,
            composition: composition.name.clone(),
            version: composition.version,
            addresses,
            command: automaton.command.clone(),
            environment: automaton.environment.clone(),
            user: automaton.user.clone(),
            egress: automaton.egress,
        };
        let probes = (automaton.ready.clone(), automaton.alive.clone());
        Ok(Some(Plan { plan, probes }))
    }

    /// Records all planned instances, then begins them.
    pub(super) fn begin_planned(&mut self, plans: Vec<Plan>, now: Moment) {
        for Plan { plan, .. } in &plans {
            let record = Record::Instance(plan.clone());
            self.outputs.push_back(Output::Record(record));
        }
        for Plan { plan, probes } in plans {
            let id = plan.instance;
            self.begin(plan, probes, Beginning::Planned, now);
            self.follow(id, now);
        }
    }

    /// Tells instances whose probes were declared anew.
    pub(super) fn adapt_probes(&mut self, now: Moment) {
        let liveness = self.instances.iter().filter_map(|(id, instance)| {
            let declared = self.declared(instance)?;
            runs(&instance.plan, declared).then(|| (*id, declared.alive.clone()))
        });
        for (id, liveness) in liveness.collect::<Vec<_>>() {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.liveness = liveness;
                self.watch(id);
            }
        }
        let changed = self.instances.iter().filter_map(|(id, instance)| {
            let declared = self.declared(instance)?;
            let differs = declared.ready != instance.readiness && runs(&instance.plan, declared);
            differs.then(|| (*id, declared.ready.clone()))
        });
        for (id, readiness) in changed.collect::<Vec<_>>() {
            let probed = readiness.is_some();
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.readiness = readiness;
            }
            self.live(id, LifecycleInput::ProbeChanged { probed }, now);
        }
    }

    /// Ends what is declared no longer, and gives what is of an older version its time. Answers how
    /// many are to end.
    pub(super) fn end_unwanted(&mut self, now: Moment) -> usize {
        let living = |instance: &&Instance| !instance.life.is_ending();
        let living = self.instances.values().filter(living);
        let fates = living.map(|instance| (instance.plan.instance, self.fate(instance)));
        let fates: Vec<_> = fates.collect();
        for (id, fate) in &fates {
            let retire_at = (*fate == Fate::Wait).then(|| now + self.config.rollout_patience);
            if let Some(instance) = self.instances.get_mut(id) {
                // An older version that is declared again stays after all.
                instance.retire_at = retire_at;
            }
            if *fate == Fate::End {
                self.unwant(*id, now);
            }
            self.schedule(*id);
        }
        let ends = fates.iter().filter(|(_, fate)| *fate != Fate::Stay);
        ends.count()
    }

    /// Ends the instances whose successors have become ready.
    pub(super) fn retire_replaced(&mut self, now: Moment) {
        let waiting = |instance: &&Instance| instance.retire_at.is_some();
        let waiting = self.instances.values().filter(waiting);
        let replaced = waiting.filter(|instance| self.fate(instance) == Fate::End);
        let replaced: Vec<_> = replaced.map(|instance| instance.plan.instance).collect();
        for id in replaced {
            self.unwant(id, now);
        }
    }

    /// Ends every instance; answers how many.
    pub(super) fn end_all(&mut self, now: Moment) -> usize {
        let all: Vec<_> = self.instances.keys().copied().collect();
        for id in &all {
            self.unwant(*id, now);
        }
        all.len()
    }

    /// Closes the flows that no composition permits any more.
    pub(super) fn close_forbidden(&mut self, now: Moment) {
        let flows = self.flows.iter();
        let forbidden = flows.filter(|flow| !self.is_permitted(&flow.entries));
        let forbidden: BTreeSet<_> = forbidden.map(|flow| flow.entries.forward.key).collect();
        let permitted = |entries: &FlowEntries| !forbidden.contains(&entries.forward.key);
        self.flows.retain(permitted, now);
        self.drain_flows();
    }

    /// Whether a flow's client may call its server on the port that it called. Sides on other hosts
    /// that nobody told of yet are given time.
    pub(super) fn is_permitted(&self, entries: &FlowEntries) -> bool {
        let key = entries.forward.key;
        let parties = self
            .automaton_of(entries.client)
            .zip(self.automaton_of(entries.server));
        let Some((client, server)) = parties else {
            return self.peers.reacquaint_until.is_some();
        };
        let permissions = &self.services.permissions;
        permissions.permit(client, server, key.destination.port(), key.protocol)
    }

    fn fate(&self, instance: &Instance) -> Fate {
        let name = &instance.plan.name;
        let Some(declared) = self.declared(instance) else {
            return Fate::End;
        };
        let elsewhere = !self.runs_here(declared, name.ordinal);
        if name.ordinal > declared.replicas || elsewhere || self.stopping {
            return Fate::End;
        }
        let runs_declared = |other: &&Instance| runs(&other.plan, declared);
        let mut namesakes = self
            .instances_of(&name.automaton)
            .filter(|other| other.plan.name == *name && !other.life.is_ending())
            .filter(runs_declared);
        if runs(&instance.plan, declared) {
            // Of two alike, which only a damaged journal can hold, the older stays.
            let first = namesakes.next();
            let stays = first.is_none_or(|first| first.plan.instance == instance.plan.instance);
            if stays { Fate::Stay } else { Fate::End }
        } else if namesakes.any(|successor| successor.life.is_ready()) {
            Fate::End
        } else {
            Fate::Wait
        }
    }

    /// Whether an instance is this host's to run.
    fn runs_here(&self, automaton: &Automaton, ordinal: u32) -> bool {
        match (automaton.host_of(ordinal), &self.config.host) {
            (Some(host), Some(own)) => *host == own.name,
            // A host without others runs whatever is declared.
            _ => true,
        }
    }

    /// What the compositions say of an instance's automaton.
    pub(super) fn declared(&self, instance: &Instance) -> Option<&Automaton> {
        let composition = self.compositions.get(&instance.plan.composition)?;
        composition.automatons.get(&instance.plan.name.automaton)
    }

    fn instances_of(&self, automaton: &AutomatonName) -> impl Iterator<Item = &Instance> {
        let service = self.services.find(automaton);
        let ids = service.into_iter().flat_map(|service| &service.instances);
        ids.filter_map(|id| self.instances.get(id))
    }
}

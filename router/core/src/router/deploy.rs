//! What an operator asks for: compositions applied and deleted, the host stopped.

use super::Router;
use super::rollout::Plan;
use crate::composition::{Composition, CompositionName};
use crate::id::{InstanceId, RequestId, Version};
use crate::lease::PoolExhausted;
use crate::moment::Moment;
use crate::name::{AutomatonName, InstanceName};
use crate::port::{Output, Record};

/// Why an operator's request was refused; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// Two contents of one version.
    #[error(
        "{0} version {1} is applied with another content; raise `version` above {1} and apply again"
    )]
    SameVersionDiffers(CompositionName, Version),
    /// An older version than the applied one.
    #[error(
        "{name} version {applied} is applied, {offered} is older; raise `version` above {applied}"
    )]
    Older {
        /// Of which composition.
        name: CompositionName,
        /// What is applied.
        applied: Version,
        /// What was to be applied.
        offered: Version,
    },
    /// A name can belong to one composition only.
    #[error(
        "automaton `{automaton}` belongs to composition `{owner}`; rename it, or delete `{owner}`"
    )]
    AutomatonTaken {
        /// The automaton.
        automaton: AutomatonName,
        /// Who declared it first.
        owner: CompositionName,
    },
    /// More instances than the host has room for.
    #[error(
        "{wanted} instances would exist at once, {max} may; lower `replicas`, or wait until \
         instances that end are gone"
    )]
    TooManyInstances {
        /// How many there would be while new ones replace old ones.
        wanted: u64,
        /// How many may be.
        max: u32,
    },
    /// Too few addresses.
    #[error(transparent)]
    Addresses(#[from] PoolExhausted),
    /// Nothing to delete.
    #[error("no composition `{0}` is applied; `margay ps` shows what is")]
    NoSuchComposition(CompositionName),
    /// No such instance, or no more.
    #[error("instance {0} is no more; `margay ps` shows what is")]
    NoSuchInstance(InstanceId),
    /// An instance that ends takes no new flow, whatever an operator wants.
    #[error("{0} is being taken away; `margay ps` shows what takes its place")]
    Ending(InstanceName),
    /// The host ends.
    #[error("the host is stopping; start it with `margay up` and try again")]
    Stopping,
}

impl Router {
    pub(super) fn respond(&mut self, request: RequestId, outcome: Result<String, OperatorError>) {
        self.outputs.push_back(Output::Respond {
            request,
            outcome: outcome.map_err(|error| error.to_string()),
        });
    }

    /// Applies a composition wholly or not at all; answers with a line for the operator.
    pub(super) fn apply(
        &mut self,
        composition: Composition,
        now: Moment,
    ) -> Result<String, OperatorError> {
        let composition = match &self.config.host {
            Some(own) => composition.placed_at(&own.name),
            None => composition,
        };
        let (name, version) = (composition.name.clone(), composition.version);
        if !self.check(&composition)? {
            return Ok(format!(
                "{name} version {version} is applied already; nothing changed"
            ));
        }
        let plans = self.plan(&composition, now)?;
        let vips = match self.lease_vips(&composition, now) {
            Ok(vips) => vips,
            Err(error) => {
                self.discard(plans, now);
                return Err(error.into());
            }
        };
        let started = plans.len();
        let record = Record::Composition(composition.clone());
        self.outputs.push_back(Output::Record(record));
        self.outputs.extend(vips.into_iter().map(Output::Record));
        let before = self.compositions.insert(name.clone(), composition);
        let ended = self.carry_out(&name, before, plans, now);
        Ok(format!(
            "{name} version {version} applied: {started} to start, {ended} to end"
        ))
    }

    /// Takes up what a composition says now, in place of what it said before: begins the planned
    /// instances, ends those that nobody wants, and closes what is permitted no longer. Answers how
    /// many end, now or when they are replaced.
    pub(super) fn carry_out(
        &mut self,
        name: &CompositionName,
        before: Option<Composition>,
        plans: Vec<Plan>,
        now: Moment,
    ) -> usize {
        self.declare(name, before.as_ref());
        self.give_up_vips(now);
        self.watch_processors(now);
        self.begin_planned(plans, now);
        self.adapt_probes(now);
        let ended = self.end_unwanted(now);
        self.policy_changed();
        if before.is_some() {
            // What is new forbids nothing: only what was said before can be said no longer.
            self.close_forbidden(now);
        }
        ended
    }

    /// Takes up the declarations of a composition, in place of those before, and their names.
    pub(super) fn declare(&mut self, name: &CompositionName, before: Option<&Composition>) {
        let after = self.compositions.get(name);
        for touched in self.services.declare(before, after) {
            self.names.changed(&touched);
        }
    }

    /// Whether the composition is news; an error if it must not be applied.
    fn check(&self, composition: &Composition) -> Result<bool, OperatorError> {
        if self.stopping {
            return Err(OperatorError::Stopping);
        }
        let name = &composition.name;
        if let Some(applied) = self.compositions.get(name) {
            if applied == composition {
                return Ok(false);
            }
            if applied.version == composition.version {
                return Err(OperatorError::SameVersionDiffers(
                    name.clone(),
                    applied.version,
                ));
            }
            if applied.version > composition.version {
                return Err(OperatorError::Older {
                    name: name.clone(),
                    applied: applied.version,
                    offered: composition.version,
                });
            }
        }
        for automaton in composition.automatons.keys() {
            let owner = self
                .services
                .find(automaton)
                .map(|service| &service.declaration.composition);
            if let Some(owner) = owner.filter(|owner| *owner != name) {
                return Err(OperatorError::AutomatonTaken {
                    automaton: automaton.clone(),
                    owner: owner.clone(),
                });
            }
        }
        Ok(true)
    }

    /// Deletes a composition and ends every instance of it.
    pub(super) fn delete(
        &mut self,
        name: &CompositionName,
        now: Moment,
    ) -> Result<String, OperatorError> {
        let Some(before) = self.compositions.remove(name) else {
            return Err(OperatorError::NoSuchComposition(name.clone()));
        };
        let record = Record::CompositionDeleted(name.clone());
        self.outputs.push_back(Output::Record(record));
        let ended = self.carry_out(name, Some(before), Vec::new(), now);
        Ok(format!("{name} deleted: {ended} to end"))
    }

    /// Ends every instance; compositions stay recorded and start again with the next daemon.
    pub(super) fn down(&mut self, now: Moment) -> Result<String, OperatorError> {
        self.stopping = true;
        let ended = self.end_all(now);
        Ok(format!("the host stops: {ended} to end"))
    }
}

//! What the site wants of this host: compositions of other hosts' operators, tried again while they cannot
//! be applied here.

use super::{Router, deploy::OperatorError};
use crate::composition::{Composition, CompositionName};
use crate::id::Version;
use crate::moment::Moment;
use crate::port::Output;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The first pause: an address or an instance's place is often free again in a moment.
pub const RETRY_FIRST: Duration = Duration::from_secs(1);

/// The longest pause, for what only an operator mends; doubled until then.
pub const RETRY_MAX: Duration = Duration::from_secs(60);

/// A composition that the site wants and this host could not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotApplied {
    /// Which.
    pub composition: CompositionName,
    /// In which version.
    pub version: Version,
    /// Why not, and what to do.
    pub why: String,
    /// How often it was tried.
    pub tries: u32,
}

impl fmt::Display for NotApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotApplied {
            composition,
            version,
            why,
            tries,
        } = self;
        write!(f, "{composition} version {version} (tries: {tries}): {why}")
    }
}

/// All of them; the site has no more than its catalog holds.
#[derive(Debug, Default)]
pub(super) struct Unapplied {
    waiting: BTreeMap<CompositionName, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    composition: Composition,
    why: String,
    tries: u32,
    at: Moment,
}

impl Unapplied {
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.waiting.values().map(|waiting| waiting.at).min()
    }
}

impl Router {
    /// What the site wants and this host could not apply yet.
    pub fn not_applied(&self) -> impl Iterator<Item = NotApplied> {
        let waiting = self.unapplied.waiting.iter();
        waiting.map(|(name, waiting)| NotApplied {
            composition: name.clone(),
            version: waiting.composition.version,
            why: waiting.why.clone(),
            tries: waiting.tries,
        })
    }

    /// Applies what another host's operator applied.
    pub(super) fn apply_elsewhere(&mut self, composition: Composition, now: Moment) {
        let name = &composition.name;
        self.unapplied.waiting.remove(name);
        if self.compositions.get(name) != Some(&composition) {
            self.try_to_apply(composition, None, now);
        }
    }

    /// Deletes what another host's operator deleted.
    pub(super) fn delete_elsewhere(&mut self, name: CompositionName, now: Moment) {
        self.unapplied.waiting.remove(&name);
        if self.compositions.contains_key(&name) {
            let outcome = self.delete(&name, now);
            self.tell_outcome(name, outcome);
        }
    }

    /// Tries again what is due.
    pub(super) fn unapplied_timeout(&mut self, now: Moment) {
        let waiting = self.unapplied.waiting.iter();
        let due = waiting.filter(|(_, waiting)| waiting.at <= now);
        let due: Vec<CompositionName> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            if let Some(before) = self.unapplied.waiting.remove(&name) {
                self.try_to_apply(before.composition.clone(), Some(&before), now);
            }
        }
    }

    /// Others are told of what is news: that it went well, or another reason why not.
    fn try_to_apply(&mut self, composition: Composition, before: Option<&Waiting>, now: Moment) {
        let name = composition.name.clone();
        let outcome = self.apply(composition.clone(), now);
        if let Err(error) = &outcome {
            let why = error.to_string();
            let tries = before.map_or(0, |before| before.tries) + 1;
            let is_known = before.is_some_and(|before| before.why == why);
            let at = now + pause(tries);
            let waiting = Waiting {
                composition,
                why,
                tries,
                at,
            };
            self.unapplied.waiting.insert(name.clone(), waiting);
            if is_known {
                return;
            }
        }
        self.tell_outcome(name, outcome);
    }

    fn tell_outcome(
        &mut self,
        composition: CompositionName,
        outcome: Result<String, OperatorError>,
    ) {
        self.outputs.push_back(Output::Told {
            composition,
            outcome: outcome.map_err(|error| error.to_string()),
        });
    }
}

fn pause(tries: u32) -> Duration {
    let doubled = 1 << (tries - 1).min(16);
    RETRY_FIRST.saturating_mul(doubled).min(RETRY_MAX)
}

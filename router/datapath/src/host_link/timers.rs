//! When to look at whom: one moment for each party.

use super::port::Party;
use margay_core::moment::Moment;
use std::collections::{BTreeMap, BTreeSet};

/// When to look at whom.
#[derive(Default)]
pub(super) struct Timers {
    due: BTreeSet<(Moment, Party)>,
    of: BTreeMap<Party, Moment>,
}

impl Timers {
    /// Looks at `party` at that moment, and at no other; never, without one.
    pub fn set(&mut self, party: Party, at: Option<Moment>) {
        let before = match at {
            Some(at) => self.of.insert(party, at),
            None => self.of.remove(&party),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, party));
        }
        if let Some(at) = at {
            self.due.insert((at, party));
        }
    }

    /// Who is to be looked at by `now`.
    pub fn due(&self, now: Moment) -> Vec<Party> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, party)| *party).collect()
    }

    /// When somebody is to be looked at next.
    pub fn next(&self) -> Option<Moment> {
        self.due.first().map(|(at, _)| *at)
    }
}

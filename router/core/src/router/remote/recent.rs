//! Attempts of late, and what to know of each while frames about it may still come.

use crate::moment::Moment;
use crate::service_frame::Attempt;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How many are remembered: the oldest make room.
pub(super) const RECENT_MAX: usize = 8_192;

/// How long: as a server's host repeats its answer.
pub(super) const REMEMBERED: Duration = Duration::from_secs(8);

/// Attempts of late.
#[derive(Debug)]
pub(in crate::router) struct Recent<T> {
    known: BTreeMap<Attempt, (T, Moment)>,
    /// The oldest first; some may have been noted again since.
    noted: VecDeque<(Moment, Attempt)>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Recent {
            known: BTreeMap::new(),
            noted: VecDeque::new(),
        }
    }
}

impl<T> Recent<T> {
    /// Remembers what there is to know of an attempt, instead of what was known before.
    pub(super) fn note(&mut self, attempt: Attempt, what: T, now: Moment) {
        let full = |noted: &VecDeque<_>| noted.len() >= RECENT_MAX;
        let old = |at: Moment| at + REMEMBERED <= now;
        while self.noted.front().is_some_and(|(at, _)| old(*at)) || full(&self.noted) {
            let Some((at, oldest)) = self.noted.pop_front() else {
                break;
            };
            if self
                .known
                .get(&oldest)
                .is_some_and(|(_, noted)| *noted == at)
            {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(attempt, (what, now));
        self.noted.push_back((now, attempt));
    }

    /// What is known of an attempt.
    pub(super) fn find(&self, attempt: Attempt, now: Moment) -> Option<&T> {
        let (what, noted) = self.known.get(&attempt)?;
        (now < *noted + REMEMBERED).then_some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ORIGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn attempts_are_forgotten_by_time_and_by_number() {
        let mut recent = Recent::default();
        recent.note(Attempt(1), 'a', at(0));
        recent.note(Attempt(2), 'b', at(1));
        recent.note(Attempt(1), 'c', at(5));
        assert_eq!(recent.find(Attempt(1), at(12)), Some(&'c'));
        assert_eq!(recent.find(Attempt(1), at(13)), None);
        assert_eq!(recent.find(Attempt(2), at(9)), None);
        for number in 0..2 * RECENT_MAX as u64 {
            recent.note(Attempt(100 + number), 'd', at(12));
        }
        assert!(recent.known.len() <= RECENT_MAX && recent.noted.len() <= RECENT_MAX);
        assert_eq!(recent.find(Attempt(1), at(12)), None);
    }
}

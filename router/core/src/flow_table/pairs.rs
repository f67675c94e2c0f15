//! Pairs of slots: a flow holds rows 2n and 2n + 1 of the kernel's array.

use crate::id::SlotIndex;
use crate::moment::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a pair rests before it is used again: a packet that found the old flow just before it
/// was closed must not be counted to, or rewritten for, a new one.
pub const PAIR_REST: Duration = Duration::from_secs(1);

/// The number of a pair of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pair(u32);

impl Pair {
    /// The pair that these two slots make, if they do.
    pub(super) fn of(forward: SlotIndex, reverse: SlotIndex) -> Option<Pair> {
        let pair = Pair::with(forward);
        ((pair.forward(), pair.reverse()) == (forward, reverse)).then_some(pair)
    }

    /// The pair that `slot` belongs to.
    pub(super) fn with(slot: SlotIndex) -> Pair {
        Pair(slot.0 / 2)
    }

    /// Whether `slot` is of the direction client to server.
    pub(super) fn is_forward(slot: SlotIndex) -> bool {
        slot.0.is_multiple_of(2)
    }

    /// Its place in a list of all pairs.
    pub(super) fn row(self) -> usize {
        self.0 as usize
    }

    /// The slot of the direction client to server.
    pub(super) fn forward(self) -> SlotIndex {
        SlotIndex(self.0 * 2)
    }

    /// The slot of the direction server to client.
    pub(super) fn reverse(self) -> SlotIndex {
        SlotIndex(self.0 * 2 + 1)
    }
}

/// The pairs that no flow holds.
#[derive(Debug)]
pub(super) struct PairPool {
    max: u32,
    /// All pairs from here on were never used.
    fresh: u32,
    free: Vec<Pair>,
    /// Pairs at rest and since when, the longest first.
    resting: VecDeque<(Moment, Pair)>,
}

impl PairPool {
    pub(super) fn new(max: u32) -> Self {
        PairPool {
            max,
            fresh: 0,
            free: Vec::new(),
            resting: VecDeque::new(),
        }
    }

    /// A pair that nobody holds and that has rested.
    pub(super) fn take(&mut self, now: Moment) -> Option<Pair> {
        while let Some(pair) = self.rested(now) {
            self.resting.pop_front();
            self.free.push(pair);
        }
        self.free.pop().or_else(|| {
            let pair = (self.fresh < self.max).then_some(Pair(self.fresh))?;
            self.fresh += 1;
            Some(pair)
        })
    }

    /// Whether [`PairPool::take`] would find one.
    pub(super) fn has_room(&self, now: Moment) -> bool {
        !self.free.is_empty() || self.fresh < self.max || self.rested(now).is_some()
    }

    /// The pair that rests the longest, if it has rested enough.
    fn rested(&self, now: Moment) -> Option<Pair> {
        let (since, pair) = self.resting.front()?;
        (now.since(*since) >= PAIR_REST).then_some(*pair)
    }

    /// How many pairs there are to take, those at rest not counted.
    pub(super) fn left(&self) -> usize {
        self.free.len() + (self.max - self.fresh) as usize
    }

    /// Takes back a pair that was never used.
    pub(super) fn return_unused(&mut self, pair: Pair) {
        self.free.push(pair);
    }

    /// Takes a pair back.
    pub(super) fn give_back(&mut self, pair: Pair, now: Moment) {
        self.resting.push_back((now, pair));
    }

    /// Takes a certain pair that rests, mostly since a moment ago. Tells whether it could.
    pub(super) fn take_back(&mut self, pair: Pair) -> bool {
        let place = self
            .resting
            .iter()
            .rposition(|(_, resting)| *resting == pair);
        place.and_then(|place| self.resting.remove(place)).is_some()
    }

    /// Takes a certain pair, above all that were ever taken; those that are passed over rest. Tells
    /// whether it could.
    pub(super) fn reserve(&mut self, pair: Pair, now: Moment) -> bool {
        let possible = (self.fresh..self.max).contains(&pair.0);
        if possible {
            let passed_over = (self.fresh..pair.0).map(|number| (now, Pair(number)));
            self.resting.extend(passed_over);
            self.fresh = pair.0 + 1;
        }
        possible
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn slots_of_a_pair_lead_back_to_it() {
        let pair = Pair(7);
        assert_eq!(Pair::of(pair.forward(), pair.reverse()), Some(pair));
        assert_eq!(Pair::of(pair.reverse(), pair.forward()), None);
        assert_eq!(Pair::of(SlotIndex(13), SlotIndex(14)), None);
    }

    #[test]
    fn reserved_pairs_are_never_given() {
        let mut pool = PairPool::new(10);
        let now = Moment::from_nanos(5);
        assert!(pool.reserve(Pair(2), now));
        assert!(!pool.reserve(Pair(2), now));
        assert!(!pool.reserve(Pair(1), now));
        assert!(!pool.reserve(Pair(10), now));
        let later = now + PAIR_REST;
        let given: BTreeSet<_> = std::iter::from_fn(|| pool.take(later)).collect();
        assert_eq!(given.len(), 9);
        assert!(!given.contains(&Pair(2)));
    }

    #[test]
    fn a_pair_that_is_taken_back_is_not_given() {
        let mut pool = PairPool::new(4);
        let now = Moment::from_nanos(5);
        let all: Vec<_> = std::iter::from_fn(|| pool.take(now)).collect();
        for pair in &all {
            pool.give_back(*pair, now);
        }
        assert!(pool.take_back(all[1]));
        assert!(!pool.take_back(all[1]), "it rests no more");
        let given: BTreeSet<_> = std::iter::from_fn(|| pool.take(now + PAIR_REST)).collect();
        assert_eq!(given, BTreeSet::from([all[0], all[2], all[3]]));
    }

    proptest! {
        #[test]
        fn no_pair_has_two_holders_nor_comes_back_unrested(
            steps in proptest::collection::vec((any::<bool>(), 0u64..900), 1..200),
        ) {
            let mut pool = PairPool::new(6);
            let mut now = Moment::ORIGIN;
            let mut held = BTreeSet::new();
            let mut given_back: BTreeMap<Pair, Moment> = BTreeMap::new();
            for (take, pass_ms) in steps {
                now = now + Duration::from_millis(pass_ms);
                if take {
                    let room = pool.has_room(now);
                    let Some(pair) = pool.take(now) else {
                        prop_assert!(!room);
                        continue;
                    };
                    prop_assert!(room);
                    prop_assert!(held.insert(pair) && pair.0 < 6);
                    if let Some(since) = given_back.remove(&pair) {
                        prop_assert!(now.since(since) >= PAIR_REST);
                    }
                } else if let Some(pair) = held.pop_first() {
                    pool.give_back(pair, now);
                    given_back.insert(pair, now);
                }
            }
            let later = now + PAIR_REST;
            let rest = std::iter::from_fn(|| pool.take(later)).count();
            prop_assert_eq!(rest + held.len(), 6);
        }
    }
}

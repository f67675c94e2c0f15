//! One origin: its records in its present life, how far they are complete, and whether they add up.

use super::drops::CatalogDrop;
use super::index::Slot;
use super::record::{self, Record, Sum};
use crate::host::OriginEpoch;
use crate::moment::Moment;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The most records that wait for one that is missing before them; repair brings the rest in order.
pub const AHEAD_MAX: usize = 4_096;

/// How long what an origin said in its earlier life stays once its new word adds up: a host that
/// starts says everything again, in a few messages that may come one by one.
pub const EARLIER_SETTLES: Duration = Duration::from_secs(2);

/// How long it stays if the new word never adds up.
pub const EARLIER_KEPT: Duration = Duration::from_secs(30);

/// What a record costs beside its bytes: its places in the tables, as measured by `benches/catalog.rs`.
const RECORD_OVERHEAD_BYTES: usize = 340;

/// A table in which a record is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Instances(Slot),
    Bindings,
    Vips,
}

/// A record as it is kept.
#[derive(Debug)]
pub(super) struct Stored {
    /// An encoded `Signed`, opened once.
    pub(super) wire: Box<[u8]>,
    /// Which table knows of it.
    pub(super) known_to: Option<Table>,
}

impl Stored {
    pub(super) fn cost(&self) -> usize {
        cost(self.wire.len())
    }
}

/// What a record of so many bytes costs.
pub(super) fn cost(wire_bytes: usize) -> usize {
    wire_bytes + RECORD_OVERHEAD_BYTES
}

/// The records of one epoch, by sequence and by key.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) epoch: OriginEpoch,
    records: BTreeMap<u64, Stored>,
    keys: BTreeMap<Box<[u8]>, u64>,
}

impl Life {
    pub(super) fn get(&self, sequence: u64) -> Option<&Stored> {
        self.records.get(&sequence)
    }

    fn remove(&mut self, sequence: u64, key: &[u8]) -> Option<Stored> {
        let stored = self.records.remove(&sequence)?;
        self.keys.remove(key);
        Some(stored)
    }

    fn take_key(&mut self, key: &[u8]) -> Option<Stored> {
        let sequence = self.keys.remove(key)?;
        self.records.remove(&sequence)
    }
}

/// A second look at every record of an origin, because those that are here do not add up. What it
/// finds counts only if everything adds up then: whoever answers may be wrong, or lie.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// How far it has come.
    pub(super) checked: u64,
    /// Records that are here and that the answering host did not list.
    pub(super) doubtful: BTreeSet<u64>,
    /// Records that it listed and that are not here, though later ones are.
    found: BTreeMap<u64, Box<[u8]>>,
}

/// What a second look has proven.
#[derive(Debug)]
pub(super) struct Proven {
    /// Records that are here and are not so any more.
    pub(super) over: BTreeSet<u64>,
    /// Records that are so besides.
    pub(super) found: Vec<Box<[u8]>>,
}

/// Everything that is known of one origin's word.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) life: Life,
    /// What it said in the life before, and when the present one began.
    earlier: Option<(Life, Moment)>,
    /// Every record up to here is here, or is no longer so.
    pub(super) complete: u64,
    /// The latest record that was seen.
    pub(super) highest: u64,
    /// Of all records that are here and say something.
    pub(super) sum: Sum,
    /// What the origin says that they add up to after its latest record.
    signed_sum: Sum,
    /// Records that came before one that is missing.
    ahead: BTreeSet<u64>,
    pub(super) check: Option<Check>,
    /// When what was taken back may be forgotten.
    taken_back: VecDeque<(Moment, u64)>,
    /// Whether membership holds it for up.
    pub(super) up: bool,
    /// How often it asked since the last round of repair.
    pub(super) asked: u32,
    /// What its records cost.
    pub(super) bytes: usize,
}

/// What a new record pushed out.
#[derive(Debug, Default)]
pub(super) struct Displaced {
    /// What was so before, in either life.
    pub(super) gone: Vec<Stored>,
    /// Where the new record lies; `None` if something later about the same thing is here.
    pub(super) kept: Option<u64>,
}

impl Origin {
    /// An origin of which nothing is known but its life.
    pub(super) fn new(epoch: OriginEpoch, up: bool) -> Self {
        let mut origin = Origin::default();
        origin.life.epoch = epoch;
        origin.up = up;
        origin
    }

    /// Whether a record at `place` is worth a look; `listed` if a host named it as one that is so.
    pub(super) fn wants(
        &self,
        (epoch, sequence): (OriginEpoch, u64),
        listed: bool,
    ) -> Result<(), CatalogDrop> {
        if epoch > self.life.epoch {
            return Ok(());
        }
        let past = sequence <= self.complete && !(listed && self.check.is_some());
        let found = |check: &Check| check.found.contains_key(&sequence);
        let here = self.life.records.contains_key(&sequence)
            || self.ahead.contains(&sequence)
            || self.check.as_ref().is_some_and(found);
        if epoch < self.life.epoch || past || here {
            return Err(CatalogDrop::Known);
        }
        let waits = !listed && sequence > self.complete + 1;
        if waits && self.ahead.len() >= AHEAD_MAX {
            return Err(CatalogDrop::TooFarAhead);
        }
        Ok(())
    }

    /// Ends the present life; what the life before it left is returned, and void.
    pub(super) fn begin_life(&mut self, epoch: OriginEpoch, now: Moment) -> Vec<Stored> {
        debug_assert!(epoch > self.life.epoch);
        let next = Life {
            epoch,
            ..Life::default()
        };
        let ended = std::mem::replace(&mut self.life, next);
        let earlier = (!ended.records.is_empty()).then_some((ended, now));
        let void = std::mem::replace(&mut self.earlier, earlier);
        (self.complete, self.highest) = (0, 0);
        (self.sum, self.signed_sum) = (Sum::default(), Sum::default());
        self.ahead.clear();
        self.taken_back.clear();
        self.take_check();
        self.drop_life(void)
    }

    /// Takes a record of the present life; `part_of` tells what a stored one adds to the sum.
    pub(super) fn put(
        &mut self,
        record: &Record,
        wire: &[u8],
        part_of: impl Fn(&Stored) -> Sum,
    ) -> Displaced {
        debug_assert_eq!(record.epoch, self.life.epoch);
        let mut displaced = Displaced::default();
        if record.sequence > self.highest {
            self.highest = record.sequence;
            self.signed_sum = record.sum_after;
        }
        let held = self.life.keys.get(&record.key).copied();
        if held.is_none_or(|held| held < record.sequence) {
            if let Some(old) = self.life.take_key(&record.key) {
                self.sum = self.sum.minus(part_of(&old));
                displaced.gone.push(old);
            }
            let earlier = self.earlier.as_mut().map(|(life, _)| life);
            displaced
                .gone
                .extend(earlier.and_then(|life| life.take_key(&record.key)));
            let stored = Stored {
                wire: wire.into(),
                known_to: None,
            };
            self.bytes += stored.cost();
            self.sum = self.sum.plus(record.part);
            self.life.keys.insert(record.key.clone(), record.sequence);
            self.life.records.insert(record.sequence, stored);
            displaced.kept = Some(record.sequence);
        }
        self.bytes -= displaced.gone.iter().map(Stored::cost).sum::<usize>();
        self.note(record.sequence);
        displaced
    }

    /// Remembers when a record that takes something back may be forgotten.
    pub(super) fn remember_until(&mut self, when: Moment, sequence: u64) {
        self.taken_back.push_back((when, sequence));
    }

    /// The records of the present life that took something back long enough ago. The latest record
    /// stays: it holds the sum that proves the others.
    pub(super) fn forget_taken_back(&mut self, now: Moment, kept_for: Duration) {
        for _ in 0..self.taken_back.len() {
            let Some((when, sequence)) = self.taken_back.front().copied() else {
                return;
            };
            if when > now {
                return;
            }
            self.taken_back.pop_front();
            if sequence == self.highest {
                self.taken_back.push_back((now + kept_for, sequence));
                continue;
            }
            if let Some(stored) = self.life.records.remove(&sequence) {
                self.life.keys.remove(&record::key(&stored.wire));
                self.bytes -= stored.cost();
            }
        }
    }

    /// Keeps a record that a second look found until it has ended; says whether it is such a one.
    pub(super) fn find(&mut self, record: &Record, wire: &[u8]) -> bool {
        let past = record.epoch == self.life.epoch && record.sequence <= self.complete;
        let Some(check) = self.check.as_mut().filter(|_| past) else {
            return false;
        };
        check.found.insert(record.sequence, wire.into());
        self.bytes += cost(wire.len());
        true
    }

    /// Ends the second look. Answers what is not so and what is besides, if everything adds up with it.
    pub(super) fn end_check(&mut self, part_of: impl Fn(&[u8]) -> Sum) -> Option<Proven> {
        let Check {
            doubtful, found, ..
        } = self.take_check()?;
        let here = doubtful.iter().filter_map(|it| self.life.get(*it));
        let without = here.fold(self.sum, |sum, it| sum.minus(part_of(&it.wire)));
        let found: Vec<Box<[u8]>> = found.into_values().collect();
        let sum = found.iter().fold(without, |sum, it| sum.plus(part_of(it)));
        (sum == self.signed_sum).then_some(Proven {
            over: doubtful,
            found,
        })
    }

    fn take_check(&mut self) -> Option<Check> {
        let check = self.check.take()?;
        self.bytes -= check.found.values().map(|it| cost(it.len())).sum::<usize>();
        Some(check)
    }

    /// Everything up to `sequence` was named.
    pub(super) fn complete_through(&mut self, sequence: u64) {
        self.complete = self.complete.max(sequence);
        self.ahead = self.ahead.split_off(&(self.complete + 1));
        self.close_gaps();
    }

    /// Looks whether the records add up, now that something changed. What the earlier life leaves is
    /// returned, and void.
    pub(super) fn settle(&mut self, now: Moment) -> Vec<Stored> {
        let whole = self.complete == self.highest;
        let sound = self.is_sound();
        if sound {
            self.take_check();
        } else if whole && self.check.is_none() {
            self.check = Some(Check::default());
        }
        let began = self.earlier.as_ref().map(|(_, began)| *began);
        let over = began.is_some_and(|began| {
            let age = now.since(began);
            age >= EARLIER_KEPT || sound && self.highest > 0 && age >= EARLIER_SETTLES
        });
        let void = if over { self.earlier.take() } else { None };
        self.drop_life(void)
    }

    /// Whether everything that was seen is here and adds up to what the origin signed.
    pub(super) fn is_sound(&self) -> bool {
        self.complete == self.highest && self.sum == self.signed_sum
    }

    /// The record at `place`, in either life.
    pub(super) fn get(&self, epoch: OriginEpoch, sequence: u64) -> Option<&Stored> {
        let earlier = self.earlier.as_ref().map(|(life, _)| life);
        let lives = [Some(&self.life), earlier].into_iter().flatten();
        lives
            .filter(|life| life.epoch == epoch)
            .find_map(|life| life.get(sequence))
    }

    /// The record at `sequence` of the present life, to be marked.
    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut Stored> {
        self.life.records.get_mut(&sequence)
    }

    /// The records of the present life above `after` and up to `through`.
    pub(super) fn range(&self, after: u64, through: u64) -> impl Iterator<Item = (u64, &Stored)> {
        let empty = after >= through;
        let range = if empty { 0..=0 } else { after + 1..=through };
        let records = self.life.records.range(range);
        records.map(|(sequence, stored)| (*sequence, stored))
    }

    /// What is here about `key`, in the present life.
    pub(super) fn about(&self, key: &[u8]) -> Option<&Stored> {
        self.life.get(*self.life.keys.get(key)?)
    }

    /// What all that is here about `key` costs, in either life.
    pub(super) fn cost_about(&self, key: &[u8]) -> usize {
        let earlier = self.earlier.as_ref().map(|(life, _)| life);
        let lives = [Some(&self.life), earlier].into_iter().flatten();
        let records = lives.filter_map(|life| life.get(*life.keys.get(key)?));
        records.map(Stored::cost).sum()
    }

    /// Removes records that turned out not to be so.
    pub(super) fn remove(&mut self, sequence: u64, key: &[u8], part: Sum) -> Option<Stored> {
        let stored = self.life.remove(sequence, key)?;
        self.sum = self.sum.minus(part);
        self.bytes -= stored.cost();
        Some(stored)
    }

    /// Every record, of both lives, with its epoch and sequence.
    pub(super) fn all(&self) -> impl Iterator<Item = (OriginEpoch, u64, &Stored)> {
        let earlier = self.earlier.as_ref().map(|(life, _)| life);
        let lives = [Some(&self.life), earlier].into_iter().flatten();
        lives.flat_map(|life| {
            let records = life.records.iter();
            records.map(|(sequence, stored)| (life.epoch, *sequence, stored))
        })
    }

    fn note(&mut self, sequence: u64) {
        if sequence > self.complete {
            self.ahead.insert(sequence);
            self.close_gaps();
        }
    }

    fn close_gaps(&mut self) {
        while self.ahead.first() == Some(&(self.complete + 1)) {
            self.ahead.pop_first();
            self.complete += 1;
        }
    }

    fn drop_life(&mut self, life: Option<(Life, Moment)>) -> Vec<Stored> {
        let records = life.into_iter().flat_map(|(life, _)| life.records);
        let void: Vec<Stored> = records.map(|(_, stored)| stored).collect();
        self.bytes -= void.iter().map(Stored::cost).sum::<usize>();
        void
    }
}

//! What the kernel may open flows with by itself, and the flows that it opened so.
//!
//! Such a flow is counted at once, but looked at only when a short connection has ended by then:
//! most are never entered into the table at all.

use super::age::{FIRST_LOOK, Verdict};
use super::pairs::{Pair, PairPool};
use super::{Flow, FlowChange, FlowEnd, FlowTable, Judgement, READ_BATCH_MAX};
use crate::id::{InstanceId, SlotIndex};
use crate::moment::Moment;
use crate::port::{FlowEntries, Output, Supplied, TakenFlow, TakenPair};
use std::collections::VecDeque;
use std::time::Duration;

/// Pairs that lie ready for the kernel: what the fastest client opens in 30 ms. That the supply is
/// used up costs no more than an upcall.
const SUPPLY_MAX: usize = 1024;

/// The part of a small table that lies ready at most, so that core can open flows too.
const SUPPLY_FRACTION: u32 = 8;

/// The supply is filled while this many times as much is left: when the table is nearly full, core
/// decides who gets the rest.
const LEFT_MIN: usize = 2;

/// How often the supply is looked at while no upcall gives the occasion.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The kernel's supply.
#[derive(Debug)]
pub(super) struct Supply {
    max: usize,
    /// How many pairs lie ready.
    granted: usize,
    /// Flows that the kernel opened and that were not read yet, and when to read them; the oldest
    /// first.
    unread: VecDeque<(Moment, Pair)>,
    /// Whether all of them are read as soon as the supply was looked at.
    wanted: bool,
    /// When to look at the supply next; `None` until the first grant.
    look: Option<Moment>,
    /// Whether what lies ready was asked back.
    reclaiming: bool,
}

impl Supply {
    pub(super) fn new(flows_max: u32) -> Self {
        Supply {
            max: SUPPLY_MAX.min((flows_max / SUPPLY_FRACTION) as usize),
            granted: 0,
            unread: VecDeque::new(),
            wanted: false,
            look: None,
            reclaiming: false,
        }
    }

    /// When to read flows that the kernel opened.
    pub(super) fn next_reading(&self) -> Option<Moment> {
        self.unread.front().map(|(due, _)| *due)
    }

    /// When to look at the supply.
    pub(super) fn next_look(&self) -> Option<Moment> {
        self.look
    }

    /// Up to a batch of flows that are to be read now.
    pub(super) fn take_due(&mut self, now: Moment) -> Vec<SlotIndex> {
        let due = self.unread.iter().take(READ_BATCH_MAX);
        let count = due.take_while(|(due, _)| *due <= now).count();
        let due = self.unread.drain(..count);
        due.map(|(_, pair)| pair.forward()).collect()
    }

    /// Whether the supply is to be looked at now.
    pub(super) fn take_look(&mut self, now: Moment) -> bool {
        let due = self.look.is_some_and(|look| look <= now);
        if due {
            self.look = Some(now + LOOK_EVERY);
        }
        due
    }

    /// Pairs to lay ready, when half of the supply is used up.
    fn refill(&mut self, pool: &mut PairPool, now: Moment) -> Vec<SlotIndex> {
        if self.granted > self.max / 2 || pool.left() < self.max * LEFT_MIN {
            return Vec::new();
        }
        let missing = self.max - self.granted;
        let pairs = std::iter::from_fn(|| pool.take(now)).take(missing);
        let pairs: Vec<_> = pairs.map(Pair::forward).collect();
        self.granted += pairs.len();
        self.look.get_or_insert(now + LOOK_EVERY);
        pairs
    }
}

impl FlowTable {
    /// Has the kernel's supply looked at, and filled up from what is found.
    pub fn look_at_supply(&mut self, now: Moment) {
        if self.supply.granted > 0 {
            self.outputs.push_back(Output::LookAtSupply);
        } else {
            self.refill(now);
        }
    }

    /// Whether the kernel may have opened flows that the table does not know.
    pub fn has_supplied(&self) -> bool {
        self.supply.look.is_some()
    }

    /// Has every flow that the kernel opened read at once, even if there is none.
    pub fn want_every_flow(&mut self) {
        if self.has_supplied() {
            self.supply.wanted = true;
            self.outputs.push_back(Output::LookAtSupply);
        }
    }

    /// Whether the kernel may have opened flows that were not counted yet.
    pub fn is_uncounted(&self) -> bool {
        self.supply.granted > 0
    }

    /// Whether `client` could reach its limit by what lies ready for the kernel: one more decision of
    /// core would exceed it then.
    pub fn is_near_limit(&self, client: InstanceId) -> bool {
        let ready = self.supply.max as u32;
        self.opened_by(client) + ready >= self.limits.flows_per_instance_max
    }

    /// Asks back what lies ready for the kernel when little else is left.
    pub(super) fn keep_some_for_core(&mut self) {
        let supply = &mut self.supply;
        if supply.granted > 0 && !supply.reclaiming && self.pairs.left() < supply.max {
            supply.reclaiming = true;
            self.outputs.push_back(Output::ReclaimSupply);
        }
    }

    /// Counts what the kernel took; [`FlowTable::refill`] it when its consequences were drawn.
    pub(super) fn taken(&mut self, taken: Vec<TakenPair>, now: Moment) {
        self.supply.reclaiming = false;
        for TakenPair { pair, supplied } in taken {
            let pair = Pair::with(pair);
            self.supply.granted = self.supply.granted.saturating_sub(1);
            match supplied {
                Supplied::Unused => self.pairs.return_unused(pair),
                Supplied::Void => self.pairs.give_back(pair, now),
                Supplied::Opened { client, server } => {
                    self.hold(client, server);
                    self.supply.unread.push_back((now + FIRST_LOOK, pair));
                }
            }
        }
        if std::mem::take(&mut self.supply.wanted) {
            let all = self.supply.unread.drain(..);
            let all = all.map(|(_, pair)| pair.forward()).collect();
            self.outputs.push_back(Output::ReadTaken(all));
        }
    }

    /// Lays pairs ready for the kernel when half of them are used up.
    pub fn refill(&mut self, now: Moment) {
        let pairs = self.supply.refill(&mut self.pairs, now);
        if !pairs.is_empty() {
            self.outputs.push_back(Output::SupplyPairs(pairs));
        }
    }

    pub(super) fn read_taken(&mut self, pairs: Vec<SlotIndex>) {
        if !pairs.is_empty() {
            self.outputs.push_back(Output::ReadTaken(pairs));
        }
    }

    /// What was read of a flow that the kernel opened; [`FlowTable::enter`] it or
    /// [`FlowTable::turn_away`].
    pub fn look(&mut self, taken: TakenFlow, now: Moment) -> (Flow, bool) {
        let mut flow = Flow::taken(taken, now);
        if let Some(answered) = flow.answered(now) {
            flow.judged = true;
            self.judgements.push(Judgement::of(&flow, answered));
        }
        let verdict = flow.verdict(now);
        if let Verdict::LookAgain(due) = verdict {
            flow.due = due;
        }
        (flow, verdict == Verdict::Ended)
    }

    /// Enters a flow that the kernel opened; it was counted when it was taken.
    pub fn enter(&mut self, flow: Flow) {
        self.insert(flow);
    }

    /// Closes a flow that the kernel opened and that the table does not know: it has `ended`, or must
    /// not be.
    pub fn turn_away(&mut self, flow: &Flow, ended: bool, now: Moment) {
        let end = match ended {
            true => FlowEnd::by_itself(flow),
            false => FlowEnd::Forbidden,
        };
        self.tell(|| FlowChange::Opened(flow.clone()));
        self.tell(|| FlowChange::Closed(flow.clone(), end));
        self.release(&flow.entries);
        self.pairs.give_back(flow.pair(), now);
        match ended {
            true => self.close_unused(flow),
            false => self.close_entries(&flow.entries),
        }
    }

    /// Counts a flow that began in the entries of one that was over, before it is looked at; tells
    /// whether it could. Its pair was given back just now, and rests no more.
    pub fn hold_again(&mut self, entries: &FlowEntries) -> bool {
        let pair = Pair::of(entries.forward.slot, entries.reverse.slot);
        let rested = pair.is_some_and(|pair| self.pairs.take_back(pair));
        debug_assert!(
            rested,
            "{entries:?} is told before its slots are used again"
        );
        if rested {
            self.hold(entries.client, entries.server);
        }
        rested
    }

    /// Takes back a pair that turned out to hold no flow.
    pub fn reclaim(&mut self, pair: SlotIndex, now: Moment) {
        self.pairs.give_back(Pair::with(pair), now);
    }
}

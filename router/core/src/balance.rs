//! Balancing: which of several instances takes a caller's next flow, in which order DNS names them,
//! and in which shares its flows spread over them.
//!
//! All three are asked of one [`Balancer`], so that answers, first packets and whatever the kernel
//! opens by itself agree. A caller that is itself a candidate takes its own flow only when it is alone.

mod draw;
mod maglev;

pub use draw::Draw;
pub(crate) use draw::mix;
pub use maglev::Lookup;

use crate::composition::Balance;
use crate::id::InstanceId;
use draw::{in_turn, scale};
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The steps in which an instance that has just become ready comes to its whole part.
pub(crate) const WARM: NonZeroU32 = NonZeroU32::new(10).expect("not zero");

/// An instance that could take a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub instance: InstanceId,
    /// Its part of the flows beside those of its siblings: [`WARM`] times what is declared, once it
    /// is warm.
    pub weight: NonZeroU32,
    /// How many flows it holds now.
    pub flows: u32,
    /// How much of the processor it used lately, in thousandths of a core.
    pub processor: u32,
}

impl Candidate {
    /// An instance like its siblings, without any load.
    pub fn idle(instance: InstanceId) -> Self {
        Candidate {
            instance,
            weight: NonZeroU32::MIN,
            flows: 0,
            processor: 0,
        }
    }

    /// Its part in the unit of compositions, at least 1.
    pub(crate) fn declared_weight(&self) -> u16 {
        let weight = self.weight.get().div_ceil(WARM.get());
        u16::try_from(weight).unwrap_or(u16::MAX)
    }
}

/// The part of a caller's flows that an instance takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which.
    pub instance: InstanceId,
    /// Its part beside those of the others, at least 1.
    pub weight: u64,
}

/// How the flows to one service spread over the instances that can take them at one moment.
#[derive(Clone, Debug)]
pub struct Balancer {
    balance: Balance,
    candidates: SmallVec<[Candidate; 1]>,
    /// Each candidate's end on a line on which they lie side by side, each as long as its weight.
    ends: SmallVec<[u64; 1]>,
    /// How loaded each is; comparable within this balancer only.
    loads: Vec<u64>,
    /// Where each caller is sent, if that is fixed.
    lookup: Option<Arc<Lookup>>,
}

impl Balancer {
    /// Balances between `candidates` as `balance` says.
    pub fn new(balance: Balance, candidates: Vec<Candidate>) -> Self {
        let weight = |candidate: &Candidate| u64::from(candidate.weight.get());
        // In lowest terms, so that equal weights make taking turns what it says.
        let unit = candidates.iter().map(weight).fold(0, draw::common_divisor);
        let lengths = candidates.iter().map(|candidate| weight(candidate) / unit);
        let ends = lengths.scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        Balancer {
            balance,
            ends: ends.collect(),
            loads: loads(balance, &candidates),
            lookup: None,
            candidates: candidates.into_iter().collect(),
        }
    }

    /// Sends each caller to where `lookup` says, which is for just these candidates in this order.
    pub fn consistent(candidates: Vec<Candidate>, lookup: Arc<Lookup>) -> Self {
        debug_assert!(lookup.is_for(parts(&candidates)), "drawn up for others");
        Balancer {
            lookup: Some(lookup),
            ..Balancer::new(Balance::Maglev, candidates)
        }
    }

    /// Between whom it chooses; the others of its answers are indices into these.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The index of the candidate that takes the next flow of `caller`; `None` if there is none.
    pub fn choose(&self, caller: InstanceId, draw: Draw) -> Option<usize> {
        let own = self.own(caller);
        match self.balance {
            Balance::RoundRobin => self.at([own, None], |whole| in_turn(draw.turn, whole)),
            Balance::Maglev => self.lookup.as_ref()?.find(caller, own),
            Balance::TwoChoices | Balance::LeastLoad => {
                let one = self.at([own, None], |whole| scale(mix(draw.random), whole))?;
                let again = mix(!draw.random);
                let other = self.at([own, Some(one)], |whole| scale(again, whole));
                let less = |other: &usize| self.by_load(*other, one) == Ordering::Less;
                other.filter(less).or(Some(one))
            }
        }
    }

    /// Up to `limit` different indices: the choice for the next flow of `caller` first, then those
    /// that follow it, the caller itself last.
    pub fn order(
        &self,
        caller: InstanceId,
        draw: Draw,
        limit: usize,
    ) -> impl Iterator<Item = usize> + use<> {
        let count = self.candidates.len();
        let own = self.own(caller);
        let first = self.choose(caller, draw).unwrap_or(0);
        let round = (0..count).map(move |step| (first + step) % count);
        let others = round.filter(move |index| Some(*index) != own);
        others.chain(own).take(limit)
    }

    /// In which shares many flows of `caller` would spread now; those that get none are left out.
    pub fn shares(&self, caller: InstanceId) -> Vec<Share> {
        let own = self.own(caller);
        let others = (0..self.candidates.len()).filter(|index| Some(*index) != own);
        let weights: Vec<(usize, u64)> = match self.balance {
            Balance::RoundRobin => others.map(|index| (index, self.length(index))).collect(),
            Balance::Maglev => {
                let only = self.lookup.as_ref().and_then(|it| it.find(caller, own));
                only.map(|index| (index, 1)).into_iter().collect()
            }
            Balance::TwoChoices | Balance::LeastLoad => {
                self.shares_of_two_choices(others.collect())
            }
        };
        let weights = weights.into_iter().filter(|(_, weight)| *weight > 0);
        let share = |(index, weight): (usize, u64)| Share {
            instance: self.candidates[index].instance,
            weight,
        };
        weights.map(share).collect()
    }

    /// Whether the candidate takes no flow of `caller` while others can, whatever the loads: the caller
    /// itself, and where each caller has its own instance all but that one.
    pub fn is_last_resort(&self, caller: InstanceId, index: usize) -> bool {
        let own = self.own(caller);
        match &self.lookup {
            Some(lookup) => lookup.find(caller, own) != Some(index),
            None => own == Some(index),
        }
    }

    /// The place of `caller` among the candidates, unless it is alone.
    fn own(&self, caller: InstanceId) -> Option<usize> {
        let own = |candidate: &Candidate| candidate.instance == caller;
        let alone = self.candidates.len() == 1;
        let own = self.candidates.iter().position(own);
        own.filter(|_| !alone)
    }

    /// Which of two is less loaded for its weight.
    fn by_load(&self, one: usize, other: usize) -> Ordering {
        let weight = |index: usize| u128::from(self.candidates[index].weight.get());
        let load = |index: usize| u128::from(self.loads[index]);
        (load(one) * weight(other)).cmp(&(load(other) * weight(one)))
    }

    /// How long a candidate is on the line.
    fn length(&self, index: usize) -> u64 {
        self.ends[index] - self.start(index)
    }

    /// Where a candidate begins on the line.
    fn start(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// The candidate at the point that is found on the line without those that are passed over;
    /// `None` if nothing of it is left.
    fn at(&self, mut passed: [Option<usize>; 2], find: impl Fn(u64) -> u64) -> Option<usize> {
        passed.sort_unstable();
        let passed = || passed.iter().flatten().copied();
        let whole = self.ends.last().copied().unwrap_or(0);
        let left = whole - passed().map(|index| self.length(index)).sum::<u64>();
        if left == 0 {
            return None;
        }
        let mut point = find(left);
        for index in passed() {
            if point >= self.start(index) {
                point += self.length(index);
            }
        }
        Some(self.ends.partition_point(|end| *end <= point))
    }

    /// How often each of `among` is the less loaded of two that are drawn one after the other.
    fn shares_of_two_choices(&self, mut among: Vec<usize>) -> Vec<(usize, u64)> {
        /// The sum of all shares: fine enough for a thousand instances of uneven weights.
        const WHOLE: f64 = (1_u64 << 40) as f64;
        if among.len() == 1 {
            return among.into_iter().map(|only| (only, 1)).collect();
        }
        let by_load = |one: &usize, other: &usize| self.by_load(*one, *other);
        among.sort_by(by_load);
        let length = |index: &usize| self.length(*index) as f64;
        let whole: f64 = among.iter().map(length).sum();
        // What is drawn beside a candidate: of the more loaded, as second and as first.
        let (mut as_second, mut as_first) = (0.0, 0.0);
        let mut shares = Vec::with_capacity(among.len());
        for equals in among
            .chunk_by(|one, other| by_load(one, other).is_eq())
            .rev()
        {
            let equal: f64 = equals.iter().map(length).sum();
            for index in equals {
                let own = length(index);
                // Of two equally loaded ones the first that is drawn is taken.
                let drawn_first = (as_second + equal - own) / (whole - own);
                let share = own / whole * (drawn_first + as_first);
                shares.push((*index, (share * WHOLE).round() as u64));
            }
            as_second += equal;
            as_first += equals
                .iter()
                .map(|index| length(index) / (whole - length(index)))
                .sum::<f64>();
        }
        shares
    }
}

/// What a table of callers is drawn up by.
pub(crate) fn parts(
    candidates: &[Candidate],
) -> impl ExactSizeIterator<Item = (InstanceId, u32)> + '_ {
    let part = |candidate: &Candidate| (candidate.instance, candidate.weight.get());
    candidates.iter().map(part)
}

/// How loaded each candidate is, in a unit that only these candidates share: by its flows, or by its
/// part of all flows and its part of the processor's time together.
fn loads(balance: Balance, candidates: &[Candidate]) -> Vec<u64> {
    let by_processor = balance == Balance::LeastLoad;
    // One more for each: the very first flow is no load that is worth a sibling's processor.
    let flows = |candidate: &Candidate| u64::from(candidate.flows) + u64::from(by_processor);
    let processor = |candidate: &Candidate| match by_processor {
        true => u64::from(candidate.processor),
        false => 0,
    };
    let all_flows: u64 = candidates.iter().map(flows).sum();
    let all_processor: u64 = candidates.iter().map(processor).sum();
    let load = |candidate: &Candidate| {
        flows(candidate) * all_processor.max(1) + processor(candidate) * all_flows
    };
    candidates.iter().map(load).collect()
}

#[cfg(test)]
mod tests;

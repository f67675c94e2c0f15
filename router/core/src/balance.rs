//! Balancing: which of several ready instances takes the next flow, and in which order DNS names them.

use crate::composition::Balance;
use crate::id::InstanceId;

/// An instance that could take a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub instance: InstanceId,
    /// How many flows it holds now.
    pub load: u32,
}

/// The index of the candidate that takes the next flow; `None` if there is none.
///
/// `draw` is a counter for [`Balance::RoundRobin`] and a random number for [`Balance::TwoChoices`].
pub fn choose(balance: Balance, candidates: &[Candidate], draw: u64) -> Option<usize> {
    let count = candidates.len() as u64;
    if count == 0 {
        return None;
    }
    let index = match balance {
        Balance::RoundRobin => draw % count,
        Balance::TwoChoices => {
            let (one, other) = two_of(count, draw);
            let load = |index: u64| candidates[index as usize].load;
            if load(other) < load(one) { other } else { one }
        }
    };
    Some(index as usize)
}

/// Up to `limit` different indices, the choice for the next flow first and its followers after it.
pub fn order(
    balance: Balance,
    candidates: &[Candidate],
    draw: u64,
    limit: usize,
) -> impl ExactSizeIterator<Item = usize> + use<> {
    let count = candidates.len();
    let first = choose(balance, candidates, draw).unwrap_or(0);
    (0..count.min(limit)).map(move |step| (first + step) % count)
}

/// Two different indices below `count`, twice the same one if it is 1.
fn two_of(count: u64, draw: u64) -> (u64, u64) {
    let (high, low) = (draw >> 32, draw & 0xffff_ffff);
    let one = scale(low, count);
    let other = scale(high, count.saturating_sub(1));
    (
        one,
        if other < one || count == 1 {
            other
        } else {
            other + 1
        },
    )
}

/// Maps a random 32-bit number to `0..count` (Lemire 2019, without the rejection: the bias is below
/// count / 2^32).
fn scale(random: u64, count: u64) -> u64 {
    (random * count) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngCore, SeedableRng, rngs::SmallRng};
    use std::collections::BTreeSet;

    const BALANCES: [Balance; 2] = [Balance::RoundRobin, Balance::TwoChoices];

    fn candidates(loads: &[u32]) -> Vec<Candidate> {
        let with_id = |(index, load): (u64, &u32)| Candidate {
            instance: InstanceId(index),
            load: *load,
        };
        (0..).zip(loads).map(with_id).collect()
    }

    /// How many of `draws` fall on each candidate while loads stay as they are.
    fn spread(balance: Balance, loads: &[u32], draws: impl Iterator<Item = u64>) -> Vec<u32> {
        let candidates = candidates(loads);
        let mut hits = vec![0; loads.len()];
        for draw in draws {
            hits[choose(balance, &candidates, draw).unwrap()] += 1;
        }
        hits
    }

    fn random(seed: u64) -> impl Iterator<Item = u64> {
        let mut random = SmallRng::seed_from_u64(seed);
        std::iter::repeat_with(move || random.next_u64())
    }

    #[test]
    fn nobody_is_chosen_from_nobody() {
        for balance in BALANCES {
            assert_eq!(choose(balance, &[], 7), None);
            assert_eq!(order(balance, &[], 7, 8).count(), 0);
        }
    }

    #[test]
    fn two_choices_never_takes_the_most_loaded() {
        let hits = spread(Balance::TwoChoices, &[5, 5, 9, 5], random(1).take(4_000));
        assert_eq!(hits[2], 0);
    }

    #[test]
    fn two_choices_keeps_loads_closer_than_one_random_choice() {
        let mut loads = candidates(&[0; 32]);
        let mut single = [0u32; 32];
        for draw in random(2).take(32_000) {
            let index = choose(Balance::TwoChoices, &loads, draw).unwrap();
            loads[index].load += 1;
            single[scale(draw & 0xffff_ffff, 32) as usize] += 1;
        }
        let two = loads.iter().map(|one| one.load);
        let width = |it: &mut dyn Iterator<Item = u32>| {
            let all: Vec<_> = it.collect();
            all.iter().max().unwrap() - all.iter().min().unwrap()
        };
        assert!(
            width(&mut two.clone()) <= 8,
            "{:?}",
            two.collect::<Vec<_>>()
        );
        assert!(width(&mut single.iter().copied()) > 50);
    }

    proptest! {
        #[test]
        fn round_robin_takes_each_in_turn(count in 1usize..40, start in any::<u32>()) {
            let start = u64::from(start);
            let draws = start..start + 3 * count as u64;
            prop_assert_eq!(spread(Balance::RoundRobin, &vec![0; count], draws), vec![3; count]);
        }

        #[test]
        fn two_choices_is_even_over_equal_loads(count in 1usize..20, seed in any::<u64>()) {
            let hits = spread(Balance::TwoChoices, &vec![3; count], random(seed).take(400 * count));
            // Six standard deviations around 400.
            prop_assert!(hits.iter().all(|hits| (280..=520).contains(hits)), "{:?}", hits);
        }

        #[test]
        fn the_two_differ(count in 2u64..50, draw in any::<u64>()) {
            let (one, other) = two_of(count, draw);
            prop_assert!(one != other && one < count && other < count);
        }

        #[test]
        fn order_begins_with_the_choice_and_repeats_nobody(
            loads in proptest::collection::vec(0u32..9, 1..30), draw in any::<u64>(), limit in 1usize..12,
        ) {
            let candidates = candidates(&loads);
            for balance in BALANCES {
                let order: Vec<_> = order(balance, &candidates, draw, limit).collect();
                prop_assert_eq!(order.first().copied(), choose(balance, &candidates, draw));
                prop_assert_eq!(order.len(), limit.min(loads.len()));
                prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len());
                prop_assert!(order.iter().all(|index| *index < loads.len()));
            }
        }
    }
}

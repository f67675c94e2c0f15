//! Maglev: a look-up table that sends each caller to one instance, and few callers elsewhere when
//! instances come and go (Eisenbud et al., NSDI 2016, section 3.4).

use super::draw::mix;
use crate::id::InstanceId;

/// How many places a table has, by how many instances it is for at most: primes, and more than a
/// hundred places an instance. Then no two parts differ by more than a hundredth (section 5.3 there),
/// and of the callers of the living, some two in a hundred move when one dies.
const PLACES: [(u32, u32); 2] = [(128, 16_381), (u32::MAX, 131_071)];

/// Sets an instance's second hash apart from its first.
const SECOND_HASH: u64 = 0x6d61_676c_6576;

/// Sets callers' hashes apart from those of instances.
const CALLERS_HASH: u64 = 0x6361_6c6c_6572;

/// Which of several instances each caller is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Whom it was drawn up for, with the weight of each.
    parts: Vec<(InstanceId, u32)>,
    /// At each place an index into `parts`.
    places: Vec<u16>,
}

impl Lookup {
    /// Draws up a table for instances with these weights. Its size follows from how many instances
    /// are `declared`: a table of another size sends most callers elsewhere, so it must not change
    /// when one dies.
    pub fn new(parts: Vec<(InstanceId, u32)>, declared: u32) -> Self {
        let fits = |(instances, _): &&(u32, u32)| declared <= *instances;
        let size = PLACES.iter().find(fits).map_or(1, |(_, places)| *places);
        let places = filled(&parts, u64::from(size));
        Lookup { parts, places }
    }

    /// Whether it was drawn up for just these.
    pub fn is_for(&self, parts: impl ExactSizeIterator<Item = (InstanceId, u32)>) -> bool {
        parts.len() == self.parts.len() && parts.eq(self.parts.iter().copied())
    }

    /// The index of the instance that `caller` is sent to, or of the next one if that is `passed`.
    pub(super) fn find(&self, caller: InstanceId, passed: Option<usize>) -> Option<usize> {
        let count = self.places.len();
        let hash = mix(caller.0 ^ CALLERS_HASH) % (count as u64).max(1);
        let from = usize::try_from(hash).expect("a place in a table");
        let round = (0..count).map(|step| usize::from(self.places[(from + step) % count]));
        round.into_iter().find(|index| Some(*index) != passed)
    }
}

/// How far an instance goes from one place of its permutation to the next.
fn skip(id: InstanceId, size: u64) -> u64 {
    mix(id.0 ^ SECOND_HASH) % (size - 1) + 1
}

/// Fills the places: the instances take turns, each at the first place of its own permutation that
/// is still free; a light one sits turns out.
fn filled(parts: &[(InstanceId, u32)], size: u64) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    let Some(heaviest) = parts.iter().map(|(_, weight)| *weight).max() else {
        return Vec::new();
    };
    let mut places = vec![FREE; usize::try_from(size).expect("a size from the list")];
    // Where each looks next, how far it goes from there, and how much of a turn it has saved up.
    let mut turns: Vec<(u64, u64, u64)> = parts
        .iter()
        .map(|(id, _)| (mix(id.0) % size, skip(*id, size), 0))
        .collect();
    let mut left = places.len();
    while left > 0 {
        for (index, (next, skip, saved)) in turns.iter_mut().enumerate() {
            *saved += u64::from(parts[index].1);
            if left == 0 || *saved < u64::from(heaviest) {
                continue;
            }
            *saved -= u64::from(heaviest);
            let place = loop {
                let place = usize::try_from(*next).expect("a place in a table");
                *next = (*next + *skip) % size;
                if places[place] == FREE {
                    break place;
                }
            };
            places[place] = u16::try_from(index).unwrap_or(FREE - 1);
            left -= 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(instances: impl IntoIterator<Item = u64>, declared: u32) -> Lookup {
        let parts = instances.into_iter().map(|id| (InstanceId(id), 100));
        Lookup::new(parts.collect(), declared)
    }

    /// Who serves each of many callers.
    fn served(lookup: &Lookup) -> Vec<InstanceId> {
        let callers = (0..4_000).map(|caller| InstanceId(50_000 + caller));
        let index = |caller| lookup.find(caller, None).unwrap();
        callers
            .map(|caller| lookup.parts[index(caller)].0)
            .collect()
    }

    fn part(lookup: &Lookup, index: u16) -> f64 {
        let own = lookup.places.iter().filter(|place| **place == index);
        own.count() as f64 / lookup.places.len() as f64
    }

    #[test]
    fn nobody_is_found_in_an_empty_table() {
        assert_eq!(lookup([], 3).find(InstanceId(1), None), None);
        assert_eq!(lookup([4], 1).find(InstanceId(1), Some(0)), None);
    }

    #[test]
    fn size_follows_from_what_is_declared_and_not_from_who_lives() {
        let sizes = [1, 128, 129, 1024].map(|declared| lookup(0..3, declared).places.len());
        assert_eq!(sizes, [16_381, 16_381, 131_071, 131_071]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn parts_are_as_large_as_weights_say(weights in proptest::collection::vec(1u32..=1_000, 1..16)) {
            let parts: Vec<_> = (0..).map(InstanceId).zip(weights.iter().copied()).collect();
            let lookup = Lookup::new(parts, 16);
            let whole: u32 = weights.iter().sum();
            for (index, weight) in (0..).zip(&weights) {
                let expected = f64::from(*weight) / f64::from(whole);
                prop_assert!((part(&lookup, index) - expected).abs() < 0.003, "{:?}", weights);
            }
        }

        /// Two that go equally far follow each other through the table, and one's death moves a fifth of
        /// the callers; of 16,380 pairs it is one.
        #[test]
        fn callers_of_the_living_stay_when_one_dies(count in 2u64..16, first in 0u64..1_000_000, dead in any::<prop::sample::Index>()) {
            let all = first..first + count;
            let skips = all.clone().map(|id| skip(InstanceId(id), u64::from(PLACES[0].1)));
            let skips: std::collections::BTreeSet<u64> = skips.collect();
            prop_assume!(skips.len() as u64 == count);
            let dead = first + dead.index(usize::try_from(count).unwrap()) as u64;
            let before = served(&lookup(all.clone(), 16));
            let after = served(&lookup(all.filter(|id| *id != dead), 16));
            let of_living = before.iter().zip(&after).filter(|(before, _)| before.0 != dead);
            let moved = of_living.clone().filter(|(before, after)| before != after).count();
            let share = moved as f64 / of_living.count().max(1) as f64;
            prop_assert!(share < 0.05, "{} of the callers of the living moved", share);
            prop_assert!(after.iter().all(|id| id.0 != dead));
        }
    }
}

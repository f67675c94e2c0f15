//! Draws: from counters and random words to points on a line.

/// What one choice is made by: the caller of a balancer gives both, its policy takes what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// How many choices were made before.
    pub turn: u64,
    /// A random word.
    pub random: u64,
}

/// Maps a random word to `0..whole` (Lemire 2019, without the rejection: the bias is below
/// `whole` / 2^64).
pub(super) fn scale(random: u64, whole: u64) -> u64 {
    let product = u128::from(random) * u128::from(whole);
    u64::try_from(product >> 64).expect("a product of two words, halved")
}

/// The point of `0..whole` whose turn it is: `whole` turns visit each once, and those that follow
/// each other lie apart, so that a heavy candidate is not taken many times in a row.
pub(super) fn in_turn(turn: u64, whole: u64) -> u64 {
    // Steps near the golden section spread best (Knuth, TAOCP 3, 6.4).
    let golden = whole / 1000 * 618 + whole % 1000 * 618 / 1000;
    let coprime = |step: &u64| common_divisor(*step, whole) == 1;
    let step = (golden.max(1)..=whole).find(coprime).unwrap_or(1);
    let point = u128::from(turn) * u128::from(step) % u128::from(whole);
    u64::try_from(point).expect("a remainder of a word")
}

/// The greatest common divisor of two numbers (Euclid); of a number and 0 the number.
pub(super) fn common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// Spreads the bits of a counter over a whole word (the finalizer of SplitMix64, Steele 2014).
pub(crate) fn mix(draw: u64) -> u64 {
    let draw = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    draw ^ (draw >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn as_many_turns_as_points_visit_each_once(whole in 1u64..300, start in any::<u32>()) {
            let start = u64::from(start);
            let visited: BTreeSet<u64> = (start..start + whole).map(|turn| in_turn(turn, whole)).collect();
            prop_assert_eq!(visited, (0..whole).collect::<BTreeSet<_>>());
        }

        #[test]
        fn scaled_words_stay_below_the_whole(random in any::<u64>(), whole in 1u64..) {
            prop_assert!(scale(random, whole) < whole);
        }
    }
}

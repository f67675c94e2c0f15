//! Medians and percentiles of small sets of figures.

/// A figure over the rounds: its median and its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The 20th percentile.
    pub p20: f64,
    /// The 50th percentile.
    pub median: f64,
    /// The 80th percentile.
    pub p80: f64,
}

impl Spread {
    /// Summarizes `values`; `None` when there are none.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Spread {
            p20: percentile(&sorted, 20)?,
            median: percentile(&sorted, 50)?,
            p80: percentile(&sorted, 80)?,
        })
    }
}

/// Finds the value below or at which `percent` of the ascending `sorted` lie (nearest rank).
pub fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted = [10, 20, 30, 40, 50, 60, 70, 80, 90];
        assert_eq!(percentile(&sorted, 20), Some(20));
        assert_eq!(percentile(&sorted, 50), Some(50));
        assert_eq!(percentile(&sorted, 80), Some(80));
        assert_eq!(percentile(&sorted, 100), Some(90));
    }

    #[test]
    fn a_single_value_is_every_percentile() {
        assert_eq!(percentile(&[7], 0), Some(7));
        assert_eq!(percentile(&[7], 99), Some(7));
    }

    #[test]
    fn nothing_has_no_spread() {
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_order_of_the_rounds_does_not_matter() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread::of(&[1.0, 2.0, 3.0]));
        assert_eq!(spread.map(|spread| spread.median), Some(2.0));
    }
}

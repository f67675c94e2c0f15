//! A budget that refills with time: so many at once, so many a second.

use margay_core::moment::Moment;
use std::time::Duration;

/// How much there may be of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// At once.
    pub burst: u32,
    /// In the long run.
    pub per_second: u32,
}

impl Allowance {
    /// The time in which one more is earned.
    fn pace(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }

    /// The time in which an empty budget fills.
    pub(super) fn refill(self) -> Duration {
        self.pace() * self.burst
    }
}

/// What is left of an [`Allowance`] (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// When it will be full again.
    full: Moment,
}

impl Budget {
    /// Takes one, if there is one.
    pub fn take(&mut self, allowance: Allowance, now: Moment) -> bool {
        let full = self.full.max(now) + allowance.pace();
        let affordable = full.since(now) <= allowance.refill();
        if affordable {
            self.full = full;
        }
        affordable
    }

    /// Whether nothing was taken for so long that it need not be remembered.
    pub fn is_full(&self, now: Moment) -> bool {
        self.full <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Allowance = Allowance {
        burst: 3,
        per_second: 10,
    };

    #[test]
    fn a_burst_is_allowed_then_as_many_as_time_earns() {
        let start = Moment::from_nanos(7_000_000_000);
        let mut budget = Budget::default();
        let taken = |budget: &mut Budget, now| (0..9).filter(|_| budget.take(FEW, now)).count();
        assert_eq!(taken(&mut budget, start), 3);
        assert_eq!(taken(&mut budget, start + Duration::from_millis(99)), 0);
        assert_eq!(taken(&mut budget, start + Duration::from_millis(250)), 2);
        assert!(!budget.is_full(start + Duration::from_millis(260)));
        assert!(budget.is_full(start + Duration::from_secs(1)));
        assert_eq!(taken(&mut budget, start + Duration::from_secs(9)), 3);
    }
}

//! Slow start: an instance that has just become ready gets its part of the flows in steps.

use crate::balance::WARM;
use crate::moment::Moment;
use std::num::NonZeroU32;
use std::time::Duration;

/// How warm an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Warmth {
    steps: NonZeroU32,
    /// How long a step takes, and when the next one is due.
    next: Option<(Duration, Moment)>,
}

impl Warmth {
    /// Of an instance that gets its whole part.
    pub(super) const WHOLE: Warmth = Warmth {
        steps: WARM,
        next: None,
    };

    /// Of an instance that gets its whole part in `slow_start`; at once if that is nothing.
    pub(super) fn new(slow_start: Duration, now: Moment) -> Self {
        let step = slow_start / (WARM.get() - 1);
        if step.is_zero() {
            return Warmth::WHOLE;
        }
        Warmth {
            steps: NonZeroU32::MIN,
            next: Some((step, now + step)),
        }
    }

    /// How many steps it has come, of those that make the whole part.
    pub(super) fn steps(self) -> NonZeroU32 {
        self.steps
    }

    /// Takes the steps that are due; tells whether there were any.
    pub(super) fn handle_timeout(&mut self, now: Moment) -> bool {
        let before = self.steps;
        while let Some((step, due)) = self.next.filter(|(_, due)| *due <= now) {
            self.steps = self.steps.saturating_add(1).min(WARM);
            self.next = (self.steps < WARM).then_some((step, due + step));
        }
        self.steps != before
    }

    /// When to call [`Warmth::handle_timeout`] next.
    pub(super) fn poll_timeout(self) -> Option<Moment> {
        self.next.map(|(_, due)| due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn part_grows_in_steps_and_is_whole_in_time() {
        let mut warmth = Warmth::new(Duration::from_millis(900), at(0));
        let steps = (0..=1_000).step_by(50).map(|now| {
            warmth.handle_timeout(at(now));
            warmth.steps().get()
        });
        let steps: Vec<u32> = steps.collect();
        assert!(steps.is_sorted());
        assert_eq!((steps[0], steps[17], steps[18]), (1, 9, 10));
        assert_eq!(warmth.poll_timeout(), None);
        assert_eq!(warmth, Warmth::WHOLE);
    }

    #[test]
    fn late_look_catches_up() {
        let mut warmth = Warmth::new(Duration::from_secs(9), at(0));
        assert!(warmth.handle_timeout(at(3_500)));
        assert_eq!(
            (warmth.steps().get(), warmth.poll_timeout()),
            (4, Some(at(4_000)))
        );
        assert!(!warmth.handle_timeout(at(3_999)));
    }

    #[test]
    fn without_slow_start_the_part_is_whole_at_once() {
        assert_eq!(Warmth::new(Duration::ZERO, at(0)), Warmth::WHOLE);
    }
}

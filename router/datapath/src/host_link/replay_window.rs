//! Which counters of a session were seen: each datagram counts once, in whatever order they come.

/// How far behind the newest datagram another may be: at 100,000 datagrams a second this allows for
/// 40 ms of reordering.
pub const REPLAY_WINDOW: u64 = (WORDS as u64 - 1) * 64;

/// One word more than the window, so that moving on clears whole words (RFC 6479).
const WORDS: usize = 65;

/// The counters that were seen, as one bit each in a ring (RFC 6479).
#[derive(Clone, Debug)]
pub(super) struct ReplayWindow {
    /// One more than the greatest counter that was seen.
    next: u64,
    seen: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        ReplayWindow {
            next: 0,
            seen: [0; WORDS],
        }
    }
}

impl ReplayWindow {
    /// Whether a datagram with this counter may be new.
    pub fn is_fresh(&self, counter: u64) -> bool {
        let too_old = counter.saturating_add(REPLAY_WINDOW) < self.next;
        !too_old
            && counter < u64::MAX
            && (counter >= self.next || self.seen[word(counter)] & bit(counter) == 0)
    }

    /// Notes the counter of a datagram that was fresh and opened; answers whether it is the newest.
    pub fn note(&mut self, counter: u64) -> bool {
        let newest = counter >= self.next;
        if newest {
            let first = self.next.div_ceil(64);
            let last = counter / 64;
            for passed in first..=last.min(first + WORDS as u64 - 1) {
                self.seen[(passed % WORDS as u64) as usize] = 0;
            }
            self.next = counter + 1;
        }
        self.seen[word(counter)] |= bit(counter);
        newest
    }
}

fn word(counter: u64) -> usize {
    ((counter / 64) % WORDS as u64) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The same by remembering everything.
    #[derive(Default)]
    struct Model(BTreeSet<u64>);

    impl Model {
        fn is_fresh(&self, counter: u64) -> bool {
            let next = self.0.last().map_or(0, |newest| newest + 1);
            counter + REPLAY_WINDOW >= next && !self.0.contains(&counter)
        }
    }

    proptest! {
        #[test]
        fn every_counter_counts_once_within_the_window(
            steps in proptest::collection::vec((0..6000u64, any::<bool>()), 1..400),
        ) {
            let mut window = ReplayWindow::default();
            let mut model = Model::default();
            let mut around = 0;
            for (step, forward) in steps {
                let counter = if forward { around + step } else { around.saturating_sub(step) };
                prop_assert_eq!(window.is_fresh(counter), model.is_fresh(counter), "{}", counter);
                if window.is_fresh(counter) {
                    let newest = model.0.last().is_none_or(|newest| counter > *newest);
                    prop_assert_eq!(window.note(counter), newest);
                    model.0.insert(counter);
                    around = around.max(counter);
                }
            }
        }
    }

    #[test]
    fn far_jumps_forget_the_past_and_the_last_counter_is_never_taken() {
        let mut window = ReplayWindow::default();
        window.note(5);
        window.note(u64::MAX - 1);
        assert!(!window.is_fresh(5) && !window.is_fresh(u64::MAX - 1));
        assert!(window.is_fresh(u64::MAX - 2));
        assert!(!window.is_fresh(u64::MAX), "Noise reserves it");
    }
}

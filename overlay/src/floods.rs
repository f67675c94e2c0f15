//! Floods: how much one host may bring by gossip and questions, and what follows when it brings far more.
//!
//! ```text
//!  within its share    taken, and passed on
//!  beyond it           dropped: nobody gets from us more than we take of one, so that who only passes
//!                      on what others flood is not taken for one of them
//!  far beyond it       hung up on, and not let in again for a while
//! ```

use libp2p::PeerId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How much one host may bring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Messages at once: a site whose hosts all start anew, passed on by one neighbour.
    pub(crate) burst: u32,
    /// Messages a second in the long run: loads of a thousand hosts, each four times a second.
    pub(crate) per_second: u32,
    /// Messages beyond it before the host is hung up on.
    pub(crate) excess_max: u32,
    /// For how long it is not let in again; as the host link has it.
    pub(crate) shun: Duration,
}

impl Default for Share {
    fn default() -> Self {
        Share {
            burst: 8_000,
            per_second: 4_000,
            excess_max: 8_000,
            shun: Duration::from_secs(30),
        }
    }
}

/// What to do about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take it, and pass it on.
    Take,
    /// Drop it.
    Drop,
    /// Drop it, and hang up on who brought it.
    HangUp,
}

/// What each host brought lately.
#[derive(Debug)]
pub(crate) struct Floods {
    share: Share,
    brought: BTreeMap<PeerId, Brought>,
}

#[derive(Debug)]
struct Brought {
    /// When its share will be whole again (the generic cell rate algorithm, ITU-T I.371).
    whole: Instant,
    excess: u32,
}

impl Floods {
    /// Nobody brought anything yet.
    pub(crate) fn new(share: Share) -> Self {
        Floods {
            share,
            brought: BTreeMap::new(),
        }
    }

    /// For how long who is hung up on is not let in.
    pub(crate) fn shun(&self) -> Duration {
        self.share.shun
    }

    /// Takes note of a message that a connected host brought.
    pub(crate) fn bring(&mut self, peer: PeerId, now: Instant) -> Verdict {
        let pace = Duration::from_secs(1) / self.share.per_second;
        let fresh = || Brought {
            whole: now,
            excess: 0,
        };
        let brought = self.brought.entry(peer).or_insert_with(fresh);
        if brought.whole <= now {
            *brought = fresh();
        }
        let whole = brought.whole + pace;
        if whole.duration_since(now) <= pace * self.share.burst {
            brought.whole = whole;
            return Verdict::Take;
        }
        brought.excess += 1;
        if brought.excess <= self.share.excess_max {
            return Verdict::Drop;
        }
        self.brought.remove(&peer);
        Verdict::HangUp
    }

    /// Forgets a host whose last connection is gone, unless it would gain by that.
    pub(crate) fn gone(&mut self, peer: &PeerId, now: Instant) {
        if self.brought.get(peer).is_some_and(|it| it.whole <= now) {
            self.brought.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Share = Share {
        burst: 3,
        per_second: 10,
        excess_max: 2,
        shun: Duration::from_secs(1),
    };

    #[test]
    fn a_share_is_taken_then_dropped_then_ends_the_connection() {
        let now = Instant::now();
        let mut floods = Floods::new(FEW);
        let peer = PeerId::random();
        let verdicts: Vec<_> = (0..6).map(|_| floods.bring(peer, now)).collect();
        let (take, drop) = (Verdict::Take, Verdict::Drop);
        assert_eq!(verdicts, [take, take, take, drop, drop, Verdict::HangUp]);
        assert_eq!(floods.bring(PeerId::random(), now), Verdict::Take);
    }

    #[test]
    fn excess_is_forgiven_once_a_share_is_whole_and_not_by_calling_again() {
        let mut now = Instant::now();
        let mut floods = Floods::new(FEW);
        let peer = PeerId::random();
        for _ in 0..5 {
            for _ in 0..5 {
                assert_ne!(floods.bring(peer, now), Verdict::HangUp);
            }
            now += Duration::from_secs(1);
        }
        for _ in 0..5 {
            assert_ne!(floods.bring(peer, now), Verdict::HangUp);
        }
        floods.gone(&peer, now);
        assert_eq!(floods.bring(peer, now), Verdict::HangUp);
    }
}

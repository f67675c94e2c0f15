//! How a peer behaves: what it may send, and when it is left alone for a while.

use super::budget::Budget;
use super::port::HostLinkLimits;
use margay_core::moment::Moment;
use std::time::Duration;

/// How long a peer that floods or sends nonsense is left alone.
pub const SHUN: Duration = Duration::from_secs(30);

/// Nonsense is counted for so long: what a later version says now and then is no misconduct.
pub const NONSENSE_COUNTED: Duration = Duration::from_secs(60);

/// How one peer behaves.
#[derive(Default)]
pub(super) struct Conduct {
    budget: Budget,
    /// Datagrams beyond the budget since it was full.
    excess: u32,
    nonsense: u32,
    /// When the nonsense that is counted began.
    nonsense_since: Moment,
    shunned_until: Option<Moment>,
}

/// What becomes of something that a peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// It is taken.
    Unspent,
    /// It is dropped.
    Tried,
    /// The peer is dropped.
    Lost,
}

impl Conduct {
    /// Takes note of a datagram.
    pub fn datagram(&mut self, limits: &HostLinkLimits, now: Moment) -> Patience {
        if self.budget.is_full(now) {
            self.excess = 0;
        }
        if self.budget.take(limits.peer, now) {
            return Patience::Unspent;
        }
        self.excess += 1;
        if self.excess > limits.excess_max {
            Patience::Lost
        } else {
            Patience::Tried
        }
    }

    /// Takes note of a message that means nothing.
    pub fn nonsense(&mut self, limits: &HostLinkLimits, now: Moment) -> Patience {
        if now.since(self.nonsense_since) >= NONSENSE_COUNTED {
            (self.nonsense, self.nonsense_since) = (0, now);
        }
        self.nonsense += 1;
        if self.nonsense > limits.nonsense_max {
            Patience::Lost
        } else {
            Patience::Tried
        }
    }

    /// Leaves the peer alone, and forgets what it did; answers until when.
    pub fn shun(&mut self, now: Moment) -> Moment {
        let until = now + SHUN;
        *self = Conduct {
            shunned_until: Some(until),
            ..Conduct::default()
        };
        until
    }

    /// Until when it is left alone.
    pub fn shunned_until(&self) -> Option<Moment> {
        self.shunned_until
    }

    /// Whether it is left alone.
    pub fn is_shunned(&self, now: Moment) -> bool {
        self.shunned_until.is_some_and(|until| now < until)
    }
}

//! Payloads that wait for a handshake: a few, and not for long.

use super::drop_reason::LinkDrop;
use super::shared::Shared;
use margay_core::moment::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a payload waits: what is older, its sender has sent again.
pub const WAITING_MAX: Duration = Duration::from_secs(5);

/// Payloads that wait, oldest first.
#[derive(Default)]
pub(super) struct Waiting(VecDeque<(Moment, Vec<u8>)>);

impl Waiting {
    /// Takes one more, if fewer than `most` wait.
    pub fn push(&mut self, payload: Vec<u8>, most: usize, now: Moment) -> bool {
        let room = self.0.len() < most;
        if room {
            self.0.push_back((now + WAITING_MAX, payload));
        }
        room
    }

    /// Hands out the oldest.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.0.pop_front().map(|(_, payload)| payload)
    }

    /// Drops what waited too long.
    pub fn expire(&mut self, shared: &mut Shared, now: Moment) {
        while self.0.pop_front_if(|(until, _)| *until <= now).is_some() {
            shared.drop(LinkDrop::WaitedTooLong);
        }
    }

    /// Drops everything: there will be no session.
    pub fn clear(&mut self, shared: &mut Shared) {
        self.0
            .drain(..)
            .for_each(|_| shared.drop(LinkDrop::NoSuchPeer));
    }

    /// When the oldest has waited too long.
    pub fn next_end(&self) -> Option<Moment> {
        self.0.front().map(|(until, _)| *until)
    }
}

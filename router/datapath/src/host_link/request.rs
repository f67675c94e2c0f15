//! A request to be introduced: one answer is wanted from one address, and no session.

use super::dialer::Dialer;
use super::drop_reason::LinkDrop;
use super::key::NoiseKey;
use super::message::{COOKIE_NONCE_BYTES, SEALED_COOKIE_BYTES, SessionIndex};
use super::port::{Output, Party};
use super::sealed::{Statement, Verdict};
use super::shared::Shared;
use margay_core::moment::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an answer is waited for.
pub const REQUEST_LIFE: Duration = Duration::from_secs(20);

/// One request.
pub(super) struct Request {
    to: SocketAddr,
    introduction: Statement,
    dialer: Dialer,
    ends: Moment,
}

impl Request {
    pub fn new(to: SocketAddr, key: NoiseKey, introduction: Statement, now: Moment) -> Self {
        Request {
            to,
            introduction,
            dialer: Dialer::new(key, now),
            ends: now + REQUEST_LIFE,
        }
    }

    /// Takes a cookie for the handshake that is under way.
    pub fn take_cookie(
        &mut self,
        index: SessionIndex,
        nonce: [u8; COOKIE_NONCE_BYTES],
        sealed: &[u8; SEALED_COOKIE_BYTES],
        shared: &mut Shared,
        now: Moment,
    ) {
        self.dialer.take_cookie(index, nonce, sealed, shared, now);
    }

    /// Takes the response, with which the request is over.
    pub fn take_response(
        &mut self,
        index: SessionIndex,
        noise: &[u8],
        shared: &mut Shared,
    ) -> Result<(), LinkDrop> {
        let by = Party::Address(self.to);
        let output = match self.dialer.finish(index, noise, shared)?.answer.verdict {
            Verdict::Admitted(answer) => Output::Answered { by, answer },
            Verdict::Refused(reason) => Output::Refused { by, reason },
        };
        shared.outputs.push_back(output);
        Ok(())
    }

    /// Tries again, or gives up; answers whether it gave up.
    pub fn handle_timeout(&mut self, shared: &mut Shared, now: Moment) -> bool {
        if now >= self.ends {
            self.give_up(shared);
            shared.outputs.push_back(Output::Unanswered { to: self.to });
            return true;
        }
        if now >= self.dialer.next() {
            let introduction = self.introduction.clone();
            let party = Party::Address(self.to);
            self.dialer
                .dial(&[self.to], introduction, party, shared, now);
        }
        false
    }

    /// Forgets what is under way.
    pub fn give_up(&mut self, shared: &mut Shared) {
        self.dialer.give_up(shared);
    }

    /// When to look at it next.
    pub fn poll_timeout(&self) -> Moment {
        self.dialer.next().min(self.ends)
    }
}

//! A handshake of ours: begun again and again, at one address after another, ever more patiently.

use super::cookie::{Acquaintance, COOKIE_SECRET_LIFE, Tag, mac2};
use super::drop_reason::LinkDrop;
use super::key::NoiseKey;
use super::message::{
    COOKIE_NONCE_BYTES, Message, SEALED_COOKIE_BYTES, SessionIndex, covered_by_macs,
};
use super::noise::{Initiator, Keys};
use super::port::Party;
use super::sealed::{Answer, Statement};
use super::shared::Shared;
use margay_core::moment::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// The pause after the first try of each address: longer than a round trip round the world.
pub const RETRY_MIN: Duration = Duration::from_millis(500);

/// The longest pause, before jitter.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// Tries towards one host until one succeeds.
pub(super) struct Dialer {
    key: NoiseKey,
    them: Acquaintance,
    tries: u32,
    next: Moment,
    attempt: Option<Attempt>,
    cookie: Option<Cookie>,
}

/// One try.
struct Attempt {
    index: SessionIndex,
    to: SocketAddr,
    initiator: Initiator,
    datagram: Vec<u8>,
    mac1: Tag,
    /// Whether it was sent with a cookie.
    proven: bool,
}

/// What was given to us to prove an address of ours.
struct Cookie {
    by: SocketAddr,
    tag: Tag,
    until: Moment,
}

/// What came of a handshake.
pub(super) struct Finished {
    pub answer: Answer,
    pub keys: Keys,
}

impl Dialer {
    pub fn new(key: NoiseKey, now: Moment) -> Self {
        Dialer {
            key,
            them: Acquaintance::new(key),
            tries: 0,
            next: now,
            attempt: None,
            cookie: None,
        }
    }

    /// When the next try is due, if any is wanted.
    pub fn next(&self) -> Moment {
        self.next
    }

    /// Begins anew, not before `next`.
    pub fn reset(&mut self, next: Moment, shared: &mut Shared) {
        self.tries = 0;
        self.next = next;
        self.give_up(shared);
    }

    /// Forgets the try that is under way.
    pub fn give_up(&mut self, shared: &mut Shared) {
        if let Some(attempt) = self.attempt.take() {
            shared.release(attempt.index);
        }
    }

    /// Tries once more, at the address whose turn it is.
    pub fn dial(
        &mut self,
        addresses: &[SocketAddr],
        introduction: Statement,
        party: Party,
        shared: &mut Shared,
        now: Moment,
    ) {
        let Some(round) = self.tries.checked_div(addresses.len() as u32) else {
            return;
        };
        let to = addresses[self.tries as usize % addresses.len()];
        self.give_up(shared);
        let index = shared.assign(party);
        let (initiator, noise) = shared.initiate(self.key, index, introduction);
        let (datagram, mac1) = self.datagram(index, &noise);
        let mut attempt = Attempt {
            index,
            to,
            initiator,
            datagram,
            mac1,
            proven: false,
        };
        if let Some(cookie) = &self.cookie
            && cookie.by == to
            && now < cookie.until
        {
            attempt.prove(&cookie.tag);
        }
        shared.transmit(to, attempt.datagram.clone());
        self.attempt = Some(attempt);
        self.tries += 1;
        self.next = now + shared.jittered(pause(round));
    }

    /// Takes the cookie that answers the try under way, and sends it again with that.
    pub fn take_cookie(
        &mut self,
        index: SessionIndex,
        nonce: [u8; COOKIE_NONCE_BYTES],
        sealed: &[u8; SEALED_COOKIE_BYTES],
        shared: &mut Shared,
        now: Moment,
    ) {
        let Some(attempt) = self.attempt.as_mut().filter(|it| it.index == index) else {
            return shared.drop(LinkDrop::UnknownSession);
        };
        let Some(tag) = self.them.open_cookie(sealed, nonce, &attempt.mac1) else {
            return shared.drop(LinkDrop::Forged);
        };
        self.cookie = Some(Cookie {
            by: attempt.to,
            tag,
            until: now + COOKIE_SECRET_LIFE,
        });
        // Whoever gives a second cookie for the same try will not be satisfied with it either.
        if !attempt.proven {
            attempt.prove(&tag);
            shared.transmit(attempt.to, attempt.datagram.clone());
        }
    }

    /// Takes the response to the try under way.
    pub fn finish(
        &mut self,
        index: SessionIndex,
        noise: &[u8],
        shared: &mut Shared,
    ) -> Result<Finished, LinkDrop> {
        let attempt = self.attempt.as_mut().filter(|it| it.index == index);
        let attempt = attempt.ok_or(LinkDrop::UnknownSession)?;
        let answer = attempt.initiator.finish(noise).ok_or(LinkDrop::Forged)?;
        let attempt = self.attempt.take().expect("it was there just now");
        shared.release(attempt.index);
        Ok(Finished {
            answer,
            keys: attempt.initiator.into_keys(),
        })
    }

    /// The initiation, without a cookie.
    fn datagram(&self, sender: SessionIndex, noise: &[u8]) -> (Vec<u8>, Tag) {
        let with = |mac1| Message::Initiation {
            sender,
            noise,
            mac1,
            mac2: Tag::default(),
        };
        let unproven = with(Tag::default()).to_bytes();
        let (covered, _) = covered_by_macs(&unproven).expect("an initiation ends in two of them");
        let mac1 = self.them.mac1(covered);
        (with(mac1).to_bytes(), mac1)
    }
}

impl Attempt {
    /// Writes the proof that we have this cookie.
    fn prove(&mut self, cookie: &Tag) {
        let (_, covered) = covered_by_macs(&self.datagram).expect("it is an initiation");
        let proof = mac2(cookie, covered);
        let start = covered.len();
        self.datagram[start..].copy_from_slice(&proof);
        self.proven = true;
    }
}

/// The pause after a try in the given round of all addresses.
fn pause(round: u32) -> Duration {
    RETRY_MIN.saturating_mul(1 << round.min(16)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_each_round_up_to_a_bound() {
        assert_eq!(pause(0), RETRY_MIN);
        assert_eq!(pause(2), RETRY_MIN * 4);
        assert_eq!(pause(6), RETRY_MAX);
        assert_eq!(pause(u32::MAX), RETRY_MAX);
    }
}

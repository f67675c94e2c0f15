//! Sessions with one peer: the keys in use, those before, and those that wait for their first use.
//!
//! ```text
//! response received -----------------+
//!                                    v
//! admitted -> next --first use--> current --replaced--> previous --life over--> gone
//! ```

use super::drop_reason::LinkDrop;
use super::message::{Message, SessionIndex};
use super::noise::Keys;
use super::replay_window::ReplayWindow;
use super::sealed::Content;
use super::shared::Shared;
use margay_core::host::OriginEpoch;
use margay_core::moment::Moment;
use std::time::Duration;

/// When the side that began a session renews it.
pub const RENEW_AFTER: Duration = Duration::from_secs(120);

/// When the other side does, should the first have failed to.
pub const RENEW_LATE: Duration = Duration::from_secs(150);

/// A session's life: nothing is sealed or opened with it any more.
pub const SESSION_LIFE: Duration = Duration::from_secs(180);

/// How long an admitted session waits for its first use.
pub const UNUSED_LIFE: Duration = Duration::from_secs(15);

/// Two sessions that came about within this time were begun by both sides at once.
pub const CROSSING: Duration = Duration::from_secs(2);

/// One pair of keys.
pub(super) struct Session {
    ours: SessionIndex,
    theirs: SessionIndex,
    keys: Keys,
    /// Whether this side began it.
    initiated: bool,
    /// Whether the side with the lower key began it: of two that crossed, both sides use that one.
    preferred: bool,
    /// The peer's life: what it agreed on in another one, it no longer knows.
    epoch: OriginEpoch,
    begun: Moment,
    sent: u64,
    window: ReplayWindow,
}

/// What a session is made of.
pub(super) struct Agreed {
    pub ours: SessionIndex,
    pub theirs: SessionIndex,
    pub keys: Keys,
    pub initiated: bool,
    pub preferred: bool,
    pub epoch: OriginEpoch,
}

impl Session {
    pub fn new(agreed: Agreed, now: Moment) -> Self {
        Session {
            ours: agreed.ours,
            theirs: agreed.theirs,
            keys: agreed.keys,
            initiated: agreed.initiated,
            preferred: agreed.preferred,
            epoch: agreed.epoch,
            begun: now,
            sent: 0,
            window: ReplayWindow::default(),
        }
    }

    /// Seals a content as a datagram.
    pub fn seal(&mut self, content: &Content<'_>) -> Vec<u8> {
        let counter = self.sent;
        self.sent += 1;
        Message::Data {
            receiver: self.theirs,
            counter,
            sealed: &self.keys.seal(counter, &content.to_bytes()),
        }
        .to_bytes()
    }

    /// When it should be renewed.
    pub fn renew_at(&self, renew_after_datagrams: u64) -> Moment {
        match self.initiated {
            _ if self.sent >= renew_after_datagrams => self.begun,
            true => self.begun + RENEW_AFTER,
            false => self.begun + RENEW_LATE,
        }
    }

    /// When its life ends.
    pub fn ends(&self) -> Moment {
        self.begun + SESSION_LIFE
    }

    /// Opens a datagram; answers whether it is the newest too.
    fn open(
        &mut self,
        counter: u64,
        sealed: &[u8],
        now: Moment,
    ) -> Result<(Vec<u8>, bool), LinkDrop> {
        if now >= self.ends() {
            return Err(LinkDrop::SessionExpired);
        }
        if !self.window.is_fresh(counter) {
            return Err(LinkDrop::Replayed);
        }
        let plaintext = self.keys.open(counter, sealed).ok_or(LinkDrop::Forged)?;
        Ok((plaintext, self.window.note(counter)))
    }

    /// Whether both sides keep `self` rather than `other`, which came about later.
    fn outranks(&self, other: &Session) -> bool {
        let crossed = other.begun.since(self.begun) < CROSSING
            && self.begun.since(other.begun) < CROSSING
            && self.initiated != other.initiated
            && self.epoch == other.epoch;
        crossed && self.preferred
    }
}

/// A datagram that opened.
pub(super) struct Opened {
    pub plaintext: Vec<u8>,
    /// Whether nothing newer came in its session.
    pub newest: bool,
    /// Whether it was the first of a session that waited for it.
    pub confirms: bool,
}

/// All sessions with one peer.
#[derive(Default)]
pub(super) struct Sessions {
    previous: Option<Session>,
    current: Option<Session>,
    next: Option<Session>,
}

impl Sessions {
    /// The session in use.
    pub fn current(&self) -> Option<&Session> {
        self.current.as_ref()
    }

    /// The session in use, to seal with.
    pub fn current_mut(&mut self) -> Option<&mut Session> {
        self.current.as_mut()
    }

    /// Whether there is none of any kind.
    pub fn is_empty(&self) -> bool {
        self.previous.is_none() && self.current.is_none() && self.next.is_none()
    }

    /// Takes a session that both sides know to work.
    pub fn use_now(&mut self, session: Session, shared: &mut Shared) {
        let (used, kept) = match self.current.take() {
            Some(current) if current.outranks(&session) => (current, Some(session)),
            current => (session, current),
        };
        self.current = Some(used);
        let gone = std::mem::replace(&mut self.previous, kept);
        release(gone, shared);
    }

    /// Takes a session that the other side has not used yet.
    pub fn await_use(&mut self, session: Session, shared: &mut Shared) {
        release(self.next.replace(session), shared);
    }

    /// Opens a datagram with the session of that index.
    pub fn open(
        &mut self,
        index: SessionIndex,
        counter: u64,
        sealed: &[u8],
        shared: &mut Shared,
        now: Moment,
    ) -> Result<Opened, LinkDrop> {
        let confirms = self.next.as_ref().is_some_and(|it| it.ours == index);
        let all = [&mut self.previous, &mut self.current, &mut self.next];
        let session = all.into_iter().flatten().find(|it| it.ours == index);
        let session = session.ok_or(LinkDrop::UnknownSession)?;
        let (plaintext, newest) = session.open(counter, sealed, now)?;
        if confirms && let Some(session) = self.next.take() {
            self.use_now(session, shared);
        }
        Ok(Opened {
            plaintext,
            newest,
            confirms,
        })
    }

    /// Ends what is past its life; answers whether the session in use was.
    pub fn expire(&mut self, shared: &mut Shared, now: Moment) -> bool {
        let unused = |it: &Session| it.begun + UNUSED_LIFE;
        release(self.previous.take_if(|it| it.ends() <= now), shared);
        release(self.next.take_if(|it| unused(it) <= now), shared);
        let ended = self.current.take_if(|it| it.ends() <= now);
        let lost = ended.is_some();
        release(ended, shared);
        lost
    }

    /// When the next of them is past its life.
    pub fn next_end(&self) -> Option<Moment> {
        let used = [&self.previous, &self.current].into_iter().flatten();
        let unused = self.next.iter().map(|it| it.begun + UNUSED_LIFE);
        used.map(Session::ends).chain(unused).min()
    }

    /// Ends all of them.
    pub fn clear(&mut self, shared: &mut Shared) {
        for session in [&mut self.previous, &mut self.current, &mut self.next] {
            release(session.take(), shared);
        }
    }
}

fn release(session: Option<Session>, shared: &mut Shared) {
    if let Some(session) = session {
        shared.release(session.ours);
    }
}

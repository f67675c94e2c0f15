//! One peer: its sessions, where it is, whether it hears us, and how it behaves.
//!
//! ```text
//! down --response received, or first datagram--> up --silent, expired, farewell, misconduct--> down
//! ```

use super::conduct::{Conduct, Patience};
use super::dialer::{Dialer, Finished, RETRY_MIN};
use super::drop_reason::LinkDrop;
use super::exchange::Exchange;
use super::key::NoiseKey;
use super::message::{COOKIE_NONCE_BYTES, Message, SEALED_COOKIE_BYTES, SessionIndex};
use super::port::{DownReason, Output, Party};
use super::sealed::{Content, InitiationNumber, Statement, Verdict};
use super::session::{Agreed, Opened, Session, Sessions};
use super::shared::Shared;
use super::waiting::Waiting;
use margay_core::host::HostId;
use margay_core::moment::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// How often two hosts ask whether they hear each other; it keeps mappings of NATs open as well.
pub const ECHO_INTERVAL: Duration = Duration::from_secs(6);

/// Whoever is not asked for so long asks by itself: perhaps it is somewhere else than the other thinks.
pub const ECHO_LATE: Duration = Duration::from_secs(11);

/// After so long without a sign that the peer hears us it is gone: two echoes at the least, often three.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Addresses of one peer that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// One peer.
pub(super) struct Peer {
    host: HostId,
    key: NoiseKey,
    /// Whether core set it; else it is kept while it has a session.
    wanted: bool,
    addresses: Vec<SocketAddr>,
    /// Where it was heard from last.
    endpoint: Option<SocketAddr>,
    sessions: Sessions,
    dialer: Dialer,
    waiting: Waiting,
    /// The newest of its initiations that was admitted.
    initiation: Option<InitiationNumber>,
    echo: Echo,
    conduct: Conduct,
}

/// Whether both directions work. The host with the lesser key asks, and asks by another number only
/// once it has heard an answer: so both know, at the price of one question.
struct Echo {
    /// The number of the last question, and whether it was answered.
    number: u64,
    answered: bool,
    next: Moment,
    /// The number of the peer's last question.
    asked: u64,
    /// When there was the last sign that the peer hears us.
    heard: Moment,
}

impl Peer {
    pub fn new(host: HostId, key: NoiseKey, now: Moment) -> Self {
        Peer {
            host,
            key,
            wanted: false,
            addresses: Vec::new(),
            endpoint: None,
            sessions: Sessions::default(),
            dialer: Dialer::new(key, now),
            waiting: Waiting::default(),
            initiation: None,
            echo: Echo {
                number: 0,
                answered: true,
                next: now,
                asked: 0,
                heard: now,
            },
            conduct: Conduct::default(),
        }
    }

    /// Goes on where `older`, of the same host, ended for want of this key.
    pub fn succeed(&mut self, older: Peer) {
        self.wanted = older.wanted;
        self.addresses = older.addresses;
        self.endpoint = older.endpoint;
    }

    pub fn key(&self) -> NoiseKey {
        self.key
    }

    /// Where it was heard from last.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    /// Whether nothing would be lost with it.
    pub fn is_forgettable(&self, now: Moment) -> bool {
        !self.wanted && self.sessions.is_empty() && !self.is_shunned(now)
    }

    pub fn is_shunned(&self, now: Moment) -> bool {
        self.conduct.is_shunned(now)
    }

    /// Whether an initiation of this number may be a new one.
    pub fn is_fresh(&self, number: InitiationNumber) -> bool {
        self.initiation.is_none_or(|newest| number > newest)
    }

    /// Core wants a link to it, and says where to try.
    pub fn set(&mut self, mut addresses: Vec<SocketAddr>, shared: &mut Shared, now: Moment) {
        for _ in ADDRESSES_MAX..addresses.len() {
            shared.drop(LinkDrop::AddressesFull);
        }
        addresses.truncate(ADDRESSES_MAX);
        let news = !self.wanted || self.addresses != addresses;
        self.wanted = true;
        self.addresses = addresses;
        if news && self.sessions.current().is_none() {
            self.dialer.reset(self.earliest_call(now), shared);
        }
    }

    /// Sends a payload, now or once there is a session.
    pub fn send(&mut self, payload: Vec<u8>, shared: &mut Shared, now: Moment) {
        if self.seal(&Content::Payload(&payload), shared, now) {
            return;
        }
        if !self.waiting.push(payload, shared.limits.waiting_max, now) {
            shared.drop(LinkDrop::WaitingFull);
        }
    }

    /// Core admitted an initiation of it: the session waits for its first use.
    pub fn admit(
        &mut self,
        exchange: Exchange,
        answer: Statement,
        shared: &mut Shared,
        now: Moment,
    ) {
        let number = exchange.number;
        self.initiation = self.initiation.max(Some(number));
        let ours = shared.assign(Party::Host(self.host));
        let answer = shared.answer(ours, Verdict::Admitted(answer));
        let (noise, keys) = exchange.responder.answer(&answer);
        let response = Message::Response {
            receiver: exchange.theirs,
            noise: &noise,
        };
        shared.transmit_message(exchange.from, &response);
        let agreed = Agreed {
            ours,
            theirs: exchange.theirs,
            keys,
            initiated: false,
            preferred: self.key < shared.identity.public(),
            epoch: number.epoch,
        };
        self.sessions.await_use(Session::new(agreed, now), shared);
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

    /// Takes the response to the handshake that is under way.
    pub fn take_response(
        &mut self,
        ours: SessionIndex,
        noise: &[u8],
        from: SocketAddr,
        shared: &mut Shared,
        now: Moment,
    ) {
        let Finished { answer, keys } = match self.dialer.finish(ours, noise, shared) {
            Ok(finished) => finished,
            Err(reason) => return shared.drop(reason),
        };
        let by = Party::Host(self.host);
        let (epoch, theirs) = (answer.epoch, answer.session);
        let answer = match answer.verdict {
            Verdict::Admitted(answer) => answer,
            Verdict::Refused(reason) => {
                return shared.outputs.push_back(Output::Refused { by, reason });
            }
        };
        shared.outputs.push_back(Output::Answered { by, answer });
        shared.indices.insert(ours, by);
        let agreed = Agreed {
            ours,
            theirs,
            keys,
            initiated: true,
            preferred: shared.identity.public() < self.key,
            epoch,
        };
        let was_up = self.sessions.current().is_some();
        self.sessions.use_now(Session::new(agreed, now), shared);
        self.dialer.reset(now, shared);
        self.confirmed(was_up, from, shared, now);
        // The other side uses the session only once it has heard of us in it.
        self.ask_echo(shared, now);
    }

    /// Takes a datagram of a session.
    pub fn take_data(
        &mut self,
        (index, counter): (SessionIndex, u64),
        sealed: &[u8],
        from: SocketAddr,
        shared: &mut Shared,
        now: Moment,
    ) {
        let was_up = self.sessions.current().is_some();
        let opened = self.sessions.open(index, counter, sealed, shared, now);
        let Opened {
            plaintext,
            newest,
            confirms,
        } = match opened {
            Ok(opened) => opened,
            Err(reason) => return shared.drop(reason),
        };
        if confirms {
            self.confirmed(was_up, from, shared, now);
        } else if newest {
            self.follow(from, shared);
        }
        match self.conduct.datagram(&shared.limits, now) {
            Patience::Unspent => match Content::parse(&plaintext) {
                Some(content) => self.take_content(&content, shared, now),
                None => self.nonsense(shared, now),
            },
            Patience::Tried => shared.drop(LinkDrop::Flood),
            Patience::Lost => {
                shared.drop(LinkDrop::Flood);
                self.shun(DownReason::Flood, shared, now);
            }
        }
    }

    /// Does what time asks for.
    pub fn handle_timeout(&mut self, shared: &mut Shared, now: Moment) {
        if self.sessions.expire(shared, now) {
            self.down(DownReason::Expired, shared, now);
        }
        self.waiting.expire(shared, now);
        if self.sessions.current().is_some() {
            if now >= self.echo.heard + SILENCE_MAX {
                self.down(DownReason::Silent, shared, now);
            } else if now >= self.asks_at(shared) {
                self.ask_echo(shared, now);
            }
        }
        if self.dials_at(shared).is_some_and(|at| at <= now) {
            let introduction = shared.introduction.clone();
            let party = Party::Host(self.host);
            let targets = self.targets();
            self.dialer.dial(&targets, introduction, party, shared, now);
        }
    }

    /// When time asks for something next.
    pub fn poll_timeout(&self, shared: &Shared) -> Option<Moment> {
        let up = self.sessions.current().is_some();
        let echo = up.then(|| self.asks_at(shared).min(self.echo.heard + SILENCE_MAX));
        let over = !self.wanted && self.sessions.is_empty();
        let shunned = self.conduct.shunned_until().filter(|_| over);
        [
            self.sessions.next_end(),
            self.waiting.next_end(),
            self.dials_at(shared),
            echo,
            shunned,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Lets the peer hear from us at once, wherever we are now.
    pub fn greet(&mut self, shared: &mut Shared, now: Moment) {
        if self.sessions.current().is_some() {
            self.ask_echo(shared, now);
        } else {
            self.dialer.reset(self.earliest_call(now), shared);
        }
    }

    /// Ends the link, and tells the peer.
    pub fn close(&mut self, reason: DownReason, shared: &mut Shared, now: Moment) {
        self.seal(&Content::Farewell, shared, now);
        self.down(reason, shared, now);
        self.waiting.clear(shared);
        self.dialer.give_up(shared);
    }

    /// Leaves a peer alone that misbehaves.
    fn shun(&mut self, reason: DownReason, shared: &mut Shared, now: Moment) {
        self.close(reason, shared, now);
        let until = self.conduct.shun(now);
        self.dialer.reset(until, shared);
    }

    fn take_content(&mut self, content: &Content<'_>, shared: &mut Shared, now: Moment) {
        match *content {
            Content::Payload(payload) => shared.outputs.push_back(Output::Deliver {
                from: self.host,
                payload: payload.to_vec(),
            }),
            Content::Echo(number) => {
                if std::mem::replace(&mut self.echo.asked, number) != number {
                    self.echo.heard = now;
                }
                self.seal(&Content::EchoAnswer(number), shared, now);
            }
            Content::EchoAnswer(number) if number <= self.echo.number => {
                self.echo.answered |= number == self.echo.number;
                self.echo.heard = now;
            }
            Content::EchoAnswer(_) => self.nonsense(shared, now),
            Content::Farewell => {
                self.down(DownReason::Farewell, shared, now);
                // Whoever just ended the link should not have to do so again at once.
                let later = now + shared.jittered(RETRY_MIN);
                self.dialer.reset(later, shared);
            }
        }
    }

    fn nonsense(&mut self, shared: &mut Shared, now: Moment) {
        shared.drop(LinkDrop::Nonsense);
        if self.conduct.nonsense(&shared.limits, now) == Patience::Lost {
            self.shun(DownReason::Nonsense, shared, now);
        }
    }

    /// Both directions of a session proved to work.
    fn confirmed(&mut self, was_up: bool, from: SocketAddr, shared: &mut Shared, now: Moment) {
        self.echo.heard = now;
        if was_up {
            self.follow(from, shared);
        } else {
            self.endpoint = Some(from);
            self.echo.next = next_echo(shared, now);
            shared.outputs.push_back(Output::Up {
                host: self.host,
                address: from,
            });
        }
        while let Some(payload) = self.waiting.pop() {
            self.seal(&Content::Payload(&payload), shared, now);
        }
    }

    /// Notes from where the peer speaks.
    fn follow(&mut self, from: SocketAddr, shared: &mut Shared) {
        if self.endpoint.replace(from) != Some(from) {
            shared.outputs.push_back(Output::Roamed {
                host: self.host,
                address: from,
            });
        }
    }

    /// When it is asked for an echo next.
    fn asks_at(&self, shared: &Shared) -> Moment {
        if shared.identity.public() < self.key {
            self.echo.next
        } else {
            self.echo.next.max(self.echo.heard + ECHO_LATE)
        }
    }

    fn ask_echo(&mut self, shared: &mut Shared, now: Moment) {
        let echo = &mut self.echo;
        echo.number += u64::from(std::mem::take(&mut echo.answered));
        echo.next = next_echo(shared, now);
        self.seal(&Content::Echo(self.echo.number), shared, now);
    }

    /// Seals and sends a content; answers whether there was a session to do so.
    fn seal(&mut self, content: &Content<'_>, shared: &mut Shared, now: Moment) -> bool {
        let session = self.sessions.current_mut().filter(|it| now < it.ends());
        let (Some(session), Some(endpoint)) = (session, self.endpoint) else {
            return false;
        };
        shared.transmit(endpoint, session.seal(content));
        true
    }

    /// Forgets all sessions, says so if that ends a link that was up, and begins anew.
    fn down(&mut self, reason: DownReason, shared: &mut Shared, now: Moment) {
        let was_up = self.sessions.current().is_some() || reason == DownReason::Expired;
        self.sessions.clear(shared);
        self.dialer.reset(now, shared);
        if was_up {
            shared.outputs.push_back(Output::Down {
                host: self.host,
                reason,
            });
        }
    }

    /// When it may be called at the earliest.
    fn earliest_call(&self, now: Moment) -> Moment {
        self.conduct.shunned_until().map_or(now, |it| it.max(now))
    }

    /// When it is called next; `None` if never, as things stand.
    fn dials_at(&self, shared: &Shared) -> Option<Moment> {
        let renewal = self
            .sessions
            .current()
            .map(|it| it.renew_at(shared.limits.renew_after_datagrams));
        let somewhere = self.endpoint.is_some() || !self.addresses.is_empty();
        match renewal {
            Some(renewal) => Some(renewal.max(self.dialer.next())),
            None => (self.wanted && somewhere).then(|| self.dialer.next()),
        }
    }

    /// Where it may be, the likeliest first.
    fn targets(&self) -> Vec<SocketAddr> {
        let others = self.addresses.iter().copied();
        let others = others.filter(|it| Some(*it) != self.endpoint);
        self.endpoint.into_iter().chain(others).collect()
    }
}

fn next_echo(shared: &mut Shared, now: Moment) -> Moment {
    let at = now + shared.jittered(ECHO_INTERVAL);
    shared.next_beat(at)
}

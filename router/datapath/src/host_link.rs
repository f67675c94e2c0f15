//! The host link: one authenticated datagram channel to each of this host's peers.
//!
//! It decides nothing about trust. Whoever holds a key may introduce itself; core checks the
//! introduction and says who that is. The bytes and timers stand in docs/protocol/host-link.md.
//!
//! ```text
//!                Introduced           Admit, Refuse
//! initiation --> gate --> exchange --> core --> peer: sessions, dialer, echo --> datagrams
//!                 | cookie
//! ```

mod budget;
mod conduct;
mod cookie;
mod dialer;
mod drop_reason;
pub mod echo_socket;
mod exchange;
mod gate;
mod keeper_echoes;
mod key;
pub mod message;
mod noise;
mod peer;
mod port;
mod replay_window;
mod request;
pub mod sealed;
mod session;
mod shared;
pub mod socket;
mod timers;
mod waiting;

pub use budget::Allowance;
pub use conduct::{NONSENSE_COUNTED, SHUN};
pub use cookie::COOKIE_SECRET_LIFE;
pub use dialer::{RETRY_MAX, RETRY_MIN};
pub use drop_reason::{LinkDrop, LinkDrops};
pub use exchange::EXCHANGE_LIFE;
pub use gate::GateLimits;
pub use key::{NetworkSecret, NoiseKey, NoisePrivateKey};
pub use peer::{ADDRESSES_MAX, ECHO_INTERVAL, ECHO_LATE, SILENCE_MAX};
pub use port::{DownReason, ExchangeId, HostLinkConfig, HostLinkLimits, Input, Output, Party};
pub use replay_window::REPLAY_WINDOW;
pub use request::REQUEST_LIFE;
pub use session::{CROSSING, RENEW_AFTER, RENEW_LATE, SESSION_LIFE, UNUSED_LIFE};
pub use waiting::WAITING_MAX;

use exchange::{Exchange, Exchanges};
use gate::{Gate, Judgement};
use keeper_echoes::KeeperEchoes;
use margay_core::host::HostId;
use margay_core::moment::Moment;
use message::{Message, SessionIndex};
use peer::Peer;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use request::Request;
use sealed::{PAYLOAD_BYTES_MAX, Statement, Verdict};
use shared::Shared;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use timers::Timers;

/// What a host is told that this one has no room for.
const PEERS_FULL: &str = "this host has as many links as it may; try another";

/// The links of one host.
pub struct HostLink {
    shared: Shared,
    gate: Gate,
    exchanges: Exchanges,
    peers: BTreeMap<HostId, Peer>,
    by_key: BTreeMap<NoiseKey, HostId>,
    requests: BTreeMap<SocketAddr, Request>,
    keepers: KeeperEchoes,
    timers: Timers,
}

impl HostLink {
    /// Makes a link without peers. All keys follow from `seed`: 32 bytes of the system's randomness,
    /// drawn anew at each start.
    pub fn new(config: HostLinkConfig, seed: [u8; 32], now: Moment) -> Self {
        let limits = config.limits.gate;
        let mut shared = Shared::new(config, ChaCha12Rng::from_seed(seed));
        let own = shared.identity.public();
        let gate = Gate::new(limits, own, &mut shared.random, now);
        HostLink {
            shared,
            gate,
            exchanges: Exchanges::default(),
            peers: BTreeMap::new(),
            by_key: BTreeMap::new(),
            requests: BTreeMap::new(),
            keepers: KeeperEchoes::default(),
            timers: Timers::default(),
        }
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input<'_>, now: Moment) {
        match input {
            Input::Received { from, datagram } => self.received(from, datagram, now),
            Input::SetPeer {
                host,
                noise_key,
                addresses,
            } => self.set_peer(host, noise_key, addresses, now),
            Input::RemovePeer { host } => drop(self.remove_peer(host, DownReason::Removed, now)),
            Input::Send { to, payload } => self.send(to, payload, now),
            Input::SetIntroduction(introduction) => self.shared.introduction = introduction,
            Input::Admit {
                exchange,
                host,
                answer,
            } => self.admit(exchange, host, answer, now),
            Input::Refuse { exchange, reason } => match self.exchanges.take(exchange) {
                Some(exchange) => self.refuse(exchange, &reason),
                None => self.shared.drop(LinkDrop::ExchangeUnknown),
            },
            Input::Introduce {
                to,
                noise_key,
                introduction,
            } => self.introduce(to, noise_key, introduction, now),
            Input::HoldTicket { host, ticket } => self.hold_ticket(host, ticket),
            Input::AskKeeper { host } => self.ask_keeper(&host),
            Input::Moved => {
                for (host, peer) in &mut self.peers {
                    peer.greet(&mut self.shared, now);
                    let party = Party::Host(*host);
                    self.timers.set(party, peer.poll_timeout(&self.shared));
                }
            }
        }
    }

    /// Does what time asks for.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.exchanges.expire(&mut self.shared, now);
        for party in self.timers.due(now) {
            match party {
                Party::Host(host) => {
                    self.with_peer(host, now, |peer, shared| peer.handle_timeout(shared, now));
                }
                Party::Address(to) => {
                    let request = self.requests.get_mut(&to);
                    let request = request.expect("timers are of requests under way");
                    if request.handle_timeout(&mut self.shared, now) {
                        self.requests.remove(&to);
                    }
                    self.settle_request(to);
                }
            }
        }
    }

    /// Hands out what is to be done. Poll after each input and each timeout, until nothing is left.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.outputs.pop_front()
    }

    /// When to call [`HostLink::handle_timeout`]; asked once outputs are drained.
    pub fn poll_timeout(&self) -> Option<Moment> {
        debug_assert!(self.shared.outputs.is_empty(), "outputs come first");
        let exchanges = self.exchanges.next_end();
        exchanges.into_iter().chain(self.timers.next()).min()
    }

    /// This host's public key.
    pub fn public_key(&self) -> NoiseKey {
        self.shared.identity.public()
    }

    /// What was dropped so far.
    pub fn drops(&self) -> &LinkDrops {
        &self.shared.drops
    }

    fn received(&mut self, from: SocketAddr, datagram: &[u8], now: Moment) {
        match Message::parse(datagram) {
            Ok(Message::Initiation { sender, noise, .. }) => {
                let random = &mut self.shared.random;
                match self.gate.judge(from, datagram, random, now) {
                    Judgement::Pass => self.initiation(from, sender, noise, now),
                    Judgement::AskForCookie(reply) => {
                        self.shared.drop(LinkDrop::CookieAsked);
                        self.shared.transmit(from, reply);
                    }
                    Judgement::Drop(reason) => self.shared.drop(reason),
                }
            }
            Ok(Message::Response { receiver, noise }) => self.response(from, receiver, noise, now),
            Ok(Message::CookieReply {
                receiver,
                nonce,
                sealed,
            }) => match self.party(receiver) {
                Some(Party::Host(host)) => self.with_peer(host, now, |peer, shared| {
                    peer.take_cookie(receiver, nonce, &sealed, shared, now);
                }),
                Some(Party::Address(to)) => {
                    let request = self.requests.get_mut(&to);
                    let request = request.expect("indices are of requests under way");
                    request.take_cookie(receiver, nonce, &sealed, &mut self.shared, now);
                }
                None => self.shared.drop(LinkDrop::UnknownSession),
            },
            Ok(Message::Data {
                receiver,
                counter,
                sealed,
            }) => match self.party(receiver) {
                Some(Party::Host(host)) => self.with_peer(host, now, |peer, shared| {
                    peer.take_data((receiver, counter), sealed, from, shared, now);
                }),
                Some(Party::Address(_)) | None => self.shared.drop(LinkDrop::UnknownSession),
            },
            Ok(Message::EchoAnswer(answer)) => self.keeper_answered(&answer),
            Err(reason) => self.shared.drop(reason),
        }
    }

    /// Opens an initiation that passed the gate, and lets core judge who sent it.
    fn initiation(&mut self, from: SocketAddr, theirs: SessionIndex, noise: &[u8], now: Moment) {
        let Some((responder, key, opening)) = self.shared.respond(noise, theirs) else {
            return self.shared.drop(LinkDrop::Forged);
        };
        if key == self.public_key() {
            return self.shared.drop(LinkDrop::OwnKey);
        }
        if let Some(peer) = self.by_key.get(&key).and_then(|host| self.peers.get(host)) {
            if peer.is_shunned(now) {
                return self.shared.drop(LinkDrop::Shunned);
            }
            if !peer.is_fresh(opening.number) {
                return self.shared.drop(LinkDrop::ReplayedInitiation);
            }
        }
        let exchange = Exchange {
            from,
            key,
            number: opening.number,
            theirs,
            responder,
        };
        let exchanges_max = self.shared.limits.exchanges_max;
        match self.exchanges.open(exchange, exchanges_max, now) {
            Ok(exchange) => self.shared.outputs.push_back(Output::Introduced {
                exchange,
                from,
                noise_key: key,
                introduction: opening.introduction,
            }),
            Err(reason) => self.shared.drop(reason),
        }
    }

    fn response(&mut self, from: SocketAddr, ours: SessionIndex, noise: &[u8], now: Moment) {
        match self.party(ours) {
            Some(Party::Host(host)) => self.with_peer(host, now, |peer, shared| {
                peer.take_response(ours, noise, from, shared, now);
            }),
            Some(Party::Address(to)) => {
                let request = self.requests.get_mut(&to);
                let request = request.expect("indices are of requests under way");
                match request.take_response(ours, noise, &mut self.shared) {
                    Ok(()) => drop(self.requests.remove(&to)),
                    Err(reason) => self.shared.drop(reason),
                }
                self.settle_request(to);
            }
            None => self.shared.drop(LinkDrop::UnknownSession),
        }
    }

    fn set_peer(&mut self, host: HostId, key: NoiseKey, addresses: Vec<SocketAddr>, now: Moment) {
        if !self.has_room(host, key, now) {
            return self.shared.drop(LinkDrop::PeersFull);
        }
        self.with_peer(host, now, |peer, shared| peer.set(addresses, shared, now));
    }

    fn remove_peer(&mut self, host: HostId, reason: DownReason, now: Moment) -> Option<Peer> {
        let mut peer = self.peers.remove(&host)?;
        peer.close(reason, &mut self.shared, now);
        self.keepers.forget(&host);
        self.by_key.remove(&peer.key());
        self.timers.set(Party::Host(host), None);
        Some(peer)
    }

    fn send(&mut self, to: HostId, payload: Vec<u8>, now: Moment) {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return self.shared.drop(LinkDrop::PayloadTooLong);
        }
        if !self.peers.contains_key(&to) {
            return self.shared.drop(LinkDrop::NoSuchPeer);
        }
        self.with_peer(to, now, |peer, shared| peer.send(payload, shared, now));
    }

    fn admit(&mut self, id: ExchangeId, host: HostId, answer: Statement, now: Moment) {
        let Some(exchange) = self.exchanges.take(id) else {
            return self.shared.drop(LinkDrop::ExchangeUnknown);
        };
        if !self.has_room(host, exchange.key, now) {
            self.shared.drop(LinkDrop::PeersFull);
            return self.refuse(exchange, PEERS_FULL);
        }
        self.with_peer(host, now, |peer, shared| {
            peer.admit(exchange, answer, shared, now);
        });
    }

    fn refuse(&mut self, exchange: Exchange, reason: &str) {
        let answer = self
            .shared
            .answer(SessionIndex(0), Verdict::refusal(reason));
        let (noise, _) = exchange.responder.answer(&answer);
        let response = Message::Response {
            receiver: exchange.theirs,
            noise: &noise,
        };
        self.shared.transmit_message(exchange.from, &response);
    }

    fn introduce(&mut self, to: SocketAddr, key: NoiseKey, introduction: Statement, now: Moment) {
        if let Some(mut older) = self.requests.remove(&to) {
            older.give_up(&mut self.shared);
        }
        if self.requests.len() >= self.shared.limits.requests_max {
            self.shared.drop(LinkDrop::RequestsFull);
        } else {
            let mut request = Request::new(to, key, introduction, now);
            request.handle_timeout(&mut self.shared, now);
            self.requests.insert(to, request);
        }
        self.settle_request(to);
    }

    /// Sees to it that the host is a peer with that key, and nobody else has it; answers whether
    /// there is room for it.
    fn has_room(&mut self, host: HostId, key: NoiseKey, now: Moment) -> bool {
        let holder = self.by_key.get(&key).copied();
        if holder == Some(host) {
            return true;
        }
        if let Some(other) = holder {
            self.remove_peer(other, DownReason::KeyChanged, now);
        }
        let mut peer = Peer::new(host, key, now);
        if let Some(older) = self.remove_peer(host, DownReason::KeyChanged, now) {
            peer.succeed(older);
        }
        let room = self.peers.len() < self.shared.limits.peers_max;
        if room {
            self.peers.insert(host, peer);
            self.by_key.insert(key, host);
        }
        room
    }

    /// Does something with a peer, then forgets it if it is over, else notes when to look at it.
    fn with_peer(&mut self, host: HostId, now: Moment, act: impl FnOnce(&mut Peer, &mut Shared)) {
        let peer = self.peers.get_mut(&host);
        let peer = peer.expect("indices, keys and timers are of peers that there are");
        act(peer, &mut self.shared);
        if peer.is_forgettable(now) {
            return drop(self.remove_peer(host, DownReason::Removed, now));
        }
        let at = peer.poll_timeout(&self.shared);
        self.timers.set(Party::Host(host), at);
    }

    fn settle_request(&mut self, to: SocketAddr) {
        let at = self.requests.get(&to).map(Request::poll_timeout);
        self.timers.set(Party::Address(to), at);
    }

    fn party(&self, index: SessionIndex) -> Option<Party> {
        self.shared.indices.get(&index).copied()
    }
}

impl fmt::Debug for HostLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HostLink of {:?} with {} peers",
            self.public_key(),
            self.peers.len()
        )
    }
}

#[cfg(test)]
mod tests;

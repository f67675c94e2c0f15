//! What all parts of a link use: who it is, randomness, session indices, counters, outputs.

use super::drop_reason::{LinkDrop, LinkDrops};
use super::gate::draw;
use super::key::NoiseKey;
use super::message::{Message, SessionIndex};
use super::noise::{Identity, Initiator, Responder, Secret};
use super::port::{HostLinkConfig, HostLinkLimits, Output, Party};
use super::sealed::{Answer, InitiationNumber, Opening, Statement, Verdict};
use margay_core::moment::Moment;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Nanoseconds between two beats.
const BEAT_NANOS: u64 = 1_000_000_000;

/// What all parts of a link use.
pub(super) struct Shared {
    pub identity: Identity,
    pub limits: HostLinkLimits,
    pub introduction: Statement,
    pub random: ChaCha12Rng,
    /// In which nanosecond of each second to do what can wait: one wake-up serves many peers.
    beat: u64,
    pub drops: LinkDrops,
    pub outputs: VecDeque<Output>,
    /// The number of the next initiation.
    pub number: InitiationNumber,
    /// Whose each index of ours is.
    pub indices: BTreeMap<SessionIndex, Party>,
}

impl Shared {
    /// Nothing is dropped yet, nothing to be sent.
    pub fn new(config: HostLinkConfig, mut random: ChaCha12Rng) -> Self {
        Shared {
            identity: Identity::new(config.private_key, config.network),
            limits: config.limits,
            introduction: config.introduction,
            beat: random.next_u64() % BEAT_NANOS,
            random,
            drops: LinkDrops::default(),
            outputs: VecDeque::new(),
            number: InitiationNumber {
                epoch: config.epoch,
                count: 0,
            },
            indices: BTreeMap::new(),
        }
    }

    /// Counts something dropped.
    pub fn drop(&mut self, reason: LinkDrop) {
        tracing::trace!(reason = reason.name(), "the host link dropped something");
        self.drops.count(reason);
    }

    /// Sends a datagram.
    pub fn transmit(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        self.outputs.push_back(Output::Transmit { to, datagram });
    }

    /// Sends a message.
    pub fn transmit_message(&mut self, to: SocketAddr, message: &Message<'_>) {
        self.transmit(to, message.to_bytes());
    }

    /// Begins a handshake.
    pub fn initiate(
        &mut self,
        to: NoiseKey,
        index: SessionIndex,
        introduction: Statement,
    ) -> (Initiator, Vec<u8>) {
        let opening = Opening {
            number: self.number,
            introduction,
        };
        self.number.count += 1;
        let secret = self.secret();
        self.identity.initiate((to, index), &opening, secret)
    }

    /// What this host answers to an initiation.
    pub fn answer(&self, session: SessionIndex, verdict: Verdict) -> Answer {
        Answer {
            epoch: self.number.epoch,
            session,
            verdict,
        }
    }

    /// Opens an initiation.
    pub fn respond(
        &mut self,
        noise: &[u8],
        index: SessionIndex,
    ) -> Option<(Responder, NoiseKey, Opening)> {
        let secret = self.secret();
        self.identity.respond((noise, index), secret)
    }

    /// Chooses an index that nothing has, and not 0.
    pub fn assign(&mut self, party: Party) -> SessionIndex {
        loop {
            let index = SessionIndex(self.random.next_u32());
            if index != SessionIndex(0)
                && let Entry::Vacant(free) = self.indices.entry(index)
            {
                free.insert(party);
                return index;
            }
        }
    }

    /// Forgets an index.
    pub fn release(&mut self, index: SessionIndex) {
        self.indices.remove(&index);
    }

    /// Draws a duration between `least` and half as much again, so that many hosts do not act as one.
    pub fn jittered(&mut self, least: Duration) -> Duration {
        let part = f64::from(self.random.next_u32()) / f64::from(u32::MAX);
        least + least.mul_f64(part / 2.0)
    }

    /// The first beat at or after `at`.
    pub fn next_beat(&self, at: Moment) -> Moment {
        let until = self.beat + BEAT_NANOS - at.as_nanos() % BEAT_NANOS;
        at + Duration::from_nanos(until % BEAT_NANOS)
    }

    fn secret(&mut self) -> Secret {
        draw(&mut self.random)
    }
}

//! The gate before the handshake: what strangers may cost this host.
//!
//! Whoever sends without a cookie may have forged its address. Such initiations share small budgets;
//! beyond them a sender is given a cookie, and what returns one has larger budgets of its own, which
//! nobody else can spend.

use super::budget::{Allowance, Budget};
use super::cookie::{Acquaintance, CookieJar, Tag};
use super::drop_reason::LinkDrop;
use super::key::NoiseKey;
use super::message::{COOKIE_NONCE_BYTES, Message, SessionIndex, covered_by_macs};
use super::noise::Secret;
use margay_core::moment::Moment;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// What strangers may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// Initiations without a cookie, from all sources together.
    pub unproven: Allowance,
    /// Initiations from one source, with and without a cookie apart.
    pub source: Allowance,
    /// Initiations with a cookie, from all sources together.
    pub proven: Allowance,
    /// Cookies given out.
    pub cookies: Allowance,
    /// Sources that are told apart, with and without a cookie apart.
    pub sources_max: usize,
}

impl Default for GateLimits {
    /// A handshake costs about 0.3 ms: all budgets spent keep a tenth of one core busy.
    fn default() -> Self {
        let allowance = |burst, per_second| Allowance { burst, per_second };
        GateLimits {
            unproven: allowance(100, 100),
            source: allowance(10, 5),
            proven: allowance(200, 200),
            cookies: allowance(500, 500),
            sources_max: 4096,
        }
    }
}

/// What becomes of an initiation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It may have its handshake.
    Pass,
    /// Its sender gets this datagram instead.
    AskForCookie(Vec<u8>),
    /// Nothing.
    Drop(LinkDrop),
}

/// What strangers may cost, and what they spent of it.
pub(super) struct Gate {
    limits: GateLimits,
    us: Acquaintance,
    jar: CookieJar,
    unproven: Budget,
    proven: Budget,
    cookies: Budget,
    unproven_sources: Sources,
    proven_sources: Sources,
}

/// What each source spent, as far as one can be told from another.
struct Sources {
    limits: GateLimits,
    spent: BTreeMap<IpAddr, Budget>,
    /// When sources that spent nothing were last forgotten: a flood must not make us look for them
    /// at each datagram.
    swept: Moment,
}

impl Gate {
    pub fn new(limits: GateLimits, key: NoiseKey, random: &mut ChaCha12Rng, now: Moment) -> Self {
        let jar = CookieJar::new(draw(random), draw(random), now);
        Gate {
            limits,
            us: Acquaintance::new(key),
            jar,
            unproven: Budget::default(),
            proven: Budget::default(),
            cookies: Budget::default(),
            // Apart: forged sources must not take the places of those that proved to be.
            unproven_sources: Sources::new(limits, now),
            proven_sources: Sources::new(limits, now),
        }
    }

    /// Judges an initiation before anything dear is computed for it.
    pub fn judge(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        random: &mut ChaCha12Rng,
        now: Moment,
    ) -> Judgement {
        let Ok(Message::Initiation {
            sender, mac1, mac2, ..
        }) = Message::parse(datagram)
        else {
            return Judgement::Drop(LinkDrop::Malformed);
        };
        let Some((before_mac1, before_mac2)) = covered_by_macs(datagram) else {
            return Judgement::Drop(LinkDrop::Malformed);
        };
        if !self.us.knows(before_mac1, &mac1) {
            return Judgement::Drop(LinkDrop::WrongMac);
        }
        self.jar.refresh(|| draw(random), now);
        if self.jar.proves(from, before_mac2, &mac2) {
            return self.judge_proven(from, now);
        }
        if self.unproven_sources.take(network(from.ip()), now)
            && self.unproven.take(self.limits.unproven, now)
        {
            return Judgement::Pass;
        }
        if !self.cookies.take(self.limits.cookies, now) {
            return Judgement::Drop(LinkDrop::CookieBudget);
        }
        Judgement::AskForCookie(self.cookie_reply(from, sender, &mac1, random))
    }

    fn judge_proven(&mut self, from: SocketAddr, now: Moment) -> Judgement {
        if !self.proven_sources.take(network(from.ip()), now) {
            return Judgement::Drop(LinkDrop::SourceBudget);
        }
        if !self.proven.take(self.limits.proven, now) {
            return Judgement::Drop(LinkDrop::HandshakeBudget);
        }
        Judgement::Pass
    }

    fn cookie_reply(
        &self,
        from: SocketAddr,
        receiver: SessionIndex,
        mac1: &Tag,
        random: &mut ChaCha12Rng,
    ) -> Vec<u8> {
        let mut nonce = [0; COOKIE_NONCE_BYTES];
        random.fill_bytes(&mut nonce);
        let sealed = self.us.seal_cookie(&self.jar.cookie(from), nonce, mac1);
        Message::CookieReply {
            receiver,
            nonce,
            sealed,
        }
        .to_bytes()
    }
}

impl Sources {
    fn new(limits: GateLimits, now: Moment) -> Self {
        Sources {
            limits,
            spent: BTreeMap::new(),
            swept: now,
        }
    }

    /// Takes one of a source's budget. Sources beyond those that are told apart have none.
    fn take(&mut self, source: IpAddr, now: Moment) -> bool {
        let GateLimits {
            source: allowance,
            sources_max,
            ..
        } = self.limits;
        if self.spent.len() >= sources_max && !self.spent.contains_key(&source) {
            if now.since(self.swept) >= allowance.refill() {
                self.spent.retain(|_, budget| !budget.is_full(now));
                self.swept = now;
            }
            if self.spent.len() >= sources_max {
                return false;
            }
        }
        let budget = self.spent.entry(source).or_default();
        budget.take(allowance, now)
    }
}

/// What one party is usually given: an IPv4 address, or a /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}

/// Draws 32 bytes that nobody can guess.
pub(super) fn draw(random: &mut ChaCha12Rng) -> Secret {
    let mut secret = [0; 32];
    random.fill_bytes(&mut secret);
    secret
}

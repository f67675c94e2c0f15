//! Membership: which hosts of the own leaf site are up, by SWIM (Das et al. 2002; the `foca` crate).
//!
//! Datagrams come from the host link, which knows who sent them, and go back to it. `Up` and `Down`
//! go to the catalog, which shows or hides what a host says of itself, and to the router, which
//! opens new flows or does not. `Echo` goes to the host link again: a host's keeper answers it even
//! while the daemon is away. Only when that is silent too, `Silent` ends live flows.
//!
//! No clock of the day is looked at, so that hosts whose clocks differ by an hour agree.

mod admit;
mod effects;
mod hearsay;
mod member;
mod standing;
mod tuning;

use crate::host::{HostId, OriginEpoch};
use crate::moment::Moment;
use admit::admit;
use effects::Effects;
use foca::{Foca, NoCustomBroadcast, Timer};
use hearsay::{Hearsay, Word};
use member::{Member, WireCodec};
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use rand::{RngCore, SeedableRng};
use rand_for_foca::SeedableRng as _;
use rand_for_foca::rngs::SmallRng as FocaRng;
use standing::Standings;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tuning::{GOSSIP_EVERY, GOSSIP_SOON, tuned};

pub use standing::{ECHO_EVERY, FORGIVEN_AFTER, HELD_FIRST, HELD_MAX, SILENT_AFTER};
pub use tuning::{DATAGRAM_BYTES_MAX, PROBE_EVERY, SUSPECT_FOR};

/// The most hosts of one site; a larger one is split into more sites.
pub const PEERS_MAX: usize = 1_024;

/// How often hosts that are not up are greeted: one lost greeting must not leave half a view, and
/// two sides of a partition find together only so.
const GREET_EVERY: Duration = Duration::from_secs(1);

/// How many are greeted each time.
const GREETED_AT_ONCE: usize = 3;

/// A timeout later than this means that we stood still, not that others are silent.
const PAUSE: Duration = Duration::from_millis(500);

/// Who this host is, in this life.
#[derive(Clone, Copy, Debug)]
pub struct MembershipConfig {
    /// The own host.
    pub host: HostId,
    /// Its life.
    pub epoch: OriginEpoch,
}

/// What happens to the membership.
#[derive(Clone, Debug)]
pub enum MembershipInput {
    /// The host link brought a datagram, and vouches for its sender.
    Datagram {
        /// Who sent it.
        from: HostId,
        /// At most [`DATAGRAM_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// All other hosts of the own leaf site whose certificates hold now.
    Peers(BTreeSet<HostId>),
    /// A host's keeper answered an echo.
    Echoed(HostId),
    /// The own epoch was raised because an older state was restored.
    Epoch(OriginEpoch),
    /// This host goes away on purpose.
    Leave,
}

/// What the membership wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipOutput {
    /// Send a datagram over the host link; it may be lost.
    Datagram {
        /// To whom.
        to: HostId,
        /// What.
        bytes: Vec<u8>,
    },
    /// The host is up: its records show, and new flows go to it. Repeated with a later epoch.
    Up {
        /// Which.
        host: HostId,
        /// In which life.
        epoch: OriginEpoch,
    },
    /// The host is down: its records are hidden, and no new flow goes to it.
    Down {
        /// Which.
        host: HostId,
    },
    /// Ask the host's keeper for an echo; an answer comes back as an input.
    Echo {
        /// Whom.
        to: HostId,
    },
    /// The host is down and its keeper is silent too: live flows to it fail.
    Silent {
        /// Which.
        host: HostId,
    },
    /// The others have been told; the host link may close.
    Left,
}

/// Why a datagram, or a host, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MembershipDrop {
    /// Its sender is no host of this site, or has no certificate.
    NotOfThisSite,
    /// Longer than [`DATAGRAM_BYTES_MAX`].
    TooLong,
    /// Not in a form that is known here.
    Unreadable,
    /// It says that another host sent it.
    Impersonated,
    /// Others say that its sender is in a later life than it says itself.
    Contradicted,
    /// Readable, and still of no use to the protocol.
    Refused,
    /// It would have gone to a host that is none of this site.
    ToAStranger,
    /// Not a datagram but a host: the site has [`PEERS_MAX`] others already.
    TooManyPeers,
}

impl MembershipDrop {
    /// Every reason.
    pub const ALL: &'static [MembershipDrop] = &[
        MembershipDrop::NotOfThisSite,
        MembershipDrop::TooLong,
        MembershipDrop::Unreadable,
        MembershipDrop::Impersonated,
        MembershipDrop::Contradicted,
        MembershipDrop::Refused,
        MembershipDrop::ToAStranger,
        MembershipDrop::TooManyPeers,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            MembershipDrop::NotOfThisSite => "not_of_this_site",
            MembershipDrop::TooLong => "too_long",
            MembershipDrop::Unreadable => "unreadable",
            MembershipDrop::Impersonated => "impersonated",
            MembershipDrop::Contradicted => "contradicted",
            MembershipDrop::Refused => "refused",
            MembershipDrop::ToAStranger => "to_a_stranger",
            MembershipDrop::TooManyPeers => "too_many_peers",
        }
    }
}

/// Which hosts of the own leaf site are up.
pub struct Membership {
    host: HostId,
    foca: Foca<Member, WireCodec, FocaRng, NoCustomBroadcast>,
    effects: Effects,
    peers: BTreeSet<HostId>,
    hearsay: Hearsay,
    standings: Standings,
    random: SmallRng,
    greet_at: Moment,
    /// When news go out next; `None` while there are none.
    gossip_at: Option<Moment>,
    left: bool,
    outputs: VecDeque<MembershipOutput>,
    drops: BTreeMap<MembershipDrop, u64>,
}

impl Membership {
    /// Begins alone: whom to greet comes in as [`MembershipInput::Peers`].
    pub fn new(config: MembershipConfig, seed: u64, now: Moment) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let identity = Member::new(config.host, config.epoch);
        let foca_random = FocaRng::seed_from_u64(random.next_u64());
        Membership {
            host: config.host,
            foca: Foca::new(identity, tuned(0), foca_random, WireCodec),
            effects: Effects::new(now),
            peers: BTreeSet::new(),
            hearsay: Hearsay::default(),
            standings: Standings::default(),
            random,
            greet_at: now,
            gossip_at: None,
            left: false,
            outputs: VecDeque::new(),
            drops: BTreeMap::new(),
        }
    }

    /// Takes what happened; outputs may follow.
    pub fn handle_input(&mut self, input: MembershipInput, now: Moment) {
        if self.left {
            return;
        }
        self.effects.now = now;
        match input {
            MembershipInput::Datagram { from, bytes } => self.take_datagram(&from, &bytes),
            MembershipInput::Peers(peers) => self.take_peers(peers, now),
            MembershipInput::Echoed(host) => self.standings.echoed(&host, now),
            MembershipInput::Epoch(epoch) => self.begin_epoch(epoch),
            MembershipInput::Leave => self.leave(),
        }
        self.await_gossip(now);
        self.drain_effects(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.left {
            return;
        }
        self.effects.now = now;
        self.forgive_a_pause(now);
        while let Some(timer) = self.effects.take_due() {
            self.expire(timer);
        }
        if self.greet_at <= now {
            self.greet(now);
        }
        if self.gossip_at.is_some_and(|at| at <= now) {
            // Fails only where a heading cannot be encoded, and ours can.
            let _ = self.foca.gossip(&mut self.effects);
            self.gossip_at = Some(now + GOSSIP_EVERY);
        }
        self.await_gossip(now);
        self.drain_effects(now);
        self.standings.handle_timeout(now, &mut self.outputs);
    }

    /// The next thing to do; poll until there is none, after each input and timeout.
    pub fn poll_output(&mut self) -> Option<MembershipOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; changes with each input and timeout.
    pub fn poll_timeout(&self) -> Option<Moment> {
        debug_assert!(self.outputs.is_empty(), "outputs come first");
        if self.left {
            return None;
        }
        let others = [
            self.effects.next_due(),
            self.gossip_at,
            self.standings.poll_timeout(),
        ];
        others.into_iter().flatten().chain([self.greet_at]).min()
    }

    /// The hosts that are up, with their lives; the own one is not among them.
    pub fn up(&self) -> impl Iterator<Item = (HostId, OriginEpoch)> {
        self.standings.up()
    }

    /// What was dropped, and how often.
    pub fn drops(&self) -> impl Iterator<Item = (MembershipDrop, u64)> {
        self.drops.iter().map(|(reason, count)| (*reason, *count))
    }

    fn take_datagram(&mut self, from: &HostId, bytes: &[u8]) {
        let taken = if self.peers.contains(from) {
            admit(from, bytes, |told| {
                // Strangers would be probed and remembered.
                let belongs = self.peers.contains(&told.host) || told.host == self.host;
                belongs && self.hearsay.may_be(told, self.effects.now)
            })
        } else {
            Err(MembershipDrop::NotOfThisSite)
        };
        let taken = taken.and_then(|(said, bytes)| {
            self.compare(said)?;
            let handled = self.foca.handle_data(&bytes, &mut self.effects);
            handled.map_err(|_| MembershipDrop::Refused)
        });
        if let Err(reason) = taken {
            self.count(reason);
        }
    }

    /// Sets what a host says it is against what it is held for by what others said.
    fn compare(&mut self, said: Member) -> Result<(), MembershipDrop> {
        let held = self.held(&said.host);
        match self.hearsay.hear(said, held, self.effects.now) {
            Word::Agrees => Ok(()),
            Word::Contradicts => Err(MembershipDrop::Contradicted),
            Word::Refutes => {
                self.forget(&said.host);
                Ok(())
            }
        }
    }

    /// What the failure detector holds a host for.
    fn held(&self, host: &HostId) -> Option<Member> {
        let mut held = self.foca.iter_membership_state().map(|it| *it.id());
        held.find(|held| held.host == *host)
    }

    /// Has the failure detector know nothing of a host any more.
    fn forget(&mut self, host: &HostId) {
        if let Some(member) = self.held(host) {
            let down = foca::Member::down(member);
            // Neither can fail: nothing is decoded, and every update fits.
            let _ = self
                .foca
                .apply_many([down].into_iter(), false, &mut self.effects);
            let _ = self
                .foca
                .handle_timer(Timer::RemoveDown(member), &mut self.effects);
        }
    }

    fn take_peers(&mut self, peers: BTreeSet<HostId>, now: Moment) {
        let mut peers = peers;
        peers.remove(&self.host);
        while peers.len() > PEERS_MAX {
            peers.pop_last();
            self.count(MembershipDrop::TooManyPeers);
        }
        let gone: Vec<HostId> = self.peers.difference(&peers).copied().collect();
        for gone in gone {
            self.forget(&gone);
            self.standings.forget(&gone, &mut self.outputs);
        }
        self.hearsay.retain(|host| peers.contains(host));
        self.peers = peers;
        self.foca
            .set_config(tuned(self.peers.len()))
            .expect("only the number of transmissions changes");
        self.greet_at = now;
    }

    fn begin_epoch(&mut self, epoch: OriginEpoch) {
        if epoch > self.foca.identity().epoch {
            let later = Member::new(self.host, epoch);
            // Fails for the same identity only.
            let _ = self.foca.change_identity(later, &mut self.effects);
        }
    }

    fn leave(&mut self) {
        self.left = true;
        // Fails only where a member cannot be encoded, and ours can.
        let _ = self.foca.leave_cluster(&mut self.effects);
    }

    /// Greets a few of those who are not up; they answer with whom they know.
    fn greet(&mut self, now: Moment) {
        self.greet_at = now + GREET_EVERY;
        let absent = self.peers.iter().filter(|host| !self.standings.lives(host));
        let mut greeted = [self.host; GREETED_AT_ONCE];
        let count = absent
            .copied()
            .choose_multiple_fill(&mut self.random, &mut greeted);
        for host in greeted.into_iter().take(count) {
            // A greeting is taken by a host in whatever life it is.
            let someone = Member::new(host, OriginEpoch(0));
            // Fails only where a heading cannot be encoded, and ours can.
            let _ = self.foca.announce(someone, &mut self.effects);
        }
    }

    /// A host that stood still has missed answers: it gives everyone their time again.
    fn forgive_a_pause(&mut self, now: Moment) {
        let late = self.effects.next_due().map(|due| now.since(due));
        if let Some(late) = late.filter(|late| *late > PAUSE) {
            self.effects.postpone(late + PROBE_EVERY);
        }
    }

    /// Has news go out soon, if there are any and somebody to hear them.
    fn await_gossip(&mut self, now: Moment) {
        if self.foca.updates_backlog() == 0 || self.foca.num_members() == 0 {
            self.gossip_at = None;
        } else {
            self.gossip_at.get_or_insert(now + GOSSIP_SOON);
        }
    }

    fn expire(&mut self, timer: Timer<Member>) {
        // It says so when a pause cut a probe short, and begins the next one by itself.
        let _ = self.foca.handle_timer(timer, &mut self.effects);
    }

    fn drain_effects(&mut self, now: Moment) {
        while let Some((to, bytes)) = self.effects.sent.pop_front() {
            if self.peers.contains(&to) {
                self.outputs
                    .push_back(MembershipOutput::Datagram { to, bytes });
            } else {
                self.count(MembershipDrop::ToAStranger);
            }
        }
        while let Some((member, up)) = self.effects.seen.pop_front() {
            if !self.peers.contains(&member.host) {
                continue;
            }
            // A later life that is known to be over already is no life.
            let lives = || self.foca.iter_members().any(|it| *it.id() == member);
            if up && !lives() {
                continue;
            }
            if up {
                self.standings
                    .seen_up(member.host, member.epoch, now, &mut self.outputs);
            } else {
                self.standings
                    .seen_down(member.host, now, &mut self.outputs);
            }
        }
        if self.left {
            self.outputs.push_back(MembershipOutput::Left);
        }
    }

    fn count(&mut self, reason: MembershipDrop) {
        *self.drops.entry(reason).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;

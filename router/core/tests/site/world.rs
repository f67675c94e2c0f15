//! The simulated site: hosts, a network that loses and delays, and one queue of what happens next.

use super::checks;
use super::host::{Host, credential};
use super::plan::{Plan, Step};
use margay_core::catalog::{CatalogInput, Generation, Identity, Key, Statement};
use margay_core::composition::Composition;
use margay_core::host::HostId;
use margay_core::id::Version;
use margay_core::membership::MembershipInput;
use margay_core::signature::PrivateKey;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many messages are remembered, to come again.
const REMEMBERED_MAX: usize = 4_000;

/// What travels.
#[derive(Clone, Debug)]
pub enum Message {
    Membership(Vec<u8>),
    Gossip(Vec<u8>),
    Ask(Vec<u8>),
    Answer(Vec<u8>),
    Echo,
    Echoed,
}

#[derive(Clone, Debug)]
pub enum Event {
    Deliver {
        from: usize,
        to: usize,
        message: Message,
    },
    Wake(usize),
    Step(Step),
    Start(usize),
    Heal(usize),
}

/// What was really said and done, by whom.
#[derive(Default)]
pub struct Truth {
    /// Every word of every host, the first first.
    pub said: BTreeMap<(HostId, Key), Vec<Statement>>,
    /// Who held an identity in each generation.
    pub holders: BTreeMap<Identity, BTreeMap<Generation, HostId>>,
    /// Hosts that began again from the state of an earlier life: of what two lives said, the one that
    /// counts until they hear of it may be the older.
    pub restored: BTreeSet<HostId>,
    /// What the operator signed; `None` where it was withdrawn.
    pub compositions: BTreeMap<Version, Option<Composition>>,
}

pub struct World {
    pub plan: Plan,
    pub now: Duration,
    pub random: SmallRng,
    pub hosts: Vec<Host>,
    pub truth: Truth,
    pub operator: PrivateKey,
    /// Makes each word differ from all others.
    pub words: u32,
    site: BTreeSet<HostId>,
    events: BTreeMap<(Duration, u64), Event>,
    numbered: u64,
    /// Pairs that do not hear each other now, by the disturbance that keeps them apart.
    cuts: BTreeMap<usize, BTreeSet<(usize, usize)>>,
    cut: usize,
    remembered: Vec<(usize, Message)>,
    pub calm: bool,
    /// A digest of everything that was delivered, to compare two runs.
    pub fingerprint: u64,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut random = SmallRng::seed_from_u64(plan.seed ^ 0x5eed);
        let count = u8::try_from(plan.hosts).unwrap();
        let hosts: Vec<Host> = (0..count).map(|it| Host::new(it, &mut random)).collect();
        let site = hosts.iter().map(|host| host.id).collect();
        let mut world = World {
            now: Duration::ZERO,
            random,
            hosts,
            truth: Truth::default(),
            operator: PrivateKey::from_bytes(&[0xee; 32]),
            words: 0,
            site,
            events: BTreeMap::new(),
            numbered: 0,
            cuts: BTreeMap::new(),
            cut: 0,
            remembered: Vec::new(),
            calm: false,
            fingerprint: 0xcbf2_9ce4_8422_2325,
            plan,
        };
        for index in 0..world.hosts.len() {
            let id = world.hosts[index].id;
            let credential = credential(&id);
            world.hear(index, &Statement::Host { credential });
            let at = world
                .random
                .random_range(Duration::ZERO..Duration::from_secs(3));
            world.schedule(at, Event::Start(index));
        }
        for (at, step) in world.plan.steps.clone() {
            world.schedule(at, Event::Step(step));
        }
        world
    }

    /// The hosts whose daemon runs.
    pub fn running(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.daemon.is_some())
    }

    /// Lets time pass until `until`.
    pub fn run(&mut self, until: Duration) {
        while let Some(((at, _), _)) = self.events.first_key_value() {
            if *at > until {
                break;
            }
            let ((at, _), event) = self.events.pop_first().unwrap();
            self.now = at;
            self.handle(event);
        }
        self.now = until;
    }

    /// Ends every disturbance: whoever is not gone for good comes back, and every message arrives.
    pub fn calm_down(&mut self) {
        self.calm = true;
        self.cuts.clear();
        for index in 0..self.hosts.len() {
            let host = &mut self.hosts[index];
            (host.paused_until, host.lies_until) = (Duration::ZERO, Duration::ZERO);
            if host.daemon.is_none() && !host.gone {
                self.start(index);
            }
        }
    }

    /// Runs until the site is of one mind; panics with what differs if that takes too long.
    pub fn converge(&mut self, within: Duration) -> Duration {
        let began = self.now;
        loop {
            let found = checks::divergence(self);
            if found.is_empty() {
                return self.now - began;
            }
            assert!(
                self.now - began < within,
                "not of one mind after {within:?}:\n{}",
                found.join("\n")
            );
            self.run(self.now + Duration::from_millis(500));
        }
    }

    /// Takes note of a word of a host.
    pub fn hear(&mut self, index: usize, statement: &Statement) {
        let key = (self.hosts[index].id, statement.key());
        self.truth
            .said
            .entry(key)
            .or_default()
            .push(statement.clone());
    }

    /// Tells a host's catalog something, if its daemon runs.
    pub fn tell(&mut self, index: usize, input: CatalogInput) {
        let now = self.hosts[index].clock.shows(self.now);
        if let Some(daemon) = &mut self.hosts[index].daemon {
            daemon.catalog.handle_input(input, now);
            self.drain(index, true);
        }
    }

    /// Sends `message`, or loses, doubles or delays it.
    pub fn send(&mut self, from: usize, to: usize, message: Message) {
        self.remember(from, &message);
        let thousandth = |random: &mut SmallRng, of: u32| random.random_range(0..1_000) < of;
        if !self.calm && thousandth(&mut self.random, self.plan.loss) {
            return;
        }
        let twice = !self.calm && thousandth(&mut self.random, self.plan.duplicates);
        for _ in 0..=usize::from(twice) {
            let mut delay = self
                .random
                .random_range(Duration::ZERO..self.plan.delay_max);
            if !self.calm && thousandth(&mut self.random, self.plan.stragglers) {
                delay += self
                    .random
                    .random_range(Duration::ZERO..self.plan.straggler_delay_max);
            }
            let message = message.clone();
            self.schedule(self.now + delay, Event::Deliver { from, to, message });
        }
    }

    /// Datagrams of membership are many; few of them are remembered.
    fn remember(&mut self, from: usize, message: &Message) {
        let seldom = !matches!(message, Message::Membership(_)) || self.numbered.is_multiple_of(64);
        if seldom && self.remembered.len() < REMEMBERED_MAX {
            self.remembered.push((from, message.clone()));
        }
    }

    /// Lets everyone hear again what was ever published.
    pub fn publish_everything_again(&mut self) {
        let published = self.remembered.iter();
        let published = published.filter(|(_, message)| matches!(message, Message::Gossip(_)));
        let published: Vec<_> = published.cloned().collect();
        for (from, message) in published {
            for to in 0..self.hosts.len() {
                self.deliver(from, to, message.clone());
            }
        }
        self.run(self.now + Duration::from_millis(1));
    }

    /// Something that was sent long ago, by whom.
    pub fn remembered(&self, which: usize) -> Option<(usize, Message)> {
        let count = self.remembered.len();
        (count > 0).then(|| self.remembered[which % count].clone())
    }

    /// Delivers a message now, as if `from` had sent it.
    pub fn deliver(&mut self, from: usize, to: usize, message: Message) {
        self.schedule(self.now, Event::Deliver { from, to, message });
    }

    /// Keeps pairs from hearing each other for a while.
    pub fn cut(&mut self, pairs: BTreeSet<(usize, usize)>, lasts: Duration) {
        self.cut += 1;
        self.cuts.insert(self.cut, pairs);
        self.schedule(self.now + lasts, Event::Heal(self.cut));
    }

    /// Ends a daemon, and with it what only it knew.
    pub fn crash(&mut self, index: usize, reboot: bool) {
        let host = &mut self.hosts[index];
        host.daemon = None;
        host.wake = None;
        if reboot {
            host.keeper = false;
            host.says.retain(|key, _| *key == Key::Host);
        }
    }

    /// Starts a daemon later.
    pub fn start_in(&mut self, index: usize, after: Duration) {
        self.schedule(self.now + after, Event::Start(index));
    }

    pub fn later(&mut self, after: Duration, step: Step) {
        self.schedule(self.now + after, Event::Step(step));
    }

    fn start(&mut self, index: usize) {
        if self.hosts[index].daemon.is_some() || self.hosts[index].gone {
            return;
        }
        let seed = self.random.random();
        let operator = self.operator.public();
        let kept = self.plan.taken_back_kept;
        self.hosts[index].start(&self.site, operator, kept, seed, self.now);
        self.drain(index, true);
    }

    pub fn schedule(&mut self, at: Duration, event: Event) {
        self.numbered += 1;
        self.events.insert((at, self.numbered), event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, message } => {
                let paused = self.hosts[to].paused_until;
                if paused > self.now {
                    self.schedule(paused, Event::Deliver { from, to, message });
                } else if !self.cuts.values().any(|cut| cut.contains(&(from, to))) {
                    self.receive(from, to, message);
                }
            }
            Event::Wake(index) => self.wake(index),
            Event::Start(index) => self.start(index),
            Event::Heal(cut) => {
                self.cuts.remove(&cut);
            }
            Event::Step(_) if self.calm => {}
            Event::Step(step) => super::steps::apply(self, step),
        }
    }

    fn wake(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.wake.is_none_or(|at| at > self.now) {
            return;
        }
        host.wake = None;
        if host.paused_until > self.now {
            let paused_until = host.paused_until;
            host.wake = Some(paused_until);
            self.schedule(paused_until, Event::Wake(index));
            return;
        }
        let now = host.clock.shows(self.now);
        if let Some(daemon) = &mut host.daemon {
            daemon.membership.handle_timeout(now);
            daemon.catalog.handle_timeout(now);
        }
        self.drain(index, false);
    }

    fn receive(&mut self, from: usize, to: usize, message: Message) {
        self.note(from, to, &message);
        let sender = self.hosts[from].id;
        let host = &mut self.hosts[to];
        let now = host.clock.shows(self.now);
        if matches!(message, Message::Echo) {
            if host.keeper {
                self.send(to, from, Message::Echoed);
            }
            return;
        }
        let Some(daemon) = &mut host.daemon else {
            return;
        };
        let catalog = match message {
            Message::Membership(bytes) => {
                let input = MembershipInput::Datagram {
                    from: sender,
                    bytes,
                };
                daemon.membership.handle_input(input, now);
                None
            }
            Message::Echoed => {
                let input = MembershipInput::Echoed(sender);
                daemon.membership.handle_input(input, now);
                None
            }
            Message::Gossip(bytes) => Some(CatalogInput::Gossip { bytes }),
            Message::Ask(bytes) => Some(CatalogInput::Ask {
                from: sender,
                bytes,
            }),
            Message::Answer(bytes) => Some(CatalogInput::Answer {
                from: sender,
                bytes,
            }),
            Message::Echo => None,
        };
        let told = catalog.is_some();
        if let Some(input) = catalog {
            // Whoever opens a channel shows a certificate; gossip comes from hosts never met.
            if !matches!(input, CatalogInput::Gossip { .. }) {
                let sender = CatalogInput::Certified(sender);
                daemon.catalog.handle_input(sender, now);
            }
            daemon.catalog.handle_input(input, now);
        }
        self.drain(to, told);
    }

    pub fn number(&self, id: &HostId) -> usize {
        self.hosts.iter().position(|host| host.id == *id).unwrap()
    }

    fn note(&mut self, from: usize, to: usize, message: &Message) {
        let (kind, bytes): (u64, &[u8]) = match message {
            Message::Membership(bytes) => (1, bytes),
            Message::Gossip(bytes) => (2, bytes),
            Message::Ask(bytes) => (3, bytes),
            Message::Answer(bytes) => (4, bytes),
            Message::Echo => (5, &[]),
            Message::Echoed => (6, &[]),
        };
        let head = [kind, from as u64, to as u64, self.now.as_nanos() as u64];
        let head = head.into_iter().flat_map(u64::to_be_bytes);
        for byte in head.chain(bytes.iter().copied()) {
            self.fingerprint = (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

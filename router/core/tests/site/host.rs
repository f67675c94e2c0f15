//! One host of the simulated site: its clock, what is durable, what it says, and its daemon.

use super::checks::Seen;
use margay_core::catalog::{
    Catalog, CatalogConfig, CatalogInput, CatalogLimits, Identity, Instance, Key, Statement,
};
use margay_core::host::{HostId, OriginEpoch};
use margay_core::membership::{Membership, MembershipConfig, MembershipInput};
use margay_core::moment::Moment;
use margay_core::signature::PrivateKey;
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A clock that began at another time than others, and runs a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    offset: Duration,
    /// In millionths of its speed, around a million.
    speed: u64,
}

impl Clock {
    pub fn draw(random: &mut SmallRng) -> Self {
        Clock {
            // Some are hours apart.
            offset: Duration::from_secs(random.random_range(0..20_000)),
            speed: random.random_range(995_000..1_005_000),
        }
    }

    /// What it shows at `true_time`.
    pub fn shows(self, true_time: Duration) -> Moment {
        let passed = true_time.as_nanos() * u128::from(self.speed) / 1_000_000;
        let passed = Duration::from_nanos(u64::try_from(passed).unwrap());
        Moment::ORIGIN + self.offset + passed
    }

    /// When it will show `moment`.
    pub fn when(self, moment: Moment) -> Duration {
        let passed = moment.since(Moment::ORIGIN + self.offset).as_nanos();
        let passed = passed * 1_000_000 / u128::from(self.speed) + 1;
        Duration::from_nanos(u64::try_from(passed).unwrap())
    }
}

/// What runs between two starts.
pub struct Daemon {
    pub membership: Membership,
    pub catalog: Catalog,
    /// What this daemon has believed so far, for the checks.
    pub seen: Seen,
}

pub struct Host {
    pub id: HostId,
    pub key: PrivateKey,
    pub clock: Clock,
    /// Durable: its lives, the present one last, as far as its state tells.
    epochs: Vec<OriginEpoch>,
    /// How many lives it really had.
    lives: u16,
    /// Durable: compositions as they were signed.
    pub compositions: BTreeMap<String, Vec<u8>>,
    /// What is so here, and what a daemon says again when it starts.
    pub says: BTreeMap<Key, Statement>,
    pub daemon: Option<Daemon>,
    /// Whether the keeper answers echoes.
    pub keeper: bool,
    pub paused_until: Duration,
    pub lies_until: Duration,
    /// When the daemon wants to be woken.
    pub wake: Option<Duration>,
    /// Whether it is gone for good.
    pub gone: bool,
    instances: u64,
}

impl Host {
    pub fn new(number: u8, random: &mut SmallRng) -> Self {
        let key = PrivateKey::from_bytes(&[number + 1; 32]);
        let id = key.public();
        let credential = credential(&id);
        Host {
            id,
            key,
            clock: Clock::draw(random),
            epochs: vec![OriginEpoch::default()],
            lives: 0,
            compositions: BTreeMap::new(),
            says: BTreeMap::from([(Key::Host, Statement::Host { credential })]),
            daemon: None,
            keeper: true,
            paused_until: Duration::ZERO,
            lies_until: Duration::ZERO,
            wake: None,
            gone: false,
            instances: 0,
        }
    }

    /// The present life, or the last.
    pub fn epoch(&self) -> OriginEpoch {
        self.epochs.last().copied().unwrap_or_default()
    }

    /// Begins a life after that one, with a draw that no other life of this host has.
    pub fn begin_life(&mut self, after: OriginEpoch) -> OriginEpoch {
        self.lives += 1;
        let epoch = after.next(self.lives.wrapping_mul(40_503));
        self.epochs.push(epoch);
        epoch
    }

    /// Takes the durable state of two lives ago for the present one.
    pub fn restore(&mut self) {
        self.epochs
            .truncate(self.epochs.len().saturating_sub(2).max(1));
    }

    /// A number for an instance that is born here.
    pub fn next_instance(&mut self) -> u64 {
        self.instances += 1;
        self.instances
    }

    /// The identities of instances that run here.
    pub fn identities(&self) -> Vec<Identity> {
        let keys = self.says.keys();
        keys.filter_map(|key| match key {
            Key::Instance(identity) => Some(*identity),
            _ => None,
        })
        .collect()
    }

    pub fn instance(&self, identity: &Identity) -> Option<&Instance> {
        match self.says.get(&Key::Instance(*identity))? {
            Statement::Instance(instance) => Some(instance),
            _ => None,
        }
    }

    /// Starts the daemon with the next epoch, and has it say what is so.
    pub fn start(
        &mut self,
        site: &BTreeSet<HostId>,
        operator: HostId,
        taken_back_kept: Duration,
        seed: u64,
        true_time: Duration,
    ) {
        let epoch = self.begin_life(self.epoch());
        self.keeper = true;
        let now = self.clock.shows(true_time);
        let config = MembershipConfig {
            host: self.id,
            epoch,
        };
        let mut membership = Membership::new(config, seed, now);
        membership.handle_input(MembershipInput::Peers(site.clone()), now);
        let config = CatalogConfig {
            key: self.key.clone(),
            epoch,
            limits: CatalogLimits {
                taken_back_kept,
                ..CatalogLimits::default()
            },
        };
        let mut catalog = Catalog::new(config, seed, now);
        let operators = CatalogInput::Operators(BTreeSet::from([operator]));
        catalog.handle_input(operators, now);
        // The others introduce themselves.
        let half = site.iter().step_by(2);
        for host in half {
            catalog.handle_input(CatalogInput::Certified(*host), now);
        }
        for bytes in self.compositions.values() {
            let signed = margay_core::catalog::SignedComposition::from_bytes(bytes).unwrap();
            catalog.handle_input(CatalogInput::Apply(Box::new(signed)), now);
        }
        for statement in self.says.values() {
            catalog.handle_input(CatalogInput::State(statement.clone()), now);
        }
        self.daemon = Some(Daemon {
            membership,
            catalog,
            seen: Seen::default(),
        });
    }
}

/// What a host shows of itself.
pub fn credential(host: &HostId) -> Vec<u8> {
    format!("certificate of {host}").into_bytes()
}

//! The catalog of a leaf site: what every host says of itself, signed, the same at all of them.
//!
//! A host writes statements about itself; nobody else can. They are numbered, signed and published
//! (`Publish` goes to gossipsub, and comes to the others as `Gossip`). What is lost is repaired: every
//! few seconds one random host that is up is asked for what is lacking (`Ask`, `Answer`; they go over
//! any channel that says who sent them). Membership says who is up; what others say is hidden while
//! they are not. Compositions are different: an operator signs them, any host passes them on, and
//! nothing hides them.
//!
//! The order rules, and why no record ever comes back, are in docs/protocol/catalog.md.

mod believe;
mod bindings;
mod compositions;
mod drops;
mod form;
mod index;
mod origin;
mod read;
mod record;
mod repair;
mod signed_instance;
mod statement;
mod view;
mod write;

use crate::composition::CompositionName;
use crate::host::{HostId, OriginEpoch};
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::signature::PrivateKey;
use bindings::Bindings;
use compositions::Compositions;
use index::Index;
use origin::Origin;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use repair::Repair;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use write::Pending;

pub use bindings::Holder;
pub use compositions::{COMPOSITION_BYTES_MAX, COMPOSITIONS_MAX, SignedComposition};
pub use drops::CatalogDrop;
pub use origin::{AHEAD_MAX, EARLIER_KEPT, EARLIER_SETTLES};
pub use record::RECORD_BYTES_MAX;
pub use repair::{
    ANSWER_BYTES_MAX, ANSWERED_BYTES_MAX, ANSWERS_A_ROUND, ASK_BYTES_MAX, REPAIR_EVERY,
};
pub use signed_instance::SignedInstance;
pub use statement::{
    Binding, CREDENTIAL_BYTES_MAX, Generation, GivenBy, Identity, Instance, Key, PORTS_MAX,
    Service, ServiceVip, Statement,
};
pub use view::OriginView;
pub use write::{FLUSH_AFTER, GOSSIP_BYTES_MAX};

/// The most origins: as many as a site has hosts, and those that left lately.
pub const ORIGINS_MAX: usize = 2_048;

/// The most introductions that wait to be looked at; who introduced itself in vain does it again.
const INTRODUCTIONS_MAX: usize = 64;

/// Bounds of a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogLimits {
    /// What all records may cost, in bytes.
    pub bytes: usize,
    /// What one origin's may.
    pub bytes_of_one_origin: usize,
    /// How full a published message gets; one record or composition alone may be longer.
    pub published_bytes: usize,
    /// An answer ends behind the record or composition with which it reaches this.
    pub answered_bytes: usize,
    /// How long a record that takes something back is kept: far longer than partitions last. Should
    /// one last longer still, the origin's sum tells what is no longer so.
    pub taken_back_kept: Duration,
}

impl Default for CatalogLimits {
    /// At some 540 bytes an instance: 370,000 in all, 155,000 of one host; a day's work of an operator.
    fn default() -> Self {
        CatalogLimits {
            bytes: 192 << 20,
            bytes_of_one_origin: 80 << 20,
            published_bytes: GOSSIP_BYTES_MAX,
            answered_bytes: ANSWERED_BYTES_MAX,
            taken_back_kept: Duration::from_secs(8 * 3_600),
        }
    }
}

/// Whose catalog it is.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    /// The own host's key.
    pub key: PrivateKey,
    /// The own host's life.
    pub epoch: OriginEpoch,
    /// Bounds.
    pub limits: CatalogLimits,
}

/// What happens to the catalog.
#[derive(Clone, Debug)]
pub enum CatalogInput {
    /// The own host says something, anew or for the first time.
    State(Statement),
    /// The own host takes back what it said.
    TakeBack(Key),
    /// An operator's composition came to this host: from its command line or from its journal.
    Apply(Box<SignedComposition>),
    /// Whose signatures make compositions.
    Operators(BTreeSet<HostId>),
    /// The host has a certificate that holds: its word is believed.
    Certified(HostId),
    /// Its certificate holds no more: its word is forgotten.
    Uncertified(HostId),
    /// Membership holds the host for up: what it says shows.
    Up(HostId),
    /// Membership holds the host for down: what it says is hidden.
    Down(HostId),
    /// What a host published.
    Gossip {
        /// At most [`GOSSIP_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// A host asks for what it lacks.
    Ask {
        /// Which; the channel vouches for it.
        from: HostId,
        /// At most [`ASK_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// A host answers.
    Answer {
        /// Which; the channel vouches for it.
        from: HostId,
        /// At most [`ANSWER_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// The own epoch was raised, after [`CatalogOutput::Outlived`].
    Epoch(OriginEpoch),
}

/// What the catalog wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum CatalogOutput {
    /// Publish to all hosts of the site.
    Publish {
        /// At most [`GOSSIP_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// Ask a host.
    Ask {
        /// Whom.
        to: HostId,
        /// At most [`ASK_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// Answer a host.
    Answer {
        /// Whom.
        to: HostId,
        /// At most [`ANSWER_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// What others see has changed: look again.
    Changed(Change),
    /// A host without a certificate introduced itself; if the credential is good, say
    /// [`CatalogInput::Certified`].
    Introduced {
        /// Who.
        host: HostId,
        /// What it shows.
        credential: Vec<u8>,
    },
    /// The own host said things in a later life than this one, as after a backup was restored:
    /// raise the epoch above this one, durably, and say [`CatalogInput::Epoch`].
    Outlived(OriginEpoch),
}

/// What there is to look at again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The instances of a service.
    Service(AutomatonName),
    /// The virtual IP of a service.
    ServiceVip(Service),
    /// A composition.
    Composition(CompositionName),
    /// Who holds an identity.
    Binding(Identity),
    /// What a host says of itself.
    Host(HostId),
}

/// What every host of a leaf site says of itself.
pub struct Catalog {
    host: HostId,
    key: PrivateKey,
    limits: CatalogLimits,
    random: SmallRng,
    origins: BTreeMap<HostId, Origin>,
    /// Whom membership holds for up, believed or not; as many as a site has hosts.
    up: BTreeSet<HostId>,
    index: Index,
    vips: BTreeMap<Service, BTreeMap<HostId, ServiceVip>>,
    bindings: Bindings,
    compositions: Compositions,
    pending: Pending,
    repair: Repair,
    changes: BTreeSet<Change>,
    introduced: BTreeMap<HostId, Vec<u8>>,
    outlived: Option<OriginEpoch>,
    outputs: VecDeque<CatalogOutput>,
    drops: BTreeMap<CatalogDrop, u64>,
}

impl Catalog {
    /// Begins empty: what the host has to say, its compositions and whom it believes come in as inputs.
    pub fn new(config: CatalogConfig, seed: u64, now: Moment) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let host = config.key.public();
        let own = Origin::new(config.epoch, true);
        Catalog {
            host,
            key: config.key,
            limits: config.limits,
            origins: BTreeMap::from([(host, own)]),
            up: BTreeSet::new(),
            index: Index::new(random.next_u64()),
            vips: BTreeMap::new(),
            bindings: Bindings::default(),
            compositions: Compositions::default(),
            pending: Pending::default(),
            repair: Repair::new(now),
            random,
            changes: BTreeSet::new(),
            introduced: BTreeMap::new(),
            outlived: None,
            outputs: VecDeque::new(),
            drops: BTreeMap::new(),
        }
    }

    /// Takes what happened; outputs may follow.
    pub fn handle_input(&mut self, input: CatalogInput, now: Moment) {
        match input {
            CatalogInput::State(statement) => self.state(statement, now),
            CatalogInput::TakeBack(key) => self.take_back(key, now),
            CatalogInput::Apply(composition) => self.apply(*composition),
            CatalogInput::Operators(operators) => self.compositions.operators = operators,
            CatalogInput::Certified(host) => self.certify(host, now),
            CatalogInput::Uncertified(host) => self.forget_origin(&host, now),
            CatalogInput::Up(host) => self.show(&host, now),
            CatalogInput::Down(host) => self.hide(&host),
            CatalogInput::Gossip { bytes } => self.hear(&bytes, now),
            CatalogInput::Ask { from, bytes } => self.answer(from, &bytes),
            CatalogInput::Answer { from, bytes } => self.learn(from, &bytes, now),
            CatalogInput::Epoch(epoch) => self.begin_own_epoch(epoch, now),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.flush(now);
        self.tick(now);
    }

    /// The next thing to do; poll until there is none, after each input and timeout.
    pub fn poll_output(&mut self) -> Option<CatalogOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if let Some(change) = self.changes.pop_first() {
            return Some(CatalogOutput::Changed(change));
        }
        if let Some((host, credential)) = self.introduced.pop_first() {
            return Some(CatalogOutput::Introduced { host, credential });
        }
        self.outlived.take().map(CatalogOutput::Outlived)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; changes with each input and timeout.
    pub fn poll_timeout(&self) -> Option<Moment> {
        debug_assert!(self.outputs.is_empty(), "outputs come first");
        let repair = Some(self.repair.due());
        [self.pending.due(), repair].into_iter().flatten().min()
    }

    fn count(&mut self, reason: CatalogDrop) {
        *self.drops.entry(reason).or_default() += 1;
    }

    fn bytes_held(&self) -> usize {
        let records: usize = self.origins.values().map(|origin| origin.bytes).sum();
        records + self.compositions.bytes
    }
}

#[cfg(test)]
mod tests;

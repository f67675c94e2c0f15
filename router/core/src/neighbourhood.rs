//! The neighbourhood: the other hosts of the own leaf site, and what is known beyond it, as the Router of
//! this host sees them.
//!
//! ```text
//!                    datagrams, echoes            Peer, Apply, Forget
//!   host link ◀───────────────────────▶ Neighbourhood ───────────────▶ Router
//!   admission ── Known, Unknown ──────▶ (membership,  ◀─────────────── Instance, InstanceGone
//!   operator ─── Composed, Deleted ───▶     catalog,   ◀─────────────── SendFrame, Seek
//!   overlay ◀──────────────────────────▶    sites)
//! ```
//! Whoever drives it tells
//! - who belongs to the network, from admission: [`Known`](NeighbourhoodInput::Known) for every host but
//!   the own whose certificate holds, again when it changes; `Unknown` when it holds no more;
//! - to whom the host link stands, and by which path packets go there: `LinkUp`, again when the path
//!   changes; `LinkDown`;
//! - what the Router says of its own instances: `Output::Instance` becomes `Own`, `InstanceGone`
//!   becomes `OwnGone`;
//! - what an operator applied or deleted here, once the Router took it: `Composed`, `Deleted`. Before,
//!   it asks [`Neighbourhood::check`];
//! - what the Router wants sent and sought: `SendFrame`, `Seek`; and to which hosts flows are open: `Busy`;
//! - what the overlay brought: `Overlay`, outcomes of the commands that come out here.
//!
//! All that the Router is told of other hosts, but service frames, comes out here: a peer is `Up`
//! while its link stands and membership holds it for up; of another site, while its link stands.
//! docs/protocol/catalog.md and sites.md have the whole.

mod claim;
mod drops;
mod effects;
mod elsewhere;
mod parts;
mod ports;
mod remotes;
mod view;

use crate::catalog::{Catalog, CatalogConfig, CatalogInput, CatalogLimits, SignedComposition};
use crate::composition::CompositionName;
use crate::host::{HostId, OriginEpoch};
use crate::membership::{Membership, MembershipConfig, MembershipInput, PEERS_MAX};
use crate::moment::Moment;
use crate::name::{HostName, SitePath};
use crate::peer::PeerInput;
use crate::signature::PrivateKey;
use crate::sites::{Sites, SitesConfig, SitesInput};
use crate::way::Path;
use parts::{Assembly, MessageKind};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use remotes::{Remotes, key_of, statement_of};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) use claim::read_claim;
pub use drops::NeighbourhoodDrop;
pub use parts::DATAGRAM_BYTES_MAX;
pub use ports::{DatagramKind, Neighbour, NeighbourhoodInput, NeighbourhoodOutput};
pub use view::{NeighbourView, NotComposed};

/// How full messages of the catalog get: with their frames they fit a datagram, unless one record or
/// composition alone is longer.
const MESSAGE_BYTES: usize = 3_900;

/// How full answers get: the record that fills one shall still fit.
const ANSWERED_BYTES: usize = 3_300;

/// How many compositions may wait for their operators to be known.
const WAITING_MAX: usize = 4_096;

/// Who this host is among its neighbours.
#[derive(Clone, Debug)]
pub struct NeighbourhoodConfig {
    /// Its key.
    pub key: PrivateKey,
    /// Its name, by which compositions place automatons.
    pub name: HostName,
    /// Where it belongs.
    pub site: SitePath,
    /// Who let it in, if another host did: the link to it brings the news of others, and stays.
    pub sponsor: Option<HostId>,
    /// Its life, raised durably before this one began.
    pub epoch: OriginEpoch,
    /// The network's key, from which addresses follow.
    pub network_key: [u8; 32],
    /// Whether what is applied here is applied in the whole site.
    pub is_operator: bool,
    /// Whether it may speak for its site.
    pub may_be_gateway: bool,
    /// What summaries of other sites may take; usually
    /// [`SUMMARY_BYTES_MAX`](crate::sites::SUMMARY_BYTES_MAX).
    pub summary_bytes_max: usize,
}

/// What is known of another host.
#[derive(Debug)]
struct Standing {
    neighbour: Neighbour,
    /// While the link stands.
    path: Option<Path>,
    /// Whether membership holds it for up.
    up: bool,
    /// By which path the Router was told to reach it.
    told: Option<Path>,
}

/// The other hosts of the own leaf site, and what other sites serve.
pub struct Neighbourhood {
    config: NeighbourhoodConfig,
    host: HostId,
    membership: Membership,
    catalog: Catalog,
    /// At most [`PEERS_MAX`].
    hosts: BTreeMap<HostId, Standing>,
    /// Links to hosts that nobody told of yet; as many at most.
    early_links: BTreeMap<HostId, Path>,
    /// Kept compositions whose operators are not known yet.
    waiting: Vec<SignedComposition>,
    /// Operators of other sites.
    far_operators: BTreeSet<HostId>,
    sites: Sites,
    remotes: Remotes,
    assembly: Assembly,
    /// Of the next message to the others.
    message: u64,
    outputs: VecDeque<NeighbourhoodOutput>,
    drops: BTreeMap<NeighbourhoodDrop, u64>,
}

impl Neighbourhood {
    /// Begins alone.
    pub fn new(config: NeighbourhoodConfig, seed: u64, now: Moment) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let host = config.key.public();
        let epoch = config.epoch;
        let membership = MembershipConfig { host, epoch };
        let catalog = CatalogConfig {
            key: config.key.clone(),
            epoch,
            limits: CatalogLimits {
                published_bytes: MESSAGE_BYTES,
                answered_bytes: ANSWERED_BYTES,
                ..CatalogLimits::default()
            },
        };
        let sites = SitesConfig {
            key: config.key.clone(),
            site: config.site.clone(),
            sponsor: config.sponsor,
            may_be_gateway: config.may_be_gateway,
            epoch,
            network_key: config.network_key,
            summary_bytes_max: config.summary_bytes_max,
        };
        let mut neighbourhood = Neighbourhood {
            host,
            membership: Membership::new(membership, random.next_u64(), now),
            catalog: Catalog::new(catalog, random.next_u64(), now),
            hosts: BTreeMap::new(),
            early_links: BTreeMap::new(),
            waiting: Vec::new(),
            far_operators: BTreeSet::new(),
            sites: Sites::new(sites, random.next_u64(), now),
            remotes: Remotes::default(),
            assembly: Assembly::default(),
            // An earlier life's messages may still be on their way.
            message: random.next_u64(),
            outputs: VecDeque::new(),
            drops: BTreeMap::new(),
            config,
        };
        neighbourhood.operators_changed(now);
        neighbourhood.drain(now);
        neighbourhood
    }

    /// Takes what happened; outputs may follow.
    pub fn handle_input(&mut self, input: NeighbourhoodInput, now: Moment) {
        match input {
            NeighbourhoodInput::Known(neighbour) => self.known(neighbour, now),
            NeighbourhoodInput::Unknown { host } => self.unknown(&host, now),
            NeighbourhoodInput::LinkUp { host, path } => {
                self.link_changed(host, Some(path), now);
            }
            NeighbourhoodInput::LinkDown { host } => self.link_changed(host, None, now),
            NeighbourhoodInput::Datagram { from, kind, bytes } => {
                if let Err(reason) = self.take_datagram(from, kind, bytes, now) {
                    self.count(reason);
                }
            }
            NeighbourhoodInput::Echoed { host } => {
                let input = MembershipInput::Echoed(host);
                self.membership.handle_input(input, now);
            }
            NeighbourhoodInput::Own(instance) => {
                let statement = statement_of(&self.host, &instance);
                self.tell_catalog(CatalogInput::State(statement), now);
            }
            NeighbourhoodInput::OwnGone { instance } => {
                let key = key_of(&self.host, instance);
                self.tell_catalog(CatalogInput::TakeBack(key), now);
            }
            NeighbourhoodInput::Composed { composition, text } => {
                let (key, name) = (&self.config.key, &self.config.name);
                let signed = SignedComposition::new(key, &composition, &text, name);
                self.tell_catalog(CatalogInput::Apply(Box::new(signed)), now);
            }
            NeighbourhoodInput::Deleted { composition } => self.deleted(&composition, now),
            NeighbourhoodInput::Kept { bytes } => self.kept(&bytes, now),
            NeighbourhoodInput::SendFrame { to, frame } => {
                self.tell_sites(SitesInput::Frame(to, frame), now);
            }
            NeighbourhoodInput::Seek { service } => {
                self.tell_sites(SitesInput::Seek(service), now);
            }
            NeighbourhoodInput::Overlay(event) => {
                self.tell_sites(SitesInput::Overlay(event), now);
            }
            NeighbourhoodInput::Busy { hosts } => self.tell_sites(SitesInput::Busy(hosts), now),
            NeighbourhoodInput::Leave => {
                self.membership.handle_input(MembershipInput::Leave, now);
            }
            NeighbourhoodInput::Epoch(epoch) => {
                let input = MembershipInput::Epoch(epoch);
                self.membership.handle_input(input, now);
                self.tell_catalog(CatalogInput::Epoch(epoch), now);
                self.tell_sites(SitesInput::Epoch(epoch), now);
            }
        }
        self.drain(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.membership.poll_timeout().is_some_and(|at| at <= now) {
            self.membership.handle_timeout(now);
        }
        if self.catalog.poll_timeout().is_some_and(|at| at <= now) {
            self.catalog.handle_timeout(now);
        }
        self.drain(now);
        if self.sites.poll_timeout().is_some_and(|at| at <= now) {
            self.sites.handle_timeout(&self.catalog, now);
        }
        self.drain(now);
    }

    /// The next thing to do; poll until there is none, after each input and timeout.
    pub fn poll_output(&mut self) -> Option<NeighbourhoodOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; changes with each input and timeout.
    pub fn poll_timeout(&self) -> Option<Moment> {
        debug_assert!(self.outputs.is_empty(), "outputs come first");
        let all = [
            self.membership.poll_timeout(),
            self.catalog.poll_timeout(),
            self.sites.poll_timeout(),
        ];
        all.into_iter().flatten().min()
    }

    fn known(&mut self, neighbour: Neighbour, now: Moment) {
        let host = neighbour.host;
        if host == self.host {
            return;
        }
        if neighbour.site != self.config.site {
            return self.known_far(neighbour, now);
        }
        if !self.hosts.contains_key(&host) && self.sites.is_member(&host) {
            self.unknown(&host, now);
        }
        self.tell_sites(SitesInput::Known(neighbour.clone()), now);
        let full = self.hosts.len() >= PEERS_MAX;
        match self.hosts.get_mut(&host) {
            Some(standing) => standing.neighbour = neighbour,
            None if full => self.count(NeighbourhoodDrop::TooManyHosts),
            None => {
                let standing = Standing {
                    neighbour,
                    path: self.early_links.remove(&host),
                    up: false,
                    told: None,
                };
                self.hosts.insert(host, standing);
                self.peers_changed(None, now);
                self.tell_catalog(CatalogInput::Certified(host), now);
            }
        }
        self.operators_changed(now);
    }

    fn unknown(&mut self, host: &HostId, now: Moment) {
        let far_link = self.sites.path(host);
        self.keep_early_link(*host, far_link);
        self.tell_sites(SitesInput::Unknown(*host), now);
        if self.far_operators.remove(host) {
            self.operators_changed(now);
        }
        let Some(standing) = self.hosts.get(host) else {
            return;
        };
        let link = standing.path;
        self.peers_changed(Some(host), now);
        self.drain(now);
        self.hosts.remove(host);
        self.keep_early_link(*host, link);
        self.assembly.forget(host);
        self.tell_catalog(CatalogInput::Uncertified(*host), now);
        self.operators_changed(now);
        for gone in self.remotes.forget_host(host) {
            let instance = gone.instance;
            self.tell_router(PeerInput::InstanceGone { instance });
        }
    }

    fn link_changed(&mut self, host: HostId, path: Option<Path>, now: Moment) {
        if self.sites.is_member(&host) && !self.hosts.contains_key(&host) {
            return self.tell_sites(SitesInput::Link(host, path), now);
        }
        match (self.hosts.get_mut(&host), path) {
            (Some(standing), path) => standing.path = path,
            (None, None) => drop(self.early_links.remove(&host)),
            (None, path) => self.keep_early_link(host, path),
        }
        self.weigh(&host);
    }

    /// Remembers a link to a host of which nobody told yet, or tells no more.
    fn keep_early_link(&mut self, host: HostId, path: Option<Path>) {
        match path {
            Some(_) if self.early_links.len() >= PEERS_MAX => {
                self.count(NeighbourhoodDrop::TooManyHosts);
            }
            Some(path) => drop(self.early_links.insert(host, path)),
            None => {}
        }
    }

    /// Tells the Router whether and how a host is reached now, if that is news.
    fn weigh(&mut self, host: &HostId) {
        let Some(standing) = self.hosts.get_mut(host) else {
            return;
        };
        let path = standing.path.filter(|_| standing.up);
        if std::mem::replace(&mut standing.told, path) == path {
            return;
        }
        let host = *host;
        self.tell_router(match path {
            Some(path) => PeerInput::Up { host, path },
            None => PeerInput::Down { host },
        });
    }

    fn take_datagram(
        &mut self,
        from: HostId,
        kind: DatagramKind,
        bytes: Vec<u8>,
        now: Moment,
    ) -> Result<(), NeighbourhoodDrop> {
        if !self.hosts.contains_key(&from) && !self.sites.is_member(&from) {
            return Err(NeighbourhoodDrop::UnknownHost);
        }
        match kind {
            DatagramKind::Membership | DatagramKind::Catalog if !self.hosts.contains_key(&from) => {
                Err(NeighbourhoodDrop::UnknownHost)
            }
            DatagramKind::Membership => {
                let input = MembershipInput::Datagram { from, bytes };
                self.membership.handle_input(input, now);
                Ok(())
            }
            DatagramKind::Catalog => self.take_part(from, &bytes, now),
            DatagramKind::ServiceFrame => {
                let frame = PeerInput::Frame { from, frame: bytes };
                self.tell_router(frame);
                Ok(())
            }
            DatagramKind::IntroducedFrame => {
                self.tell_sites(SitesInput::Introduced(from, bytes), now);
                Ok(())
            }
        }
    }

    fn take_part(
        &mut self,
        from: HostId,
        bytes: &[u8],
        now: Moment,
    ) -> Result<(), NeighbourhoodDrop> {
        if let Some((kind, bytes)) = self.assembly.take(from, bytes, now)? {
            let input = match kind {
                MessageKind::Gossip => CatalogInput::Gossip { bytes },
                MessageKind::Ask => CatalogInput::Ask { from, bytes },
                MessageKind::Answer => CatalogInput::Answer { from, bytes },
            };
            self.tell_catalog(input, now);
        }
        Ok(())
    }

    /// Withdraws the version that is so.
    fn deleted(&mut self, name: &CompositionName, now: Moment) {
        if let Some((version, false)) = self.catalog.composition_version(name) {
            let withdrawal = SignedComposition::withdrawal(&self.config.key, name, version);
            self.tell_catalog(CatalogInput::Apply(Box::new(withdrawal)), now);
        }
    }

    /// Takes up what an earlier run held, or has it wait for its operator.
    fn kept(&mut self, bytes: &[u8], now: Moment) {
        match SignedComposition::from_bytes(bytes) {
            Some(_) if self.waiting.len() >= WAITING_MAX => {
                self.count(NeighbourhoodDrop::TooManyKept);
            }
            Some(composition) => {
                self.waiting.push(composition);
                self.operators_changed(now);
            }
            None => self.count(NeighbourhoodDrop::UnreadableKept),
        }
    }

    /// Tells membership who the others are; all but `gone`.
    fn peers_changed(&mut self, gone: Option<&HostId>, now: Moment) {
        let peers = self.hosts.keys().copied();
        let peers = peers.filter(|host| Some(host) != gone).collect();
        let input = MembershipInput::Peers(peers);
        self.membership.handle_input(input, now);
    }

    /// Says whose compositions count, and offers those that waited for that.
    fn operators_changed(&mut self, now: Moment) {
        let others = self.hosts.values().map(|standing| &standing.neighbour);
        let others = others.filter(|neighbour| neighbour.is_operator);
        let own = self.config.is_operator.then_some(self.host);
        let far = self.far_operators.iter().copied();
        let operators: BTreeSet<HostId> = others.map(|it| it.host).chain(own).chain(far).collect();
        self.tell_catalog(CatalogInput::Operators(operators.clone()), now);
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (known, waiting) = waiting.partition(|it| operators.contains(&it.operator));
        self.waiting = waiting;
        let known: Vec<SignedComposition> = known;
        for composition in known {
            self.tell_catalog(CatalogInput::Apply(Box::new(composition)), now);
        }
    }

    fn tell_catalog(&mut self, input: CatalogInput, now: Moment) {
        self.catalog.handle_input(input, now);
    }

    fn tell_router(&mut self, input: PeerInput) {
        self.outputs.push_back(NeighbourhoodOutput::Peer(input));
    }

    fn count(&mut self, reason: NeighbourhoodDrop) {
        *self.drops.entry(reason).or_default() += 1;
    }
}

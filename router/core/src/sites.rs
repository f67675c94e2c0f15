//! Beyond the site: who speaks for it, what other sites serve, and how that is found.
//!
//! Gateways are chosen by hash among those that are up. They tell each other in summaries what their
//! sites serve, provide it through Kademlia, and pass compositions on. Whoever lacks an instance of a
//! service asks a gateway of its site, and keeps for a while what was found, in the words of the hosts
//! whose instances it is. docs/protocol/sites.md has the whole.

mod arranging;
mod compositions;
mod drops;
mod frames;
mod leases;
mod members;
mod message;
mod seeking;
mod summaries;
mod taking;
mod view;

use crate::catalog::{Catalog, SignedComposition};
use crate::composition::CompositionName;
use crate::host::{HostId, OriginEpoch};
use crate::moment::Moment;
use crate::name::{AutomatonName, SitePath};
use crate::neighbourhood::{DatagramKind, Neighbour};
use crate::overlay::{OverlayCommand, OverlayEvent, QuestionId, Topic};
use crate::peer::PeerInput;
use crate::signature::PrivateKey;
use crate::way::Path;
use arranging::Arrangement;
use compositions::Exchange;
use leases::Leases;
use members::Members;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use seeking::Searches;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use summaries::Summaries;

pub use drops::SitesDrop;
pub use leases::{CALLED_LEASE, LEASE, LEASE_BYTES_MAX, LEASES_MAX, RENEWED_BEFORE};
pub use message::FOUND_MAX;
pub use summaries::{SUMMARY_BYTES_MAX, SUMMARY_EVERY, SUMMARY_KEPT};
pub use view::{LeaseView, SitesView};

/// After so long without a link a host of another site is lost, with the flows to it.
pub const LOST_AFTER: Duration = Duration::from_secs(30);

/// About what compositions are published.
const COMPOSITIONS: &str = "compositions";

/// Who this host is among the sites.
#[derive(Clone, Debug)]
pub struct SitesConfig {
    /// Its key.
    pub key: PrivateKey,
    /// Where it belongs.
    pub site: SitePath,
    /// Who let it in.
    pub sponsor: Option<HostId>,
    /// Whether it may speak for its site.
    pub may_be_gateway: bool,
    /// Its life.
    pub epoch: OriginEpoch,
    /// The network's key, from which addresses follow.
    pub network_key: [u8; 32],
    /// What summaries of others may take.
    pub summary_bytes_max: usize,
}

/// What happens beyond the site, or to it.
#[derive(Debug)]
pub enum SitesInput {
    /// A host belongs to the network.
    Known(Neighbour),
    /// It does no more.
    Unknown(HostId),
    /// Membership holds a host of the own site for up.
    Up(HostId),
    /// Membership holds it for down.
    Down(HostId),
    /// The link to a host of another site stands, or no more.
    Link(HostId, Option<Path>),
    /// What the overlay brought.
    Overlay(OverlayEvent),
    /// So many instances of a service in the own site take flows.
    Serves(AutomatonName, u32),
    /// Another version of a composition is so.
    Composition(CompositionName),
    /// The Router wants instances of a service.
    Seek(AutomatonName),
    /// The Router wants a frame sent.
    Frame(HostId, Vec<u8>),
    /// A host sent a frame with its caller's record.
    Introduced(HostId, Vec<u8>),
    /// With these hosts flows of this host are open.
    Busy(BTreeSet<HostId>),
    /// The own epoch was raised.
    Epoch(OriginEpoch),
}

/// What is wanted beyond the site.
#[derive(Debug)]
pub enum SitesOutput {
    /// Have the overlay do something.
    Overlay(OverlayCommand),
    /// Have a host link.
    Meet(HostId),
    /// Let it go.
    Part(HostId),
    /// Send a datagram.
    Datagram(HostId, DatagramKind, Vec<u8>),
    /// Tell the Router.
    Peer(PeerInput),
    /// The catalog's flood brought this.
    Gossip(Vec<u8>),
    /// Another site has this composition.
    Composition(Box<SignedComposition>),
}

/// What is known of a host of another site beside what it is.
#[derive(Debug, Default)]
struct Link {
    path: Option<Path>,
    /// When it went down, if it ever stood.
    down: Option<Moment>,
}

/// The other sites, as one host sees them.
pub struct Sites {
    config: SitesConfig,
    members: Members,
    /// Of other sites; known or not, as many as are known at most.
    links: BTreeMap<HostId, Link>,
    arrangement: Arrangement,
    summaries: Summaries,
    searches: Searches,
    leases: Leases,
    exchange: Exchange,
    busy: BTreeSet<HostId>,
    /// When to ask next who is.
    busy_at: Moment,
    random: SmallRng,
    outputs: VecDeque<SitesOutput>,
    drops: BTreeMap<SitesDrop, u64>,
}

impl Sites {
    /// Begins with nobody else.
    pub fn new(config: SitesConfig, seed: u64, now: Moment) -> Self {
        let host = config.key.public();
        let mut sites = Sites {
            members: Members::new(host, config.site.clone(), config.may_be_gateway),
            links: BTreeMap::new(),
            arrangement: Arrangement::new(host, now),
            summaries: Summaries::new(config.summary_bytes_max),
            searches: Searches::default(),
            leases: Leases::default(),
            exchange: Exchange::new(now),
            busy: BTreeSet::new(),
            busy_at: now,
            random: SmallRng::seed_from_u64(seed),
            outputs: VecDeque::new(),
            drops: BTreeMap::new(),
            config,
        };
        let topic = sites.site_topic();
        sites.overlay(OverlayCommand::Subscribe { topic });
        sites
    }

    /// Takes what happened; the catalog is lent to be looked into. Outputs may follow.
    pub fn handle_input(&mut self, input: SitesInput, catalog: &Catalog, now: Moment) {
        match input {
            SitesInput::Known(neighbour) => self.known(neighbour, now),
            SitesInput::Unknown(host) => self.unknown(&host, now),
            SitesInput::Up(host) => self.stands(host, true, now),
            SitesInput::Down(host) => self.stands(host, false, now),
            SitesInput::Link(host, path) => self.link_changed(host, path, now),
            SitesInput::Overlay(event) => self.overlay_event(event, catalog, now),
            SitesInput::Serves(service, instances) => self.serves(service, instances, now),
            SitesInput::Composition(name) => self.exchange.changed(name, now),
            SitesInput::Seek(service) => self.seek(service, now),
            SitesInput::Frame(to, frame) => self.frame(to, frame, catalog, now),
            SitesInput::Introduced(from, bytes) => {
                let taken = self.introduced(from, &bytes, now);
                self.weigh(taken);
            }
            SitesInput::Busy(hosts) => self.busy_with(hosts, now),
            SitesInput::Epoch(epoch) => self.config.epoch = epoch,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, catalog: &Catalog, now: Moment) {
        self.arrange_if_due(now);
        self.publish_summaries_if_due(now);
        self.search_on(now);
        self.busy_timeout(now);
        self.leases_timeout(now);
        self.exchange_timeout(catalog, now);
        self.links_timeout(now);
    }

    /// The next thing to do; poll until there is none, after each input and timeout.
    pub fn poll_output(&mut self) -> Option<SitesOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; changes with each input and timeout.
    pub fn poll_timeout(&self) -> Option<Moment> {
        debug_assert!(self.outputs.is_empty(), "outputs come first");
        let lost = self.links.values().filter_map(|link| link.down);
        let due = [
            self.arrangement.due(),
            self.summaries.due(),
            self.searches.due(),
            self.leases.next_due().map(|(due, _)| due),
            Some(self.exchange.due()),
            self.busy_due(),
            lost.min().map(|down| down + LOST_AFTER),
        ];
        due.into_iter().flatten().min()
    }

    fn known(&mut self, neighbour: Neighbour, now: Moment) {
        let (host, addresses) = (neighbour.host, neighbour.addresses.clone());
        match self.members.put(neighbour) {
            Err(()) => return self.count(SitesDrop::TooManyMembers),
            Ok(Some(before)) if before.addresses == addresses => {}
            Ok(_) => self.overlay(OverlayCommand::Admit { host, addresses }),
        }
        self.arrangement.soon(now);
    }

    fn unknown(&mut self, host: &HostId, now: Moment) {
        if self.members.remove(host).is_some() {
            self.overlay(OverlayCommand::Expel { host: *host });
            if self.links.remove(host).is_some() {
                self.tell(PeerInput::Down { host: *host });
                self.tell(PeerInput::Lost { host: *host });
            }
            self.arrangement.up.remove(host);
            self.drop_leases_of(host);
            self.summaries.forget(host);
            self.arrangement.soon(now);
        }
    }

    fn stands(&mut self, host: HostId, up: bool, now: Moment) {
        match up {
            true => drop(self.arrangement.up.insert(host)),
            false => drop(self.arrangement.up.remove(&host)),
        }
        self.arrangement.soon(now);
    }

    fn link_changed(&mut self, host: HostId, path: Option<Path>, now: Moment) {
        let known = self.members.is_far(&host);
        if let Some(path) = path {
            let link = Link {
                path: Some(path),
                down: None,
            };
            let before = self.links.insert(host, link);
            if before.is_some_and(|before| before.down.is_some()) {
                self.call_anew(host);
            }
            if known {
                self.tell(PeerInput::Up { host, path });
            }
        } else if let Some(link) = self.links.get_mut(&host)
            && link.path.take().is_some()
        {
            link.down = Some(now);
            self.tell(PeerInput::Down { host });
        }
    }

    /// Gives hosts up to which no link stands for long.
    fn links_timeout(&mut self, now: Moment) {
        let lost = |link: &Link| link.down.is_some_and(|down| down + LOST_AFTER <= now);
        let lost = self.links.iter().filter(|(_, link)| lost(link));
        let lost: Vec<HostId> = lost.map(|(host, _)| *host).collect();
        for host in lost {
            self.links.remove(&host);
            self.tell(PeerInput::Lost { host });
            self.drop_leases_of(&host);
        }
    }

    fn overlay_event(&mut self, event: OverlayEvent, catalog: &Catalog, now: Moment) {
        match event {
            OverlayEvent::Connected { host } => {
                self.members.set_connected(host, true);
                self.arrangement.soon(now);
            }
            OverlayEvent::Disconnected { host } => {
                self.members.set_connected(host, false);
                self.arrangement.soon(now);
            }
            OverlayEvent::Heard { topic, bytes, .. } => {
                let taken = self.heard(&topic, bytes, now);
                self.weigh(taken);
            }
            OverlayEvent::Asked { from, asked, bytes } => {
                let taken = self.asked(from, asked, &bytes, catalog, now);
                self.weigh(taken);
            }
            OverlayEvent::Answered { question, answer } => {
                let taken = self.answered(question, answer, catalog, now);
                self.weigh(taken);
            }
            OverlayEvent::Found { question, hosts } => self.found(question, &hosts, now),
        }
    }

    fn heard(&mut self, topic: &Topic, bytes: Vec<u8>, now: Moment) -> Result<(), SitesDrop> {
        if *topic == self.site_topic() {
            self.outputs.push_back(SitesOutput::Gossip(bytes));
            return Ok(());
        }
        match topic.0.strip_prefix("tier/") {
            Some(tier) => self.hear_summary(tier, &bytes, now),
            None if topic.0 == COMPOSITIONS => self.hear_composition(&bytes),
            None => Err(SitesDrop::UnknownTopic),
        }
    }

    /// Publishes to all hosts of the site, if the overlay reaches any.
    pub(crate) fn flood(&mut self, bytes: &[u8]) -> bool {
        let reaches = self.members.reaches_site();
        if reaches {
            let (topic, bytes) = (self.site_topic(), bytes.to_vec());
            self.overlay(OverlayCommand::Publish { topic, bytes });
        }
        reaches
    }

    pub(crate) fn path(&self, host: &HostId) -> Option<Path> {
        self.links.get(host)?.path
    }

    pub(crate) fn is_member(&self, host: &HostId) -> bool {
        self.members.get(host).is_some()
    }

    fn site_topic(&self) -> Topic {
        Topic(format!("site/{}", self.config.site))
    }

    fn question_id(&mut self) -> QuestionId {
        QuestionId(self.random.next_u64())
    }

    fn overlay(&mut self, command: OverlayCommand) {
        self.outputs.push_back(SitesOutput::Overlay(command));
    }

    fn tell(&mut self, input: PeerInput) {
        self.outputs.push_back(SitesOutput::Peer(input));
    }

    fn weigh(&mut self, taken: Result<(), SitesDrop>) {
        if let Err(reason) = taken {
            self.count(reason);
        }
    }

    fn count(&mut self, reason: SitesDrop) {
        *self.drops.entry(reason).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;

//! Who acts as a gateway, whom the overlay keeps connected, and which links stand.

use super::leases::LEASE;
use super::members::{Members, outermost, parent, weight};
use super::{COMPOSITIONS, Sites, SitesOutput};
use crate::host::HostId;
use crate::moment::Moment;
use crate::name::{AutomatonName, SitePath};
use crate::overlay::{OverlayCommand, OverlayKey, Topic};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many gateways of a site act: one may die.
pub(super) const ACTING: usize = 2;

/// How many services are said to be provided at once.
const PROVIDED_AT_ONCE: usize = 256;

/// Changes are gathered for so long.
const SOON: Duration = Duration::from_millis(100);

/// A host acts once it was among the first for so long: who starts sees nobody else for a moment.
const ACTS_AFTER: Duration = Duration::from_secs(2);

/// After so long without a connection the next of a site's gateways is tried.
const CONNECTED_WITHIN: Duration = Duration::from_secs(4);

/// Ring successors that a host keeps: the graph is connected though one of them is gone.
const SUCCESSORS: usize = 2;

/// Others of its site that a host keeps: gossip reaches sixty hosts in three steps.
const OTHERS: usize = 4;

/// Sibling sites whose gateways are kept.
const SIBLINGS_MAX: usize = 64;

/// Sites elsewhere whose gateways are kept, so that all gateways hang together.
const ELSEWHERE: usize = 6;

/// What is arranged, and when it is looked at again.
#[derive(Debug)]
pub(super) struct Arrangement {
    /// The hosts of the own site that are up, the own one too.
    pub(super) up: BTreeSet<HostId>,
    pub(super) acting: bool,
    acts_at: Option<Moment>,
    at: Option<Moment>,
    kept: BTreeSet<HostId>,
    met: BTreeSet<HostId>,
    /// Which of a far site's gateways is tried, and since when.
    tries: BTreeMap<SitePath, (usize, Moment)>,
    /// Far hosts that frames were sent to, and when last.
    pub(super) sent_to: BTreeMap<HostId, Moment>,
    topics: BTreeSet<Topic>,
    pub(super) serves: BTreeMap<AutomatonName, u32>,
    provided: BTreeSet<AutomatonName>,
}

impl Arrangement {
    pub(super) fn new(host: HostId, now: Moment) -> Self {
        Arrangement {
            up: BTreeSet::from([host]),
            acting: false,
            acts_at: None,
            at: Some(now),
            kept: BTreeSet::new(),
            met: BTreeSet::new(),
            tries: BTreeMap::new(),
            sent_to: BTreeMap::new(),
            topics: BTreeSet::new(),
            serves: BTreeMap::new(),
            provided: BTreeSet::new(),
        }
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.at
    }

    /// Looks at it again soon: something changed.
    pub(super) fn soon(&mut self, now: Moment) {
        self.not_later_than(now + SOON);
    }

    fn not_later_than(&mut self, at: Moment) {
        self.at = Some(self.at.map_or(at, |due| due.min(at)));
    }
}

/// By which Kademlia knows a service: a hash of its own, as service IDs share their beginnings.
pub(super) fn overlay_key(service: &AutomatonName) -> OverlayKey {
    OverlayKey(Sha256::digest(format!("margay service {service}")).into())
}

impl Sites {
    /// The gateways of the own site that act, as this host sees it.
    pub(super) fn acting_gateways(&self) -> Vec<HostId> {
        let ranked = self.members.ranked(&self.config.site).iter();
        let up = ranked.filter(|host| self.arrangement.up.contains(host));
        up.take(ACTING).copied().collect()
    }

    pub(super) fn is_acting(&self) -> bool {
        self.arrangement.acting
    }

    pub(super) fn serves(&mut self, service: AutomatonName, instances: u32, now: Moment) {
        let serves = &mut self.arrangement.serves;
        let before = match instances {
            0 => serves.remove(&service),
            some => serves.insert(service, some),
        };
        if before.unwrap_or(0) != instances {
            self.arrangement.soon(now);
            if self.is_acting() {
                self.summaries.soon(now);
            }
        }
    }

    pub(super) fn arrange_if_due(&mut self, now: Moment) {
        if self.arrangement.at.is_none_or(|at| at > now) {
            return;
        }
        self.arrangement.at = None;
        self.act_or_not(now);
        self.provide(now);
        self.keep(now);
        self.meet(now);
    }

    fn act_or_not(&mut self, now: Moment) {
        let first = self.acting_gateways().contains(&self.members.host);
        let acts_at = match first {
            false => None,
            true => Some(self.arrangement.acts_at.unwrap_or(now + ACTS_AFTER)),
        };
        self.arrangement.acts_at = acts_at;
        if let Some(at) = acts_at.filter(|at| *at > now) {
            self.arrangement.not_later_than(at);
        }
        let acts = acts_at.is_some_and(|at| at <= now);
        if std::mem::replace(&mut self.arrangement.acting, acts) == acts {
            return;
        }
        self.overlay(OverlayCommand::ServeKademlia(acts));
        let mut topics = BTreeSet::new();
        if acts {
            topics.insert(Topic(COMPOSITIONS.to_owned()));
            let tiers = self.config.site.tiers().len();
            let inner = (1..tiers).map(|it| outermost(&self.config.site, it));
            topics.extend(inner.map(|tier| Topic(format!("tier/{tier}"))));
            self.summaries.soon(now);
        } else {
            self.summaries.clear();
        }
        let before = std::mem::replace(&mut self.arrangement.topics, topics.clone());
        for topic in before.difference(&topics).cloned() {
            self.overlay(OverlayCommand::Unsubscribe { topic });
        }
        for topic in topics.difference(&before).cloned() {
            self.overlay(OverlayCommand::Subscribe { topic });
        }
    }

    /// Says of what this host is one to ask about, a few at a time: the overlay's queue is bounded.
    fn provide(&mut self, now: Moment) {
        let Arrangement {
            acting,
            serves,
            provided,
            ..
        } = &mut self.arrangement;
        let is_so = |service: &AutomatonName| *acting && serves.contains_key(service);
        let over = provided.iter().filter(|service| !is_so(service));
        let over: Vec<AutomatonName> = over.take(PROVIDED_AT_ONCE).cloned().collect();
        let new = serves
            .keys()
            .filter(|it| *acting && !provided.contains(*it));
        let new: Vec<AutomatonName> = new.take(PROVIDED_AT_ONCE).cloned().collect();
        if over.len().max(new.len()) == PROVIDED_AT_ONCE {
            self.arrangement.not_later_than(now + SOON);
        }
        for service in over {
            let key = overlay_key(&service);
            self.arrangement.provided.remove(&service);
            self.overlay(OverlayCommand::StopProviding { key });
        }
        for service in new {
            let key = overlay_key(&service);
            self.arrangement.provided.insert(service);
            self.overlay(OverlayCommand::Provide { key });
        }
    }

    fn keep(&mut self, now: Moment) {
        let mut wanted = near_ones(&self.members, &self.arrangement.up);
        let own = self.members.host;
        let gateways = self.acting_gateways();
        wanted.extend(gateways.into_iter().find(|host| *host != own));
        let far = match self.arrangement.acting {
            true => far_sites(&self.members),
            false => BTreeSet::new(),
        };
        self.arrangement.tries.retain(|site, _| far.contains(site));
        for site in &far {
            wanted.extend(self.tried(site, now));
        }
        let before = std::mem::replace(&mut self.arrangement.kept, wanted.clone());
        for host in before.difference(&wanted).copied() {
            self.overlay(OverlayCommand::Release { host });
        }
        for host in wanted.difference(&before).copied() {
            self.overlay(OverlayCommand::Keep { host });
        }
    }

    /// The gateway of a far site that is to be kept: the first, or another while it is not reached.
    fn tried(&mut self, site: &SitePath, now: Moment) -> Option<HostId> {
        let ranked = self.members.ranked(site);
        let entry = self.arrangement.tries.entry(site.clone());
        let (turn, since) = entry.or_insert((0, now));
        let host = *ranked.get(*turn % ranked.len().max(1))?;
        if self.members.is_connected(&host) {
            *since = now;
            return Some(host);
        }
        if now.since(*since) >= CONNECTED_WITHIN {
            (*turn, *since) = ((*turn + 1) % ranked.len(), now);
        }
        let (turn, again) = (*turn, *since + CONNECTED_WITHIN);
        self.arrangement.not_later_than(again);
        self.members.ranked(site).get(turn).copied()
    }

    fn meet(&mut self, now: Moment) {
        let leases = &self.leases;
        let fresh = |host: &HostId, at: Moment| leases.need(host) || at + LEASE > now;
        self.arrangement.sent_to.retain(|host, at| fresh(host, *at));
        if let Some(oldest) = self.arrangement.sent_to.values().min() {
            let again = (*oldest + LEASE).max(now + LEASE / 6);
            self.arrangement.not_later_than(again);
        }
        let mut wanted: BTreeSet<HostId> = self.members.near().copied().collect();
        wanted.extend(self.config.sponsor);
        let sent_to = self.arrangement.sent_to.keys();
        wanted.extend(sent_to.filter(|host| self.members.is_far(host)));
        // A first packet must not wait for a link between gateways.
        for (site, (turn, _)) in &self.arrangement.tries {
            wanted.extend(self.members.ranked(site).get(*turn));
        }
        let vias = self.leases.iter().filter_map(|lease| lease.told.via);
        wanted.extend(vias.filter(|host| self.members.is_far(host)));
        let before = std::mem::replace(&mut self.arrangement.met, wanted.clone());
        let parts = before.difference(&wanted).copied().map(SitesOutput::Part);
        self.outputs.extend(parts);
        let meets = wanted.difference(&before).copied().map(SitesOutput::Meet);
        self.outputs.extend(meets);
    }

    /// Has a kept host called anew whose link stands again after it was gone: the overlay's connection
    /// would wait for TCP's next retransmission.
    pub(super) fn call_anew(&mut self, host: HostId) {
        let addresses = self.members.get(&host).map(|it| it.addresses.clone());
        if let Some(addresses) = addresses.filter(|_| self.arrangement.kept.contains(&host)) {
            self.overlay(OverlayCommand::Release { host });
            self.overlay(OverlayCommand::Expel { host });
            self.overlay(OverlayCommand::Admit { host, addresses });
            self.overlay(OverlayCommand::Keep { host });
        }
    }

    /// Takes note that a frame goes to a far host, and has a link to it.
    pub(super) fn sends_to(&mut self, host: HostId, now: Moment) {
        self.arrangement.sent_to.insert(host, now);
        if self.arrangement.met.insert(host) {
            self.outputs.push_back(SitesOutput::Meet(host));
        }
        self.arrangement.not_later_than(now + LEASE);
    }

    /// The hosts that links are wanted to.
    pub(crate) fn met(&self) -> &BTreeSet<HostId> {
        &self.arrangement.met
    }
}

/// The own site's hosts that this one keeps connected: the next in a ring of all, and some by hash.
fn near_ones(members: &Members, up: &BTreeSet<HostId>) -> BTreeSet<HostId> {
    let own = members.host;
    let near: BTreeSet<HostId> = members
        .near()
        .filter(|it| up.contains(it))
        .copied()
        .collect();
    let ring = near.range(own..).chain(near.range(..own));
    let mut wanted: BTreeSet<HostId> = ring.take(SUCCESSORS).copied().collect();
    let mut rest: Vec<HostId> = near.difference(&wanted).copied().collect();
    rest.sort_by_cached_key(|host| weight(&[own.as_bytes(), host.as_bytes()]));
    wanted.extend(rest.into_iter().take(OTHERS));
    wanted
}

/// The sites whose gateways an acting gateway keeps connected.
fn far_sites(members: &Members) -> BTreeSet<SitePath> {
    let own = members.site.to_string();
    let own_tier = parent(&members.site);
    let (mut siblings, mut others): (Vec<_>, Vec<_>) = members
        .other_sites()
        .partition(|site| own_tier.is_some() && parent(site) == own_tier);
    let order = |site: &&SitePath| weight(&[own.as_bytes(), site.to_string().as_bytes()]);
    siblings.sort_by_cached_key(order);
    others.sort_by_cached_key(order);
    let siblings = siblings.into_iter().take(SIBLINGS_MAX);
    siblings
        .chain(others.into_iter().take(ELSEWHERE))
        .cloned()
        .collect()
}

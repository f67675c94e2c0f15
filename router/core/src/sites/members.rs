//! Every other host of the network: which site it is of, and who may speak for that.

use crate::admission::MEMBERS_MAX;
use crate::host::HostId;
use crate::name::{SiteName, SitePath};
use crate::neighbourhood::Neighbour;
use crate::peer::Distance;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The hosts of one site.
#[derive(Debug, Default)]
struct Site {
    hosts: BTreeSet<HostId>,
    /// Those that hold the role.
    chosen: BTreeSet<HostId>,
    /// Who may be a gateway, in the order in which they are.
    ranked: Vec<HostId>,
}

/// Every host of the network, the own one among them.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) host: HostId,
    pub(super) site: SitePath,
    others: BTreeMap<HostId, Neighbour>,
    sites: BTreeMap<SitePath, Site>,
    /// To whom an overlay connection stands.
    connected: BTreeSet<HostId>,
}

impl Members {
    pub(super) fn new(host: HostId, site: SitePath, may_be_gateway: bool) -> Self {
        let mut members = Members {
            host,
            site: site.clone(),
            others: BTreeMap::new(),
            sites: BTreeMap::new(),
            connected: BTreeSet::new(),
        };
        members.enter(host, site, may_be_gateway);
        members
    }

    /// Takes what is so of another host; `Err` if there is no room, else what was so before.
    pub(super) fn put(&mut self, neighbour: Neighbour) -> Result<Option<Neighbour>, ()> {
        let host = neighbour.host;
        if !self.others.contains_key(&host) && self.others.len() >= MEMBERS_MAX {
            return Err(());
        }
        let (site, may) = (neighbour.site.clone(), neighbour.may_be_gateway);
        let before = self.others.insert(host, neighbour);
        let moved = |it: &Neighbour| it.site != site || it.may_be_gateway != may;
        if before.as_ref().is_none_or(moved) {
            before.iter().for_each(|it| self.leave(&host, &it.site));
            self.enter(host, site, may);
        }
        Ok(before)
    }

    pub(super) fn remove(&mut self, host: &HostId) -> Option<Neighbour> {
        let gone = self.others.remove(host)?;
        self.leave(host, &gone.site);
        self.connected.remove(host);
        Some(gone)
    }

    pub(super) fn get(&self, host: &HostId) -> Option<&Neighbour> {
        self.others.get(host)
    }

    /// The site of a host of the network.
    pub(super) fn site_of(&self, host: &HostId) -> Option<&SitePath> {
        match *host == self.host {
            true => Some(&self.site),
            false => self.others.get(host).map(|it| &it.site),
        }
    }

    /// Whether a host is another of the own site.
    pub(super) fn is_near(&self, host: &HostId) -> bool {
        self.others.get(host).is_some_and(|it| it.site == self.site)
    }

    /// Whether a host is of another site.
    pub(super) fn is_far(&self, host: &HostId) -> bool {
        self.others.get(host).is_some_and(|it| it.site != self.site)
    }

    /// Who may speak for a site, the first first.
    pub(super) fn ranked(&self, site: &SitePath) -> &[HostId] {
        self.sites.get(site).map_or(&[], |site| &site.ranked)
    }

    /// Whether a host may speak for its site.
    pub(super) fn may_speak(&self, host: &HostId) -> bool {
        let site = self.site_of(host);
        site.is_some_and(|site| self.ranked(site).contains(host))
    }

    /// All sites but the own.
    pub(super) fn other_sites(&self) -> impl Iterator<Item = &SitePath> {
        self.sites.keys().filter(|site| **site != self.site)
    }

    /// The other hosts of the own site.
    pub(super) fn near(&self) -> impl Iterator<Item = &HostId> {
        let site = self.sites.get(&self.site).into_iter();
        let hosts = site.flat_map(|site| &site.hosts);
        hosts.filter(|host| **host != self.host)
    }

    pub(super) fn set_connected(&mut self, host: HostId, connected: bool) {
        match connected && self.others.contains_key(&host) {
            true => drop(self.connected.insert(host)),
            false => drop(self.connected.remove(&host)),
        }
    }

    pub(super) fn is_connected(&self, host: &HostId) -> bool {
        self.connected.contains(host)
    }

    /// Whether the overlay reaches anybody of the own site.
    pub(super) fn reaches_site(&self) -> bool {
        self.connected.iter().any(|host| self.is_near(host))
    }

    /// Hosts of other sites to which a connection stands and that may speak for theirs.
    pub(super) fn connected_gateways(&self) -> impl Iterator<Item = &HostId> {
        let far = self.connected.iter().filter(|host| self.is_far(host));
        far.filter(|host| self.may_speak(host))
    }

    /// How far a site is.
    pub(super) fn distance(&self, site: &SitePath) -> Distance {
        distance(&self.site, site)
    }

    fn enter(&mut self, host: HostId, site: SitePath, may_be_gateway: bool) {
        let entry = self.sites.entry(site.clone()).or_default();
        entry.hosts.insert(host);
        if may_be_gateway {
            entry.chosen.insert(host);
        }
        entry.rank(&site);
    }

    fn leave(&mut self, host: &HostId, site: &SitePath) {
        if let Some(entry) = self.sites.get_mut(site) {
            entry.hosts.remove(host);
            entry.chosen.remove(host);
            entry.rank(site);
            if entry.hosts.is_empty() {
                self.sites.remove(site);
            }
        }
    }
}

impl Site {
    fn rank(&mut self, site: &SitePath) {
        let may = match self.chosen.is_empty() {
            true => &self.hosts,
            false => &self.chosen,
        };
        let name = site.to_string();
        let rank = |host: &HostId| weight(&[name.as_bytes(), host.as_bytes()]);
        let mut ranked: Vec<HostId> = may.iter().copied().collect();
        ranked.sort_by_cached_key(rank);
        self.ranked = ranked;
    }
}

/// Highest random weight hashing (Thaler and Ravishankar 1998), the lowest first: all who know the
/// same hosts agree on their order, and who joins or leaves moves nobody else.
pub(super) fn weight(parts: &[&[u8]]) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let hash: [u8; 32] = hasher.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(first)
}

/// How many tiers lie between two sites.
pub(super) fn distance(one: &SitePath, other: &SitePath) -> Distance {
    let (one, other) = (one.tiers(), other.tiers());
    let common = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let tiers = one.len().max(other.len()) - common;
    Distance(u8::try_from(tiers).unwrap_or(u8::MAX))
}

/// The path made of the `tiers` outermost tiers.
pub(super) fn outermost(path: &SitePath, tiers: usize) -> SitePath {
    let tiers = path.tiers().iter().take(tiers).rev();
    let text: Vec<&str> = tiers.map(SiteName::as_str).collect();
    text.join(".").parse().unwrap_or_default()
}

/// The tier in which a path lies; `None` for the outermost ones, which lie in the root.
pub(super) fn parent(path: &SitePath) -> Option<SitePath> {
    let tiers = path.tiers().len();
    (tiers >= 2).then(|| outermost(path, tiers - 1))
}

/// Whether `path` is `tier` or lies in it.
pub(super) fn lies_in(path: &SitePath, tier: &SitePath) -> bool {
    path.tiers().starts_with(tier.tiers())
}

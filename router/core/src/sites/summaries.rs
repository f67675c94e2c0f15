//! Summaries: what is served below a tier, told by gateways, signed, and kept while there is room.

use super::Sites;
use super::arranging::ACTING;
use super::drops::SitesDrop;
use super::members::{Members, distance, lies_in, outermost, parent, weight};
use super::message::{FILLED_BYTES, VERSION, check_version, host, name, read};
use crate::host::HostId;
use crate::moment::Moment;
use crate::name::{AutomatonName, SitePath};
use crate::overlay::{OverlayCommand, Topic};
use crate::signature::{self, Purpose, SignatureError};
use crate::wire::margay::signed::Signed;
use crate::wire::margay::sites as wire;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a gateway signs.
const SUMMARY: Purpose = Purpose("summary");

/// How often a gateway says what its site serves.
pub const SUMMARY_EVERY: Duration = Duration::from_secs(5);

/// How long a summary is so that nobody repeats: two may be lost.
pub const SUMMARY_KEPT: Duration = Duration::from_secs(15);

/// Unless an operator says another: some 12,000 services.
pub const SUMMARY_BYTES_MAX: usize = 1 << 20;

/// Changes are gathered for so long.
const SOON: Duration = Duration::from_millis(500);

/// The most parts of one summary: 1.5 MiB, and as many as the bits of a number.
const PARTS_MAX: u32 = 32;

/// What an entry costs beside its name.
const ENTRY_BYTES: usize = 64;

/// So long ago a service was sought lately.
const LATELY: Duration = Duration::from_secs(300);

/// Services that were sought lately and are remembered.
const USED_MAX: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Served {
    instances: u32,
    cost: u32,
}

#[derive(Debug)]
struct Part {
    services: BTreeMap<AutomatonName, Served>,
    until: Moment,
}

/// What is summed up, and who says it.
type Speaker = (SitePath, HostId);

/// How far a gateway's word was heard: its latest life and number, and which of the parts.
type Heard = ((u64, u64), u32);

/// All summaries that are held, the own ones too.
#[derive(Debug)]
pub(super) struct Summaries {
    bytes_max: usize,
    pub(super) bytes: usize,
    held: BTreeMap<Speaker, BTreeMap<u32, Part>>,
    heard: BTreeMap<Speaker, Heard>,
    used: BTreeMap<AutomatonName, Moment>,
    sequence: u64,
    publish_at: Option<Moment>,
}

impl Summaries {
    pub(super) fn new(bytes_max: usize) -> Self {
        Summaries {
            bytes_max,
            bytes: 0,
            held: BTreeMap::new(),
            heard: BTreeMap::new(),
            used: BTreeMap::new(),
            sequence: 0,
            publish_at: None,
        }
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.publish_at
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn soon(&mut self, now: Moment) {
        let soon = now + SOON;
        self.publish_at = Some(self.publish_at.map_or(soon, |at| at.min(soon)));
    }

    /// Forgets all, as who does not act hears nothing; not how far it was heard.
    pub(super) fn clear(&mut self) {
        self.held.clear();
        (self.bytes, self.publish_at) = (0, None);
    }

    /// Forgets what a host said.
    pub(super) fn forget(&mut self, host: &HostId) {
        self.held.retain(|(_, by), _| by != host);
        self.heard.retain(|(_, by), _| by != host);
        self.weigh();
    }

    /// Takes note that a service was sought.
    pub(super) fn used(&mut self, service: &AutomatonName, now: Moment) {
        if self.used.len() >= USED_MAX {
            self.used.retain(|_, at| *at + LATELY > now);
        }
        if self.used.len() < USED_MAX || self.used.contains_key(service) {
            self.used.insert(service.clone(), now);
        }
    }

    /// The gateways whose summaries name a service, the nearest first; none of those that sum up where
    /// this host or the asker is.
    pub(super) fn who_serves(
        &self,
        service: &AutomatonName,
        members: &Members,
        asker: Option<&SitePath>,
    ) -> Vec<HostId> {
        let elsewhere = |of: &SitePath| {
            !lies_in(&members.site, of) && asker.is_none_or(|asker| !lies_in(asker, of))
        };
        let mut found = Vec::new();
        for ((of, by), parts) in self.held.iter().filter(|((of, _), _)| elsewhere(of)) {
            if let Some(served) = parts.values().find_map(|part| part.services.get(service)) {
                let near = distance(&members.site, of);
                let order = weight(&[members.host.as_bytes(), by.as_bytes()]);
                found.push((near, served.cost, order, *by));
            }
        }
        found.sort();
        let mut hosts: Vec<HostId> = found.into_iter().map(|(.., by)| by).collect();
        let mut seen = BTreeSet::new();
        hosts.retain(|host| *host != members.host && seen.insert(*host));
        hosts
    }

    /// The gateways that are heard in a tier.
    fn heard_in(&self, tier: &SitePath) -> BTreeSet<HostId> {
        let children = self.held.keys();
        let children = children.filter(|(of, _)| parent(of).as_ref() == Some(tier));
        children.map(|(_, by)| *by).collect()
    }

    /// What is served below a tier: of each child the most that one of its gateways says.
    fn sum(&self, tier: &SitePath) -> BTreeMap<AutomatonName, Served> {
        let mut of_child: BTreeMap<(&SitePath, &AutomatonName), Served> = BTreeMap::new();
        for ((of, _), parts) in &self.held {
            if parent(of).as_ref() != Some(tier) {
                continue;
            }
            for (service, served) in parts.values().flat_map(|part| &part.services) {
                let entry = of_child.entry((of, service)).or_insert(*served);
                entry.instances = entry.instances.max(served.instances);
                entry.cost = entry.cost.min(served.cost);
            }
        }
        let mut sum: BTreeMap<AutomatonName, Served> = BTreeMap::new();
        for ((_, service), served) in of_child {
            let cost = served.cost.saturating_add(1);
            let fresh = Served { instances: 0, cost };
            let entry = sum.entry(service.clone()).or_insert(fresh);
            entry.instances = entry.instances.saturating_add(served.instances);
            entry.cost = entry.cost.min(cost);
        }
        sum
    }

    /// Whether it is later than what the same host said of the same before; takes note of it.
    fn is_news(&mut self, speaker: &Speaker, said: (u64, u64), part: u32) -> bool {
        let bit = 1u32 << part;
        let heard = self.heard.entry(speaker.clone()).or_insert((said, 0));
        if heard.0 < said {
            *heard = (said, 0);
        }
        let news = heard.0 == said && heard.1 & bit == 0;
        heard.1 |= if news { bit } else { 0 };
        news
    }

    fn put(&mut self, speaker: Speaker, (part, parts): (u32, u32), content: Part) {
        let held = self.held.entry(speaker).or_default();
        held.insert(part, content);
        held.retain(|index, _| *index < parts);
        self.weigh();
    }

    fn expire(&mut self, now: Moment) {
        for parts in self.held.values_mut() {
            parts.retain(|_, part| part.until > now);
        }
        self.held.retain(|_, parts| !parts.is_empty());
        self.weigh();
    }

    fn weigh(&mut self) {
        let parts = self.held.values().flat_map(BTreeMap::values);
        let services = parts.flat_map(|part| part.services.keys());
        self.bytes = services.map(cost).sum();
    }

    /// Lets go of services until all fit, with some room: the far before the near, what was sought
    /// lately last; how many.
    fn fit(&mut self, own: &SitePath, now: Moment) -> u64 {
        if self.bytes <= self.bytes_max {
            return 0;
        }
        let mut all = Vec::new();
        for ((of, by), parts) in &self.held {
            for (index, part) in parts {
                for service in part.services.keys() {
                    let used = self.used.get(service).is_some_and(|at| *at + LATELY > now);
                    let far = u8::MAX - distance(own, of).0;
                    all.push((used, far, service.clone(), of.clone(), *by, *index));
                }
            }
        }
        all.sort();
        let mut gone = 0;
        for (_, _, service, of, by, index) in all {
            if self.bytes <= self.bytes_max - self.bytes_max / 8 {
                break;
            }
            let part = self
                .held
                .get_mut(&(of, by))
                .and_then(|it| it.get_mut(&index));
            if part.is_some_and(|part| part.services.remove(&service).is_some()) {
                self.bytes -= cost(&service);
                gone += 1;
            }
        }
        gone
    }
}

fn cost(service: &AutomatonName) -> usize {
    service.as_str().len() + ENTRY_BYTES
}

impl Sites {
    /// Says what is served here and below, if it is time.
    pub(super) fn publish_summaries_if_due(&mut self, now: Moment) {
        if self.summaries.publish_at.is_none_or(|at| at > now) {
            return;
        }
        self.summaries.publish_at = None;
        if !self.is_acting() {
            return;
        }
        self.summaries.publish_at = Some(now + SUMMARY_EVERY);
        self.summaries.expire(now);
        let tiers = self.config.site.tiers().len();
        let serves = self.arrangement.serves.iter();
        let own = serves.map(|(service, instances)| {
            let served = Served {
                instances: *instances,
                cost: 0,
            };
            (service.clone(), served)
        });
        let own = own.collect();
        self.publish_summary(self.config.site.clone(), own, now);
        for inner in (2..tiers).rev() {
            let tier = outermost(&self.config.site, inner);
            if self.acts_for(&tier) {
                let sum = self.summaries.sum(&tier);
                self.publish_summary(tier, sum, now);
            }
        }
    }

    /// Whether this host speaks for a tier that its site lies in: the first of those heard there do.
    fn acts_for(&self, tier: &SitePath) -> bool {
        let text = tier.to_string();
        let mut heard: Vec<HostId> = self.summaries.heard_in(tier).into_iter().collect();
        heard.sort_by_cached_key(|host| weight(&[text.as_bytes(), host.as_bytes()]));
        heard
            .iter()
            .take(ACTING)
            .any(|host| *host == self.members.host)
    }

    fn publish_summary(
        &mut self,
        of: SitePath,
        services: BTreeMap<AutomatonName, Served>,
        now: Moment,
    ) {
        let Some(tier) = parent(&of) else {
            return;
        };
        self.summaries.sequence += 1;
        let mut parts = split(&services);
        let cut: usize = parts.iter().skip(PARTS_MAX as usize).map(Vec::len).sum();
        (0..cut).for_each(|_| self.count(SitesDrop::SummaryCut));
        parts.truncate(PARTS_MAX as usize);
        let count = parts.len() as u32;
        for (part, services) in (0..).zip(parts) {
            let summary = wire::Summary {
                version: VERSION,
                of: of.to_string(),
                epoch: self.config.epoch.0,
                sequence: self.summaries.sequence,
                part,
                parts: count,
                services,
            };
            let signed = self.config.key.sign(SUMMARY, &summary);
            let message = wire::SignedSummary {
                gateway: self.members.host.as_bytes().to_vec(),
                signed: signed.encode_to_vec(),
            };
            let topic = Topic(format!("tier/{tier}"));
            let bytes = message.encode_to_vec();
            self.overlay(OverlayCommand::Publish { topic, bytes });
        }
        let part = Part {
            services,
            until: now + SUMMARY_KEPT,
        };
        self.summaries.put((of, self.members.host), (0, 1), part);
        self.fit_summaries(now);
    }

    /// Takes what a gateway published in a tier.
    pub(super) fn hear_summary(
        &mut self,
        tier: &str,
        bytes: &[u8],
        now: Moment,
    ) -> Result<(), SitesDrop> {
        let message: wire::SignedSummary = read(bytes)?;
        let gateway = host(&message.gateway)?;
        let site = self.members.get(&gateway).ok_or(SitesDrop::UnknownMember)?;
        let site = site.site.clone();
        let signed = Signed::decode(message.signed.as_slice());
        let signed = signed.map_err(|_| SitesDrop::Unreadable)?;
        let opened = signature::open(SUMMARY, &gateway, &signed);
        let summary: wire::Summary = opened.map_err(|error| match error {
            SignatureError::Forged => SitesDrop::Forged,
            SignatureError::Unreadable => SitesDrop::Unreadable,
        })?;
        check_version(summary.version)?;
        let of: SitePath = summary.of.parse().map_err(|_| SitesDrop::Unreadable)?;
        let parts = (summary.part, summary.parts);
        if summary.parts > PARTS_MAX || summary.part >= summary.parts {
            return Err(SitesDrop::Unreadable);
        }
        let below = parent(&of).is_some_and(|parent| parent.to_string() == tier);
        let entitled = self.members.may_speak(&gateway) && lies_in(&site, &of) && below;
        if !entitled || !self.is_acting() {
            return Err(SitesDrop::NotAGateway);
        }
        let mut services = BTreeMap::new();
        for service in summary.services {
            let served = Served {
                instances: service.instances,
                cost: service.cost,
            };
            services.insert(name(service.name)?, served);
        }
        let speaker = (of, gateway);
        let said = (summary.epoch, summary.sequence);
        if !self.summaries.is_news(&speaker, said, parts.0) {
            return Err(SitesDrop::OldSummary);
        }
        let until = now + SUMMARY_KEPT;
        self.summaries.put(speaker, parts, Part { services, until });
        self.fit_summaries(now);
        Ok(())
    }

    fn fit_summaries(&mut self, now: Moment) {
        let gone = self.summaries.fit(&self.config.site, now);
        if gone > 0 {
            *self.drops.entry(SitesDrop::SummaryBudget).or_default() += gone;
        }
    }
}

/// The services in as many parts as they take; one at least, that the gateway is heard.
fn split(services: &BTreeMap<AutomatonName, Served>) -> Vec<Vec<wire::Service>> {
    let mut parts = vec![Vec::new()];
    let mut filled = 0;
    for (name, served) in services {
        let service = wire::Service {
            name: name.to_string(),
            instances: served.instances,
            cost: served.cost,
        };
        let bytes = service.encoded_len() + 4;
        if filled + bytes > FILLED_BYTES {
            parts.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        parts.last_mut().expect("one at least").push(service);
    }
    parts
}

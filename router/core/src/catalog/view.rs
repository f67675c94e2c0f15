//! What the catalog answers: to the router, to metrics and to an operator.

use super::form::write_key;
use super::index::Place;
use super::record::Record;
use super::statement::{Generation, Identity, Instance, Key, Service, ServiceVip, Statement};
use super::{Catalog, CatalogDrop, Holder, SignedComposition};
use crate::composition::{Composition, CompositionName};
use crate::host::{HostId, OriginEpoch};
use crate::id::Version;
use crate::moment::Moment;
use crate::name::AutomatonName;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// How much of one origin's word is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginView {
    /// In which life.
    pub epoch: OriginEpoch,
    /// Everything up to this sequence is here.
    pub complete: u64,
    /// The latest sequence that was seen.
    pub highest: u64,
    /// Whether everything that was seen is here and adds up to what the origin signed.
    pub sound: bool,
    /// Whether what it says shows.
    pub up: bool,
    /// What its records cost, in bytes.
    pub bytes: usize,
}

impl Catalog {
    /// The instances of `service` in this site, each with the host where it is; those of hosts that
    /// are down are hidden, and of an instance that moved only the latest word counts.
    pub fn instances_of(&self, service: &AutomatonName) -> Vec<(HostId, Instance)> {
        let found = self.index.by_service(service);
        let found = found.filter_map(|place| self.instance_at(place));
        self.latest(found.filter(|(_, instance)| instance.service.automaton == *service))
    }

    /// The instances that hold `addr`, as called or as caller address; one, unless hosts contradict
    /// each other.
    pub fn instances_at(&self, addr: IpAddr) -> Vec<(HostId, Instance)> {
        let found = self.index.by_address(addr);
        self.latest(found.filter_map(|place| self.instance_at(place)))
    }

    /// The virtual IP of a service: of several claims the one for the oldest version, and of those
    /// the lowest host's. A claim outlives its host's being down.
    pub fn service_vip(&self, service: &Service) -> Option<&ServiceVip> {
        let claims = self.vips.get(service)?.iter();
        let first = claims.min_by_key(|(host, vip)| (vip.version, **host));
        first.map(|(_, vip)| vip)
    }

    /// Who holds an identity.
    pub fn holder(&self, identity: &Identity) -> Option<Holder> {
        self.bindings.holder(identity)
    }

    /// What a host shows of itself.
    pub fn credential_of(&self, host: &HostId) -> Option<Vec<u8>> {
        match self.said(host, &Key::Host)? {
            Statement::Host { credential } => Some(credential),
            _ => None,
        }
    }

    /// What a host says about `key` now, whether it is up or not.
    pub fn said(&self, host: &HostId, key: &Key) -> Option<Statement> {
        let stored = self.origins.get(host)?.about(&write_key(host, key))?;
        Record::read_again(host, &stored.wire).statement()
    }

    /// In which life and as which of its words a host last spoke about `key`, be it to take it back;
    /// what was taken back long ago is forgotten.
    pub fn said_at(&self, host: &HostId, key: &Key) -> Option<(OriginEpoch, u64)> {
        let origin = self.origins.get(host)?;
        let stored = origin.about(&write_key(host, key))?;
        let record = Record::read_again(host, &stored.wire);
        Some((record.epoch, record.sequence))
    }

    /// The newest version of a composition that can be read here.
    pub fn composition(&self, name: &CompositionName) -> Option<&Arc<Composition>> {
        self.compositions.get(name)
    }

    /// Which version of a composition is so, and whether it is withdrawn.
    pub fn composition_version(&self, name: &CompositionName) -> Option<(Version, bool)> {
        self.compositions.rank(name)
    }

    /// Whether the own host's word makes compositions.
    pub fn is_operator(&self) -> bool {
        self.compositions.operators.contains(&self.host)
    }

    /// All compositions.
    pub fn compositions(&self) -> impl Iterator<Item = &Arc<Composition>> {
        self.compositions.iter()
    }

    /// A composition as it was signed, to be kept over a restart; also where it is withdrawn.
    pub fn signed_composition(&self, name: &CompositionName) -> Option<&SignedComposition> {
        self.compositions.signed(name)
    }

    /// The sum of all compositions: two hosts with one sum have the same.
    pub fn compositions_sum(&self) -> Vec<u8> {
        self.compositions.sum.to_bytes()
    }

    /// Name, version and content's hash of the compositions whose names come behind `after`.
    pub fn compositions_after(
        &self,
        after: &str,
    ) -> impl Iterator<Item = (String, Version, Vec<u8>)> {
        let held = self.compositions.held_after(after);
        held.map(|it| (it.name, Version(it.version), it.content))
    }

    /// Whether a version of a composition with this content would be news, or contradicts what is here.
    pub fn lacks_composition(&self, name: &str, version: Version, content: &[u8]) -> bool {
        self.compositions.lacks(name, version, content)
    }

    /// How much of every origin's word is here, the own host's included.
    pub fn origins(&self) -> impl Iterator<Item = (HostId, OriginView)> {
        self.origins.iter().map(|(host, origin)| {
            let view = OriginView {
                epoch: origin.life.epoch,
                complete: origin.complete,
                highest: origin.highest,
                sound: origin.is_sound(),
                up: origin.up,
                bytes: origin.bytes,
            };
            (*host, view)
        })
    }

    /// What everything costs, in bytes: an estimate.
    pub fn bytes(&self) -> usize {
        self.bytes_held()
    }

    /// When another host last had nothing that was lacking here.
    pub fn repaired_at(&self) -> Option<Moment> {
        self.repair.repaired
    }

    /// What was not believed, and how often.
    pub fn drops(&self) -> impl Iterator<Item = (CatalogDrop, u64)> {
        self.drops.iter().map(|(reason, count)| (*reason, *count))
    }

    fn instance_at(&self, place: Place) -> Option<(HostId, Instance)> {
        let origin = self.origins.get(&place.origin).filter(|it| it.up)?;
        let stored = origin.get(place.epoch, place.sequence)?;
        match Record::read_again(&place.origin, &stored.wire).statement()? {
            Statement::Instance(instance) => Some((place.origin, instance)),
            _ => None,
        }
    }

    /// Of several words about one identity the one of the latest generation.
    fn latest(&self, found: impl Iterator<Item = (HostId, Instance)>) -> Vec<(HostId, Instance)> {
        let mut latest: BTreeMap<Identity, (HostId, Instance)> = BTreeMap::new();
        for (host, instance) in found {
            let rank = |host: &HostId, it: &Instance| (it.generation, *host);
            let known = latest.get(&instance.identity);
            let later = known.is_none_or(|(other, it)| rank(other, it) < rank(&host, &instance));
            if later && instance.generation >= self.generation(&instance.identity) {
                latest.insert(instance.identity, (host, instance));
            }
        }
        latest.into_values().collect()
    }

    fn generation(&self, identity: &Identity) -> Generation {
        let holder = self.bindings.holder(identity);
        holder.map_or(Generation(0), |holder| holder.generation)
    }
}

//! What instances are looked up by: their service's name and their addresses.

use super::statement::Instance;
use crate::host::{HostId, OriginEpoch};
use crate::name::AutomatonName;
use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) origin: HostId,
    pub(super) epoch: OriginEpoch,
    pub(super) sequence: u64,
}

/// A row of the index, which names a place in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// Finds places of instances. Names are kept as hashes: whoever finds a place reads the record that
/// lies there, and sees whether it is the one that was meant.
pub(super) struct Index {
    hashes: SeedableRandomState,
    places: Vec<Option<Place>>,
    free: Vec<Slot>,
    services: BTreeSet<(u64, Slot)>,
    /// IPv4 addresses are mapped into IPv6 (RFC 4291 section 2.5.5.2).
    addresses: BTreeSet<(Ipv6Addr, Slot)>,
}

impl Index {
    pub(super) fn new(seed: u64) -> Self {
        Index {
            hashes: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
            places: Vec::new(),
            free: Vec::new(),
            services: BTreeSet::new(),
            addresses: BTreeSet::new(),
        }
    }

    /// Adds an instance whose record lies at `place`; `None` once four billion are there.
    pub(super) fn insert(&mut self, place: Place, instance: &Instance) -> Option<Slot> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = Slot(u32::try_from(self.places.len()).ok()?);
                self.places.push(None);
                slot
            }
        };
        *self.place_mut(slot) = Some(place);
        let hash = self.hash(&instance.service.automaton);
        self.services.insert((hash, slot));
        self.addresses
            .extend(addresses(instance).map(|addr| (addr, slot)));
        Some(slot)
    }

    /// Takes an instance away.
    pub(super) fn remove(&mut self, slot: Slot, instance: &Instance) {
        let hash = self.hash(&instance.service.automaton);
        self.services.remove(&(hash, slot));
        for addr in addresses(instance) {
            self.addresses.remove(&(addr, slot));
        }
        *self.place_mut(slot) = None;
        self.free.push(slot);
    }

    /// Where instances of `service` may lie.
    pub(super) fn by_service(&self, service: &AutomatonName) -> impl Iterator<Item = Place> {
        let hash = self.hash(service);
        let slots = self
            .services
            .range((hash, Slot(0))..=(hash, Slot(u32::MAX)));
        slots.filter_map(|(_, slot)| self.place(*slot))
    }

    /// Where instances that hold `addr` lie.
    pub(super) fn by_address(&self, addr: IpAddr) -> impl Iterator<Item = Place> {
        let addr = mapped(addr);
        let slots = self
            .addresses
            .range((addr, Slot(0))..=(addr, Slot(u32::MAX)));
        slots.filter_map(|(_, slot)| self.place(*slot))
    }

    fn hash(&self, service: &AutomatonName) -> u64 {
        self.hashes.hash_one(service.as_str())
    }

    fn place(&self, Slot(slot): Slot) -> Option<Place> {
        self.places[slot as usize]
    }

    fn place_mut(&mut self, Slot(slot): Slot) -> &mut Option<Place> {
        &mut self.places[slot as usize]
    }
}

/// Called and caller addresses, each once.
fn addresses(instance: &Instance) -> impl Iterator<Item = Ipv6Addr> {
    let both = [instance.addresses.called, instance.addresses.caller];
    both.into_iter()
        .flat_map(|vip| [vip.v4.to_ipv6_mapped(), vip.v6])
}

fn mapped(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

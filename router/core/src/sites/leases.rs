//! Leases: the instances of other sites that are known here for a while, in their hosts' own words.

use crate::catalog::SignedInstance;
use crate::grouped::Grouped;
use crate::host::HostId;
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::peer::{Known, RemoteInstance};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long an instance that was found is taken to be so.
pub const LEASE: Duration = Duration::from_secs(30);

/// How long before its end a lease that is used is asked for again.
pub const RENEWED_BEFORE: Duration = Duration::from_secs(10);

/// How long who called is known: longer than its flow takes to open.
pub const CALLED_LEASE: Duration = Duration::from_secs(60);

/// The most leases: what a gateway's site asks for within half a minute.
pub const LEASES_MAX: usize = 8_192;

/// What their records may take.
pub const LEASE_BYTES_MAX: usize = 8 << 20;

/// An instance of another site.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) signed: SignedInstance,
    /// As the Router was told of it.
    pub(super) told: Arc<RemoteInstance>,
    pub(super) until: Moment,
    /// Since it was last asked for.
    pub(super) used: bool,
    last_used: Moment,
    /// Whether it was asked for again.
    pub(super) renewing: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: BTreeMap<InstanceId, Lease>,
    by_service: Grouped<AutomatonName>,
    by_host: Grouped<HostId>,
    /// The least used first.
    idle: BTreeSet<(Moment, InstanceId)>,
    due: BTreeSet<(Moment, InstanceId)>,
    bytes: usize,
}

impl Lease {
    /// When something is to be done about it.
    fn due(&self) -> Moment {
        match self.renewing || !self.used || self.told.known == Known::Called {
            true => self.until,
            false => self.until - RENEWED_BEFORE,
        }
    }

    fn cost(&self) -> usize {
        self.signed.bytes().len()
    }
}

impl Leases {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn get(&self, id: InstanceId) -> Option<&Lease> {
        self.held.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.held.values()
    }

    pub(super) fn of_service(&self, service: &AutomatonName) -> impl Iterator<Item = &Lease> {
        let ids = self.by_service.of(service);
        ids.filter_map(|id| self.held.get(&id))
    }

    /// Whether any lease is of a host.
    pub(super) fn need(&self, host: &HostId) -> bool {
        self.by_host.contains(host)
    }

    pub(super) fn of_host(&self, host: &HostId) -> Vec<InstanceId> {
        self.by_host.of(host).collect()
    }

    /// Keeps an instance until then, in place of what was known of it; those that gave way.
    pub(super) fn put(
        &mut self,
        signed: SignedInstance,
        told: Arc<RemoteInstance>,
        until: Moment,
        now: Moment,
    ) -> Vec<Lease> {
        let id = told.instance;
        let before = self.remove(id);
        let lease = Lease {
            signed,
            told,
            until,
            used: false,
            last_used: before.map_or(now, |lease| lease.last_used),
            renewing: false,
        };
        self.insert(lease);
        let mut gave_way = Vec::new();
        while self.held.len() > LEASES_MAX || self.bytes > LEASE_BYTES_MAX {
            let idle = self.idle.iter().map(|(_, idle)| *idle);
            let Some(least) = idle.into_iter().find(|idle| *idle != id) else {
                break;
            };
            gave_way.extend(self.remove(least));
        }
        gave_way
    }

    /// Takes note that an instance is used.
    pub(super) fn used(&mut self, id: InstanceId, now: Moment) {
        if let Some(mut lease) = self.remove(id) {
            lease.used = true;
            lease.last_used = now;
            self.insert(lease);
        }
    }

    /// The next that is due.
    pub(super) fn next_due(&self) -> Option<(Moment, InstanceId)> {
        self.due.first().copied()
    }

    /// Takes note that it is asked for again.
    pub(super) fn renewing(&mut self, id: InstanceId) {
        if let Some(mut lease) = self.remove(id) {
            lease.renewing = true;
            self.insert(lease);
        }
    }

    pub(super) fn remove(&mut self, id: InstanceId) -> Option<Lease> {
        let lease = self.held.remove(&id)?;
        self.idle.remove(&(lease.last_used, id));
        self.due.remove(&(lease.due(), id));
        self.bytes -= lease.cost();
        self.by_service.remove(&lease.told.name.automaton, id);
        self.by_host.remove(&lease.told.host, id);
        Some(lease)
    }

    fn insert(&mut self, lease: Lease) {
        let (id, told) = (lease.told.instance, &lease.told);
        self.idle.insert((lease.last_used, id));
        self.due.insert((lease.due(), id));
        self.bytes += lease.cost();
        let service = told.name.automaton.clone();
        self.by_service.insert(service, id);
        self.by_host.insert(told.host, id);
        self.held.insert(id, lease);
    }
}

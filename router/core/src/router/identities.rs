//! Who holds which virtual IP, and who held it lately.

mod leases;

pub(super) use leases::Lease;

use super::config::RouterConfig;
use crate::address::{AddressPlan, InstanceAddresses};
use crate::id::InstanceId;
use crate::lease::{AddressBook, PoolExhausted, QUARANTINE};
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::peer::RemoteInstance;
use crate::port::RemovedInstance;
use crate::seeded::{SeededMap, seeded_map};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Whose an address is, or was until lately: then the instance is no more, and flows go to its
/// siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// Which instance; `None`: the service itself, whose flows are balanced one by one.
    pub(super) instance: Option<InstanceId>,
    pub(super) automaton: AutomatonName,
}

/// Addresses and their holders.
#[derive(Debug)]
pub(super) struct Identities {
    book: AddressBook,
    holders: SeededMap<IpAddr, Holder>,
    /// The addresses of the dead and until when callers may still know them.
    tombstones: BTreeMap<(Moment, InstanceId), InstanceAddresses>,
    /// The virtual IPs of services themselves.
    leases: BTreeMap<AutomatonName, Lease>,
}

impl Identities {
    pub(super) fn new(config: &RouterConfig, seed: u64, now: Moment) -> Self {
        let plan = AddressPlan::new(&config.network_key, config.v4_block);
        Identities {
            book: AddressBook::new(plan, now),
            holders: seeded_map(seed),
            tombstones: BTreeMap::new(),
            leases: BTreeMap::new(),
        }
    }

    /// Which addresses there can be.
    pub(super) fn plan(&self) -> AddressPlan {
        self.book.plan()
    }

    /// Whose `addr` is or was.
    pub(super) fn find(&self, addr: IpAddr) -> Option<&Holder> {
        self.holders.get(&addr)
    }

    /// Gives addresses to a new identity.
    pub(super) fn allocate(
        &mut self,
        instance: InstanceId,
        automaton: &AutomatonName,
        now: Moment,
    ) -> Result<InstanceAddresses, PoolExhausted> {
        let addresses = self.book.allocate(instance, now)?;
        self.hold(instance, automaton, addresses);
        Ok(addresses)
    }

    /// Takes over an identity of an earlier run.
    pub(super) fn adopt(
        &mut self,
        instance: InstanceId,
        automaton: &AutomatonName,
        addresses: InstanceAddresses,
    ) {
        self.book.adopt(addresses);
        self.hold(instance, automaton, addresses);
    }

    /// Takes over a quarantine of an earlier run; until it ends, the addresses lead to siblings.
    pub(super) fn quarantine(&mut self, removed: &RemovedInstance, now: Moment) {
        let RemovedInstance {
            instance,
            automaton,
            addresses,
            free_for,
        } = removed;
        self.book.quarantine(*addresses, *free_for, now);
        if *free_for < QUARANTINE {
            self.hold(*instance, automaton, *addresses);
            let end = now + (QUARANTINE - *free_for);
            self.tombstones.insert((end, *instance), *addresses);
        }
    }

    /// Ends an identity; its addresses still lead to its siblings while nobody else gets them.
    pub(super) fn bury(&mut self, instance: InstanceId, addresses: InstanceAddresses, now: Moment) {
        self.book.free(addresses, now);
        self.tombstones
            .insert((now + QUARANTINE, instance), addresses);
    }

    /// An instance of another host holds its addresses.
    pub(super) fn hold_remote(&mut self, remote: &RemoteInstance) {
        self.hold(remote.instance, &remote.name.automaton, remote.addresses);
    }

    /// Ends the identity of another host; until its own host may give its addresses to somebody
    /// else, they lead to its siblings.
    pub(super) fn bury_remote(&mut self, remote: &RemoteInstance, now: Moment) {
        let tomb = (now + QUARANTINE, remote.instance);
        self.tombstones.insert(tomb, remote.addresses);
    }

    /// Lets time pass; the automatons to which addresses lead no longer.
    pub(super) fn handle_timeout(&mut self, now: Moment) -> BTreeSet<AutomatonName> {
        self.book.handle_timeout(now);
        let mut left = BTreeSet::new();
        while let Some(tomb) = self
            .tombstones
            .first_entry()
            .filter(|tomb| tomb.key().0 <= now)
        {
            let ((_, instance), addresses) = tomb.remove_entry();
            for addr in all(addresses) {
                let own = self
                    .find(addr)
                    .filter(|holder| holder.instance == Some(instance));
                if let Some(holder) = own.cloned() {
                    self.holders.remove(&addr);
                    left.insert(holder.automaton);
                }
            }
        }
        left.append(&mut self.end_leases(now));
        left
    }

    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        let tombstone = self.tombstones.first_key_value().map(|((end, _), _)| *end);
        let lease = self.leases.values().filter_map(|lease| lease.until).min();
        let dues = [self.book.poll_timeout(), tombstone, lease];
        dues.into_iter().flatten().min()
    }

    fn hold(
        &mut self,
        instance: InstanceId,
        automaton: &AutomatonName,
        addresses: InstanceAddresses,
    ) {
        for addr in all(addresses) {
            let automaton = automaton.clone();
            self.holders.insert(
                addr,
                Holder {
                    instance: Some(instance),
                    automaton,
                },
            );
        }
    }
}

/// All addresses of an identity.
pub(super) fn all(addresses: InstanceAddresses) -> [IpAddr; 4] {
    let (called, caller) = (addresses.called, addresses.caller);
    [
        called.v4.into(),
        called.v6.into(),
        caller.v4.into(),
        caller.v6.into(),
    ]
}

//! The virtual IPs of services themselves, which outlive every instance.

use super::{Holder, Identities};
use crate::address::VirtualIp;
use crate::lease::{PoolExhausted, QUARANTINE};
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::port::ServiceVip;
use crate::service_id::ServiceId;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// A service's hold on its virtual IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) struct Lease {
    vip: VirtualIp,
    /// Until when callers may still know it, once the service gave it up.
    pub(super) until: Option<Moment>,
}

impl Identities {
    /// The virtual IP that `service` holds.
    pub(in crate::router) fn vip(&self, service: &AutomatonName) -> Option<VirtualIp> {
        let lease = self.leases.get(service)?;
        lease.until.is_none().then_some(lease.vip)
    }

    /// Gives `service` a virtual IP, or the one back that it gave up lately; answers it if it held
    /// none before.
    pub(in crate::router) fn lease(
        &mut self,
        service: &AutomatonName,
        id: ServiceId,
        now: Moment,
    ) -> Result<Option<VirtualIp>, PoolExhausted> {
        if let Some(lease) = self.leases.get_mut(service) {
            let given_up = lease.until.take();
            return Ok(given_up.map(|_| lease.vip));
        }
        let vip = VirtualIp {
            v4: self.book.allocate_called(now)?,
            v6: self.book.plan().v6_of_service(id),
        };
        self.hold_vip(service, Lease { vip, until: None });
        Ok(Some(vip))
    }

    /// Takes over what an earlier run recorded.
    pub(in crate::router) fn adopt_lease(
        &mut self,
        recorded: &ServiceVip,
        id: ServiceId,
        now: Moment,
    ) {
        let left = |free_for: Duration| now + QUARANTINE.saturating_sub(free_for);
        let vip = VirtualIp {
            v4: recorded.v4,
            v6: self.book.plan().v6_of_service(id),
        };
        self.book.adopt_called(vip.v4);
        let until = recorded.free_for.map(left);
        self.hold_vip(&recorded.service, Lease { vip, until });
    }

    /// Takes the virtual IPs of all services that are not `wanted`; answers whose. Until the quarantine
    /// ends they still lead to the service's instances, if it has any.
    pub(in crate::router) fn give_up_leases(
        &mut self,
        wanted: impl Fn(&AutomatonName) -> bool,
        now: Moment,
    ) -> Vec<AutomatonName> {
        let held = self.leases.iter_mut();
        let unwanted = held.filter(|(name, lease)| lease.until.is_none() && !wanted(name));
        let given_up = unwanted.map(|(name, lease)| {
            lease.until = Some(now + QUARANTINE);
            name.clone()
        });
        given_up.collect()
    }

    /// Forgets the leases whose quarantine is over; the services that had them.
    pub(super) fn end_leases(&mut self, now: Moment) -> BTreeSet<AutomatonName> {
        let (book, holders) = (&mut self.book, &mut self.holders);
        let mut ended = BTreeSet::new();
        self.leases.retain(|service, lease| {
            let over = lease.until.is_some_and(|until| until <= now);
            if over {
                book.drop_called(lease.vip.v4);
                holders.remove(&IpAddr::from(lease.vip.v4));
                holders.remove(&IpAddr::from(lease.vip.v6));
                ended.insert(service.clone());
            }
            !over
        });
        ended
    }

    fn hold_vip(&mut self, service: &AutomatonName, lease: Lease) {
        for addr in [IpAddr::from(lease.vip.v4), lease.vip.v6.into()] {
            let holder = Holder {
                instance: None,
                automaton: service.clone(),
            };
            self.holders.insert(addr, holder);
        }
        self.leases.insert(service.clone(), lease);
    }
}

//! What others say of instances beyond the site: verified, leased, told to the Router, and let go.

use super::Sites;
use super::drops::SitesDrop;
use super::leases::LEASE;
use super::message::{Answer, Question, Word};
use crate::catalog::{Catalog, CatalogDrop, SignedInstance};
use crate::host::HostId;
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::neighbourhood::read_claim;
use crate::overlay::{AskedId, QuestionId};
use crate::peer::{Known, PeerInput, RemoteInstance};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often the Router is asked with which hosts flows are open.
const ASK_BUSY: Duration = Duration::from_secs(5);

/// How an instance came to be known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) via: Option<HostId>,
    pub(super) known: Known,
    pub(super) lease: Duration,
}

impl Sites {
    /// Takes a question of another host.
    pub(super) fn asked(
        &mut self,
        from: HostId,
        asked: AskedId,
        bytes: &[u8],
        catalog: &Catalog,
        now: Moment,
    ) -> Result<(), SitesDrop> {
        if !self.is_member(&from) {
            return Err(SitesDrop::UnknownMember);
        }
        match Question::decode(bytes)? {
            Question::Seek {
                service,
                passes,
                held,
            } => {
                let sought = (service, passes, held.as_slice());
                self.asked_to_seek((from, asked), sought, catalog, now)
            }
            Question::Inventory { sum, after } => {
                self.answer_inventory(asked, &sum, &after, catalog);
                Ok(())
            }
            Question::Fetch { name, offset } => {
                self.answer_fetch(asked, &name, offset, catalog);
                Ok(())
            }
        }
    }

    /// Takes an answer, or that there is none.
    pub(super) fn answered(
        &mut self,
        question: QuestionId,
        answer: Option<Vec<u8>>,
        catalog: &Catalog,
        now: Moment,
    ) -> Result<(), SitesDrop> {
        let answer = match answer.map(|bytes| Answer::decode(&bytes)) {
            Some(Err(reason)) => {
                self.count(reason);
                None
            }
            Some(Ok(answer)) => Some(answer),
            None => None,
        };
        if self.exchange.expects(question) {
            return self.exchange_answered(answer, catalog, now);
        }
        let found = match answer {
            Some(Answer::Found { words, way }) => Some((words, way)),
            Some(_) => {
                self.count(SitesDrop::Unreadable);
                None
            }
            None => None,
        };
        self.found_instances(question, found, now)
    }

    /// Takes an instance of the service that was sought.
    pub(super) fn take_found(
        &mut self,
        word: &Word,
        service: &AutomatonName,
        (from, known): (HostId, Known),
        now: Moment,
    ) -> Result<(), SitesDrop> {
        let signed = self.verify(word)?;
        if signed.instance.service.automaton != *service {
            return Err(SitesDrop::OtherService);
        }
        let source = Source {
            via: Some(from),
            known,
            lease: LEASE,
        };
        self.lease(signed, source, now)
    }

    /// Checks that a member of another site said it.
    pub(super) fn verify(&self, word: &Word) -> Result<SignedInstance, SitesDrop> {
        if !self.members.is_far(&word.origin) {
            return Err(SitesDrop::UnknownMember);
        }
        SignedInstance::open(word.origin, &word.record).map_err(|reason| match reason {
            CatalogDrop::Forged => SitesDrop::Forged,
            CatalogDrop::UnknownVersion => SitesDrop::UnknownVersion,
            _ => SitesDrop::Unreadable,
        })
    }

    /// Leases an instance, if it is its host's to give, and tells the Router what is new.
    pub(super) fn lease(
        &mut self,
        signed: SignedInstance,
        source: Source,
        now: Moment,
    ) -> Result<(), SitesDrop> {
        let neighbour = self.members.get(&signed.origin);
        let neighbour = neighbour.ok_or(SitesDrop::UnknownMember)?;
        let remote = read_claim(&self.config.network_key, neighbour, &signed.instance);
        let mut remote = remote.ok_or(SitesDrop::NotItsOwn)?;
        remote.distance = self.members.distance(&neighbour.site);
        (remote.via, remote.known) = (source.via, source.known);
        let before = self.leases.get(remote.instance);
        if before.is_some_and(|it| it.signed.spoken > signed.spoken) {
            return Err(SitesDrop::OldRecord);
        }
        let mut until = now + source.lease;
        if let Some(before) = before {
            until = until.max(before.until);
            if source.known == Known::Called {
                (remote.via, remote.known) = (before.told.via, before.told.known);
            }
        }
        let told = before.map(|it| Arc::clone(&it.told));
        self.keep_lease(signed, remote, told, until, now);
        Ok(())
    }

    fn keep_lease(
        &mut self,
        signed: SignedInstance,
        remote: RemoteInstance,
        told: Option<Arc<RemoteInstance>>,
        until: Moment,
        now: Moment,
    ) {
        let same = told.as_ref().is_some_and(|told| **told == remote);
        let remote = Arc::new(remote);
        self.arrangement.soon(now);
        for gone in self.leases.put(signed, Arc::clone(&remote), until, now) {
            self.count(SitesDrop::LeasesFull);
            let instance = gone.told.instance;
            self.tell(PeerInput::InstanceGone { instance });
        }
        if !same {
            self.tell(PeerInput::Instance(remote));
        }
    }

    /// Asks again for leases that are used, and ends the others.
    pub(super) fn leases_timeout(&mut self, now: Moment) {
        while let Some((_, id)) = self.leases.next_due().filter(|(due, _)| *due <= now) {
            let Some(lease) = self.leases.get(id) else {
                return;
            };
            if lease.until > now {
                let service = lease.told.name.automaton.clone();
                let siblings = self.leases.of_service(&service);
                let siblings: Vec<InstanceId> = siblings.map(|it| it.told.instance).collect();
                siblings.into_iter().for_each(|it| self.leases.renewing(it));
                self.renew(service, now);
            } else {
                self.end_lease(id, now);
            }
        }
    }

    /// Lets an instance go; one to which flows go on is held, and takes no new ones.
    fn end_lease(&mut self, id: InstanceId, now: Moment) {
        let Some(lease) = self.leases.remove(id) else {
            return;
        };
        let host = lease.told.host;
        if !self.busy.contains(&host) || self.path(&host).is_none() {
            return self.tell(PeerInput::InstanceGone { instance: id });
        }
        let told = Arc::clone(&lease.told);
        let mut remote = RemoteInstance::clone(&told);
        remote.ready &= remote.known == Known::Called;
        self.keep_lease(lease.signed, remote, Some(told), now + LEASE, now);
    }

    /// When to ask the Router with whom flows are open: only while that keeps anything.
    pub(super) fn busy_due(&self) -> Option<Moment> {
        (self.leases.len() > 0).then_some(self.busy_at)
    }

    pub(super) fn busy_timeout(&mut self, now: Moment) {
        if self.busy_due().is_some_and(|due| due <= now) {
            self.busy_at = now + ASK_BUSY;
            self.tell(PeerInput::BusyWanted);
        }
    }

    /// Takes note of the hosts to which flows go on: what is known of them is used.
    pub(super) fn busy_with(&mut self, hosts: BTreeSet<HostId>, now: Moment) {
        let ids = hosts.iter().flat_map(|host| self.leases.of_host(host));
        let ids: Vec<InstanceId> = ids.collect();
        ids.into_iter().for_each(|id| self.leases.used(id, now));
        self.busy = hosts;
    }

    /// Ends all leases of a host.
    pub(super) fn drop_leases_of(&mut self, host: &HostId) {
        for instance in self.leases.of_host(host) {
            self.leases.remove(instance);
            self.tell(PeerInput::InstanceGone { instance });
        }
    }
}

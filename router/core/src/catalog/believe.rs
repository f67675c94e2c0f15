//! What is believed, of whom, and what follows from it for the tables.

use super::form::read_key;
use super::index::Place;
use super::origin::{Origin, Stored, Table, cost};
use super::record::{Record, Said};
use super::statement::{Instance, Key, Statement};
use super::{Catalog, CatalogDrop, Change, INTRODUCTIONS_MAX, ORIGINS_MAX};
use crate::host::{HostId, OriginEpoch};
use crate::moment::Moment;
use std::collections::btree_map::Entry;

impl Catalog {
    /// Believes a host's word from now on.
    pub(super) fn certify(&mut self, host: HostId, now: Moment) {
        let full = self.origins.len() >= ORIGINS_MAX;
        match self.origins.entry(host) {
            Entry::Occupied(_) => {}
            Entry::Vacant(_) if full => self.count(CatalogDrop::CatalogFull),
            Entry::Vacant(vacant) => {
                let up = self.up.contains(&host);
                vacant.insert(Origin::new(OriginEpoch::default(), up));
                self.introduced.remove(&host);
                self.repair.soon(now);
            }
        }
    }

    /// Forgets a host's word altogether.
    pub(super) fn forget_origin(&mut self, host: &HostId, now: Moment) {
        if *host == self.host {
            return;
        }
        if let Some(origin) = self.origins.remove(host) {
            for (_, _, stored) in origin.all() {
                self.strike(host, stored, now);
            }
            self.changes.insert(Change::Host(*host));
        }
    }

    /// Shows what a host says.
    pub(super) fn show(&mut self, host: &HostId, now: Moment) {
        if *host != self.host {
            self.up.insert(*host);
            self.set_up(host, true);
            self.repair.soon(now);
        }
    }

    /// Hides what a host says.
    pub(super) fn hide(&mut self, host: &HostId) {
        if self.up.remove(host) {
            self.set_up(host, false);
        }
    }

    /// Takes a record if its origin wrote it and it is news; says which it was. `listed`: another host
    /// named it as one that is so.
    pub(super) fn believe(
        &mut self,
        host: &HostId,
        wire: &[u8],
        listed: bool,
        now: Moment,
    ) -> Result<(), CatalogDrop> {
        let place = Record::place(wire)?;
        let Some(origin) = self.origins.get(host) else {
            self.introduce(host, wire)?;
            return Err(CatalogDrop::NotCertified);
        };
        if *host == self.host {
            return self.hear_of_myself(place, wire);
        }
        origin.wants(place, listed)?;
        let record = Record::open(host, wire)?;
        self.check_room(host, &record, wire)?;
        let origin = self.origins.get_mut(host);
        if !origin.is_some_and(|origin| origin.find(&record, wire)) {
            self.write_down(host, record, wire, now);
        }
        Ok(())
    }

    /// Whether there is room for a record, or it makes room for itself.
    pub(super) fn check_room(
        &self,
        host: &HostId,
        record: &Record,
        wire: &[u8],
    ) -> Result<(), CatalogDrop> {
        let Some(origin) = self.origins.get(host) else {
            return Err(CatalogDrop::NotCertified);
        };
        let grows = cost(wire.len()).saturating_sub(origin.cost_about(&record.key));
        if grows == 0 {
            Ok(())
        } else if origin.bytes + grows > self.limits.bytes_of_one_origin {
            Err(CatalogDrop::OriginFull)
        } else if self.bytes_held() + grows > self.limits.bytes {
            Err(CatalogDrop::CatalogFull)
        } else {
            Ok(())
        }
    }

    /// Writes a record down that was opened.
    pub(super) fn write_down(&mut self, host: &HostId, record: Record, wire: &[u8], now: Moment) {
        let Some(origin) = self.origins.get_mut(host) else {
            return;
        };
        let mut gone = Vec::new();
        if record.epoch > origin.life.epoch {
            gone.extend(origin.begin_life(record.epoch, now));
        }
        let part_of = |stored: &Stored| Record::read_again(host, &stored.wire).part;
        let displaced = origin.put(&record, wire, part_of);
        if record.said == Said::TakenBack {
            origin.remember_until(now + self.limits.taken_back_kept, record.sequence);
        }
        gone.extend(displaced.gone);
        for stored in gone {
            self.strike(host, &stored, now);
        }
        if displaced.kept.is_some() {
            self.enter(host, record);
        }
        self.settle(host, now);
    }

    /// Looks whether an origin's records add up.
    pub(super) fn settle(&mut self, host: &HostId, now: Moment) {
        let void = self.origins.get_mut(host).map(|origin| origin.settle(now));
        for stored in void.into_iter().flatten() {
            self.strike(host, &stored, now);
        }
    }

    /// Enters what a new record says into the tables.
    fn enter(&mut self, host: &HostId, record: Record) {
        let place = Place {
            origin: *host,
            epoch: record.epoch,
            sequence: record.sequence,
        };
        let table = match record.said {
            Said::So(Statement::Instance(instance)) => {
                let slot = self.index.insert(place, &instance);
                self.note_instance(instance);
                slot.map(Table::Instances)
            }
            Said::So(Statement::ServiceVip(vip)) => {
                let service = vip.service.clone();
                self.changes.insert(Change::ServiceVip(service.clone()));
                self.vips.entry(service).or_default().insert(*host, vip);
                Some(Table::Vips)
            }
            Said::So(Statement::Binding(binding)) => {
                if self.bindings.claim(host, &binding) {
                    self.changes.insert(Change::Binding(binding.identity));
                    Some(Table::Bindings)
                } else {
                    self.count(CatalogDrop::NotItsHolder);
                    None
                }
            }
            Said::So(Statement::Host { .. }) => {
                self.changes.insert(Change::Host(*host));
                None
            }
            Said::TakenBack => {
                if read_key(host, &record.key) == Some(Key::Host) {
                    self.changes.insert(Change::Host(*host));
                }
                None
            }
            Said::Unread => {
                self.count(CatalogDrop::Unread);
                None
            }
        };
        let origin = self.origins.get_mut(host);
        if let Some(stored) = origin.and_then(|origin| origin.get_mut(record.sequence)) {
            stored.known_to = table;
        }
    }

    /// Strikes what a record said out of the tables.
    pub(super) fn strike(&mut self, host: &HostId, stored: &Stored, now: Moment) {
        let Some(table) = stored.known_to else {
            return;
        };
        let statement = Record::read_again(host, &stored.wire).statement();
        match (table, statement) {
            (Table::Instances(slot), Some(Statement::Instance(instance))) => {
                self.index.remove(slot, &instance);
                self.note_instance(instance);
            }
            (Table::Vips, Some(Statement::ServiceVip(vip))) => {
                if let Some(claims) = self.vips.get_mut(&vip.service) {
                    claims.remove(host);
                    if claims.is_empty() {
                        self.vips.remove(&vip.service);
                    }
                }
                self.changes.insert(Change::ServiceVip(vip.service));
            }
            (Table::Bindings, Some(Statement::Binding(binding))) => {
                self.bindings.unclaim(&binding.identity, now);
            }
            _ => debug_assert!(false, "a table knows what it was told"),
        }
    }

    fn note_instance(&mut self, instance: Instance) {
        let service = instance.service.automaton;
        self.changes.insert(Change::Service(service));
    }

    /// A host that is not believed yet may say who it is.
    fn introduce(&mut self, host: &HostId, wire: &[u8]) -> Result<(), CatalogDrop> {
        let known = self.introduced.contains_key(host);
        if known || self.introduced.len() >= INTRODUCTIONS_MAX {
            return Ok(());
        }
        if let Some(Statement::Host { credential }) = Record::open(host, wire)?.statement() {
            self.introduced.insert(*host, credential);
        }
        Ok(())
    }

    /// What this host is said to have said: in a later life, if an older state of it was restored.
    fn hear_of_myself(
        &mut self,
        place: (OriginEpoch, u64),
        wire: &[u8],
    ) -> Result<(), CatalogDrop> {
        let own = &self.origins[&self.host];
        if place <= (own.life.epoch, own.highest) {
            return Err(CatalogDrop::Known);
        }
        let record = Record::open(&self.host, wire)?;
        self.outlived = self.outlived.max(Some(record.epoch));
        Ok(())
    }

    fn set_up(&mut self, host: &HostId, up: bool) {
        let Some(origin) = self.origins.get_mut(host).filter(|it| it.up != up) else {
            return;
        };
        origin.up = up;
        let records = origin.all();
        let instances =
            records.filter(|(_, _, it)| matches!(it.known_to, Some(Table::Instances(_))));
        for (_, _, stored) in instances {
            if let Some(Statement::Instance(instance)) =
                Record::read_again(host, &stored.wire).statement()
            {
                let service = instance.service.automaton;
                self.changes.insert(Change::Service(service));
            }
        }
        self.changes.insert(Change::Host(*host));
    }
}

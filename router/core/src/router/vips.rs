//! Which services hold a virtual IP of their own.

use super::Router;
use crate::composition::{Answering, Composition};
use crate::lease::PoolExhausted;
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::port::{Output, Record, ServiceVip};
use crate::service_id::ServiceId;

impl Router {
    /// Gives each service of `composition` that is answered by itself a virtual IP, all or none; what is
    /// to be recorded of it.
    pub(super) fn lease_vips(
        &mut self,
        composition: &Composition,
        now: Moment,
    ) -> Result<Vec<Record>, PoolExhausted> {
        let mut records = Vec::new();
        for (service, automaton) in &composition.automatons {
            if automaton.answer != Answering::Service {
                continue;
            }
            let id = ServiceId::of(&self.config.site, service);
            match self.identities.lease(service, id, now) {
                Ok(Some(vip)) => records.push(Record::ServiceVip {
                    service: service.clone(),
                    v4: vip.v4,
                }),
                Ok(None) => {}
                Err(error) => {
                    // Nothing was recorded; what was given rests like any other address.
                    self.unwanted_vips(now);
                    return Err(error);
                }
            }
        }
        Ok(records)
    }

    /// Takes the virtual IPs of services that are no longer declared, or no longer answered by
    /// themselves.
    pub(super) fn give_up_vips(&mut self, now: Moment) {
        for service in self.unwanted_vips(now) {
            let record = Record::ServiceVipFreed { service };
            self.outputs.push_back(Output::Record(record));
        }
    }

    /// Takes over the virtual IPs that an earlier run recorded.
    pub(super) fn adopt_vips(&mut self, recorded: &[ServiceVip], now: Moment) {
        for recorded in recorded {
            let id = ServiceId::of(&self.config.site, &recorded.service);
            self.identities.adopt_lease(recorded, id, now);
        }
        self.give_up_vips(now);
        for composition in self.compositions.clone().into_values() {
            // A crash came between its record and theirs. With no address left, instances are
            // answered until an operator applies it again and learns what is missing.
            let leased = self.lease_vips(&composition, now).unwrap_or_default();
            self.outputs.extend(leased.into_iter().map(Output::Record));
        }
    }

    fn unwanted_vips(&mut self, now: Moment) -> Vec<AutomatonName> {
        let compositions = &self.compositions;
        let wanted = |service: &AutomatonName| {
            let mut declared = compositions
                .values()
                .filter_map(|it| it.automatons.get(service));
            declared.any(|automaton| automaton.answer == Answering::Service)
        };
        self.identities.give_up_leases(wanted, now)
    }
}

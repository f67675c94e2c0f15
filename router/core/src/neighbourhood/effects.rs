//! What membership and catalog want done: for the links, for the Router, and of each other.

use super::drops::NeighbourhoodDrop;
use super::parts::{self, DATAGRAM_BYTES_MAX, MessageKind};
use super::{DatagramKind, Neighbourhood, NeighbourhoodOutput};
use crate::catalog::{CatalogInput, CatalogOutput, Change};
use crate::composition::CompositionName;
use crate::host::HostId;
use crate::membership::MembershipOutput;
use crate::moment::Moment;
use crate::peer::PeerInput;
use crate::sites::SitesInput;
use std::sync::Arc;

impl Neighbourhood {
    /// Carries out what membership and catalog want, until neither wants more.
    pub(super) fn drain(&mut self, now: Moment) {
        loop {
            if let Some(output) = self.membership.poll_output() {
                self.membership_wants(output, now);
            } else if let Some(output) = self.catalog.poll_output() {
                self.catalog_wants(output, now);
            } else if let Some(output) = self.sites.poll_output() {
                self.sites_want(output, now);
            } else {
                return;
            }
        }
    }

    fn membership_wants(&mut self, output: MembershipOutput, now: Moment) {
        match output {
            MembershipOutput::Datagram { to, bytes } => {
                self.send(to, DatagramKind::Membership, bytes);
            }
            MembershipOutput::Up { host, .. } => self.stands(host, true, now),
            MembershipOutput::Down { host } => self.stands(host, false, now),
            MembershipOutput::Echo { to } => {
                self.outputs.push_back(NeighbourhoodOutput::Echo { to });
            }
            MembershipOutput::Silent { host } => self.tell_router(PeerInput::Lost { host }),
            MembershipOutput::Left => self.outputs.push_back(NeighbourhoodOutput::Left),
        }
    }

    fn stands(&mut self, host: HostId, up: bool, now: Moment) {
        if let Some(standing) = self.hosts.get_mut(&host) {
            standing.up = up;
        }
        let input = match up {
            true => CatalogInput::Up(host),
            false => CatalogInput::Down(host),
        };
        self.tell_catalog(input, now);
        let input = match up {
            true => SitesInput::Up(host),
            false => SitesInput::Down(host),
        };
        self.tell_sites(input, now);
        self.weigh(&host);
        if up {
            // What it took back while it was hidden shows only now.
            for service in self.remotes.services_of(&host) {
                self.look_at(&service, now);
            }
        }
    }

    fn catalog_wants(&mut self, output: CatalogOutput, now: Moment) {
        match output {
            CatalogOutput::Publish { bytes } => self.flood(&bytes),
            CatalogOutput::Ask { to, bytes } => self.send_message(&[to], MessageKind::Ask, &bytes),
            CatalogOutput::Answer { to, bytes } => {
                self.send_message(&[to], MessageKind::Answer, &bytes);
            }
            CatalogOutput::Changed(Change::Service(name)) => self.look_at(&name, now),
            CatalogOutput::Changed(Change::Composition(name)) => {
                self.tell_sites(SitesInput::Composition(name.clone()), now);
                self.composition_changed(name);
            }
            // Virtual IPs of services are each host's own, identities do not move yet, and who a host
            // is comes from admission.
            CatalogOutput::Changed(
                Change::ServiceVip(_) | Change::Binding(_) | Change::Host(_),
            )
            | CatalogOutput::Introduced { .. } => {}
            CatalogOutput::Outlived(epoch) => {
                self.outputs.push_back(NeighbourhoodOutput::Outlived(epoch));
            }
        }
    }

    fn composition_changed(&mut self, name: CompositionName) {
        if let Some(signed) = self.catalog.signed_composition(&name) {
            self.outputs.push_back(NeighbourhoodOutput::Keep {
                composition: name.clone(),
                bytes: signed.to_bytes(),
            });
        }
        let withdrawn = self.catalog.composition_version(&name);
        if let Some(composition) = self.catalog.composition(&name) {
            let apply = NeighbourhoodOutput::Apply(Arc::clone(composition));
            self.outputs.push_back(apply);
        } else if withdrawn.is_some_and(|(_, withdrawn)| withdrawn) {
            self.outputs.push_back(NeighbourhoodOutput::Forget(name));
        }
    }

    /// Publishes what all are to know; while the overlay connects nobody of the site, it goes to each by
    /// its link.
    fn flood(&mut self, bytes: &[u8]) {
        if self.sites.flood(bytes) {
            return;
        }
        let live = self
            .hosts
            .iter()
            .filter(|(_, standing)| standing.told.is_some());
        let live: Vec<HostId> = live.map(|(host, _)| *host).collect();
        self.send_message(&live, MessageKind::Gossip, bytes);
    }

    fn send_message(&mut self, to: &[HostId], kind: MessageKind, bytes: &[u8]) {
        self.message = self.message.wrapping_add(1);
        for part in parts::split(kind, self.message, bytes) {
            for host in to {
                self.send(*host, DatagramKind::Catalog, part.clone());
            }
        }
    }

    pub(super) fn send(&mut self, to: HostId, kind: DatagramKind, bytes: Vec<u8>) {
        debug_assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
        let near = self.hosts.get(&to).and_then(|standing| standing.path);
        let link = near.or_else(|| self.sites.path(&to));
        if link.is_none() {
            self.count(NeighbourhoodDrop::NoLink);
            return;
        }
        let output = NeighbourhoodOutput::Datagram { to, kind, bytes };
        self.outputs.push_back(output);
    }
}

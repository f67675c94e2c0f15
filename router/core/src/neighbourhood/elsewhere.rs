//! Hosts of other sites, and what is wanted beyond the own.

use super::{Neighbour, Neighbourhood, NeighbourhoodOutput};
use crate::catalog::CatalogInput;
use crate::moment::Moment;
use crate::sites::{SitesInput, SitesOutput};

impl Neighbourhood {
    /// Takes note of a host of another site; its operators count here, too.
    pub(super) fn known_far(&mut self, neighbour: Neighbour, now: Moment) {
        let host = neighbour.host;
        if self.hosts.contains_key(&host) {
            self.unknown(&host, now);
        }
        let changed = match neighbour.is_operator {
            true => self.far_operators.insert(host),
            false => self.far_operators.remove(&host),
        };
        self.tell_sites(SitesInput::Known(neighbour), now);
        if let Some(path) = self.early_links.remove(&host) {
            self.tell_sites(SitesInput::Link(host, Some(path)), now);
        }
        if changed {
            self.operators_changed(now);
        }
    }

    pub(super) fn tell_sites(&mut self, input: SitesInput, now: Moment) {
        self.sites.handle_input(input, &self.catalog, now);
    }

    pub(super) fn sites_want(&mut self, output: SitesOutput, now: Moment) {
        let output = match output {
            SitesOutput::Gossip(bytes) => {
                return self.tell_catalog(CatalogInput::Gossip { bytes }, now);
            }
            SitesOutput::Composition(signed) => {
                return self.tell_catalog(CatalogInput::Apply(signed), now);
            }
            SitesOutput::Datagram(to, kind, bytes) => return self.send(to, kind, bytes),
            SitesOutput::Overlay(command) => NeighbourhoodOutput::Overlay(command),
            SitesOutput::Meet(host) => NeighbourhoodOutput::Meet { host },
            SitesOutput::Part(host) => NeighbourhoodOutput::Part { host },
            SitesOutput::Peer(input) => NeighbourhoodOutput::Peer(input),
        };
        self.outputs.push_back(output);
    }
}

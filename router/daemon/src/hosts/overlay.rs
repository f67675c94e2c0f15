//! The overlay and the links: who is met, and what is heard of gossip and of questions.

use super::{Hosts, host_link};
use margay_core::host::HostId;
use margay_core::moment::Moment;
use margay_core::neighbourhood::NeighbourhoodInput;
use margay_core::overlay::OverlayEvent;

impl Hosts {
    /// Takes what the overlay brought.
    pub fn overlay_said(&mut self, event: OverlayEvent, now: Moment) {
        tracing::trace!(?event, "the overlay says");
        let said = NeighbourhoodInput::Overlay(event);
        self.near.handle_input(said, now);
    }

    /// Wants a link to a member, until [`Hosts::part`].
    pub(super) fn meet(&mut self, host: HostId, now: Moment) {
        self.met.insert(host);
        self.look_for(host, now);
    }

    /// Lets a link go, unless it leads to whoever let this host in: by it comes the news of others.
    pub(super) fn part(&mut self, host: HostId, now: Moment) {
        self.met.remove(&host);
        let sponsor = self.own.entry.sponsor.as_ref();
        if sponsor.is_none_or(|sponsor| sponsor.host != host) {
            self.hang_up(host, now);
        }
    }

    pub(super) fn hang_up_on_all(&mut self, now: Moment) {
        for host in self.links.keys().copied().collect::<Vec<_>>() {
            self.hang_up(host, now);
        }
    }

    pub(super) fn hang_up(&mut self, host: HostId, now: Moment) {
        self.link
            .handle_input(host_link::Input::RemovePeer { host }, now);
    }
}

//! The overlay and the links: what is heard of gossip and of questions, and who is let go.

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

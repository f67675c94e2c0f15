//! The keeper's echo: what this host's peers ask it by, and what it asks them by.

use super::payload::Kind;
use super::{Hosts, host_link};
use crate::journal::random;
use anyhow::{Context, Result};
use margay_core::echo::{EchoSecret, EchoTicket, TicketName};
use margay_core::host::HostId;
use margay_core::moment::Moment;
use margay_core::neighbourhood::NeighbourhoodInput;
use margay_datapath::host_link::echo_socket;
use margay_keeper::{KeeperClient, KeeperError};
use std::os::fd::AsFd;

/// Has the keeper answer echoes on `port`, before the link's own socket is bound there. One of an older
/// version answers none: peers get no tickets then.
pub(super) fn answered_by(keeper: &KeeperClient, port: u16) -> Result<Option<EchoSecret>> {
    let socket = echo_socket::open(port);
    let socket = socket.with_context(|| format!("cannot open UDP port {port}"))?;
    match keeper.answer_echoes(port, socket.as_fd()) {
        Ok(secret) => Ok(Some(secret)),
        Err(KeeperError::Refused { reason }) => {
            tracing::warn!("while this daemon is away, flows to this host end: {reason}");
            Ok(None)
        }
        Err(error) => Err(error).context("the keeper answers no echoes"),
    }
}

impl Hosts {
    /// Asks a host, whose link is up, for a ticket.
    pub(super) fn want_ticket(&mut self, host: HostId, now: Moment) {
        self.send(host, Kind::TicketWanted, &[], now);
    }

    /// Asks all for a ticket that should have given one by now: a datagram was lost.
    pub(super) fn want_missing_tickets(&mut self, now: Moment) {
        let linked = self.links.keys().copied();
        let missing = linked.filter(|host| !self.link.holds_ticket(host));
        for host in missing.collect::<Vec<_>>() {
            self.want_ticket(host, now);
        }
    }

    /// Gives a ticket to a peer.
    pub(super) fn ticket_wanted(&mut self, from: HostId, now: Moment) {
        let Some(secret) = &self.echo_secret else {
            return;
        };
        match random() {
            Ok(name) => {
                let ticket = secret.ticket(TicketName(name));
                self.send(from, Kind::Ticket, &ticket.to_bytes(), now);
            }
            Err(error) => tracing::error!("a peer gets no ticket: {error:#}"),
        }
    }

    /// Takes a peer's ticket.
    pub(super) fn ticket_given(&mut self, host: HostId, ticket: &[u8], now: Moment) {
        match EchoTicket::from_bytes(ticket) {
            Some(ticket) => {
                let held = host_link::Input::HoldTicket { host, ticket };
                self.link.handle_input(held, now);
            }
            None => tracing::debug!(from = host.short(), "a ticket that is none"),
        }
    }

    /// Asks a host's keeper whether it lives.
    pub(super) fn ask_keeper(&mut self, host: HostId, now: Moment) {
        let ask = host_link::Input::AskKeeper { host };
        self.link.handle_input(ask, now);
    }

    /// A keeper lives, whatever its daemon does.
    pub(super) fn keeper_answered(&mut self, host: HostId, now: Moment) {
        self.near
            .handle_input(NeighbourhoodInput::Echoed { host }, now);
    }
}

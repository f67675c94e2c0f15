//! Echoes of hosts whose daemon is silent: asked of their keepers, by the tickets that they gave.

use super::HostLink;
use super::drop_reason::LinkDrop;
use super::peer::Peer;
use super::port::Output;
use margay_core::echo::{ECHO_BYTES, Echo, EchoTicket, TicketName};
use margay_core::host::HostId;
use std::collections::BTreeMap;

/// How many questions later an answer still counts: with two questions a second, the longest that a
/// datagram and its answer are under way.
const LATE_MAX: u64 = 8;

impl HostLink {
    /// Whether a host gave a ticket for its echo.
    pub fn holds_ticket(&self, host: &HostId) -> bool {
        self.keepers.held.contains_key(host)
    }

    pub(super) fn hold_ticket(&mut self, host: HostId, ticket: EchoTicket) {
        match self.peers.contains_key(&host) {
            true => self.keepers.hold(host, ticket),
            false => self.shared.drop(LinkDrop::NoSuchPeer),
        }
    }

    pub(super) fn ask_keeper(&mut self, host: &HostId) {
        let endpoint = self.peers.get(host).and_then(Peer::endpoint);
        match endpoint.zip(self.keepers.ask(host)) {
            Some((to, question)) => self.shared.transmit(to, question.to_vec()),
            None => self.shared.drop(LinkDrop::NoTicket),
        }
    }

    pub(super) fn keeper_answered(&mut self, answer: &Echo) {
        match self.keepers.take(answer) {
            Ok(host) => {
                let answered = Output::KeeperAnswered { host };
                self.shared.outputs.push_back(answered);
            }
            Err(reason) => self.shared.drop(reason),
        }
    }
}

/// The tickets that other hosts gave.
#[derive(Debug, Default)]
pub(super) struct KeeperEchoes {
    held: BTreeMap<HostId, Held>,
    holders: BTreeMap<TicketName, HostId>,
}

#[derive(Debug)]
struct Held {
    ticket: EchoTicket,
    /// The number of the last question.
    asked: u64,
    /// The highest that was answered: no answer counts twice.
    answered: u64,
}

impl KeeperEchoes {
    /// Takes a host's ticket, in place of the one before.
    pub fn hold(&mut self, host: HostId, ticket: EchoTicket) {
        self.forget(&host);
        self.holders.insert(ticket.name(), host);
        let held = Held {
            ticket,
            asked: 0,
            answered: 0,
        };
        self.held.insert(host, held);
    }

    /// Lets a host's ticket go.
    pub fn forget(&mut self, host: &HostId) {
        if let Some(held) = self.held.remove(host) {
            self.holders.remove(&held.ticket.name());
        }
    }

    /// The next question to a host.
    pub fn ask(&mut self, host: &HostId) -> Option<[u8; ECHO_BYTES]> {
        let held = self.held.get_mut(host)?;
        held.asked += 1;
        Some(held.ticket.ask(held.asked))
    }

    /// Whose keeper answers.
    pub fn take(&mut self, answer: &Echo) -> Result<HostId, LinkDrop> {
        let host = self.holders.get(&answer.ticket);
        let host = *host.ok_or(LinkDrop::UnknownSession)?;
        let held = self.held.get_mut(&host).ok_or(LinkDrop::UnknownSession)?;
        if !held.ticket.wrote(answer) {
            return Err(LinkDrop::Forged);
        }
        if answer.number <= held.answered || answer.number + LATE_MAX <= held.asked {
            return Err(LinkDrop::Replayed);
        }
        held.answered = answer.number;
        Ok(host)
    }
}

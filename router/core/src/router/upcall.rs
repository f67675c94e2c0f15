//! What the kernel hands up: first packets, and what belongs to flows but names none by itself.

use super::Router;
use super::remote::problem_for;
use crate::drop_reason::DropReason;
use crate::host::HostId;
use crate::id::EndpointIndex;
use crate::moment::Moment;
use crate::packet::{IcmpError, Upcalled};
use crate::port::{FlowEntries, Frame, Output};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Errors that wait until the flows that the kernel opened by itself are known. Adapters answer that
/// at once, so that hardly ever more than one waits.
pub(super) const ERRORS_WAITING_MAX: usize = 16;

/// First packets that wait until the flows that the kernel opened by itself are counted; no more, for
/// the same reason.
const UNCOUNTED_WAITING_MAX: usize = 64;

/// Frames that wait for news of flows that core does not know yet, and who sent them.
pub(super) type WaitingFrames = VecDeque<(EndpointIndex, Frame)>;

/// Who reports an error.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reporter {
    /// An instance of this host.
    Here(EndpointIndex),
    /// An instance of another host, by that host's word.
    There(HostId),
}

impl Router {
    /// Takes what no entry of the kernel's flow table matched.
    pub(super) fn upcall(&mut self, endpoint: EndpointIndex, frame: Frame, now: Moment) {
        let passed_on = match Upcalled::parse(frame.packet()) {
            Ok(Upcalled::Packet(_)) if self.may_exceed_its_limit(endpoint) => {
                return self.count_before(endpoint, frame, now);
            }
            Ok(Upcalled::Packet(packet)) => {
                return self.first_packet(endpoint, &packet, frame, now);
            }
            Ok(Upcalled::LaterFragment { source }) => self
                .own_address(endpoint, source)
                // Its first one came before it, so that by now the kernel can tell its flow, if one
                // was opened.
                .map(|()| Output::Forward(frame)),
            Ok(Upcalled::Error(error)) => {
                match self.translate(Reporter::Here(endpoint), frame.packet(), &error) {
                    Err(DropReason::ErrorWithoutFlow) if self.may_learn_of_flows() => {
                        self.errors.push_back((endpoint, frame));
                        self.flows.want_every_flow();
                        return self.drain_flows();
                    }
                    translated => translated,
                }
            }
            Err(reason) => Err(reason),
        };
        self.pass_on(endpoint, passed_on, now);
    }

    /// Translates what waited for news of flows that the kernel opened by itself.
    pub(super) fn translate_waiting(&mut self, now: Moment) {
        for (endpoint, frame) in std::mem::take(&mut self.errors) {
            if let Ok(Upcalled::Error(error)) = Upcalled::parse(frame.packet()) {
                let translated = self.translate(Reporter::Here(endpoint), frame.packet(), &error);
                self.pass_on(endpoint, translated, now);
            }
        }
    }

    /// Whether the kernel may have opened flows by which whoever is attached here reaches its limit.
    fn may_exceed_its_limit(&self, endpoint: EndpointIndex) -> bool {
        let client = self.endpoints.get(&endpoint);
        client.is_some_and(|client| self.flows.is_near_limit(*client)) && self.flows.is_uncounted()
    }

    /// Has the flows counted that the kernel opened, before one more is; it opens none meanwhile.
    fn count_before(&mut self, endpoint: EndpointIndex, frame: Frame, now: Moment) {
        if self.uncounted.len() >= UNCOUNTED_WAITING_MAX {
            return self.drops.count(DropReason::HeldPackets);
        }
        self.uncounted.push_back((endpoint, frame));
        self.client_changed(endpoint);
        self.flows.look_at_supply(now);
        self.drain_flows();
    }

    /// Goes on with first packets that waited for the count.
    pub(super) fn decide_counted(&mut self, now: Moment) {
        for (endpoint, frame) in std::mem::take(&mut self.uncounted) {
            if let Ok(Upcalled::Packet(packet)) = Upcalled::parse(frame.packet()) {
                self.first_packet(endpoint, &packet, frame, now);
            }
        }
    }

    fn may_learn_of_flows(&self) -> bool {
        self.flows.has_supplied() && self.errors.len() < ERRORS_WAITING_MAX
    }

    fn pass_on(
        &mut self,
        endpoint: EndpointIndex,
        passed_on: Result<Output, DropReason>,
        now: Moment,
    ) {
        match passed_on {
            Ok(output) => self.outputs.push_back(output),
            Err(reason) => {
                self.drops.count(reason);
                let sender = self.endpoints.get(&endpoint).copied();
                self.observe_refusal(sender, None, reason, now);
            }
        }
    }

    /// Makes sure that the endpoint's instance holds the address.
    fn own_address(&self, endpoint: EndpointIndex, source: IpAddr) -> Result<(), DropReason> {
        let sender = self.endpoints.get(&endpoint);
        let sender = sender.and_then(|id| self.instances.get(id));
        let holds = sender.ok_or(DropReason::UnknownEndpoint)?.holds(source);
        holds.then_some(()).ok_or(DropReason::ForgedSource)
    }

    /// Has the other side of a flow read an error as if it had come from whom it speaks with, about
    /// the packet as it wrote it.
    pub(super) fn translate(
        &self,
        reporter: Reporter,
        bytes: &[u8],
        error: &IcmpError<'_>,
    ) -> Result<Output, DropReason> {
        if let Reporter::Here(endpoint) = reporter {
            self.own_address(endpoint, error.source)?;
        }
        // An error travels as an answer to the packet that it is about.
        let key = error.about.reversed();
        let flow = self.flows.find(&key).ok_or(DropReason::ErrorWithoutFlow)?;
        let FlowEntries {
            client,
            server,
            forward,
            reverse,
        } = &flow.entries;
        let (direction, sender, receiver) = if forward.key == key {
            (forward, client, server)
        } else {
            (reverse, server, client)
        };
        let is_sender = match reporter {
            Reporter::Here(endpoint) => self.endpoints.get(&endpoint) == Some(sender),
            Reporter::There(host) => self.peers.instance(*sender).is_some_and(|remote| {
                remote.host == host && Router::holds_remotely(remote, error.source)
            }),
        };
        if !is_sender {
            return Err(DropReason::ForgedSource);
        }
        if let Some(remote) = self.peers.instance(*receiver) {
            return Ok(problem_for(remote, bytes));
        }
        let delivered = direction.delivered;
        let (from, to) = (delivered.source.ip(), delivered.destination.ip());
        let packet = error.translate(from, to, delivered.reversed());
        let receiver = self.instances.get(receiver);
        let network = receiver.and_then(|instance| instance.network);
        Ok(Output::Inject {
            endpoint: network.ok_or(DropReason::NoLocation)?.endpoint,
            packet: packet.ok_or(DropReason::NotUnderstood)?,
        })
    }
}

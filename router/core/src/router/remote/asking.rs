//! The client's side of a flow between hosts: first packets that wait for another host's answer.

use super::super::Router;
use super::super::first_packet::answer;
use super::agreed::Agreed;
use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use crate::flow_table::OpenRequest;
use crate::host::HostId;
use crate::id::{EndpointIndex, InstanceId};
use crate::moment::Moment;
use crate::packet::{self, Packet};
use crate::port::{Frame, Output};
use crate::service_frame::{Attempt, FrameKind, PACKET_BYTES_MAX, Request};
use rand::RngCore;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Flows that wait at once: what a thousand instances open in the time of one answer.
pub(in crate::router) const PENDING_MAX: usize = 1_024;

/// Flows of one instance that wait at once.
pub(in crate::router) const PENDING_PER_INSTANCE_MAX: usize = 128;

/// Packets of one flow that wait: a first one and what a client sends before it has an answer.
pub(super) const HELD_MAX: usize = 4;

/// How long an answer may take before it is asked for again; twice as long each time.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// How often is asked: after four seconds in all the client is told.
const ASKED_MAX: u32 = 4;

/// A flow that waits.
#[derive(Debug)]
pub(in crate::router) struct Waiting {
    pub(super) attempt: Attempt,
    to: HostId,
    pub(super) endpoint: EndpointIndex,
    pub(super) open: OpenRequest,
    ask: Request,
    /// The first packet and those that followed it.
    pub(super) held: Vec<Frame>,
    /// Whether the first packet came back from the asked host, so that no other may have it.
    came_back: bool,
    /// What the server's host answered, while no link to that host stands.
    pub(super) agreed: Option<Agreed>,
    asked: u32,
    pub(super) due: Moment,
}

impl Waiting {
    /// Whose word it waits for: the asked router's, or a link to the server's host.
    fn waits_for(&self) -> HostId {
        self.agreed
            .as_ref()
            .map_or(self.to, |agreed| agreed.accept.host)
    }
}

/// All flows that wait, by the key of their first packet.
#[derive(Debug, Default)]
pub(in crate::router) struct Pending {
    flows: BTreeMap<FlowKey, Waiting>,
    by_attempt: BTreeMap<Attempt, FlowKey>,
    due: BTreeSet<(Moment, Attempt)>,
}

impl Pending {
    pub(in crate::router) fn poll_timeout(&self) -> Option<Moment> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(super) fn insert(&mut self, waiting: Waiting) {
        self.by_attempt.insert(waiting.attempt, waiting.open.key);
        self.due.insert((waiting.due, waiting.attempt));
        self.flows.insert(waiting.open.key, waiting);
    }

    pub(super) fn remove(&mut self, attempt: Attempt) -> Option<Waiting> {
        let waiting = self.flows.remove(&self.by_attempt.remove(&attempt)?)?;
        self.due.remove(&(waiting.due, attempt));
        Some(waiting)
    }

    /// Notes that the first packet of a flow came back from the host that is asked for it.
    pub(super) fn came_back(&mut self, key: &FlowKey) {
        if let Some(waiting) = self.flows.get_mut(key) {
            waiting.came_back = true;
        }
    }

    /// Whether a flow waits whose packets the other host would see so.
    pub(super) fn has_delivered(&self, delivered: FlowKey) -> bool {
        self.flows.values().any(|it| it.open.delivered == delivered)
    }

    fn room_for(&self, client: InstanceId, delivered: FlowKey) -> Result<(), DropReason> {
        let of_client = self.flows.values();
        let of_client = of_client.filter(|it| it.open.client.instance == client);
        if self.flows.len() >= PENDING_MAX || of_client.count() >= PENDING_PER_INSTANCE_MAX {
            return Err(DropReason::HeldPackets);
        }
        (!self.has_delivered(delivered))
            .then_some(())
            .ok_or(DropReason::NoPortLeft)
    }

    pub(super) fn waiting_for(&self, host: &HostId) -> Vec<Attempt> {
        let flows = self.flows.values();
        let there = flows.filter(|waiting| waiting.waits_for() == *host);
        there.map(|waiting| waiting.attempt).collect()
    }
}

impl Router {
    /// Takes a packet whose flow waits for another host's answer, or for its acknowledgement; gives
    /// back what belongs to none.
    pub(in crate::router) fn hold(
        &mut self,
        endpoint: EndpointIndex,
        key: &FlowKey,
        frame: Frame,
    ) -> Option<Frame> {
        if self.reply_in_a_frame(endpoint, key, frame.packet()) {
            return None;
        }
        let waiting = self.pending.flows.get_mut(key);
        let Some(waiting) = waiting.filter(|waiting| waiting.endpoint == endpoint) else {
            return Some(frame);
        };
        let repeated = waiting
            .held
            .iter()
            .any(|held| held.packet() == frame.packet());
        if waiting.held.len() < HELD_MAX && !repeated {
            waiting.held.push(frame);
        } else if !repeated {
            self.drops.count(DropReason::HeldPackets);
        }
        None
    }

    /// Asks the host of the chosen server whether it takes the flow; gives the packet back with the
    /// reason if it cannot be asked.
    pub(in crate::router) fn ask(
        &mut self,
        endpoint: EndpointIndex,
        open: OpenRequest,
        frame: Frame,
        now: Moment,
    ) -> Result<(), (Frame, DropReason)> {
        let (open, to, ask) = match self.question(open, &frame, now) {
            Ok(question) => question,
            Err(reason) => return Err((frame, reason)),
        };
        let attempt = Attempt(self.random.next_u64());
        self.requests.requests_sent += 1;
        if self.flows.has_supplied() {
            // What the kernel has not taken this for may come meanwhile.
            self.flows.look_at_supply(now);
            self.drain_flows();
        }
        self.send_frame(to, attempt, FrameKind::Request(ask.clone()));
        self.pending.insert(Waiting {
            attempt,
            to,
            endpoint,
            open,
            ask,
            held: vec![frame],
            came_back: false,
            agreed: None,
            asked: 1,
            due: now + ASK_AGAIN,
        });
        Ok(())
    }

    /// Whom to ask for a flow, and how.
    fn question(
        &self,
        open: OpenRequest,
        frame: &Frame,
        now: Moment,
    ) -> Result<(OpenRequest, HostId, Request), DropReason> {
        let own = self.own_host().ok_or(DropReason::NoInstance)?;
        let server = self.peers.instance(open.server.instance);
        let to = server.and_then(|server| self.peers.asked_for(server));
        let to = to.ok_or(DropReason::NoInstance)?;
        let client = self.instances.get(&open.client.instance);
        let caller = client
            .ok_or(DropReason::UnknownEndpoint)?
            .plan
            .name
            .automaton
            .clone();
        let called = self.identities.find(open.key.destination.ip());
        let called = called.ok_or(DropReason::NoSuchAddress)?.clone();
        let service = self.services.find(&called.automaton);
        let declaration = &service.ok_or(DropReason::NoInstance)?.declaration;
        let open = OpenRequest {
            delivered: self.flows.try_open(&open, now)?,
            ..open
        };
        self.pending
            .room_for(open.client.instance, open.delivered)?;
        let packet = packet::address_to(frame.packet(), open.delivered);
        let packet = packet.filter(|packet| packet.len() <= PACKET_BYTES_MAX);
        let ask = Request {
            client: open.client.instance,
            caller,
            service: called.automaton,
            called: called.instance,
            composition: declaration.composition.clone(),
            version: declaration.version,
            hops: vec![own],
            packet: packet.ok_or(DropReason::NotCarried)?,
        };
        Ok((open, to, ask))
    }

    /// Asks again for answers that are late; who got none after all is told.
    pub(in crate::router) fn pending_timeout(&mut self, now: Moment) {
        while let Some((_, attempt)) = self.pending.due.first().copied().filter(|it| it.0 <= now) {
            let Some(mut waiting) = self.pending.remove(attempt) else {
                debug_assert!(false, "who is due waits");
                return;
            };
            if waiting.agreed.is_some() {
                self.refuse(waiting, DropReason::NoLink, now);
                continue;
            }
            if waiting.asked >= ASKED_MAX {
                self.refuse(waiting, DropReason::NoAnswer, now);
                continue;
            }
            waiting.due = now + ASK_AGAIN * (1 << waiting.asked);
            waiting.asked += 1;
            self.send_frame(waiting.to, attempt, FrameKind::Request(waiting.ask.clone()));
            self.pending.insert(waiting);
        }
    }

    /// Decides the flows anew that wait for `host`, which does not answer any more.
    pub(in crate::router) fn decide_pending_anew(&mut self, host: &HostId, now: Moment) {
        for attempt in self.pending.waiting_for(host) {
            let Some(waiting) = self.pending.remove(attempt) else {
                continue;
            };
            if waiting.came_back {
                self.drops.count(DropReason::NoAnswer);
            }
            for frame in waiting.held.into_iter().skip(waiting.came_back.into()) {
                self.upcall(waiting.endpoint, frame, now);
            }
        }
    }

    /// The asked host takes the flow not, nor does anybody that it knows.
    pub(in crate::router) fn rejected(
        &mut self,
        attempt: Attempt,
        reason: DropReason,
        now: Moment,
    ) -> Result<(), DropReason> {
        let waiting = self.pending.remove(attempt);
        let waiting = waiting.ok_or(DropReason::NotUnderstoodFrame)?;
        if waiting.agreed.is_some() || (learns_soon(reason) && waiting.asked < ASKED_MAX) {
            self.pending.insert(waiting);
            return Ok(());
        }
        self.refuse(waiting, reason, now);
        Ok(())
    }

    pub(super) fn refuse(&mut self, waiting: Waiting, reason: DropReason, now: Moment) {
        let (client, endpoint) = (waiting.open.client.instance, waiting.endpoint);
        self.drops.count(reason);
        self.observe_refusal(Some(client), Some(waiting.open.key), reason, now);
        for frame in waiting.held {
            let told = Packet::parse(frame.packet());
            let told = told
                .ok()
                .and_then(|packet| answer(&packet, frame.packet(), reason));
            if let Some(packet) = told {
                self.outputs.push_back(Output::Inject { endpoint, packet });
            }
        }
    }
}

/// Whether another host refuses for what it has only not heard of yet: it is asked again.
fn learns_soon(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::UnknownCaller | DropReason::PolicyUnknown | DropReason::NoLink
    )
}

//! The server's side of a flow between hosts: what was accepted, until the client's host has its
//! entries.

use super::super::Router;
use super::super::decision::{Draws, Server};
use super::between;
use crate::drop_reason::DropReason;
use crate::flow_key::{FlowKey, Protocol};
use crate::flow_table::OpenRequest;
use crate::host::HostId;
use crate::id::{EndpointIndex, InstanceId};
use crate::moment::Moment;
use crate::packet::{self, Packet};
use crate::port::Output;
use crate::service_frame::{Accept, Attempt, FrameKind, HOPS_MAX, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Flows that wait for their acknowledgement at once.
pub(in crate::router) const ACCEPTED_MAX: usize = 4_096;

/// Those of them that one host may have asked for: none takes the place of all.
pub(in crate::router) const ACCEPTED_PER_HOST_MAX: usize = 1_024;

/// How long an acknowledgement may take: longer than the client's host asks.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(8);

/// How long a datagram may take that was on its way up when its flow's entries opened.
const ON_ITS_WAY_UP: Duration = Duration::from_secs(1);

/// A flow that this host has accepted.
#[derive(Debug)]
struct Offer {
    client_host: HostId,
    attempt: Attempt,
    open: OpenRequest,
    /// As it is repeated.
    accept: Accept,
    /// Whether its entries stand by now; it is remembered for what was on its way up then.
    acknowledged: bool,
    until: Moment,
}

/// All flows that were accepted and not acknowledged, by the key of their packets.
#[derive(Debug, Default)]
pub(in crate::router) struct Accepted {
    offers: BTreeMap<FlowKey, Offer>,
    /// Attempts are told apart only by the host that drew them.
    by_attempt: BTreeMap<(HostId, Attempt), FlowKey>,
    until: BTreeSet<(Moment, FlowKey)>,
}

impl Accepted {
    pub(in crate::router) fn poll_timeout(&self) -> Option<Moment> {
        self.until.first().map(|(until, _)| *until)
    }

    /// Forgets one whose time is over.
    fn give_up(&mut self, now: Moment) -> Option<Offer> {
        let (_, key) = self.until.first().copied().filter(|it| it.0 <= now)?;
        self.remove(&key)
    }

    /// Whether one more flow may be accepted of a host, in that attempt.
    fn room_for(&self, client_host: HostId, attempt: Attempt) -> Result<(), DropReason> {
        if self.by_attempt.contains_key(&(client_host, attempt)) {
            return Err(DropReason::NotUnderstoodFrame);
        }
        let all = (client_host, Attempt(0))..=(client_host, Attempt(u64::MAX));
        let full = self.offers.len() >= ACCEPTED_MAX
            || self.by_attempt.range(all).count() >= ACCEPTED_PER_HOST_MAX;
        if full {
            return Err(DropReason::HeldPackets);
        }
        Ok(())
    }

    fn key_of(&self, client_host: HostId, attempt: Attempt) -> Option<FlowKey> {
        self.by_attempt.get(&(client_host, attempt)).copied()
    }

    /// Remembers one for datagrams that are on their way up, if there is room.
    fn acknowledged(&mut self, offer: Offer, now: Moment) {
        if offer.open.key.protocol == Protocol::Udp && self.offers.len() < ACCEPTED_MAX / 2 {
            self.insert(Offer {
                acknowledged: true,
                until: now + ON_ITS_WAY_UP,
                ..offer
            });
        }
    }

    fn insert(&mut self, offer: Offer) {
        let key = offer.open.key;
        self.remove(&key);
        let attempt = (offer.client_host, offer.attempt);
        self.by_attempt.insert(attempt, key);
        self.until.insert((offer.until, key));
        self.offers.insert(key, offer);
    }

    fn remove(&mut self, key: &FlowKey) -> Option<Offer> {
        let offer = self.offers.remove(key)?;
        self.by_attempt.remove(&(offer.client_host, offer.attempt));
        self.until.remove(&(offer.until, *key));
        Some(offer)
    }
}

impl Router {
    /// Lets nothing in any more that nobody acknowledged.
    pub(in crate::router) fn accepted_timeout(&mut self, now: Moment) {
        while let Some(offer) = self.accepted.give_up(now) {
            if !offer.acknowledged {
                self.flows.shut_out(&offer.open.key, now);
            }
        }
    }

    /// Another host asks for a flow: accepts it, or asks the next router; the error is the answer.
    pub(in crate::router) fn requested(
        &mut self,
        from: HostId,
        attempt: Attempt,
        request: Request,
        now: Moment,
    ) -> Result<(), DropReason> {
        let packet = Packet::parse(&request.packet)?;
        let repeated = self.accepted.offers.get(&packet.key);
        if let Some(offer) = repeated.filter(|offer| offer.attempt == attempt) {
            let accept = offer.accept.clone();
            self.send_back(attempt, FrameKind::Accept(accept));
            return Ok(());
        }
        let client_host = self.check_request(from, &request, &packet)?;
        let draws = Draws::from(&mut self.random);
        let (server, choice) = self.decide_for(&request, &packet, draws)?;
        let mut delivered = packet.key;
        // A caller address leads to its holder too, and stays as it was called.
        let address = match packet.key.destination.ip() {
            called if server.holds(called) => called,
            called => server.called(called.is_ipv4()),
        };
        delivered.destination.set_ip(address);
        let bytes = packet::address_to(&request.packet, delivered);
        let bytes = bytes.ok_or(DropReason::NotCarried)?;
        let instance = match server {
            Server::Here(instance) => instance,
            Server::There(remote, _) => {
                let to = self.peers.asked_for(remote).ok_or(DropReason::NoLink)?;
                return self.pass_on_request(to, attempt, request, bytes, now);
            }
        };
        let (party, network) = (instance.party(), instance.network);
        let client = self.party_at(request.client, client_host);
        let open = OpenRequest {
            key: delivered,
            delivered,
            client: client.ok_or(DropReason::NoLocation)?,
            server: party.ok_or(DropReason::NoInstance)?,
            choice,
            hops: between(&request.hops),
        };
        let endpoint = network.ok_or(DropReason::NoInstance)?.endpoint;
        self.replace_older(&open, now);
        self.accepted.room_for(client_host, attempt)?;
        // Before the answer goes out: the client's next packet may overtake the acknowledgement.
        self.flows.let_in(open, now)?;
        self.drain_flows();
        let scope = self.admit_further(&open, endpoint, now);
        let accept = Accept {
            server: open.server.instance,
            address,
            host: self.own_host().ok_or(DropReason::NoInstance)?,
            hops: request.hops,
            reply: None,
            scope,
        };
        self.requests.requests_accepted += 1;
        let answer = accept.clone();
        self.accepted.insert(Offer {
            client_host,
            attempt,
            open,
            accept,
            acknowledged: false,
            until: now + ACKNOWLEDGED_WITHIN,
        });
        let packet = bytes;
        self.outputs.push_back(Output::Inject { endpoint, packet });
        self.send_back(attempt, FrameKind::Accept(answer));
        Ok(())
    }

    /// The same client may begin anew with the same port, which ends what it began before.
    fn replace_older(&mut self, open: &OpenRequest, now: Moment) {
        let older = self.accepted.offers.get(&open.key);
        if older.is_some_and(|older| older.open.client == open.client) {
            self.accepted.remove(&open.key);
            self.flows.shut_out(&open.key, now);
        }
    }

    /// Whether the request is what an honest host sends; answers the client's host.
    fn check_request(
        &self,
        from: HostId,
        request: &Request,
        packet: &Packet,
    ) -> Result<HostId, DropReason> {
        if !packet.opens_a_flow() {
            return Err(DropReason::NotAFirstPacket);
        }
        let own = self.own_host();
        if request.hops.iter().any(|hop| Some(*hop) == own) {
            return Err(DropReason::TooManyHops);
        }
        let client = self.peers.instance(request.client);
        let client = client.ok_or(DropReason::UnknownCaller)?;
        let honest = request.hops.last() == Some(&from)
            && request.hops.first() == Some(&client.host)
            && client.name.automaton == request.caller
            && Router::holds_remotely(client, packet.key.source.ip());
        honest
            .then_some(client.host)
            .ok_or(DropReason::ForgedSource)
    }

    /// Asks the router that is nearer to the server.
    fn pass_on_request(
        &mut self,
        to: HostId,
        attempt: Attempt,
        request: Request,
        packet: Vec<u8>,
        now: Moment,
    ) -> Result<(), DropReason> {
        let own = self.own_host().ok_or(DropReason::NoInstance)?;
        let mut hops = request.hops.clone();
        hops.push(own);
        if hops.len() > HOPS_MAX || hops.contains(&to) {
            return Err(DropReason::TooManyHops);
        }
        let request = Request {
            hops,
            packet,
            ..request
        };
        self.requests.requests_passed_on += 1;
        self.passed_on.note(attempt, (), now);
        self.send_frame(to, attempt, FrameKind::Request(request));
        Ok(())
    }

    /// The client's host has its entries: from now on the kernel carries both directions.
    pub(in crate::router) fn acknowledged(
        &mut self,
        from: HostId,
        attempt: Attempt,
        now: Moment,
    ) -> Result<(), DropReason> {
        let key = self.accepted.key_of(from, attempt);
        let offer = key.and_then(|key| self.accepted.remove(&key));
        let offer = offer.ok_or(DropReason::NotUnderstoodFrame)?;
        if offer.acknowledged {
            // It was repeated: more than one reply travelled in a frame.
            self.accepted.insert(offer);
            return Ok(());
        }
        if !self.flows.open_answers(&offer.open.key) {
            return Err(DropReason::NotUnderstoodFrame);
        }
        self.note_load(offer.open.server.instance, now);
        self.drain_flows();
        self.accepted.acknowledged(offer, now);
        Ok(())
    }

    /// Sends a reply along whose flow is accepted and not acknowledged; tells whether it was one.
    pub(in crate::router) fn reply_in_a_frame(
        &mut self,
        endpoint: EndpointIndex,
        key: &FlowKey,
        packet: &[u8],
    ) -> bool {
        let sender = self.endpoints.get(&endpoint).copied();
        let called = self.as_called(sender, key);
        let Some(offer) = self.accepted.offers.get_mut(&called.reversed()) else {
            return false;
        };
        // The kernel finds its flow by now, unless it is from another address than was called.
        if offer.acknowledged && called == *key {
            return false;
        }
        if sender != Some(offer.open.server.instance) {
            return false;
        }
        // Its checksum may have been left to a device that it never reached.
        let reply = packet::address_to(packet, called);
        if reply.is_none() {
            self.drops.count(DropReason::NotCarried);
            return true;
        }
        offer.accept.reply = reply;
        let (attempt, accept) = (offer.attempt, offer.accept.clone());
        self.send_back(attempt, FrameKind::Accept(accept));
        true
    }

    /// A datagram's key as if its sender had answered from the address that was called: a server that
    /// is bound to none answers from the one that it calls from.
    fn as_called(&self, sender: Option<InstanceId>, key: &FlowKey) -> FlowKey {
        let mut called = *key;
        let sender = sender.and_then(|id| self.instances.get(&id));
        let Some(addresses) = sender.map(|sender| sender.plan.addresses) else {
            return called;
        };
        let (from, answers) = (addresses.caller, addresses.called);
        let source = key.source.ip();
        if key.protocol == Protocol::Udp && source == IpAddr::V4(from.v4) {
            called.source.set_ip(answers.v4.into());
        } else if key.protocol == Protocol::Udp && source == IpAddr::V6(from.v6) {
            called.source.set_ip(answers.v6.into());
        }
        called
    }
}

//! The client's side of flows that two kernels open between them: which servers' hosts admit them, and
//! what becomes of first packets that come back.

use super::super::Router;
use super::super::aged::AgedMap;
use super::super::decision::{Arrival, Count, Draws};
use crate::aggregate::{AGGREGATES_MAX, AggregateKey, Epoch, RemoteTarget};
use crate::drop_reason::DropReason;
use crate::flow_key::Protocol;
use crate::flow_table::OpenRequest;
use crate::host::HostId;
use crate::id::{EndpointIndex, InstanceId};
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::packet::{self, Packet};
use crate::port::{Frame, Output};
use crate::service_frame::{Accept, Scope};
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

/// Packets that came back and wait until the flows are known that the kernel opened; adapters answer
/// that at once, so that hardly ever more than a few wait.
const RETURNED_MAX: usize = 128;

/// That a server's host admits a client.
#[derive(Clone, Copy, Debug)]
struct Grant {
    server: InstanceId,
    host: HostId,
    policy_epoch: Epoch,
}

/// A packet that came back.
#[derive(Debug)]
struct Returned {
    from: HostId,
    packet: Vec<u8>,
    policy_epoch: Epoch,
}

/// What other hosts admit of instances here, by client and by what their packets are delivered to.
#[derive(Debug)]
pub(in crate::router) struct Grants {
    open: AgedMap<AggregateKey, Grant>,
    /// Packets that came back and belong to no flow that is known yet.
    returned: VecDeque<Returned>,
}

impl Default for Grants {
    fn default() -> Self {
        Grants {
            open: AgedMap::new(AGGREGATES_MAX),
            returned: VecDeque::new(),
        }
    }
}

impl Grants {
    /// Forgets what a host admits: it may have forgotten itself.
    pub(in crate::router) fn forget_host(&mut self, host: &HostId) {
        self.open.take_where(|_, grant| grant.host == *host);
    }

    /// Forgets what others admit of the instance at this endpoint.
    pub(in crate::router) fn forget_client(&mut self, client: EndpointIndex) {
        let lowest = AggregateKey::lowest(client);
        self.open.take_from(lowest.., |key| key.client == client);
    }
}

impl Router {
    /// Takes note that further flows like this one need not be asked for, if its server's host says so.
    pub(super) fn note_grant(&mut self, open: &OpenRequest, accept: &Accept) {
        let client = self.instances.get(&open.client.instance);
        let network = client.and_then(|client| client.network);
        if let (Some(network), Scope::Aggregate { policy_epoch }) = (network, accept.scope) {
            let key = AggregateKey::covering(network.endpoint, open.delivered);
            let grant = Grant {
                server: accept.server,
                host: accept.host,
                policy_epoch,
            };
            self.grants.open.insert(key, grant);
        }
    }

    /// An instance of another host as a target of this aggregate, if that host admits it.
    pub(in crate::router) fn granted_target(
        &self,
        key: AggregateKey,
        id: InstanceId,
    ) -> Option<RemoteTarget> {
        let remote = self.peers.taking_flows(id)?;
        let address = match Router::holds_remotely(remote, key.called.ip()) {
            true => key.called.ip(),
            false if key.called.is_ipv4() => remote.addresses.called.v4.into(),
            false => remote.addresses.called.v6.into(),
        };
        let delivered = AggregateKey {
            called: SocketAddr::new(address, key.called.port()),
            ..key
        };
        let grant = self.grants.open.get(&delivered)?;
        if grant.server != id || grant.host != remote.host {
            return None;
        }
        Some(RemoteTarget {
            instance: id,
            location: self.peers.party(id, &remote.host)?.location,
            address,
        })
    }

    /// A first packet that the kernel sent comes back: asks for its flow.
    pub(super) fn unadmitted(
        &mut self,
        from: HostId,
        packet: Vec<u8>,
        policy_epoch: Epoch,
        now: Moment,
    ) -> Result<(), DropReason> {
        let returned = Returned {
            from,
            packet,
            policy_epoch,
        };
        match self.ask_instead(&returned, now) {
            Err(DropReason::NotUnderstoodFrame) if self.may_hear_of_flows() => {
                self.grants.returned.push_back(returned);
                self.flows.want_every_flow();
                self.drain_flows();
                Ok(())
            }
            asked => asked,
        }
    }

    fn may_hear_of_flows(&self) -> bool {
        self.flows.has_supplied() && self.grants.returned.len() < RETURNED_MAX
    }

    /// Asks for the flows of packets that waited for news of what the kernel opened.
    pub(in crate::router) fn ask_for_waiting(&mut self, now: Moment) {
        for returned in std::mem::take(&mut self.grants.returned) {
            if let Err(reason) = self.ask_instead(&returned, now) {
                self.drops.count(reason);
            }
        }
    }

    /// Closes the packet's flow, has the kernel open none like it, and decides it anew.
    fn ask_instead(&mut self, returned: &Returned, now: Moment) -> Result<(), DropReason> {
        let key = Packet::parse(&returned.packet)?.key;
        if self.pending.has_delivered(key) {
            // It was repeated: its flow is asked for by now.
            return Ok(());
        }
        let flow = self.flows.find(&key.reversed());
        let flow = flow.filter(|flow| flow.entries.forward.delivered == key);
        let flow = flow.ok_or(DropReason::NotUnderstoodFrame)?;
        let (forward, client) = (flow.entries.forward.key, flow.entries.client);
        let server = self.peers.instance(flow.entries.server);
        let server = server.filter(|server| server.host == returned.from);
        let service = server.ok_or(DropReason::ForgedPeer)?.name.automaton.clone();
        let network = self.instances.get(&client).and_then(|it| it.network);
        let endpoint = network.ok_or(DropReason::NoLocation)?.endpoint;
        let packet = packet::address_to(&returned.packet, forward);
        let packet = packet.ok_or(DropReason::NotCarried)?;
        self.end_grants(returned, AggregateKey::covering(endpoint, key), service);
        self.flows.give_back(&forward, now);
        self.drain_flows();
        match key.protocol {
            Protocol::Tcp => {
                let again = Output::DecideAgain { endpoint, packet };
                self.outputs.push_back(again);
                Ok(())
            }
            Protocol::Udp | Protocol::Echo => self.ask_back(endpoint, packet, returned.from, now),
        }
    }

    /// Asks for the flow of a packet that came back, if the host that sent it back is to be asked. What
    /// a datagram says is that host's word by now: it goes there or nowhere.
    fn ask_back(
        &mut self,
        endpoint: EndpointIndex,
        bytes: Vec<u8>,
        to: HostId,
        now: Moment,
    ) -> Result<(), DropReason> {
        let packet = Packet::parse(&bytes)?;
        let draws = Draws::from(&mut self.random);
        let caller = self.endpoints.get(&endpoint);
        let caller = caller.and_then(|id| self.instances.get(id));
        let caller = caller.ok_or(DropReason::UnknownEndpoint)?;
        let arrival = Arrival {
            key: packet.key,
            opens: packet.opens_a_flow(),
        };
        let open = self.decide(caller, arrival, draws, &mut Count)?;
        let server = self.peers.instance(open.server.instance);
        if server.is_none_or(|server| server.host != to) {
            return Err(DropReason::NoAdmission);
        }
        let frame = Frame {
            buffer: bytes,
            packet_start: 0,
        };
        let asked = self.ask(endpoint, open, frame, now);
        asked.map_err(|(_, reason)| reason)?;
        self.pending.came_back(&packet.key);
        Ok(())
    }

    /// Ends what depends on the admission that a packet found missing, and on others that its host
    /// made by an older policy.
    fn end_grants(&mut self, returned: &Returned, missing: AggregateKey, service: AutomatonName) {
        let ended = self.grants.open.take_where(|key, grant| {
            let is_over = grant.policy_epoch != returned.policy_epoch || *key == missing;
            grant.host == returned.from && is_over
        });
        let servers = ended.iter().map(|(_, grant)| grant.server);
        let services = servers.filter_map(|server| self.automaton_of(server).cloned());
        let services: BTreeSet<_> = services.chain([service]).collect();
        for service in services {
            self.service_changed(&service);
        }
    }
}

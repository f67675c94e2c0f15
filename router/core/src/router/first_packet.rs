//! The first packet of a flow: who calls whom, may they, and which instance serves them.

use super::Router;
use super::identities::Holder;
use super::instances::Instance;
use super::services::Service;
use crate::balance::{Balancer, Candidate, Draw};
use crate::composition::{Affinity, Balance};
use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use crate::flow_table::OpenRequest;
use crate::id::{EndpointIndex, InstanceId};
use crate::moment::Moment;
use crate::packet::{self, Packet, Transport, Unreachable};
use crate::port::{Frame, Output};
use crate::service_table::Action;
use rand::RngCore;
use std::net::IpAddr;
use std::num::NonZeroU32;

impl Router {
    /// Opens a flow for the packet and sends it on its way, or refuses it with a reason.
    pub(super) fn upcall(&mut self, endpoint: EndpointIndex, frame: Frame, now: Moment) {
        let caller = self.endpoints.get(&endpoint).copied();
        let parsed = Packet::parse(frame.packet());
        let decided = parsed.and_then(|packet| self.admit(caller, &packet, now));
        match decided {
            Ok(()) => {
                self.drain_flows();
                self.outputs.push_back(Output::Forward(frame));
            }
            Err(reason) => {
                self.drops.count(reason);
                let answer = parsed
                    .ok()
                    .and_then(|packet| answer(&packet, frame.packet(), reason));
                if let Some(packet) = answer {
                    self.outputs.push_back(Output::Inject { endpoint, packet });
                }
            }
        }
    }

    /// Makes sure that the packet's flow is open.
    fn admit(
        &mut self,
        caller: Option<InstanceId>,
        packet: &Packet,
        now: Moment,
    ) -> Result<(), DropReason> {
        let caller = caller.and_then(|id| self.instances.get(&id));
        let caller = caller.ok_or(DropReason::UnknownEndpoint)?;
        // Several packets can be on their way up before the first has opened their flow.
        if let Some(direction) = self.flows.direction(&packet.key) {
            let own = caller.network.map(|network| network.ifindex);
            let may = own == Some(direction.ingress_ifindex);
            return may.then_some(()).ok_or(DropReason::ForgedSource);
        }
        if !caller.holds(packet.key.source.ip()) {
            return Err(DropReason::ForgedSource);
        }
        if !packet.opens_a_flow() {
            return Err(DropReason::NotAFirstPacket);
        }
        let id = caller.plan.instance;
        let request = self.bind(id, packet.key)?;
        self.flows.open(request, now)?;
        self.note_load(request.server.instance, now);
        Ok(())
    }

    /// Decides who serves a flow of `caller`.
    fn bind(&mut self, caller: InstanceId, key: FlowKey) -> Result<OpenRequest, DropReason> {
        let called = self.identities.find(key.destination.ip());
        let called = called.ok_or(DropReason::NoSuchAddress)?;
        let client = self
            .instances
            .get(&caller)
            .ok_or(DropReason::UnknownEndpoint)?;
        let permissions = &self.services.permissions;
        let (from, to) = (&client.plan.name.automaton, &called.automaton);
        if !permissions.permit(from, to, key.destination.port(), key.protocol) {
            return Err(DropReason::NotPermitted);
        }
        let service = self.services.find_mut(to).ok_or(DropReason::NoInstance)?;
        service.turn += 1;
        let (turn, id) = (service.turn, service.id);
        match self.services.table.choose(id, self.random.next_u64()) {
            Some(Action::Demux) => {}
            Some(Action::Drop) => return Err(DropReason::ServiceDropped),
            // There is no other host yet that could decide.
            Some(Action::Forward(_)) | None => return Err(DropReason::NoInstance),
        }
        let random = self.random.next_u64();
        let server = self
            .target(caller, called, Draw { turn, random })
            .ok_or(DropReason::NoInstance)?;
        let delivered = deliver(key, caller, called, server);
        Ok(OpenRequest {
            key,
            delivered,
            client: client.party().ok_or(DropReason::UnknownEndpoint)?,
            server: server.party().ok_or(DropReason::NoInstance)?,
        })
    }

    /// The called instance if it takes flows, else the balancer's choice among its siblings.
    fn target(&self, caller: InstanceId, called: &Holder, draw: Draw) -> Option<&Instance> {
        if let Some(instance) = self.taking_flows(called.instance) {
            return Some(instance);
        }
        let service = self.services.find(&called.automaton)?;
        if service.affinity == Affinity::Strict {
            return None;
        }
        let balancer = self.balancer(service);
        let chosen = balancer.choose(caller, draw)?;
        self.instances.get(&balancer.candidates()[chosen].instance)
    }

    /// Balances between the instances of `service` that take flows now.
    pub(super) fn balancer(&self, service: &Service) -> Balancer {
        let ids = service.instances.iter();
        let ready = ids.filter_map(|id| self.taking_flows(*id));
        let candidate = |instance: &Instance| Candidate {
            instance: instance.plan.instance,
            weight: NonZeroU32::MIN,
            load: self.flows.load(instance.plan.instance),
        };
        Balancer::new(service.balance, ready.map(candidate).collect())
    }

    /// An instance, if it takes new flows.
    fn taking_flows(&self, id: InstanceId) -> Option<&Instance> {
        let instance = self.instances.get(&id)?;
        (instance.life.is_ready() && instance.network.is_some()).then_some(instance)
    }

    /// Notes that `server` took a flow, if DNS orders its answers by that.
    fn note_load(&mut self, server: InstanceId, now: Moment) {
        let automaton = self
            .instances
            .get(&server)
            .map(|instance| &instance.plan.name.automaton);
        let service = automaton.and_then(|automaton| self.services.find(automaton));
        if service.is_some_and(|service| service.balance == Balance::TwoChoices) {
            self.names.load_changed(now);
        }
    }
}

/// The packet as `server` shall see it.
fn deliver(key: FlowKey, caller: InstanceId, called: &Holder, server: &Instance) -> FlowKey {
    let mut delivered = key;
    let addresses = server.plan.addresses.called;
    if server.plan.instance != called.instance {
        delivered.destination.set_ip(match key.destination.ip() {
            IpAddr::V4(_) => addresses.v4.into(),
            IpAddr::V6(_) => addresses.v6.into(),
        });
    }
    // No kernel takes a packet from outside that claims to come from itself: it comes from the
    // address that was called, whose own holder it cannot be.
    if server.plan.instance == caller {
        delivered.source.set_ip(key.destination.ip());
    }
    delivered
}

/// What the sender of a refused packet is told; `None`: nothing, for it forged or would not
/// understand.
fn answer(packet: &Packet, original: &[u8], reason: DropReason) -> Option<Vec<u8>> {
    let why = match reason {
        DropReason::NotPermitted | DropReason::ServiceDropped => Unreachable::Prohibited,
        DropReason::NoInstance => Unreachable::Port,
        DropReason::NoSuchAddress
        | DropReason::FlowTableFull
        | DropReason::FlowLimitInstance
        | DropReason::NoPortLeft => Unreachable::Host,
        DropReason::NotAFirstPacket => return packet::reset(packet),
        _ => return None,
    };
    match packet.transport {
        Transport::Tcp(_) => packet::reset(packet),
        _ => packet::unreachable(packet, original, why),
    }
}

//! The first packet of a flow: its flow is opened, or its sender is told why not.

use super::Router;
use super::decision::{Arrival, Count, Draws};
use super::instances::Network;
use crate::drop_reason::DropReason;
use crate::flow_key::Protocol;
use crate::flow_table::OpenRequest;
use crate::id::{EndpointIndex, InstanceId};
use crate::moment::Moment;
use crate::packet::{self, Packet, Unreachable};
use crate::port::{Frame, Output};
use crate::way::Ingress;

impl Router {
    /// Opens a flow for the packet and sends it on its way, or refuses it with a reason.
    pub(super) fn first_packet(
        &mut self,
        endpoint: EndpointIndex,
        packet: &Packet,
        frame: Frame,
        now: Moment,
    ) {
        let caller = self.endpoints.get(&endpoint).copied();
        let frame = match self.hold(endpoint, &packet.key, frame) {
            Some(frame) => frame,
            None => return,
        };
        let open = match self.admit(caller, packet, now) {
            Ok(open) => open,
            Err(reason) => match self.hold_for_search(endpoint, packet, frame, reason, now) {
                Ok(()) => return,
                Err((frame, reason)) => {
                    return self.refuse_first(endpoint, packet, &frame, reason, now);
                }
            },
        };
        match open {
            Some(open) if matches!(open.server.ingress, Ingress::Peer(_)) => {
                if let Err((frame, reason)) = self.ask(endpoint, open, frame, now) {
                    self.refuse_first(endpoint, packet, &frame, reason, now);
                }
            }
            opened => {
                self.drain_flows();
                self.outputs.push_back(Output::Forward(frame));
                if let Some(request) = opened {
                    self.aggregate(&request, now);
                }
            }
        }
    }

    fn refuse_first(
        &mut self,
        endpoint: EndpointIndex,
        packet: &Packet,
        frame: &Frame,
        reason: DropReason,
        now: Moment,
    ) {
        let caller = self.endpoints.get(&endpoint).copied();
        self.drops.count(reason);
        self.observe_refusal(caller, Some(packet.key), reason, now);
        if let Some(packet) = answer(packet, frame.packet(), reason) {
            self.outputs.push_back(Output::Inject { endpoint, packet });
        }
    }

    /// Makes sure that the packet's flow is open, unless another host has to take it first; tells by
    /// which request it was opened, or is to be.
    fn admit(
        &mut self,
        caller: Option<InstanceId>,
        packet: &Packet,
        now: Moment,
    ) -> Result<Option<OpenRequest>, DropReason> {
        let caller = caller.and_then(|id| self.instances.get(&id));
        let caller = caller.ok_or(DropReason::UnknownEndpoint)?;
        // Several packets can be on their way up before the first has opened their flow.
        if let Some(direction) = self.flows.direction(&packet.key) {
            let own = caller.network.map(Network::ingress);
            let may = own == Some(direction.ingress);
            return may.then_some(None).ok_or(DropReason::ForgedSource);
        }
        let arrival = Arrival {
            key: packet.key,
            opens: packet.opens_a_flow(),
        };
        let draws = Draws::from(&mut self.random);
        let request = self.decide(caller, arrival, draws, &mut Count)?;
        if let Ingress::Device(_) = request.server.ingress {
            self.flows.open(request, now)?;
            self.note_load(request.server.instance, now);
        }
        Ok(Some(request))
    }

    /// Notes that `server` took a flow, if DNS orders its answers by that.
    pub(super) fn note_load(&mut self, server: InstanceId, now: Moment) {
        let automaton = self
            .instances
            .get(&server)
            .map(|instance| &instance.plan.name.automaton);
        let Some(automaton) = automaton else {
            return;
        };
        let service = self.services.find(automaton);
        if service.is_some_and(|service| service.balance.looks_at_loads()) {
            self.names.load_changed(automaton, now);
            self.tell_loads_again(now);
        }
    }
}

/// What the sender of a refused packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// That there is no such connection.
    Reset,
    /// That nothing leads there.
    Unreachable(Unreachable),
}

impl Told {
    /// How the calling program sees it.
    pub(super) fn seen(self) -> &'static str {
        match self {
            Told::Reset => "connection refused (RST)",
            Told::Unreachable(Unreachable::Prohibited) => "no route (ICMP: prohibited)",
            Told::Unreachable(Unreachable::Host) => "no route (ICMP: host unreachable)",
            Told::Unreachable(Unreachable::Port) => "connection refused (ICMP: port unreachable)",
        }
    }
}

/// What the sender of a refused packet is told; `None`: nothing, for it forged or would not
/// understand.
pub(super) fn told(reason: DropReason, protocol: Protocol) -> Option<Told> {
    let why = match reason {
        DropReason::NotPermitted | DropReason::NoEgress | DropReason::ServiceDropped => {
            Unreachable::Prohibited
        }
        DropReason::NoInstance => Unreachable::Port,
        DropReason::NoAnswer
        | DropReason::NoLink
        | DropReason::HeldPackets
        | DropReason::PolicyUnknown
        | DropReason::UnknownCaller
        | DropReason::TooManyHops
        | DropReason::RefusedElsewhere
        | DropReason::NotCarried
        | DropReason::NoLocation
        | DropReason::NoSuchAddress
        | DropReason::FlowTableFull
        | DropReason::FlowLimitInstance
        | DropReason::NoPortLeft => Unreachable::Host,
        DropReason::NotAFirstPacket => return Some(Told::Reset),
        _ => return None,
    };
    match protocol {
        Protocol::Tcp => Some(Told::Reset),
        Protocol::Udp | Protocol::Echo => Some(Told::Unreachable(why)),
    }
}

/// What the sender of a refused packet reads, if anything.
pub(super) fn answer(packet: &Packet, original: &[u8], reason: DropReason) -> Option<Vec<u8>> {
    match told(reason, packet.key.protocol)? {
        Told::Reset => packet::reset(packet),
        Told::Unreachable(why) => packet::unreachable(packet, original, why),
    }
}

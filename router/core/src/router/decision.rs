//! The decision on a flow that is to be opened: one walk, for a packet and for whoever asks why.

use super::Router;
use super::identities::Holder;
use super::instances::Instance;
use super::outside::is_multicast;
use super::services::Service;
use crate::balance::Draw;
use crate::choice::{Absence, Choice};
use crate::composition::Affinity;
use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use crate::flow_table::OpenRequest;
use crate::id::InstanceId;
use crate::service_table::{Action, CountedRule};
use rand::RngCore;
use std::net::IpAddr;

/// A first packet, as far as a decision depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) key: FlowKey,
    /// Whether its kind may open a flow.
    pub(super) opens: bool,
}

/// What chance adds to a decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws {
    rule: u64,
    server: u64,
}

impl Draws {
    pub(super) fn from(random: &mut impl RngCore) -> Self {
        Draws {
            rule: random.next_u64(),
            server: random.next_u64(),
        }
    }
}

/// A point that a decision has passed, in the order of the walk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Point<'a> {
    /// The source is the caller's own.
    Source,
    /// The packet may open a flow.
    FirstPacket,
    /// Somebody holds, or held, the address.
    Identity(&'a Holder),
    /// The caller may call it on this port.
    Permission,
    /// A rule of the service table decided.
    Rule(&'a Service, &'a CountedRule),
    /// An instance takes the flow.
    Server(&'a Instance, Choice),
}

/// Who watches a decision being taken.
pub(super) trait Witness<'a> {
    /// The walk has passed `point`.
    fn passed(&mut self, point: Point<'a>);
}

/// The witness of a packet: counts what the packet used.
pub(super) struct Count;

impl Witness<'_> for Count {
    fn passed(&mut self, point: Point<'_>) {
        if let Point::Rule(service, rule) = point {
            rule.count();
            service.turn.set(service.turn.get() + 1);
        }
    }
}

impl Router {
    /// Decides who serves a flow of `caller`, or for which reason nobody does.
    pub(super) fn decide<'a>(
        &'a self,
        caller: &'a Instance,
        arrival: Arrival,
        draws: Draws,
        witness: &mut impl Witness<'a>,
    ) -> Result<OpenRequest, DropReason> {
        let client = caller.party().ok_or(DropReason::UnknownEndpoint)?;
        let (key, to) = (arrival.key, arrival.key.destination.ip());
        if is_multicast(to) {
            return Err(DropReason::LocalControl);
        }
        if !caller.holds(key.source.ip()) {
            return Err(DropReason::ForgedSource);
        }
        witness.passed(Point::Source);
        if !arrival.opens {
            return Err(DropReason::NotAFirstPacket);
        }
        witness.passed(Point::FirstPacket);
        let called = self.identities.find(to);
        let called = called.ok_or_else(|| self.nobody_holds(to))?;
        witness.passed(Point::Identity(called));
        let permissions = &self.services.permissions;
        let (from, to) = (&caller.plan.name.automaton, &called.automaton);
        if !permissions.permit(from, to, key.destination.port(), key.protocol) {
            return Err(DropReason::NotPermitted);
        }
        witness.passed(Point::Permission);
        let service = self.services.find(to).ok_or(DropReason::NoInstance)?;
        let draw = Draw {
            turn: service.turn.get() + 1,
            random: draws.server,
        };
        let rule = self.services.table.find(service.id, draws.rule);
        let rule = rule.ok_or(DropReason::NoInstance)?;
        witness.passed(Point::Rule(service, rule));
        match rule.rule.action {
            Action::Demux => {}
            Action::Drop => return Err(DropReason::ServiceDropped),
            // There is no other host yet that could decide.
            Action::Forward(_) => return Err(DropReason::NoInstance),
        }
        let id = caller.plan.instance;
        let chosen = self.target(id, called, service, draw);
        let (server, choice) = chosen.ok_or(DropReason::NoInstance)?;
        witness.passed(Point::Server(server, choice));
        Ok(OpenRequest {
            key,
            delivered: deliver(key, id, called, server),
            client,
            server: server.party().ok_or(DropReason::NoInstance)?,
            choice,
        })
    }

    /// The called instance if it takes flows, else the balancer's choice among its siblings; of a
    /// service that was called itself, the balancer's choice.
    ///
    /// Strict callers accept no sibling: theirs serves them until its program is told to stop.
    fn target(
        &self,
        caller: InstanceId,
        called: &Holder,
        service: &Service,
        draw: Draw,
    ) -> Option<(&Instance, Choice)> {
        let Some(called) = called.instance else {
            let server = self.balanced(caller, service, draw)?;
            return Some((server, Choice::Balanced));
        };
        if let Some(instance) = self.taking_flows(called) {
            return Some((instance, Choice::Called));
        }
        if service.affinity == Affinity::Strict {
            let instance = self.instances.get(&called)?;
            let serves = instance.life.serves() && instance.network.is_some();
            return serves.then_some((instance, Choice::Called));
        }
        let server = self.balanced(caller, service, draw)?;
        let absence = match self.instances.get(&called) {
            Some(instance) => instance.absence(),
            None => Absence::Gone,
        };
        let choice = match server.plan.instance {
            id if id == caller => Choice::Itself(absence),
            // Nobody else is left, though this one's connections failed.
            id if id == called => Choice::Called,
            _ => Choice::Sibling(absence),
        };
        Some((server, choice))
    }

    /// The balancer's choice for `caller`.
    fn balanced(&self, caller: InstanceId, service: &Service, draw: Draw) -> Option<&Instance> {
        let balancer = self.balancer(service);
        let chosen = balancer.choose(caller, draw)?;
        self.instances.get(&balancer.candidates()[chosen].instance)
    }
}

/// The packet as `server` shall see it.
fn deliver(key: FlowKey, caller: InstanceId, called: &Holder, server: &Instance) -> FlowKey {
    let mut delivered = key;
    let addresses = server.plan.addresses.called;
    if Some(server.plan.instance) != called.instance {
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

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
use crate::flow_table::{OpenRequest, Party};
use crate::id::InstanceId;
use crate::name::InstanceName;
use crate::packet::Packet;
use crate::peer::RemoteInstance;
use crate::service_frame::Request;
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
    Server(Server<'a>, Choice),
}

/// Who serves a flow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Server<'a> {
    /// An instance of this host.
    Here(&'a Instance),
    /// An instance of another host, and its side of the flow.
    There(&'a RemoteInstance, Party),
}

impl<'a> Server<'a> {
    pub(super) fn id(self) -> InstanceId {
        match self {
            Server::Here(instance) => instance.plan.instance,
            Server::There(remote, _) => remote.instance,
        }
    }

    pub(super) fn name(self) -> &'a InstanceName {
        match self {
            Server::Here(instance) => &instance.plan.name,
            Server::There(remote, _) => &remote.name,
        }
    }

    /// Where it stands for whoever looks for one that takes new flows.
    pub(super) fn standing(self) -> &'static str {
        match self {
            Server::Here(instance) => instance.standing(),
            // Its own host decides.
            Server::There(..) => "ready",
        }
    }

    /// Its called address in one of the families.
    pub(super) fn called(self, v4: bool) -> IpAddr {
        let called = match self {
            Server::Here(instance) => instance.plan.addresses.called,
            Server::There(remote, _) => remote.addresses.called,
        };
        match v4 {
            true => called.v4.into(),
            false => called.v6.into(),
        }
    }

    /// Whether `addr` is one of its addresses.
    pub(super) fn holds(self, addr: IpAddr) -> bool {
        match self {
            Server::Here(instance) => instance.holds(addr),
            Server::There(remote, _) => Router::holds_remotely(remote, addr),
        }
    }

    fn party(self) -> Option<Party> {
        match self {
            Server::Here(instance) => instance.party(),
            Server::There(_, party) => Some(party),
        }
    }
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
        leads_to_instances(&rule.rule.action)?;
        let id = caller.plan.instance;
        let chosen = self.target(id, called.instance, None, service, draw);
        let (server, choice) = chosen.ok_or(DropReason::NoInstance)?;
        witness.passed(Point::Server(server, choice));
        Ok(OpenRequest {
            key,
            delivered: deliver(key, id, called.instance, server),
            client,
            server: server.party().ok_or(DropReason::NoInstance)?,
            choice,
            hops: 0,
        })
    }

    /// Decides who serves a flow of another host's instance.
    pub(super) fn decide_for<'a>(
        &'a self,
        request: &Request,
        packet: &Packet,
        draws: Draws,
    ) -> Result<(Server<'a>, Choice), DropReason> {
        let key = packet.key;
        let (from, to) = (&request.caller, &request.service);
        let service = self.services.find(to).ok_or(DropReason::PolicyUnknown)?;
        if service.declaration.composition != request.composition
            || service.declaration.version < request.version
        {
            return Err(DropReason::PolicyUnknown);
        }
        let permissions = &self.services.permissions;
        if !permissions.permit(from, to, key.destination.port(), key.protocol) {
            return Err(DropReason::NotPermitted);
        }
        let rule = self.services.table.find(service.id, draws.rule);
        let rule = rule.ok_or(DropReason::NoInstance)?;
        Count.passed(Point::Rule(service, rule));
        leads_to_instances(&rule.rule.action)?;
        // Permission was for the service: whose address was called must be one of it, or be gone.
        let called = request.called.and_then(|called| self.automaton_of(called));
        if called.is_some_and(|called| called != to) {
            return Err(DropReason::NotPermitted);
        }
        let draw = Draw {
            turn: service.turn.get(),
            random: draws.server,
        };
        // Who is asked is whom the last router has chosen among all: to choose again would bring other
        // shares, and half of the flows back to where they came from.
        let meant = self.identities.find(key.destination.ip());
        let meant = meant.filter(|holder| holder.automaton == *to);
        let meant = meant.and_then(|holder| holder.instance);
        let chosen = self.target(request.client, request.called, meant, service, draw);
        chosen.ok_or(DropReason::NoInstance)
    }

    /// The called instance if it takes flows, else the balancer's choice among its siblings; of a
    /// service that was called itself, the balancer's choice. An instance of this host that another
    /// router `meant` by its own balancer stands for the choice.
    ///
    /// Strict callers accept no sibling: theirs serves them until its program is told to stop.
    fn target(
        &self,
        caller: InstanceId,
        called: Option<InstanceId>,
        meant: Option<InstanceId>,
        service: &Service,
        draw: Draw,
    ) -> Option<(Server<'_>, Choice)> {
        let here = |server: &Server<'_>| matches!(server, Server::Here(_));
        let balanced = || {
            let meant = meant.and_then(|id| self.taking_flows(id)).filter(here);
            meant.or_else(|| self.balanced(caller, service, draw))
        };
        let Some(called) = called else {
            let server = balanced()?;
            return Some((server, Choice::Balanced));
        };
        if let Some(server) = self.taking_flows(called) {
            return Some((server, Choice::Called));
        }
        if service.affinity == Affinity::Strict {
            let instance = self.instances.get(&called)?;
            let serves = instance.life.serves() && instance.network.is_some();
            return serves.then_some((Server::Here(instance), Choice::Called));
        }
        let server = balanced()?;
        let absence = match self.instances.get(&called) {
            Some(instance) => instance.absence(),
            None if self.peers.instance(called).is_some() => Absence::NotReady,
            None => Absence::Gone,
        };
        let choice = match server.id() {
            id if id == caller => Choice::Itself(absence),
            // Nobody else is left, though this one's connections failed.
            id if id == called => Choice::Called,
            _ => Choice::Sibling(absence),
        };
        Some((server, choice))
    }

    /// The balancer's choice for `caller`.
    fn balanced(&self, caller: InstanceId, service: &Service, draw: Draw) -> Option<Server<'_>> {
        let balancer = self.balancer(service);
        let chosen = balancer.choose(caller, draw)?;
        self.server(balancer.candidates()[chosen].instance)
    }

    /// An instance, here or on another host.
    pub(super) fn server(&self, id: InstanceId) -> Option<Server<'_>> {
        if let Some(instance) = self.instances.get(&id) {
            return Some(Server::Here(instance));
        }
        let remote = self.peers.instance(id)?;
        let party = self.peers.party(id, &remote.host)?;
        Some(Server::There(remote, party))
    }
}

/// Whether a rule of the service table leads to an instance of the service; nobody makes rules yet that
/// lead to another router.
fn leads_to_instances(action: &Action) -> Result<(), DropReason> {
    match action {
        Action::Demux => Ok(()),
        Action::Drop => Err(DropReason::ServiceDropped),
        Action::Forward(_) => Err(DropReason::NoInstance),
    }
}

/// The packet as `server` shall see it.
fn deliver(
    key: FlowKey,
    caller: InstanceId,
    called: Option<InstanceId>,
    server: Server<'_>,
) -> FlowKey {
    let mut delivered = key;
    if Some(server.id()) != called {
        let v4 = key.destination.is_ipv4();
        delivered.destination.set_ip(server.called(v4));
    }
    // No kernel takes a packet from outside that claims to come from itself: it comes from the
    // address that was called, whose own holder it cannot be.
    if server.id() == caller {
        delivered.source.set_ip(key.destination.ip());
    }
    delivered
}

//! Where a walk ends that is refused: what was found, and what to do next.

use super::walk::{Walk, plural};
use crate::choice::Absence;
use crate::composition::Affinity;
use crate::drop_reason::DropReason;
use crate::explanation::Step;
use crate::flow_key::Protocol;
use crate::name::ZONE;
use crate::router::identities::all;
use crate::router::outside::{Shut, way_out};
use std::fmt::Display;

impl Walk<'_> {
    /// Writes down the step that refused the packet; returns what to do next.
    pub(super) fn refused(&mut self, reason: DropReason) -> String {
        let (name, detail, next) = match reason {
            DropReason::ForgedSource => self.forged(),
            DropReason::NoSuchAddress => self.no_such_address(),
            DropReason::NoEgress => self.no_egress(),
            DropReason::NotPermitted => self.not_permitted(),
            DropReason::NoInstance => self.no_instance(),
            DropReason::FlowLimitInstance | DropReason::FlowTableFull => self.full(reason),
            DropReason::NoPortLeft => (
                "flow table",
                "every source port towards the server is taken".to_owned(),
                "Raise `replicas`: fewer clients then share a source port at one instance."
                    .to_owned(),
            ),
            DropReason::UnknownEndpoint => (
                "caller",
                format!("{} has no network at the moment", self.caller.plan.name),
                "`margay ps` tells what it waits for.".to_owned(),
            ),
            // The rule has written its own step.
            DropReason::ServiceDropped => {
                return "Take the DROP rule out of the service table.".to_owned();
            }
            _ => (
                "refused",
                reason.explanation().to_owned(),
                "`margay drops` counts how often.".to_owned(),
            ),
        };
        self.steps.push(Step::refused(name, detail));
        next
    }

    fn forged(&self) -> (&'static str, String, String) {
        let own: Vec<String> = all(self.caller.plan.addresses)
            .iter()
            .map(ToString::to_string)
            .collect();
        let name = &self.caller.plan.name;
        let ip = self.key.source.ip();
        let holder = self.router.identities.find(ip);
        let whose = holder.map(|holder| self.router.name_of_holder(holder));
        let whose = whose.map_or(String::new(), |whose| format!(", it is {whose}'s"));
        (
            "source",
            format!("{ip} is not {name}'s own{whose}"),
            format!(
                "Let the program choose its source itself: {}.",
                own.join(", ")
            ),
        )
    }

    fn no_such_address(&self) -> (&'static str, String, String) {
        let ip = self.key.destination.ip();
        (
            "identity",
            format!("nobody holds {ip}, nor did lately"),
            "Ask for the name again (`margay resolve`): the client keeps an address for longer \
             than its TTL of 1 s."
                .to_owned(),
        )
    }

    fn no_egress(&self) -> (&'static str, String, String) {
        let (to, plan) = (self.key.destination.ip(), &self.caller.plan);
        let (from, composition) = (&plan.name.automaton, &plan.composition);
        let (why, next) = match way_out(self.caller, &self.key) {
            Err(Shut::Ipv6) => (
                format!("{from} gets out by IPv4 only"),
                "Call an IPv4 address of it; programs that try both families do so by themselves."
                    .to_owned(),
            ),
            Err(Shut::LinkLocal) => (
                "link-local destinations stay closed".to_owned(),
                "Nothing: what answers there (a cloud's credentials) is the host's alone."
                    .to_owned(),
            ),
            Err(Shut::Source(own)) => (
                format!("{from} gets out from {own} only"),
                "Let the program choose its source itself.".to_owned(),
            ),
            Err(Shut::NoEgress) | Ok(()) => (
                format!("{from} of {composition} says `egress = \"none\"`, as is the default"),
                format!(
                    "Set `egress = \"all\"` for {from} in {composition}, raise its version, apply; \
                     or call a name that ends in .{ZONE}."
                ),
            ),
        };
        ("egress", format!("{to} lies outside; {why}"), next)
    }

    fn not_permitted(&self) -> (&'static str, String, String) {
        let from = &self.caller.plan;
        let (caller, to) = (&from.name.automaton, self.called_automaton());
        let service = self
            .called
            .and_then(|it| self.router.services.find(&it.automaton));
        let Some((service, called)) = service.zip(self.called) else {
            return (
                "permission",
                format!("no composition declares {to} any more"),
                format!("Apply a composition that declares {to}, or ask for another name."),
            );
        };
        let composition = &from.composition;
        if self
            .router
            .services
            .permissions
            .sees(caller, &called.automaton)
        {
            let ports = service.declaration.ports.values();
            let ports: Vec<String> = ports
                .map(|it| format!("{}/{}", it.port, Protocol::from(it.protocol)))
                .collect();
            let declared = match ports.is_empty() {
                true => "no port".to_owned(),
                false => ports.join(", "),
            };
            return (
                "permission",
                format!("{caller} needs {to}, which declares {declared}"),
                format!("Call a declared port, or add one to `ports` of {to} in {composition}."),
            );
        }
        if service.declaration.composition != *composition {
            return (
                "permission",
                format!(
                    "{caller} is of {composition}, {to} of {}",
                    service.declaration.composition
                ),
                "Declare both in one composition: `needs` reaches no further.".to_owned(),
            );
        }
        (
            "permission",
            format!("{caller} does not need {to}"),
            format!(
                "Add \"{to}\" to `needs` of {caller} in {composition}, raise its version, apply."
            ),
        )
    }

    fn no_instance(&self) -> (&'static str, String, String) {
        let called = self.called_instance();
        let Some(service) = self.service else {
            let to = self.called_automaton();
            return (
                "rule",
                format!("no rule of the service table covers {to}"),
                format!("Apply a composition that declares {to}."),
            );
        };
        let ready = self.router.balancer(service).candidates().len();
        if service.affinity == Affinity::Strict && ready > 0 {
            return (
                "server",
                format!("{called} does not serve, and affinity is strict: no sibling may"),
                "Wait for it, ask for the name again, or set `affinity = \"prefer\"`.".to_owned(),
            );
        }
        let instances = service.instances.iter();
        let states = instances.filter_map(|id| {
            let instance = self.router.instances.get(id)?;
            let error = instance.last_error.as_ref();
            let error = error.map_or(String::new(), |error| format!(" ({error})"));
            let standing = instance.standing();
            Some(format!("{} is {standing}{error}", instance.plan.name))
        });
        let states: Vec<String> = states.take(STATES_SHOWN).collect();
        let mut instances = service.instances.iter();
        let drained = instances.find_map(|id| {
            let instance = self.router.instances.get(id)?;
            (instance.absence() == Absence::Drained).then_some(&instance.plan.name)
        });
        let next = match drained {
            Some(name) => undo_drain(name),
            None => "`margay ps` tells what each waits for, `margay logs INSTANCE` what it said."
                .to_owned(),
        };
        let count = u32::try_from(service.instances.len()).unwrap_or(u32::MAX);
        (
            "server",
            format!(
                "none of {} takes flows: {}",
                plural(count, "instance"),
                states.join(", ")
            ),
            next,
        )
    }

    fn full(&self, reason: DropReason) -> (&'static str, String, String) {
        let flows = &self.router.flows;
        let (limits, caller) = (flows.limits(), &self.caller.plan);
        let detail = match reason {
            DropReason::FlowLimitInstance => format!(
                "{} has opened {} flows, all that one instance may",
                caller.name,
                flows.opened_by(caller.instance)
            ),
            _ => format!(
                "{} of {} flows are open, and those just closed rest for a second",
                flows.len(),
                limits.flows_max
            ),
        };
        let next = "`margay flows` lists who holds them; close what idles, or start the host with \
                    a larger --flows-max.";
        ("flow table", detail, next.to_owned())
    }
}

/// How an operator lets a drained instance back in.
pub(super) fn undo_drain(name: impl Display) -> String {
    format!("`margay drain {name} --cancel` lets it take flows again.")
}

/// Instances whose state is told one by one.
const STATES_SHOWN: usize = 4;

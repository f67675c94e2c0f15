//! The witness of an explanation: writes down each point that the decision passes.

use crate::balance::Candidate;
use crate::choice::{Absence, Choice};
use crate::explanation::Step;
use crate::flow_key::{FlowKey, Protocol};
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::router::Router;
use crate::router::decision::{Point, Server, Witness};
use crate::router::identities::Holder;
use crate::router::instances::Instance;
use crate::router::services::Service;
use crate::service_table::{Action, CountedRule};
use std::time::Duration;

/// Candidates that are listed one by one.
const CANDIDATES_SHOWN: usize = 8;

/// A walk that is written down.
pub(super) struct Walk<'a> {
    pub(super) router: &'a Router,
    pub(super) caller: &'a Instance,
    pub(super) key: FlowKey,
    pub(super) called: Option<&'a Holder>,
    pub(super) service: Option<&'a Service>,
    pub(super) steps: Vec<Step>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        router: &'a Router,
        caller: &'a Instance,
        key: FlowKey,
        steps: Vec<Step>,
    ) -> Self {
        Walk {
            router,
            caller,
            key,
            called: None,
            service: None,
            steps,
        }
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    /// The flow table has room, too.
    pub(super) fn has_room(&mut self) {
        let (flows, caller) = (&self.router.flows, &self.caller.plan);
        let limits = flows.limits();
        self.steps.push(Step::passed(
            "flow table",
            format!(
                "{} of {} flows are open, {} of the {} that {} may open",
                flows.len(),
                limits.flows_max,
                flows.opened_by(caller.instance),
                limits.flows_per_instance_max,
                caller.name
            ),
        ));
    }

    fn identity(&self, holder: &Holder) -> String {
        let ip = self.key.destination.ip();
        let Some(instance) = holder.instance else {
            return format!("{ip} is the service {} itself", holder.automaton);
        };
        if let Some(remote) = self.router.peers.instance(instance) {
            return format!(
                "{ip} is {} of {}@{}, on host {}",
                remote.name,
                remote.composition,
                remote.version,
                remote.host.short()
            );
        }
        match self.router.instances.get(&instance) {
            Some(instance) => format!(
                "{ip} is {} of {}@{}, {}",
                instance.plan.name,
                instance.plan.composition,
                instance.plan.version,
                instance.standing()
            ),
            None => format!(
                "{ip} was an instance of {} that is no more; it leads to its siblings",
                holder.automaton
            ),
        }
    }

    fn permission(&self) -> String {
        let (from, to) = (&self.caller.plan.name.automaton, self.called_automaton());
        match self.key.protocol {
            Protocol::Echo => format!("{from} needs {to}, so it may ping it"),
            protocol => {
                let port = self.key.destination.port();
                format!("{from} needs {to}, which declares {port}/{protocol}")
            }
        }
    }

    fn server(&self, server: Server<'_>, choice: Choice) -> String {
        let name = match server {
            Server::Here(instance) => instance.plan.name.to_string(),
            Server::There(remote, _) => format!("{} on host {}", remote.name, remote.host.short()),
        };
        match choice {
            Choice::Called | Choice::Aggregate | Choice::Adopted => match server.standing() {
                "ready" => format!("{name} is called and takes flows"),
                standing => format!(
                    "{name} is called and serves, though it is {standing}: no sibling may or can"
                ),
            },
            Choice::Balanced => format!(
                "{} is called; {name} takes the flow: {}",
                self.called_automaton(),
                self.candidates()
            ),
            Choice::Sibling(absence) => format!(
                "{} {}; {name} takes the flow: {}",
                self.called_instance(),
                absence.now(),
                self.candidates()
            ),
            Choice::Itself(absence) => format!(
                "{} {} and no other instance takes flows: {name} calls itself",
                self.called_instance(),
                absence.now()
            ),
        }
    }

    /// Among whom the balancer chose.
    fn candidates(&self) -> String {
        let Some(service) = self.service else {
            return String::new();
        };
        let balancer = self.router.balancer(service);
        let candidates = balancer.candidates().iter();
        let candidates =
            candidates.filter(|candidate| candidate.instance != self.caller.plan.instance);
        let count = candidates.clone().count();
        let shown = candidates.take(CANDIDATES_SHOWN).map(|candidate| {
            let name = self.router.name_of(candidate.instance);
            format!("{name} ({})", plural(candidate.flows, "flow"))
        });
        let shown: Vec<String> = shown.collect();
        let more = match count.saturating_sub(CANDIDATES_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "{} among {}{more}{}",
            service.balance.name(),
            shown.join(", "),
            self.passed_over(service, balancer.candidates())
        )
    }

    /// Who is not among the candidates, and why; what is said of the called instance stands
    /// elsewhere.
    fn passed_over(&self, service: &Service, candidates: &[Candidate]) -> String {
        let called = self.called.and_then(|called| called.instance);
        let all = service.instances.iter().copied();
        let others = all.filter(|id| {
            let among = candidates.iter().any(|it| it.instance == *id);
            !among && Some(*id) != called
        });
        let others = others.filter_map(|id| self.router.instances.get(&id));
        let others: Vec<String> = others
            .map(|it| format!("{} ({})", it.plan.name, it.standing()))
            .take(CANDIDATES_SHOWN)
            .collect();
        match others.is_empty() {
            true => String::new(),
            false => format!("; not {}", others.join(", ")),
        }
    }

    /// The called instance as an operator knows it.
    pub(super) fn called_instance(&self) -> String {
        let alive = |id: InstanceId| self.router.automaton_of(id).is_some();
        match self.called {
            Some(holder) if holder.instance.is_none_or(alive) => self.router.name_of_holder(holder),
            _ => self.key.destination.ip().to_string(),
        }
    }

    /// How long until the called instance is trusted with connections again.
    pub(super) fn called_back_in(&self, now: Moment) -> Option<Duration> {
        let called = self.router.instances.get(&self.called?.instance?)?;
        Some(called.trust.poll_timeout()?.since(now))
    }

    /// The automaton whose instance is called.
    pub(super) fn called_automaton(&self) -> String {
        let holder = self.called;
        holder.map_or_else(|| "-".to_owned(), |holder| holder.automaton.to_string())
    }
}

impl<'a> Witness<'a> for Walk<'a> {
    fn passed(&mut self, point: Point<'a>) {
        let step = match point {
            Point::Source => {
                let ip = self.key.source.ip();
                Step::passed("source", format!("{ip} is {}'s own", self.caller.plan.name))
            }
            Point::FirstPacket => Step::passed("first packet", first_packet(self.key.protocol)),
            Point::Identity(holder) => {
                self.called = Some(holder);
                Step::passed("identity", self.identity(holder))
            }
            Point::Permission => Step::passed("permission", self.permission()),
            Point::Rule(service, rule) => {
                self.service = Some(service);
                let elsewhere = self.router.elsewhere(&service.name);
                let text = rule_text(&self.called_automaton(), rule);
                self.steps.push(match rule.rule.action {
                    Action::Demux => Step::passed("rule", text),
                    Action::Drop | Action::Forward(_) => Step::refused("rule", text),
                });
                return self.steps.extend(elsewhere);
            }
            Point::Server(server, choice) => Step::passed("server", self.server(server, choice)),
        };
        self.steps.push(step);
    }
}

impl Absence {
    /// As it is.
    pub(super) fn now(self) -> &'static str {
        match self {
            Absence::Gone => "is no more",
            Absence::Drained => "is drained",
            Absence::Ejected => "is ejected, for its last connections failed",
            Absence::NotReady => "takes no flows",
        }
    }

    /// As it was when a flow was opened.
    pub(super) fn then(self) -> &'static str {
        match self {
            Absence::Gone => "was no more",
            Absence::Drained => "was drained",
            Absence::Ejected => "was ejected, for its last connections had failed",
            Absence::NotReady => "took no flows",
        }
    }
}

/// `1 flow`, `2 flows`.
pub(super) fn plural(count: u32, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

fn first_packet(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => "a SYN opens a flow; anything else without a flow: not_a_first_packet",
        Protocol::Udp => "a datagram opens a flow",
        Protocol::Echo => "an echo request opens a flow",
    }
    .to_owned()
}

fn rule_text(called: &str, rule: &CountedRule) -> String {
    let action = match rule.rule.action {
        Action::Demux => "DEMUX, to an instance on this host",
        Action::Drop => "DROP",
        Action::Forward(_) => "FORWARD, and no other host is known",
    };
    match rule.rule.prefix.bits() {
        256 => format!("{action}: the rule of {called}'s service ID"),
        bits => format!("{action}: a rule for the first {bits} bits of {called}'s service ID"),
    }
}

//! Why a flow goes where it goes: the walk of its first packet, written down.

mod elsewhere;
mod following;
mod leaving;
mod refusal;
mod walk;

use super::Router;
use super::decision::{Arrival, Draws};
use super::first_packet::told;
use super::identities::Holder;
use super::instances::Instance;
use crate::choice::{Absence, Choice};
use crate::explanation::{Explanation, OpenFlow, Route, Step, Target, Verdict};
use crate::flow_key::{FlowKey, Protocol};
use crate::flow_table::{Flow, FlowState, OpenRequest};
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::names::NamesSnapshot;
use crate::port::{FlowReading, FlowSlots};
use elsewhere::passed_on;
use following::{Followed, nowhere};
use leaving::leaving;
use refusal::undo_drain;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use walk::Walk;

/// Where the search for a source port that is not in use begins: Linux takes its own from here.
const SOURCE_PORT_FIRST: u16 = 32_768;

/// Why there is nothing to explain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// Nobody was named, and the target names nobody.
    #[error("say who calls: --as INSTANCE; `margay ps` lists them")]
    NoCaller,
    /// The source address is nobody's.
    #[error("no instance holds {0}; say who calls with --as INSTANCE")]
    NoHolder(IpAddr),
}

impl Router {
    /// Tells of the open flow, or walks the decision that its first packet would take now; changes
    /// nothing. `names` is what DNS answers from, `read` reads what the kernel counted.
    pub fn explain(
        &self,
        target: &Target,
        caller: Option<InstanceId>,
        names: &NamesSnapshot,
        read: impl FnOnce(FlowSlots) -> FlowReading,
        now: Moment,
    ) -> Result<Explanation, ExplainError> {
        if let Target::Flow(key) = target
            && let Some(flow) = self.flows.find(key)
        {
            return Ok(self.explain_open(target, flow, &read(flow.slots()), now));
        }
        let caller = self.caller_of(target, caller)?;
        let mut steps = Vec::new();
        let (to, port, protocol, unanswered) = match target {
            Target::Flow(key) => return Ok(self.explain_next(target, caller, *key, steps, now)),
            Target::Address(to, protocol) => {
                let key = self.next_key(caller, *to, *protocol);
                return Ok(self.explain_next(target, caller, key, steps, now));
            }
            Target::Name {
                name,
                port,
                protocol,
            } => match self.follow_name(caller, name, names, &mut steps, now) {
                Followed::To(to) => (to, port, protocol, None),
                Followed::Unanswered(to, unanswered) => (to, port, protocol, Some(unanswered)),
                Followed::Outside => return Ok(leaving(target, caller, None, steps)),
                Followed::Nowhere(unanswered) => {
                    return Ok(nowhere(target, caller, steps, unanswered));
                }
            },
        };
        let (port, protocol) = self.port_of(to, *port, *protocol);
        let key = self.next_key(caller, SocketAddr::new(to, port), protocol);
        let Some(unanswered) = unanswered else {
            return Ok(self.explain_next(target, caller, key, steps, now));
        };
        let mut behind = self.explain_next(target, caller, key, steps.clone(), now);
        let Verdict::Refused { told, .. } = &mut behind.verdict else {
            return Ok(nowhere(target, caller, steps, unanswered));
        };
        // The program never gets so far, but this is why its name has no address.
        unanswered.told.clone_into(told);
        Ok(behind)
    }

    fn caller_of(
        &self,
        target: &Target,
        named: Option<InstanceId>,
    ) -> Result<&Instance, ExplainError> {
        let named = named.and_then(|id| self.instances.get(&id));
        match (named, target) {
            (Some(named), _) => Ok(named),
            (None, Target::Flow(key)) => {
                let ip = key.source.ip();
                let holder = self.identities.find(ip);
                let caller = holder.and_then(|holder| self.instances.get(&holder.instance?));
                caller.ok_or(ExplainError::NoHolder(ip))
            }
            (None, _) => Err(ExplainError::NoCaller),
        }
    }

    /// The key of the caller's next flow to `to`.
    fn next_key(&self, caller: &Instance, to: SocketAddr, protocol: Protocol) -> FlowKey {
        let own = caller.plan.addresses.caller;
        let source: IpAddr = match to {
            SocketAddr::V4(_) => own.v4.into(),
            SocketAddr::V6(_) => own.v6.into(),
        };
        let key = |port| FlowKey::new((source, port), (to.ip(), to.port()), protocol);
        let free = |port: &u16| self.flows.find(&key(*port)).is_none();
        let port = (SOURCE_PORT_FIRST..=u16::MAX).find(free);
        key(port.unwrap_or(SOURCE_PORT_FIRST))
    }

    /// The port and protocol that were asked for, completed by what the called service declares.
    fn port_of(
        &self,
        called: IpAddr,
        port: Option<u16>,
        protocol: Option<Protocol>,
    ) -> (u16, Protocol) {
        let holder = self.identities.find(called);
        let service = holder.and_then(|holder| self.services.find(&holder.automaton));
        let fits = |declared: &(u16, Protocol)| {
            port.is_none_or(|port| port == declared.0)
                && protocol.is_none_or(|protocol| protocol == declared.1)
        };
        let declared = service
            .into_iter()
            .flat_map(|it| it.declaration.ports.values());
        let declared = declared.map(|it| (it.port, Protocol::from(it.protocol)));
        let first = declared.filter(fits).min();
        match (first, port, protocol) {
            (_, _, Some(Protocol::Echo)) => (0, Protocol::Echo),
            (Some(first), _, _) => first,
            (None, Some(port), protocol) => (port, protocol.unwrap_or(Protocol::Tcp)),
            // A service without ports cannot even be pinged; the walk says so.
            (None, None, _) => (0, Protocol::Echo),
        }
    }

    /// Walks the decision of a first packet.
    fn explain_next(
        &self,
        target: &Target,
        caller: &Instance,
        key: FlowKey,
        steps: Vec<Step>,
        now: Moment,
    ) -> Explanation {
        if self.gets_out(caller, &key) {
            return leaving(target, caller, Some(&key), steps);
        }
        let mut walk = Walk::new(self, caller, key, steps);
        // The draws that the next packet will make: the walk tells its very choice.
        let draws = Draws::from(&mut self.random.clone());
        let arrival = Arrival { key, opens: true };
        let decided = self.decide(caller, arrival, draws, &mut walk);
        let opened = decided.and_then(|request| {
            let delivered = self.flows.try_open(&request, now)?;
            Ok((request, delivered))
        });
        let (verdict, next) = match opened {
            Ok((request, delivered)) => {
                walk.has_room();
                let route = self.route(&key, &delivered, &request);
                let next = self.after_opening(&walk, &request, now);
                (Verdict::WouldOpen(route), next)
            }
            Err(reason) => {
                let next = walk.refused(reason);
                walk.search(reason, now);
                let packet = told(reason, key.protocol)
                    .map_or("nothing: it waits in vain", |told| told.seen());
                let verdict = Verdict::Refused {
                    reason: reason.name().to_owned(),
                    explanation: reason.explanation().to_owned(),
                    told: packet.to_owned(),
                };
                (verdict, next)
            }
        };
        Explanation {
            caller: caller.plan.name.to_string(),
            target: target.to_string(),
            steps: walk.into_steps(),
            verdict,
            next,
        }
    }

    fn route(&self, key: &FlowKey, delivered: &FlowKey, request: &OpenRequest) -> Route {
        Route {
            protocol: key.protocol.to_string(),
            from: key.source.to_string(),
            to: key.destination.to_string(),
            delivered_from: delivered.source.to_string(),
            delivered_to: delivered.destination.to_string(),
            server: self.name_of(request.server.instance),
            choice: request.choice.name().to_owned(),
        }
    }

    fn after_opening(&self, walk: &Walk<'_>, request: &OpenRequest, now: Moment) -> String {
        let (server, called) = (
            self.name_of(request.server.instance),
            walk.called_instance(),
        );
        let (Choice::Sibling(absence) | Choice::Itself(absence)) = request.choice else {
            return format!("Nothing. If the program still fails, see `margay logs {server}`.");
        };
        match absence {
            Absence::Gone => {
                format!("Nothing. If the program still fails, see `margay logs {server}`.")
            }
            Absence::Drained => undo_drain(called),
            Absence::Ejected => {
                let back = walk.called_back_in(now).unwrap_or_default();
                format!(
                    "Wait: {called} is tried again in {:.1} s; `margay logs {called}` may tell why \
                     it failed.",
                    back.as_secs_f64()
                )
            }
            Absence::NotReady => format!(
                "Nothing, unless {called} should be ready: `margay ps` tells why it is not."
            ),
        }
    }

    fn explain_open(
        &self,
        target: &Target,
        flow: &Flow,
        reading: &FlowReading,
        now: Moment,
    ) -> Explanation {
        let (key, delivered) = (flow.entries.forward.key, flow.entries.forward.delivered);
        let (client, server) = (
            self.name_of(flow.entries.client),
            self.name_of(flow.entries.server),
        );
        let state = FlowState::of(key.protocol, &reading.forward, &reading.reverse);
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let last_seen = reading.forward.last_seen.max(reading.reverse.last_seen);
        let age_ms = ms(now.since(flow.opened));
        let opened = format!("by {client}, as {key}");
        let steps = vec![
            Step::passed("opened", opened),
            Step::passed("server", self.why(flow, &server)),
        ];
        let steps = steps.into_iter().chain(passed_on(flow.hops)).collect();
        Explanation {
            caller: client,
            target: target.to_string(),
            steps,
            verdict: Verdict::Open(OpenFlow {
                route: Route {
                    protocol: key.protocol.to_string(),
                    from: key.source.to_string(),
                    to: key.destination.to_string(),
                    delivered_from: delivered.source.to_string(),
                    delivered_to: delivered.destination.to_string(),
                    server: server.clone(),
                    choice: flow.choice.name().to_owned(),
                },
                state: state.name().to_owned(),
                age_ms,
                silent_ms: ms(now.since(last_seen.max(flow.opened))),
                packets: reading.forward.packets,
                bytes: reading.forward.bytes,
                reply_packets: reading.reverse.packets,
                reply_bytes: reading.reverse.bytes,
            }),
            next: match state {
                FlowState::HalfOpen => format!(
                    "{server} has not answered: `margay logs {server}`; does it listen on the port?"
                ),
                FlowState::Established => "Nothing: both sides speak.".to_owned(),
                FlowState::Closed => {
                    "Nothing: it is over; its entries go within seconds.".to_owned()
                }
            },
        }
    }

    /// Why an open flow has its server.
    fn why(&self, flow: &Flow, server: &str) -> String {
        let called = flow.entries.forward.key.destination.ip();
        let holder = self.identities.find(called);
        let called = match holder {
            Some(holder) => format!("{called} ({})", self.name_of_holder(holder)),
            None => called.to_string(),
        };
        match flow.choice {
            Choice::Called => format!("{server} was called and took it"),
            Choice::Balanced => format!("{called} was called: the balancer chose {server}"),
            Choice::Sibling(absence) => {
                format!("{called} {}: the balancer chose {server}", absence.then())
            }
            Choice::Itself(absence) => {
                format!("{called} {} and {server} was alone", absence.then())
            }
            Choice::Aggregate => {
                format!("{called} was called: {server}, as was decided for an earlier flow")
            }
            Choice::Adopted => {
                format!("{server}; an earlier run of the daemon chose it and took its reason along")
            }
        }
    }

    /// How an operator knows whoever holds an address.
    fn name_of_holder(&self, holder: &Holder) -> String {
        match holder.instance {
            Some(instance) => self.name_of(instance),
            None => holder.automaton.to_string(),
        }
    }

    /// How an operator knows an instance, though it be gone.
    fn name_of(&self, id: InstanceId) -> String {
        match self.server(id) {
            Some(server) => server.name().to_string(),
            None => format!("instance {id}"),
        }
    }
}

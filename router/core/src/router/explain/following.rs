//! Where the name leads that a caller asks for, before there is any packet.

use crate::composition::Egress;
use crate::explanation::{Explanation, Step, Target, Verdict};
use crate::moment::Moment;
use crate::name::{AutomatonName, InstanceName, ZONE};
use crate::names::{Answer, NamesSnapshot, Question, QuestionKind, answer};
use crate::router::Router;
use crate::router::instances::Instance;
use crate::router::services::Service;
use rand::RngCore;
use std::net::IpAddr;

/// Where a name leads.
pub(super) enum Followed {
    /// To an address.
    To(IpAddr),
    /// Not to this address of whom it means: DNS keeps it from the caller.
    Unanswered(IpAddr, Unanswered),
    /// To whatever the host's own servers answer.
    Outside,
    /// To nothing that exists.
    Nowhere(Unanswered),
}

/// What the caller of a name without address is told, and what to do.
pub(super) struct Unanswered {
    pub(super) told: &'static str,
    pub(super) next: String,
}

impl Router {
    /// Asks for the name as the caller would.
    pub(super) fn follow_name(
        &self,
        caller: &Instance,
        name: &str,
        names: &NamesSnapshot,
        steps: &mut Vec<Step>,
        now: Moment,
    ) -> Followed {
        let question = Question {
            name: name.to_owned(),
            kind: QuestionKind::A,
        };
        let draw = self.random.clone().next_u64();
        let answer = answer(names, caller.plan.instance, &question, draw);
        let (answer, sought) = answer.at_once();
        let is_absent = matches!(answer, Answer::NoData(_, Some(_)));
        let (told, why) = match answer {
            Answer::V4(addresses) => {
                let listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let detail = format!("answered with {}; the first is taken", listed.join(", "));
                steps.push(Step::passed("name", detail));
                return Followed::To(addresses[0].into());
            }
            Answer::Elsewhere => {
                let detail =
                    "of another zone: the servers in the host's /etc/resolv.conf are asked";
                steps.push(Step::passed("name", detail.to_owned()));
                return Followed::Outside;
            }
            Answer::NameError(_, error) => ("no such name (NXDOMAIN)", error.text),
            Answer::NoData(_, Some(error)) => ("no address (an empty answer)", error.text),
            _ => (
                "no address (an empty answer)",
                "the name has no IPv4 address",
            ),
        };
        steps.push(Step::refused("name", format!("{told}: {why}")));
        if sought.is_some() || is_absent {
            let meant = Meant::by(name).map(|meant| meant.automaton);
            steps.extend(meant.and_then(|meant| self.search_step(&meant, now)));
        }
        let next = self.advice(caller, name);
        let unanswered = Unanswered { told, next };
        match self.any_address_of(name) {
            Some(address) => Followed::Unanswered(address, unanswered),
            None => Followed::Nowhere(unanswered),
        }
    }

    /// The address that `name` would have, whoever may see it.
    fn any_address_of(&self, name: &str) -> Option<IpAddr> {
        let meant = Meant::by(name)?;
        let service = self.services.find(&meant.automaton)?;
        let instance = self.instance_of(service, meant.ordinal)?;
        Some(instance.plan.addresses.called.v4.into())
    }

    /// The service's instance of this number, or any.
    fn instance_of(&self, service: &Service, ordinal: Option<u32>) -> Option<&Instance> {
        let instances = service.instances.iter();
        let mut instances = instances.filter_map(|id| self.instances.get(id));
        instances.find(|it| ordinal.is_none_or(|ordinal| it.plan.name.ordinal == ordinal))
    }

    /// What to do when a name has no address.
    fn advice(&self, caller: &Instance, name: &str) -> String {
        let Some(meant) = Meant::by(name) else {
            let from = &caller.plan.name.automaton;
            return match caller.plan.egress {
                Egress::None => format!(
                    "Names of services end in .{ZONE}; for names of other zones set \
                     `egress = \"all\"` for {from} in {}.",
                    caller.plan.composition
                ),
                Egress::All => format!(
                    "Names of services end in .{ZONE}; `margay services` lists what is declared."
                ),
            };
        };
        let automaton = &meant.automaton;
        let Some(service) = self.services.find(automaton) else {
            return format!(
                "No composition declares `{automaton}`; `margay services` lists what is declared."
            );
        };
        let Some(ordinal) = meant.ordinal else {
            return match service.instances.is_empty() {
                true => format!("`{automaton}` has no instance at all yet: `margay ps`."),
                false => "`margay ps` tells what its instances wait for.".to_owned(),
            };
        };
        match self.instance_of(service, Some(ordinal)) {
            Some(instance) => format!(
                "{} is {}; `{automaton}.{ZONE}` leads to those that take flows.",
                instance.plan.name,
                instance.standing()
            ),
            None => format!(
                "There is no {ordinal}.{automaton}; `{automaton}.{ZONE}` leads to those that there \
                 are, `replicas` says how many."
            ),
        }
    }
}

/// Tells of a name that leads to no address.
pub(super) fn nowhere(
    target: &Target,
    caller: &Instance,
    steps: Vec<Step>,
    unanswered: Unanswered,
) -> Explanation {
    Explanation {
        caller: caller.plan.name.to_string(),
        target: target.to_string(),
        steps,
        verdict: Verdict::NoSuchName {
            told: unanswered.told.to_owned(),
        },
        next: unanswered.next,
    }
}

/// What a name below the zone means: a service, or one of its instances.
struct Meant {
    automaton: AutomatonName,
    ordinal: Option<u32>,
}

impl Meant {
    /// By `web.matrix` and by `2.web.matrix`.
    fn by(name: &str) -> Option<Meant> {
        let below = name.strip_suffix(ZONE)?.strip_suffix('.')?;
        let instance: Option<InstanceName> = below.parse().ok();
        match instance {
            Some(InstanceName { automaton, ordinal }) => Some(Meant {
                automaton,
                ordinal: Some(ordinal),
            }),
            None => Some(Meant {
                automaton: below.parse().ok()?,
                ordinal: None,
            }),
        }
    }
}

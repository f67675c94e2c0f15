//! What DNS answers: a pure function over an immutable snapshot of names.

use crate::address::VirtualIp;
use crate::balance::{Balancer, Candidate, Draw, mix};
use crate::composition::Balance;
use crate::id::InstanceId;
use crate::name::{AutomatonName, ZONE};
use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

/// The most addresses in one answer: eight AAAA records behind the longest name, with header and
/// EDNS, make 506 bytes, and every client takes 512 (RFC 1035 section 4.2.1).
pub const ANSWER_ADDRESSES_MAX: usize = 8;

/// Names, who may see them and where they lead, at one moment.
#[derive(Debug, Default)]
pub struct NamesSnapshot {
    services: HashMap<AutomatonName, Service>,
}

/// A service as DNS shows it.
#[derive(Clone, Debug)]
pub struct NamedService {
    /// Its name below the zone.
    pub name: AutomatonName,
    /// How its answers are ordered.
    pub balance: Balance,
    /// Its ready instances, and only those.
    pub instances: Vec<NamedInstance>,
    /// Who may see it; for all others it does not exist.
    pub callers: BTreeSet<InstanceId>,
}

/// A ready instance of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedInstance {
    /// Which.
    pub instance: InstanceId,
    /// What its callers call.
    pub called: VirtualIp,
    /// How many flows it holds.
    pub load: u32,
}

/// A service in the shape that answers are made from: candidates and addresses side by side.
#[derive(Debug)]
struct Service {
    balancer: Balancer,
    called: Vec<VirtualIp>,
    callers: BTreeSet<InstanceId>,
}

impl NamesSnapshot {
    /// Takes the services of one moment; of two with one name the later counts.
    pub fn new(services: impl IntoIterator<Item = NamedService>) -> Self {
        let by_name = |service: NamedService| (service.name.clone(), Service::from(service));
        NamesSnapshot {
            services: services.into_iter().map(by_name).collect(),
        }
    }
}

impl From<NamedService> for Service {
    fn from(service: NamedService) -> Self {
        let candidate = |named: &NamedInstance| Candidate {
            instance: named.instance,
            weight: NonZeroU32::MIN,
            load: named.load,
        };
        let candidates = service.instances.iter().map(candidate).collect();
        Service {
            balancer: Balancer::new(service.balance, candidates),
            called: service.instances.iter().map(|named| named.called).collect(),
            callers: service.callers,
        }
    }
}

/// What a caller asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name in lower case, labels joined by dots, without the root's dot.
    pub name: String,
    /// The kind of record.
    pub kind: QuestionKind,
}

/// The kinds of record that core tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// A (RFC 1035 section 3.4.1).
    A,
    /// AAAA (RFC 3596).
    Aaaa,
    /// Any other type.
    Other,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Addresses for A, best first; one to eight.
    V4(Vec<Ipv4Addr>),
    /// Addresses for AAAA, best first; one to eight.
    V6(Vec<Ipv6Addr>),
    /// The name exists, records of this kind do not (RFC 2308 section 2.2).
    NoData(Option<ExtendedError>),
    /// The name does not exist for this caller (RFC 2308 section 2.1).
    NameError(ExtendedError),
}

/// An extended DNS error (RFC 8914): a code and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// Code of RFC 8914 section 5.2.
    pub code: u16,
    /// One sentence for a person.
    pub text: &'static str,
}

impl ExtendedError {
    /// The service exists and no instance of it is ready ("Other Error").
    pub const NONE_READY: ExtendedError = ExtendedError {
        code: 0,
        text: "no instance of this service is ready; ask again soon",
    };

    /// Unknown or not permitted, and the asker cannot tell which ("Other Error").
    pub const NOT_FOR_CALLER: ExtendedError = ExtendedError {
        code: 0,
        text: "no service of this name is open to the caller; compare with `needs` in its composition",
    };

    /// A name of another zone ("Not Authoritative").
    pub const FOREIGN: ExtendedError = ExtendedError {
        code: 20,
        text: "only names that end in .matrix are answered here",
    };
}

/// Answers `question` of `caller`.
///
/// `draw` is a fresh random number or a counter; it orders the addresses. It is mixed first: clients
/// ask for A and AAAA in turn, and with a bare counter each family would see every other instance
/// only.
pub fn answer(
    snapshot: &NamesSnapshot,
    caller: InstanceId,
    question: &Question,
    draw: u64,
) -> Answer {
    if question.name == ZONE {
        return Answer::NoData(None);
    }
    let Some(below_zone) = below_zone(&question.name) else {
        return Answer::NameError(ExtendedError::FOREIGN);
    };
    let service = snapshot.services.get(below_zone);
    match service.filter(|service| service.callers.contains(&caller)) {
        Some(service) => service.answer(caller, question.kind, mix(draw)),
        None => Answer::NameError(ExtendedError::NOT_FOR_CALLER),
    }
}

/// `web` of `web.matrix`; `None` for what is not below the zone.
fn below_zone(name: &str) -> Option<&str> {
    name.strip_suffix(ZONE)?.strip_suffix('.')
}

impl Service {
    fn answer(&self, caller: InstanceId, kind: QuestionKind, draw: u64) -> Answer {
        let draw = Draw {
            turn: draw,
            random: draw,
        };
        let order = self.balancer.order(caller, draw, ANSWER_ADDRESSES_MAX);
        let called = order.map(|index| self.called[index]);
        match kind {
            QuestionKind::Other => Answer::NoData(None),
            _ if self.called.is_empty() => Answer::NoData(Some(ExtendedError::NONE_READY)),
            QuestionKind::A => Answer::V4(called.map(|addr| addr.v4).collect()),
            QuestionKind::Aaaa => Answer::V6(called.map(|addr| addr.v6).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instance(id: u64) -> NamedInstance {
        NamedInstance {
            instance: InstanceId(id),
            called: VirtualIp {
                v4: Ipv4Addr::from_bits(0x6440_0000 + u32::try_from(id).unwrap()),
                v6: Ipv6Addr::from_bits((0xfd << 120) + u128::from(id)),
            },
            load: 0,
        }
    }

    fn service(name: &str, balance: Balance, instances: u64, callers: &[u64]) -> NamedService {
        NamedService {
            name: name.parse().unwrap(),
            balance,
            instances: (1..=instances).map(instance).collect(),
            callers: callers.iter().copied().map(InstanceId).collect(),
        }
    }

    /// `web` with three instances and `idle` with none, open to 7; `secret`, open to nobody.
    fn snapshot() -> NamesSnapshot {
        NamesSnapshot::new([
            service("web", Balance::RoundRobin, 3, &[7]),
            service("idle", Balance::RoundRobin, 0, &[7]),
            service("secret", Balance::RoundRobin, 3, &[]),
        ])
    }

    fn ask(snapshot: &NamesSnapshot, name: &str, kind: QuestionKind, draw: u64) -> Answer {
        let question = Question {
            name: name.to_owned(),
            kind,
        };
        answer(snapshot, InstanceId(7), &question, draw)
    }

    #[test]
    fn permitted_name_has_addresses_of_both_families_and_nothing_else() {
        let names = snapshot();
        let Answer::V4(mut v4) = ask(&names, "web.matrix", QuestionKind::A, 0) else {
            panic!()
        };
        let Answer::V6(mut v6) = ask(&names, "web.matrix", QuestionKind::Aaaa, 0) else {
            panic!()
        };
        v4.sort();
        v6.sort();
        assert_eq!(
            v4,
            (1..=3).map(|id| instance(id).called.v4).collect::<Vec<_>>()
        );
        assert_eq!(
            v6,
            (1..=3).map(|id| instance(id).called.v6).collect::<Vec<_>>()
        );
        let other = ask(&names, "web.matrix", QuestionKind::Other, 0);
        assert_eq!(other, Answer::NoData(None));
    }

    #[test]
    fn service_without_a_ready_instance_exists() {
        let none_ready = Answer::NoData(Some(ExtendedError::NONE_READY));
        assert_eq!(
            ask(&snapshot(), "idle.matrix", QuestionKind::A, 0),
            none_ready
        );
        assert_eq!(
            ask(&snapshot(), "idle.matrix", QuestionKind::Aaaa, 0),
            none_ready
        );
    }

    #[test]
    fn what_the_caller_may_not_see_looks_like_what_does_not_exist() {
        for kind in [QuestionKind::A, QuestionKind::Aaaa, QuestionKind::Other] {
            let hidden = ask(&snapshot(), "secret.matrix", kind, 3);
            assert_eq!(hidden, Answer::NameError(ExtendedError::NOT_FOR_CALLER));
            for unknown in [
                "nothing.matrix",
                "2.web.matrix",
                "web.paris.matrix",
                ".matrix",
            ] {
                assert_eq!(ask(&snapshot(), unknown, kind, 3), hidden, "{unknown}");
            }
        }
    }

    #[test]
    fn names_outside_the_zone_are_foreign() {
        let foreign = Answer::NameError(ExtendedError::FOREIGN);
        for name in [
            "example.com",
            "web",
            "",
            "webmatrix",
            "matrix.com",
            "web.matrix.lan",
        ] {
            assert_eq!(
                ask(&snapshot(), name, QuestionKind::A, 0),
                foreign,
                "{name}"
            );
        }
    }

    #[test]
    fn zone_itself_exists_and_has_no_records() {
        for kind in [QuestionKind::A, QuestionKind::Aaaa, QuestionKind::Other] {
            assert_eq!(ask(&snapshot(), "matrix", kind, 0), Answer::NoData(None));
        }
    }

    #[test]
    fn counter_that_counts_both_families_still_spreads_each() {
        let names = NamesSnapshot::new([service("web", Balance::RoundRobin, 2, &[7])]);
        let mut firsts = BTreeSet::new();
        for draw in (0..64).step_by(2) {
            let Answer::V4(v4) = ask(&names, "web.matrix", QuestionKind::A, draw) else {
                panic!()
            };
            firsts.insert(v4[0]);
        }
        assert_eq!(firsts.len(), 2);
    }

    fn any_balance() -> impl Strategy<Value = Balance> {
        prop_oneof![Just(Balance::RoundRobin), Just(Balance::TwoChoices)]
    }

    proptest! {
        #[test]
        fn answer_holds_one_to_eight_different_addresses_of_the_snapshot(
            balance in any_balance(), instances in 1u64..30, draw in any::<u64>(),
        ) {
            let names = NamesSnapshot::new([
                service("web", balance, instances, &[7]),
                service("other", balance, 40, &[7]),
            ]);
            let Answer::V4(v4) = ask(&names, "web.matrix", QuestionKind::A, draw) else { panic!() };
            let Answer::V6(v6) = ask(&names, "web.matrix", QuestionKind::Aaaa, draw) else { panic!() };
            let known: BTreeSet<_> = (1..=instances).map(|id| instance(id).called).collect();
            let expected = ANSWER_ADDRESSES_MAX.min(known.len());
            let pairs: BTreeSet<_> = v4.iter().zip(&v6).map(|(v4, v6)| VirtualIp { v4: *v4, v6: *v6 }).collect();
            prop_assert!(pairs.is_subset(&known));
            prop_assert_eq!((v4.len(), v6.len(), pairs.len()), (expected, expected, expected));
        }

        #[test]
        fn first_places_spread_evenly_over_counted_and_random_draws(
            balance in any_balance(), instances in 1u64..12, start in any::<u64>(),
            step in prop_oneof![Just(1), Just(2), any::<u64>().prop_map(|step| step | 1)],
        ) {
            // Instance 7 would be the caller itself.
            let mut web = service("web", balance, instances, &[7]);
            web.instances = (11..11 + instances).map(instance).collect();
            let names = NamesSnapshot::new([web]);
            let mut firsts = std::collections::BTreeMap::new();
            for count in 0..400 * instances {
                let draw = start.wrapping_add(count.wrapping_mul(step));
                let Answer::V6(v6) = ask(&names, "web.matrix", QuestionKind::Aaaa, draw) else { panic!() };
                *firsts.entry(v6[0]).or_insert(0) += 1;
            }
            prop_assert_eq!(firsts.len() as u64, instances);
            // Six standard deviations around 400.
            prop_assert!(firsts.values().all(|count| (280..=520).contains(count)), "{:?}", firsts);
        }

        #[test]
        fn only_callers_get_addresses(callers in proptest::collection::vec(0u64..9, 0..5), caller in 0u64..9) {
            let names = NamesSnapshot::new([service("web", Balance::RoundRobin, 3, &callers)]);
            let question = Question { name: "web.matrix".to_owned(), kind: QuestionKind::A };
            let answer = answer(&names, InstanceId(caller), &question, 0);
            prop_assert_eq!(matches!(answer, Answer::V4(_)), callers.contains(&caller));
        }

        #[test]
        fn any_name_gets_an_answer(name in ".{0,20}(\\.matrix)?", caller in any::<u64>()) {
            let question = Question { name, kind: QuestionKind::A };
            answer(&snapshot(), InstanceId(caller), &question, 0);
        }
    }
}

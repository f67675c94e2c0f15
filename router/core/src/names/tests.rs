//! Who asks decides what exists; what exists answers in full.

mod longer_names;

use super::*;
use crate::address::{AddressPlan, InstanceAddresses, Ipv4Block, VirtualIp};
use crate::balance::{Balancer, Candidate};
use crate::composition::{Balance, Port, Transport};
use crate::id::Version;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The addresses that names are for in these tests.
fn plan() -> AddressPlan {
    AddressPlan::new(&[7; 32], Ipv4Block::DEFAULT)
}

/// A ready instance whose ordinal is its number.
fn instance(id: u64) -> NamedInstance {
    let number = u32::try_from(id).unwrap();
    let (called_v4, caller_v4) = plan().v4_of(number);
    let (called_v6, caller_v6) = plan().v6_of(InstanceId(id));
    let vip = |v4, v6| VirtualIp { v4, v6 };
    NamedInstance {
        instance: InstanceId(id),
        ordinal: number,
        version: Version(2),
        addresses: InstanceAddresses {
            called: vip(called_v4, called_v6),
            caller: vip(caller_v4, caller_v6),
        },
        ready: true,
    }
}

fn balancer(balance: Balance, ids: impl Iterator<Item = u64>) -> Balancer {
    let idle = |id| Candidate::idle(InstanceId(id));
    Balancer::new(balance, ids.map(idle).collect())
}

fn service(name: &str, balance: Balance, instances: u64, callers: &[u64]) -> NamedService {
    let port = |port, protocol| Port { port, protocol };
    NamedService {
        name: name.parse().unwrap(),
        balancer: balancer(balance, 1..=instances),
        declaration: Arc::new(Declaration {
            composition: "shop".parse().unwrap(),
            version: Version(3),
            ports: BTreeMap::from([
                ("http".to_owned(), port(80, Transport::Tcp)),
                ("dns".to_owned(), port(53, Transport::Udp)),
            ]),
        }),
        vip: None,
        instances: (1..=instances).map(instance).collect(),
        callers: callers.iter().copied().map(InstanceId).collect(),
    }
}

/// `web` with three instances and `idle` with none, open to 7; `secret`, open to nobody.
fn snapshot() -> NamesSnapshot {
    NamesSnapshot::new(
        plan(),
        [
            service("web", Balance::RoundRobin, 3, &[7]),
            service("idle", Balance::RoundRobin, 0, &[7]),
            service("secret", Balance::RoundRobin, 3, &[]),
        ],
    )
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
    let called = (1..=3).map(|id| instance(id).addresses.called);
    let (all_v4, all_v6): (BTreeSet<_>, BTreeSet<_>) =
        called.map(|addr| (addr.v4, addr.v6)).unzip();
    assert_eq!(v4, Vec::from_iter(all_v4));
    assert_eq!(v6, Vec::from_iter(all_v6));
    let other = ask(&names, "web.matrix", QuestionKind::Other, 0);
    assert_eq!(other, Answer::NoData(Zone::SERVICES, None));
}

#[test]
fn each_of_many_callers_sees_the_service_and_nobody_else_does() {
    let callers: Vec<u64> = (1..40).map(|number| number * 37 % 41).collect();
    let names = NamesSnapshot::new(plan(), [service("web", Balance::RoundRobin, 1, &callers)]);
    let question = Question {
        name: "web.matrix".to_owned(),
        kind: QuestionKind::A,
    };

    for id in 0..100 {
        let answer = answer(&names, InstanceId(id), &question, 0);
        let sees = matches!(answer, Answer::V4(_));
        assert_eq!(sees, callers.contains(&id), "{id}");
    }
}

#[test]
fn service_without_a_ready_instance_exists() {
    let none_ready = Answer::NoData(Zone::SERVICES, Some(ExtendedError::NONE_READY));
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
        assert_eq!(
            hidden,
            Answer::NameError(Zone::SERVICES, ExtendedError::NOT_FOR_CALLER)
        );
        for unknown in ["nothing.matrix", "web.paris.matrix", ".matrix"] {
            assert_eq!(ask(&snapshot(), unknown, kind, 3), hidden, "{unknown}");
        }
    }
}

#[test]
fn names_outside_the_zone_are_foreign() {
    let foreign = Answer::NameError(Zone::ROOT, ExtendedError::FOREIGN);
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
fn counter_that_counts_both_families_still_spreads_each() {
    let names = NamesSnapshot::new(plan(), [service("web", Balance::RoundRobin, 2, &[7])]);
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
        let names = NamesSnapshot::new(plan(), [
            service("web", balance, instances, &[7]),
            service("other", balance, 40, &[7]),
        ]);
        let Answer::V4(v4) = ask(&names, "web.matrix", QuestionKind::A, draw) else { panic!() };
        let Answer::V6(v6) = ask(&names, "web.matrix", QuestionKind::Aaaa, draw) else { panic!() };
        let called = |id| instance(id).addresses.called;
            let known: BTreeSet<_> = (1..=instances).map(called).collect();
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
        web.balancer = balancer(balance, 11..11 + instances);
        let names = NamesSnapshot::new(plan(), [web]);
        let mut firsts = BTreeMap::new();
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
        let names = NamesSnapshot::new(plan(), [service("web", Balance::RoundRobin, 3, &callers)]);
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

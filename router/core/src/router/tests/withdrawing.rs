//! Instances that take no new flow: withdrawn everywhere before they are told to stop, or drained by an
//! operator.

use super::world::{Kind, World};
use super::{SHOP, probed};
use crate::composition::DRAIN;
use crate::drop_reason::DropReason;
use crate::id::InstanceId;
use crate::names::{Answer, Question, QuestionKind, answer};
use crate::port::{Input, Output, SlotReading};
use std::net::IpAddr;
use std::time::Duration;

const SYN: Kind = Kind::Syn(80);

/// The shop's second version, whose web servers run another program.
fn replaced() -> String {
    let second = probed().replace("version = 1", "version = 2");
    second.replace("nginx", "caddy")
}

fn ready(world: &mut World, name: &str) {
    let instance = world.id(name);
    let ready = true;
    world.tell(Input::Readiness { instance, ready });
}

/// A shop with probes and everything ready, whose second version has just been applied.
fn replacing() -> World {
    let mut world = World::with(&probed());
    for name in ["1.web", "2.web", "3.web"] {
        ready(&mut world, name);
    }
    world.apply(&replaced()).unwrap();
    world.log.clear();
    world
}

/// The first version's `1.web`.
fn older_web(world: &World) -> InstanceId {
    let mut plans = world.plans.values();
    let web = plans.find(|plan| plan.name.to_string() == "1.web");
    web.unwrap().instance
}

fn removed(world: &World, instance: InstanceId) -> bool {
    let removal = |output: &Output| matches!(output, Output::RemoveInstance { instance: it, .. } if *it == instance);
    world.log.iter().any(removal)
}

/// Under which addresses the newest names show the web service to the shopper.
fn shown(world: &World) -> Vec<IpAddr> {
    let names = world.log.iter().rev().find_map(|output| match output {
        Output::PublishNames(names) => Some(names),
        _ => None,
    });
    let question = Question {
        name: "web.matrix".into(),
        kind: QuestionKind::A,
    };
    match answer(names.unwrap(), world.id("1.shopper"), &question, 0) {
        Answer::V4(addresses) => addresses.into_iter().map(IpAddr::from).collect(),
        Answer::NoData(..) => Vec::new(),
        other => panic!("{other:?}"),
    }
}

/// Says that every flow has closed.
fn close_all(world: &mut World) {
    let closed = SlotReading {
        packets: 5,
        bytes: 300,
        last_seen: world.now,
        fin_seen: true,
        rst_seen: false,
    };
    for key in world.flows.keys().copied().collect::<Vec<_>>() {
        world.counters.insert(key, (closed, closed));
    }
}

fn drain(world: &mut World, instance: InstanceId, drained: bool) -> Result<String, String> {
    world.ask(|request| Input::Drain {
        request,
        instance,
        drained,
    })
}

/// ```text
///   names without it -> withdraw? -> withdrawn! -> stop
/// ```
#[test]
fn withdrawal_has_reached_every_table_before_the_program_is_told_to_stop() {
    let mut world = replacing();
    let (old, address) = (older_web(&world), world.called("1.web"));
    let old_address = IpAddr::from(world.plans[&old].addresses.called.v4);
    world.prompt = false;
    ready(&mut world, "1.web");

    let names = world
        .log
        .iter()
        .position(|it| matches!(it, Output::PublishNames(_)));
    let asked = world
        .log
        .iter()
        .position(|it| matches!(it, Output::Withdraw { instance } if *instance == old));
    assert!(names.unwrap() < asked.unwrap());
    let shown = shown(&world);
    assert!(
        shown.contains(&address) && !shown.contains(&old_address),
        "{shown:?}"
    );
    world.pass(Duration::from_secs(60));
    assert!(!removed(&world, old), "nobody said that it is withdrawn");

    world.tell(Input::Withdrawn { instance: old });
    assert!(removed(&world, old), "it serves no flow");
}

/// ```text
///   shopper asks DNS -> old 1.web     replaced     shopper connects to it -> a sibling
/// ```
#[test]
fn client_that_resolved_just_before_reaches_a_sibling() {
    let mut world = replacing();
    let old = older_web(&world);
    let live = 7;
    let to = world.plans[&old].addresses.called.v4.into();
    world.call("1.shopper", live, to, SYN);
    ready(&mut world, "1.web");
    assert_eq!(world.plans[&old].instance, old, "it drains");
    for port in 100..120 {
        assert!(world.call("1.shopper", port, to, SYN).is_some());
    }
    let of_old = world.flows.values().filter(|flow| flow.server == old);
    let ports: Vec<u16> = of_old.map(|flow| flow.forward.key.source.port()).collect();
    assert_eq!(ports, [live]);
}

#[test]
fn live_flow_ends_in_peace_and_then_the_program_is_told_to_stop() {
    let mut world = replacing();
    let old = older_web(&world);
    let to = world.plans[&old].addresses.called.v4.into();
    world.call("1.shopper", 7, to, SYN);
    let lively = SlotReading {
        packets: 9,
        last_seen: world.now,
        ..SlotReading::default()
    };
    let key = *world.flows.keys().next().unwrap();
    world.counters.insert(key, (lively, lively));
    ready(&mut world, "1.web");
    world.pass(Duration::from_secs(5));
    assert!(!removed(&world, old) && world.flows.contains_key(&key));
    close_all(&mut world);
    world.pass(Duration::from_secs(4));
    assert!(removed(&world, old));
}

#[test]
fn flows_that_go_on_for_ever_delay_a_replacement_for_a_bounded_time() {
    let mut world = replacing();
    let old = older_web(&world);
    let to: IpAddr = world.plans[&old].addresses.called.v4.into();
    for (port, kind) in [(7, SYN), (8, Kind::Udp(443))] {
        world.call("1.shopper", port, to, kind);
    }
    let lively = SlotReading {
        packets: 9,
        last_seen: world.now + DRAIN,
        ..SlotReading::default()
    };
    for key in world.flows.keys().copied().collect::<Vec<_>>() {
        world.counters.insert(key, (lively, lively));
    }
    ready(&mut world, "1.web");
    world.pass(DRAIN - Duration::from_millis(1));
    assert!(!removed(&world, old));
    world.log.clear();
    world.prompt = false;
    world.pass(Duration::from_millis(1));
    assert!(removed(&world, old));
    // A connection learns its end from the program, datagrams bind anew before it is told.
    assert!(
        matches!(&world.log[0], Output::CloseFlows(flows) if flows.len() == 1),
        "{:?}",
        world.log
    );
    let server = world.call("1.shopper", 8, to, Kind::Udp(443));
    assert!(server.is_some());
    let key = world
        .flows
        .values()
        .find(|flow| flow.forward.key.source.port() == 8)
        .unwrap();
    assert_ne!(key.server, old);
}

#[test]
fn what_nobody_may_call_any_more_is_not_waited_for() {
    for end in [
        Input::Down {
            request: crate::id::RequestId(9),
        },
        Input::Delete {
            request: crate::id::RequestId(9),
            composition: "shop".parse().unwrap(),
        },
    ] {
        let mut world = World::with(SHOP);
        let to = world.called("1.web");
        world.call("1.shopper", 7, to, SYN);
        world.tell(end);
        assert!(world.plans.is_empty());
    }
}

#[test]
fn drained_instance_runs_on_and_gets_no_new_flow_until_that_is_undone() {
    let mut world = World::with(SHOP);
    let (id, to) = (world.id("2.web"), world.called("2.web"));
    world.call("1.shopper", 7, to, SYN);
    assert_eq!(
        drain(&mut world, id, true).unwrap(),
        "2.web takes no new flow"
    );
    assert_eq!(shown(&world).len(), 2);
    assert_ne!(
        world.call("1.shopper", 8, to, SYN).as_deref(),
        Some("2.web")
    );
    let live = world.flows.values().filter(|flow| flow.server == id);
    assert_eq!(live.count(), 1, "its live flow goes on");
    assert!(drain(&mut world, id, true).unwrap().contains("already"));

    world.restart();
    assert_ne!(
        world.call("1.shopper", 9, to, SYN).as_deref(),
        Some("2.web")
    );
    let view = world
        .router
        .instances()
        .into_iter()
        .find(|view| view.id == id);
    assert!(view.is_some_and(|view| view.drained && !view.ready && view.stage == "ready"));

    drain(&mut world, id, false).unwrap();
    assert_eq!(shown(&world).len(), 3);
    assert_eq!(
        world.call("1.shopper", 10, to, SYN).as_deref(),
        Some("2.web")
    );
}

#[test]
fn service_whose_every_instance_is_drained_refuses_at_once() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    for name in ["1.web", "2.web", "3.web"] {
        let id = world.id(name);
        drain(&mut world, id, true).unwrap();
    }
    assert!(shown(&world).is_empty());
    assert_eq!(world.call("1.shopper", 8, to, SYN), None);
    assert_eq!(world.counted(DropReason::NoInstance), 1);
    assert_eq!(world.injected().len(), 1);
}

#[test]
fn strict_callers_are_served_by_theirs_until_it_is_told_to_stop() {
    let mut world = World::with(SHOP);
    let (id, to) = (world.id("1.store"), world.called("1.store"));
    drain(&mut world, id, true).unwrap();
    let server = world.call("1.web", 7, to, Kind::Syn(6_379));
    assert_eq!(server.as_deref(), Some("1.store"));
}

#[test]
fn what_cannot_be_drained_is_told() {
    let mut world = replacing();
    let unknown = drain(&mut world, InstanceId(999), true).unwrap_err();
    assert!(unknown.contains("999 is no more"), "{unknown}");
    let old = older_web(&world);
    world.prompt = false;
    ready(&mut world, "1.web");
    let ending = drain(&mut world, old, true).unwrap_err();
    assert!(ending.contains("1.web is being taken away"), "{ending}");
}

//! What goes wrong: programs end, devices vanish, the kernel refuses, adapters fail.

use super::world::{Kind, World};
use super::{SHOP, probed};
use crate::composition::Composition;
use crate::drop_reason::DropReason;
use crate::flow_table::DYING_SOCKETS_LINGER;
use crate::lifecycle::PAUSE_MAX;
use crate::names::{Answer, Question, QuestionKind, answer};
use crate::port::{Input, Output, SlotReading};
use std::time::Duration;

fn exit(world: &mut World, name: &str) {
    let instance = world.id(name);
    world.running.remove(&instance);
    world.tell(Input::ProcessExited {
        instance,
        status: "signal 9".into(),
        restart_after: Some(Duration::from_millis(500)),
    });
}

fn shown(world: &World) -> usize {
    let published = world.log.iter().rev().find_map(|output| match output {
        Output::PublishNames(names) => Some(names),
        _ => None,
    });
    let question = Question {
        name: "web.matrix".into(),
        kind: QuestionKind::A,
    };
    match answer(published.unwrap(), world.id("1.shopper"), &question, 0) {
        Answer::V4(addresses) => addresses.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ended_program_leaves_dns_at_once_and_returns_with_it() {
    let mut world = World::with(SHOP);
    exit(&mut world, "2.web");
    assert_eq!(shown(&world), 2);
    world.log.clear();
    let instance = world.id("2.web");
    world.tell(Input::ProcessStarted { instance });
    assert_eq!(shown(&world), 3);
    let views = world.router.instances();
    let view = views.iter().find(|view| view.id == instance).unwrap();
    assert_eq!(view.last_error.as_deref(), Some("signal 9"));
}

#[test]
fn datagrams_to_an_ended_program_bind_anew_and_its_connections_close_soon() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    world.call("1.shopper", 1, to, Kind::Syn(80));
    world.call("1.shopper", 2, to, Kind::Udp(443));
    exit(&mut world, "2.web");
    assert_eq!(world.flows.len(), 1);
    let server = world.call("1.shopper", 2, to, Kind::Udp(443)).unwrap();
    assert_ne!(server, "2.web");
    world.pass(DYING_SOCKETS_LINGER);
    assert!(
        world
            .flows
            .values()
            .all(|flow| flow.server != world.id("2.web"))
    );
}

#[test]
fn bad_probe_stops_new_flows_and_leaves_live_ones() {
    let text = probed();
    let mut world = World::with(&text);
    for (name, ready) in [("1.web", true), ("2.web", true), ("2.web", false)] {
        let instance = world.id(name);
        let to = world.called(name);
        world.tell(Input::Readiness { instance, ready });
        world.call("1.shopper", 1, to, Kind::Syn(80));
    }
    let servers: Vec<_> = world.flows.values().map(|flow| flow.server).collect();
    assert!(servers.contains(&world.id("2.web")), "its live flow stays");
    let to = world.called("2.web");
    assert_eq!(
        world.call("1.shopper", 7, to, Kind::Syn(80)).as_deref(),
        Some("1.web")
    );
}

#[test]
fn vanished_device_is_made_anew_with_the_same_identity() {
    let mut world = World::with(SHOP);
    let (id, to) = (world.id("2.web"), world.called("2.web"));
    world.call("1.shopper", 1, to, Kind::Syn(80));
    world.log.clear();
    world.prompt = false;
    world.tell(Input::DeviceLost { instance: id });
    assert!(world.flows.is_empty());
    world.prompt = true;
    world.pass(Duration::from_secs(1));
    while let Some(report) = world.reports.pop_front() {
        world.tell(report);
    }
    assert_eq!(world.stage("2.web"), "ready");
    assert_eq!((world.id("2.web"), world.called("2.web")), (id, to));
    assert_eq!(
        world.call("1.shopper", 1, to, Kind::Syn(80)).as_deref(),
        Some("2.web")
    );
}

#[test]
fn flow_that_the_kernel_refuses_is_forgotten_and_counted() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    world.call("1.shopper", 1, to, Kind::Syn(80));
    let (forward, _) = world.flows.pop_first().unwrap();
    world.log.clear();
    world.tell(Input::FlowRefused { forward });
    assert!(world.log.is_empty());
    assert_eq!(world.counted(DropReason::KernelRefused), 1);
    world.pass(Duration::from_secs(1));
    assert!(world.call("1.shopper", 1, to, Kind::Syn(80)).is_some());
}

#[test]
fn what_could_not_be_made_is_tried_again() {
    let mut world = World::with(SHOP);
    let instance = world.id("1.store");
    let failed = || Input::InstanceFailed {
        instance,
        error: "redis-server: no such program".into(),
    };
    for _ in 0..5 {
        world.tell(failed());
        assert_eq!(world.stage("1.store"), "pausing");
        world.prompt = false;
        world.pass(PAUSE_MAX);
        world.reports.clear();
        assert_eq!(world.stage("1.store"), "starting");
    }
    world.tell(Input::ProcessStarted { instance });
    assert_eq!(world.stage("1.store"), "ready");
}

#[test]
fn closed_connections_are_freed_within_four_seconds() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    world.call("1.shopper", 1, to, Kind::Syn(80));
    let closed = SlotReading {
        packets: 5,
        bytes: 300,
        last_seen: world.now,
        fin_seen: true,
        rst_seen: false,
    };
    let key = *world.flows.keys().next().unwrap();
    world.counters.insert(key, (closed, closed));
    world.pass(Duration::from_secs(4));
    assert!(world.flows.is_empty());
}

#[test]
fn late_news_of_unknown_instances_is_ignored() {
    let mut world = World::with(SHOP);
    let instance = crate::id::InstanceId(999);
    let news = [
        Input::InstancePrepared {
            instance,
            endpoint: crate::id::EndpointIndex(9),
            ifindex: 9,
        },
        Input::ProcessStarted { instance },
        Input::InstanceRemoved { instance },
        Input::DeviceLost { instance },
        Input::Readiness {
            instance,
            ready: true,
        },
    ];
    for input in news {
        world.tell(input);
    }
    assert!(world.log.is_empty());
}

#[test]
fn loads_that_order_answers_are_published_while_they_change() {
    let text = SHOP.replace("replicas = 3", "replicas = 3\nbalance = \"two-choices\"");
    Composition::parse(&text).unwrap();
    let mut world = World::with(&text);
    let to = world.called("1.web");
    for port in 0..50 {
        world.call("1.shopper", port, to, Kind::Syn(80));
    }
    let published = |world: &World| {
        let publish = |output: &&Output| matches!(output, Output::PublishNames(_));
        world.log.iter().filter(publish).count()
    };
    assert_eq!(published(&world), 0);
    // Once for the flow that core opened, once for those that the kernel did.
    world.pass(Duration::from_millis(900));
    assert_eq!(published(&world), 2);
}

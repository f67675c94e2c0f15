//! Instances whose connections fail are left alone for a while, within bounds.

use super::SHOP;
use super::world::{Kind, World, config};
use crate::port::{FlowEntries, SlotReading};
use crate::router::RouterConfig;
use crate::router::trust::{FAILURES_MAX, OUT_MAX, OUT_MIN};
use std::net::IpAddr;
use std::time::Duration;

/// What the server's side of a connection counts.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Answer,
    Refusal,
    Silence,
}

/// A shop in which each first packet comes up to core.
fn shop(text: &str) -> World {
    let mut world = World::new(RouterConfig {
        aggregates: false,
        ..config()
    });
    world.apply(text).unwrap();
    world
}

/// Opens `count` flows to the address of `name`, which replies so, and lets core look at them.
fn call(world: &mut World, name: &str, reply: Reply, count: u16) {
    call_at(world, name, world.called(name), reply, count);
}

fn call_at(world: &mut World, name: &str, to: IpAddr, reply: Reply, count: u16) {
    let id = world.id(name);
    for port in 0..count {
        world.call("1.shopper", 2_000 + port, to, Kind::Syn(80));
    }
    let of_it = |flow: &&FlowEntries| flow.server == id;
    let keys: Vec<_> = world
        .flows
        .values()
        .filter(of_it)
        .map(|flow| flow.forward.key)
        .collect();
    for key in keys {
        let there = SlotReading {
            packets: 2,
            last_seen: world.now,
            ..SlotReading::default()
        };
        let back = match reply {
            Reply::Answer => there,
            Reply::Refusal => SlotReading {
                packets: 1,
                rst_seen: true,
                ..there
            },
            Reply::Silence => SlotReading::default(),
        };
        world.counters.insert(key, (there, back));
    }
    world.pass(Duration::from_millis(1_300));
    // What was opened is over; the next ones use the same ports.
    world.pass(Duration::from_millis(1_300));
}

/// Has so many connections to an instance fail that it is put out.
pub(super) fn put_out(world: &mut World, name: &str) {
    let failures = u16::try_from(FAILURES_MAX).unwrap();
    call(world, name, Reply::Silence, failures);
    assert_eq!(state(world, name), OUT);
}

fn state(world: &World, name: &str) -> (bool, bool) {
    let id = world.id(name);
    let views = world.router.instances();
    let view = views.iter().find(|view| view.id == id).unwrap();
    (view.ready, view.ejected)
}

const IN: (bool, bool) = (true, false);
const OUT: (bool, bool) = (false, true);

#[test]
fn instance_that_refuses_or_is_silent_is_put_out_and_tried_again() {
    for reply in [Reply::Refusal, Reply::Silence] {
        let mut world = shop(SHOP);
        call(&mut world, "2.web", reply, 4);
        assert_eq!(state(&world, "2.web"), IN, "four can be chance");
        let failures = u16::try_from(FAILURES_MAX).unwrap();
        call(&mut world, "2.web", reply, failures);
        assert_eq!(state(&world, "2.web"), OUT, "{reply:?}");
        let to = world.called("2.web");
        let server = world.call("1.shopper", 9_000, to, Kind::Syn(80)).unwrap();
        assert_ne!(server, "2.web");

        world.pass(OUT_MIN);
        assert_eq!(state(&world, "2.web"), IN);
        let server = world.call("1.shopper", 9_001, to, Kind::Syn(80));
        assert_eq!(server.as_deref(), Some("2.web"));
    }
}

#[test]
fn program_that_listens_in_one_family_only_is_not_judged_by_the_other() {
    let mut world = shop(SHOP);
    let by_ipv6 = world.called_v6("2.web");
    call(&mut world, "2.web", Reply::Answer, 1);
    call_at(&mut world, "2.web", by_ipv6, Reply::Refusal, 9);
    assert_eq!(state(&world, "2.web"), IN, "it never answered there");

    call_at(&mut world, "2.web", by_ipv6, Reply::Answer, 1);
    // The first of these is the connection that stands.
    call_at(&mut world, "2.web", by_ipv6, Reply::Refusal, 6);
    assert_eq!(state(&world, "2.web"), OUT, "it did, and does no more");
}

#[test]
fn instance_that_answers_in_between_stays() {
    let mut world = shop(SHOP);
    for _ in 0..4 {
        call(&mut world, "2.web", Reply::Refusal, 4);
        world.pass(Duration::from_secs(15));
        call(&mut world, "2.web", Reply::Answer, 1);
        world.pass(Duration::from_secs(15));
    }
    assert_eq!(state(&world, "2.web"), IN);
}

#[test]
fn who_fails_again_at_once_is_out_longer_each_time_up_to_a_limit() {
    let mut world = shop(SHOP);
    call(&mut world, "2.web", Reply::Refusal, 5);
    let mut out = Vec::new();
    for _ in 0..8 {
        assert_eq!(state(&world, "2.web"), OUT);
        let from = world.now;
        while state(&world, "2.web") == OUT {
            world.pass(Duration::from_secs(1));
        }
        out.push(world.now.since(from).as_secs());
        call(&mut world, "2.web", Reply::Refusal, 1);
    }
    assert!(out.is_sorted() && out[1] > out[0], "{out:?}");
    assert!(
        out[7] <= OUT_MAX.as_secs() && out[7] >= OUT_MAX.as_secs() - 4,
        "{out:?}"
    );
}

#[test]
fn at_most_half_of_the_instances_are_out() {
    let mut world = shop(SHOP);
    for name in ["1.web", "2.web", "3.web"] {
        call(&mut world, name, Reply::Refusal, 5);
    }
    let states = ["1.web", "2.web", "3.web"].map(|name| state(&world, name));
    let out = states.iter().filter(|state| **state == OUT).count();
    assert_eq!(out, 1, "{states:?}");

    let alone = shop(&SHOP.replace("replicas = 3", "replicas = 1"));
    let mut world = alone;
    call(&mut world, "1.web", Reply::Refusal, 9);
    assert_eq!(state(&world, "1.web"), IN);
}

#[test]
fn whom_nobody_trusts_serves_when_all_others_are_gone() {
    let mut world = shop(SHOP);
    call(&mut world, "2.web", Reply::Refusal, 5);
    assert_eq!(state(&world, "2.web"), OUT);
    for name in ["1.web", "3.web"] {
        let instance = world.id(name);
        world.tell(crate::port::Input::ProcessExited {
            instance,
            status: "signal 9".into(),
            restart_after: Some(Duration::from_secs(9)),
        });
    }
    let to = world.called("1.web");
    let server = world.call("1.shopper", 9_000, to, Kind::Syn(80));
    assert_eq!(server.as_deref(), Some("2.web"));
}

//! What those who watch are told of flows and refusals.

use super::SHOP;
use super::random_walk::{Step, any_step, apply};
use super::world::{Kind, World, config};
use crate::drop_reason::DropReason;
use crate::flow_event::{FlowEvent, Interest};
use crate::flow_key::FlowKey;
use crate::flow_table::{FlowChange, FlowEnd, FlowLimits, FlowState};
use crate::port::{Input, Output, SlotReading};
use crate::router::observation::{REFUSALS_MAX, REFUSALS_WITHIN};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const ALL: Interest = Interest {
    flows: true,
    refusals: true,
};

const SYN: Kind = Kind::Syn(80);

/// What was told since the log was taken last.
fn told(world: &mut World) -> Vec<FlowEvent> {
    let outputs = std::mem::take(&mut world.log).into_iter();
    let events = outputs.filter_map(|output| match output {
        Output::Observed(event) => Some(*event),
        _ => None,
    });
    events.collect()
}

fn watched(text: &str) -> World {
    let mut world = World::with(text);
    world.tell(Input::Observe(ALL));
    world
}

#[test]
fn nobody_is_told_anything_while_nobody_watches() {
    let mut world = World::with(SHOP);
    let (web, store) = (world.called("1.web"), world.called("1.store"));
    world.call("1.shopper", 4_000, web, SYN);
    world.call("1.shopper", 4_000, store, SYN);
    world.pass(Duration::from_secs(60));
    assert!(told(&mut world).is_empty());
}

#[test]
fn flow_is_told_as_it_opens_as_it_changes_and_as_it_closes() {
    let mut world = watched(SHOP);
    let to = world.called("2.web");
    world.call("1.shopper", 4_000, to, SYN);
    let [
        FlowEvent::Flow {
            change: FlowChange::Opened(flow),
            client,
            server,
        },
    ] = &told(&mut world)[..]
    else {
        panic!("not opened");
    };
    let name = |plan: &Option<std::sync::Arc<crate::port::InstancePlan>>| {
        plan.as_ref().unwrap().name.to_string()
    };
    assert_eq!(
        (&name(client)[..], &name(server)[..]),
        ("1.shopper", "2.web")
    );
    let key = flow.entries.forward.key;

    let seen = SlotReading {
        packets: 5,
        bytes: 300,
        last_seen: world.now,
        ..SlotReading::default()
    };
    world.counters.insert(key, (seen, seen));
    world.pass(Duration::from_secs(3));
    let [
        FlowEvent::Flow {
            change: FlowChange::Changed(flow),
            ..
        },
    ] = &told(&mut world)[..]
    else {
        panic!("not changed");
    };
    assert_eq!(flow.state(), FlowState::Established);

    let over = SlotReading {
        fin_seen: true,
        ..seen
    };
    world.counters.insert(key, (over, over));
    world.pass(Duration::from_secs(4));
    let events = told(&mut world);
    let [
        FlowEvent::Flow {
            change: FlowChange::Changed(_),
            ..
        },
        FlowEvent::Flow {
            change: FlowChange::Closed(flow, end),
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((flow.forward.bytes, *end), (300, FlowEnd::Finished));
}

#[test]
fn refusal_is_told_with_its_reason_and_its_caller() {
    let mut world = watched(SHOP);
    let store = world.called("1.store");
    world.call("1.shopper", 4_000, store, Kind::Syn(6_379));
    world.send("1.shopper", b"no packet");
    let events = told(&mut world);
    let [
        FlowEvent::Refused {
            client,
            key: Some(key),
            reason: DropReason::NotPermitted,
        },
        FlowEvent::Refused { key: None, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(client.as_ref().unwrap().name.to_string(), "1.shopper");
    assert_eq!(key.destination.port(), 6_379);
}

#[test]
fn flood_of_refusals_is_told_as_a_number() {
    let mut world = watched(SHOP);
    let store = world.called("1.store");
    for port in 0..300 {
        world.call("1.shopper", port, store, SYN);
    }
    assert_eq!(told(&mut world).len() as u64, REFUSALS_MAX);
    world.pass(REFUSALS_WITHIN);
    let events = told(&mut world);
    assert!(
        matches!(events[..], [FlowEvent::Suppressed(200)]),
        "{events:?}"
    );
    world.call("1.shopper", 1, store, SYN);
    assert_eq!(told(&mut world).len(), 1, "and one by one again");
    world.pass(2 * REFUSALS_WITHIN);
    assert!(told(&mut world).is_empty());
}

#[test]
fn forgotten_permission_is_told_as_the_end() {
    let mut world = watched(SHOP);
    let to = world.called("1.web");
    world.call("1.shopper", 4_000, to, SYN);
    told(&mut world);
    let without = SHOP
        .replace("version = 1", "version = 2")
        .replace("needs = [\"web\"]", "");
    world.apply(&without).unwrap();
    let events = told(&mut world);
    let closed = |event: &FlowEvent| {
        matches!(
            event,
            FlowEvent::Flow {
                change: FlowChange::Closed(_, FlowEnd::Forbidden),
                ..
            }
        )
    };
    assert_eq!(events.iter().filter(|event| closed(event)).count(), 1);
}

proptest! {
    #[test]
    fn each_flow_is_told_to_open_once_and_to_close_once(
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut config = config();
        config.flow_limits = FlowLimits::for_slots(48);
        let mut world = World::new(config);
        world.tell(Input::Observe(ALL));
        let mut open: BTreeSet<FlowKey> = BTreeSet::new();
        for step in steps.iter().filter(|step| !matches!(step, Step::Observe(_))) {
            apply(&mut world, step);
            for event in told(&mut world) {
                match event {
                    FlowEvent::Flow { change: FlowChange::Opened(flow), .. } => {
                        prop_assert!(open.insert(flow.entries.forward.key));
                    }
                    FlowEvent::Flow { change: FlowChange::Closed(flow, _), .. } => {
                        prop_assert!(open.remove(&flow.entries.forward.key));
                    }
                    _ => {}
                }
            }
            let flows = world.router.flows.iter();
            let now: BTreeSet<FlowKey> = flows.map(|flow| flow.entries.forward.key).collect();
            if matches!(step, Step::Restart) {
                // A new router knows of nobody who watches.
                world.tell(Input::Observe(ALL));
                open = now;
            } else {
                prop_assert_eq!(&open, &now);
            }
        }
    }
}

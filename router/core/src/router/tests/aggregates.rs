//! Flows that the kernel opens by itself: when it may, with whom, and when no longer.

use super::world::{Kind, World, config};
use super::{SHOP, probed};
use crate::address::Ipv4Block;
use crate::drop_reason::DropReason;
use crate::flow_event::{FlowEvent, Interest};
use crate::flow_table::{FlowChange, FlowLimits};
use crate::port::{Input, Output, SlotReading};
use crate::router::RouterConfig;
use std::collections::BTreeMap;
use std::time::Duration;

const HTTP: Kind = Kind::Syn(80);

/// How many flows core opened since the log was taken last.
fn decided(world: &World) -> usize {
    let open = |output: &&Output| matches!(output, Output::OpenFlow(_));
    world.log.iter().filter(open).count()
}

fn ready(world: &mut World, name: &str, ready: bool) {
    let instance = world.id(name);
    world.tell(Input::Readiness { instance, ready });
}

/// Calls from many ports; how many flows each server took.
fn spread(
    world: &mut World,
    to: std::net::IpAddr,
    ports: std::ops::Range<u16>,
) -> BTreeMap<String, usize> {
    let mut taken = BTreeMap::new();
    for port in ports {
        let server = world.call("1.shopper", port, to, HTTP).expect("served");
        *taken.entry(server).or_default() += 1;
    }
    taken
}

/// Lets packets pass in both directions of every flow, the last ones with FIN if it `ends`; `packets`
/// so far.
fn count_packets(world: &mut World, packets: u64, ends: bool) {
    let reading = SlotReading {
        packets,
        bytes: 100 * packets,
        last_seen: world.now,
        fin_seen: ends,
        rst_seen: false,
    };
    for key in world.flows.keys() {
        world.counters.insert(*key, (reading, reading));
    }
}

/// How many packets each flow had that was told as closed.
fn told_as_closed(world: &World) -> Vec<u64> {
    let told = world.log.iter().filter_map(|output| match output {
        Output::Observed(event) => match &**event {
            FlowEvent::Flow {
                change: FlowChange::Closed(flow, _),
                ..
            } => Some(flow.forward.packets),
            _ => None,
        },
        _ => None,
    });
    told.collect()
}

#[test]
fn only_the_first_flow_to_a_service_is_decided_by_core() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    assert_eq!(spread(&mut world, to, 0..100)["2.web"], 100);
    assert_eq!(decided(&world), 1);
}

#[test]
fn another_port_protocol_family_or_client_is_decided_anew() {
    let mut world = World::with(SHOP);
    let (v4, v6) = (world.called("1.web"), world.called_v6("1.web"));
    for _ in 0..2 {
        world.call("1.shopper", 1, v4, HTTP);
        world.call("1.shopper", 1, v6, HTTP);
        world.call("1.shopper", 1, v4, Kind::Udp(443));
        world.call("1.shopper", 1, v4, Kind::Ping);
        let store = world.called("1.store");
        world.call("1.web", 1, store, Kind::Syn(6_379));
        world.call("2.web", 1, store, Kind::Syn(6_379));
    }
    assert_eq!(decided(&world), 6);
}

#[test]
fn siblings_of_a_dead_instance_are_taken_in_the_same_shares_as_by_core() {
    let mut world = World::with(&probed());
    for name in ["1.web", "2.web", "3.web"] {
        ready(&mut world, name, true);
    }
    let to = world.called("2.web");
    ready(&mut world, "2.web", false);
    let taken = spread(&mut world, to, 0..100);
    assert_eq!(
        taken,
        BTreeMap::from([("1.web".into(), 50), ("3.web".into(), 50)])
    );
    assert_eq!(decided(&world), 1);
}

#[test]
fn changed_readiness_is_followed_by_the_very_next_flow() {
    let mut world = World::with(&probed());
    for name in ["1.web", "2.web", "3.web"] {
        ready(&mut world, name, true);
    }
    let to = world.called("2.web");
    assert_eq!(spread(&mut world, to, 0..3)["2.web"], 3);
    ready(&mut world, "2.web", false);
    assert!(!spread(&mut world, to, 3..9).contains_key("2.web"));
    ready(&mut world, "2.web", true);
    assert_eq!(spread(&mut world, to, 9..12)["2.web"], 3);
}

#[test]
fn withdrawn_permission_is_followed_by_the_very_next_flow() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    spread(&mut world, to, 0..10);
    let without = SHOP
        .replace("version = 1", "version = 2")
        .replacen("needs = [\"web\"]", "", 1);
    world.apply(&without).unwrap();
    assert_eq!(world.call("1.shopper", 50, to, HTTP), None);
    assert_eq!(world.counted(DropReason::NotPermitted), 1);
    assert!(world.flows.is_empty(), "open flows are closed at once");
}

#[test]
fn flows_to_a_removed_instance_are_closed_at_once() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    spread(&mut world, to, 0..10);
    let instance = world.id("1.web");
    world.tell(Input::DeviceLost { instance });
    assert!(world.flows.is_empty());
}

#[test]
fn datagrams_to_an_ended_program_bind_anew() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    for port in 0..10 {
        world.call("1.shopper", port, to, Kind::Udp(443));
    }
    let instance = world.id("1.web");
    world.tell(Input::ProcessExited {
        instance,
        status: "1".into(),
        restart_after: Some(Duration::from_secs(1)),
    });
    assert!(world.flows.is_empty());
    assert_ne!(
        world.call("1.shopper", 3, to, Kind::Udp(443)).as_deref(),
        Some("1.web")
    );
}

/// Connections that are over when they are first looked at are never entered.
#[test]
fn short_connections_are_closed_after_one_look() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    spread(&mut world, to, 0..100);
    count_packets(&mut world, 4, true);
    world.pass(Duration::from_secs(3));
    assert!(world.flows.is_empty());
    assert!(world.router.flows().is_empty());
}

/// ```text
///   core reads: over  |  the client's SYN passes  |  core has it closed, if nothing passed
/// ```
#[test]
fn ports_used_again_while_their_flow_is_closed_are_a_new_flow() {
    let mut world = World::with(SHOP);
    world.tell(Input::Observe(Interest {
        flows: true,
        refusals: false,
    }));
    let to = world.called("1.web");
    spread(&mut world, to, 0..9);
    count_packets(&mut world, 4, true);
    world.pass(Duration::from_secs(2));
    world.prompt = false;
    world.pass(Duration::from_secs(1));
    count_packets(&mut world, 6, false);
    world.prompt = true;
    world.log.clear();
    world.tell(Input::FlowsWanted);

    assert_eq!((world.router.flows().len(), world.flows.len()), (9, 9));
    assert!(world.counters.values().all(|(there, _)| there.packets == 2));
    assert_eq!(world.router.services()[3].instances[0].flows, 9);
    assert_eq!(told_as_closed(&world), [4; 9]);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.flows.len(), 9);
    count_packets(&mut world, 5, true);
    world.pass(Duration::from_secs(60));
    assert!(world.flows.is_empty());
    assert_eq!(world.router.services()[3].instances[0].flows, 0);
}

/// Closes that must be are not put off by packets.
#[test]
fn ports_used_again_do_not_outlive_their_permission() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    spread(&mut world, to, 0..9);
    count_packets(&mut world, 4, true);
    world.pass(Duration::from_secs(2));
    world.prompt = false;
    world.pass(Duration::from_secs(1));
    count_packets(&mut world, 6, false);
    let without = SHOP
        .replace("version = 1", "version = 2")
        .replacen("needs = [\"web\"]", "", 1);
    world.apply(&without).unwrap();
    world.prompt = true;
    world.tell(Input::FlowsWanted);
    assert!(world.flows.is_empty());
}

#[test]
fn whoever_looks_sees_every_flow() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    spread(&mut world, to, 0..100);
    world.tell(Input::FlowsWanted);
    let flows = world.router.flows();
    assert_eq!(flows.len(), 100);
    assert_eq!(world.router.services()[3].instances[0].flows, 100);
}

#[test]
fn lasting_flows_of_the_kernel_are_kept() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    spread(&mut world, to, 0..20);
    count_packets(&mut world, 4, false);
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.router.flows().len(), 20);
}

#[test]
fn supply_is_filled_up_before_it_is_used_up_by_whoever_comes_in_time() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    for burst in 0..20 {
        spread(&mut world, to, burst * 500..(burst + 1) * 500);
        world.pass(Duration::from_millis(300));
        assert!(world.kernel.supplied() > 500);
    }
    assert_eq!(decided(&world), 1);
}

/// An empty supply is an upcall, which fills it.
#[test]
fn burst_beyond_the_supply_costs_an_upcall() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    spread(&mut world, to, 0..3_000);
    assert_eq!(decided(&world), 3);
}

#[test]
fn client_at_its_limit_opens_nothing_by_itself() {
    let mut world = World::new(RouterConfig {
        flow_limits: FlowLimits {
            flows_max: 800,
            flows_per_instance_max: 150,
        },
        ..RouterConfig::new([7; 32], Ipv4Block::DEFAULT)
    });
    world.apply(SHOP).unwrap();
    let to = world.called("1.web");
    let opened = (0..1_000).filter(|port| world.call("1.shopper", *port, to, HTTP).is_some());
    assert_eq!(opened.count(), 150);
    let store = world.called("1.store");
    assert!(world.call("1.web", 1, store, Kind::Syn(6_379)).is_some());
}

/// However little was counted when the kernel took its last pair: as on a small host, whose supply
/// is no larger than what is left of the limit.
#[test]
fn flows_that_the_kernel_opened_count_before_one_more_is_decided() {
    for flows_max in [16, 24, 32, 48, 64] {
        let mut world = World::new(RouterConfig {
            flow_limits: FlowLimits {
                flows_max,
                flows_per_instance_max: flows_max / 2,
            },
            ..RouterConfig::new([7; 32], Ipv4Block::DEFAULT)
        });
        world.apply(SHOP).unwrap();
        let to = world.called("1.web");
        let opened = (0..100).filter(|port| world.call("1.shopper", *port, to, HTTP).is_some());
        assert_eq!(opened.count() as u32, flows_max / 2);
    }
}

/// What lies ready for the kernel is no loss to others: near the end core has it back.
#[test]
fn every_slot_can_be_used() {
    let mut world = World::new(RouterConfig {
        flow_limits: FlowLimits {
            flows_max: 64,
            flows_per_instance_max: 100,
        },
        ..RouterConfig::new([7; 32], Ipv4Block::DEFAULT)
    });
    world.apply(SHOP).unwrap();
    let to = world.called("1.web");
    let opened = (0..100).filter(|port| world.call("1.shopper", *port, to, HTTP).is_some());
    assert_eq!(opened.count(), 64);
    assert!(world.counted(DropReason::FlowTableFull) > 0);
}

#[test]
fn restarted_router_decides_anew_and_keeps_the_kernels_flows() {
    let mut world = World::new(config());
    world.apply(SHOP).unwrap();
    let to = world.called("1.web");
    spread(&mut world, to, 0..50);
    world.restart();
    assert_eq!(world.router.flows().len(), 50);
    spread(&mut world, to, 50..60);
    assert_eq!(decided(&world), 1);
}

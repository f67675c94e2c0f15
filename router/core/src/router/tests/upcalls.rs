//! What belongs to a flow without naming it: fragments, and ICMP errors.

use super::world::{Kind, World, packet};
use super::{SHOP, probed};
use crate::composition::Composition;
use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use crate::id::{EndpointIndex, Version};
use crate::packet::{Packet, Unreachable, Upcalled, unreachable};
use crate::port::{FlowEntries, Input, Output};
use crate::router::upcall::ERRORS_WAITING_MAX;
use std::net::IpAddr;

const QUESTION: Kind = Kind::Udp(443);

/// The error that the receiver of a packet of `key` reports: nobody serves the port.
fn port_unreachable(key: FlowKey) -> Vec<u8> {
    let source = (key.source.ip(), key.source.port());
    let kind = Kind::Udp(key.destination.port());
    let original = packet(source, key.destination.ip(), kind);
    let parsed = Packet::parse(&original).unwrap();
    assert_eq!(parsed.key, key);
    unreachable(&parsed, &original, Unreachable::Port).unwrap()
}

/// The only packet that core made since the log was taken, and for whom.
fn injected(world: &World) -> (EndpointIndex, &[u8]) {
    let injected = world.log.iter().filter_map(|output| match output {
        Output::Inject { endpoint, packet } => Some((*endpoint, &packet[..])),
        _ => None,
    });
    let injected: Vec<_> = injected.collect();
    assert_eq!(injected.len(), 1, "{:?}", world.log);
    injected[0]
}

fn ready(world: &mut World, name: &str, ready: bool) {
    let instance = world.id(name);
    world.tell(Input::Readiness { instance, ready });
}

/// The shop in which exactly these web servers are ready.
fn shop_with(ready_servers: &[&str]) -> World {
    let mut world = World::with(&probed());
    for name in ready_servers {
        ready(&mut world, name, true);
    }
    world
}

fn flow(world: &World) -> FlowEntries {
    world.flows.values().next().unwrap().clone()
}

fn endpoint(world: &World, name: &str) -> EndpointIndex {
    world.networks[&world.id(name)].0
}

/// ```text
///   shopper --[A -> 2.web]--> served by a sibling, which has nobody at that port
///   shopper <--[unreachable, from 2.web, about A -> 2.web]-- core <--[about A -> sibling]-- sibling
/// ```
#[test]
fn error_reaches_the_caller_about_the_packet_as_it_wrote_it() {
    for server in ["2.web", "3.web"] {
        for v6 in [false, true] {
            let mut world = shop_with(&[server]);
            let called = |world: &World, name: &str| -> IpAddr {
                if v6 {
                    world.called_v6(name)
                } else {
                    world.called(name)
                }
            };
            let to = called(&world, "2.web");
            let serves = world.call("1.shopper", 4_000, to, QUESTION);
            assert_eq!(serves.as_deref(), Some(server));
            let entries = flow(&world);
            world.log.clear();

            world.send(server, &port_unreachable(entries.forward.delivered));

            let (receiver, packet) = injected(&world);
            assert_eq!(receiver, endpoint(&world, "1.shopper"));
            assert_eq!(packet, port_unreachable(entries.forward.key));
            let Ok(Upcalled::Error(error)) = Upcalled::parse(packet) else {
                panic!("{packet:?}");
            };
            assert_eq!((error.source, error.about), (to, entries.forward.key));
        }
    }
}

/// ```text
///   sibling <--[unreachable, about sibling -> A]-- core <--[about 2.web -> A]-- shopper
/// ```
#[test]
fn error_reaches_the_server_about_the_answer_as_it_wrote_it() {
    let mut world = shop_with(&["1.web"]);
    let to = world.called("2.web");
    let server = world.call("1.shopper", 4_000, to, QUESTION).unwrap();
    let entries = flow(&world);
    world.log.clear();

    world.send("1.shopper", &port_unreachable(entries.reverse.delivered));

    let (receiver, packet) = injected(&world);
    assert_eq!(receiver, endpoint(&world, &server));
    assert_eq!(packet, port_unreachable(entries.reverse.key));
}

#[test]
fn instance_that_serves_itself_gets_its_own_errors() {
    let mut world = shop_with(&["1.web"]);
    let mut shop = Composition::parse(&probed()).unwrap();
    let web = "web".parse().unwrap();
    shop.version = Version(2);
    shop.automatons.get_mut(&web).unwrap().needs.insert(web);
    world.apply_composition(shop).unwrap();
    let to = world.called("2.web");
    assert_eq!(
        world.call("1.web", 9, to, QUESTION).as_deref(),
        Some("1.web")
    );
    let entries = flow(&world);
    for (saw, wrote) in [
        (entries.forward.delivered, entries.forward.key),
        (entries.reverse.delivered, entries.reverse.key),
    ] {
        world.log.clear();
        world.send("1.web", &port_unreachable(saw));
        let (receiver, packet) = injected(&world);
        assert_eq!(receiver, endpoint(&world, "1.web"));
        assert_eq!(packet, port_unreachable(wrote));
    }
}

/// The server may report under any address of its own: the caller knows it by the one it called.
#[test]
fn error_from_another_address_of_the_server_comes_from_the_one_that_was_called() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    world.call("1.shopper", 4_000, to, QUESTION).unwrap();
    let wrote = flow(&world).forward.key;
    let IpAddr::V4(caller) = world.caller("2.web") else {
        panic!("of IPv4");
    };
    let mut reported = port_unreachable(wrote);
    reported[12..16].copy_from_slice(&caller.octets());
    world.log.clear();
    world.send("2.web", &reported);
    assert_eq!(injected(&world).1, port_unreachable(wrote));
}

#[test]
fn error_about_no_flow_is_dropped() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    world.call("1.shopper", 4_000, to, QUESTION).unwrap();
    let mut other = flow(&world).forward.delivered;
    other.source.set_port(4_001);
    world.log.clear();
    world.send("2.web", &port_unreachable(other));
    assert!(world.injected().is_empty());
    assert_eq!(world.counted(DropReason::ErrorWithoutFlow), 1);
}

/// ```text
///   shopper --[4000 -> 2.web]--> decided by core    --[4001 -> 2.web]--> opened by the kernel
///   shopper <--[unreachable, about 4001]-- core, which asks for the flow first
/// ```
#[test]
fn error_in_a_flow_that_the_kernel_opened_reaches_the_caller() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    for port in [4_000, 4_001, 4_002] {
        world.call("1.shopper", port, to, QUESTION).unwrap();
    }
    assert_eq!(world.router.flows().len(), 1, "core knows its own");
    let by_kernel = world.flows.values().last().unwrap().clone();
    assert_eq!(by_kernel.forward.key.source.port(), 4_002);
    world.log.clear();
    world.send("2.web", &port_unreachable(by_kernel.forward.delivered));
    let (receiver, packet) = injected(&world);
    assert_eq!(receiver, endpoint(&world, "1.shopper"));
    assert_eq!(packet, port_unreachable(by_kernel.forward.key));
}

#[test]
fn errors_that_wait_are_bounded() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    world.call("1.shopper", 4_000, to, QUESTION).unwrap();
    let mut other = flow(&world).forward.delivered;
    world.prompt = false;
    for port in 5_000..5_100 {
        other.source.set_port(port);
        world.send("2.web", &port_unreachable(other));
    }
    assert_eq!(world.router.errors.len(), ERRORS_WAITING_MAX);
    let refused = 100 - ERRORS_WAITING_MAX as u64;
    assert_eq!(world.counted(DropReason::ErrorWithoutFlow), refused);
}

/// ```text
///   stranger --[about A -> 2.web, source: 2.web or its own]--> forged
/// ```
#[test]
fn nobody_reports_errors_in_anothers_flow() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    world.call("1.shopper", 4_000, to, QUESTION).unwrap();
    let reported = port_unreachable(flow(&world).forward.delivered);
    let IpAddr::V4(own) = world.called("1.stranger") else {
        panic!("of IPv4");
    };
    let mut under_own_address = reported.clone();
    under_own_address[12..16].copy_from_slice(&own.octets());
    world.log.clear();
    for packet in [reported, under_own_address] {
        world.send("1.stranger", &packet);
    }
    assert!(world.injected().is_empty());
    assert_eq!(world.counted(DropReason::ForgedSource), 2);
}

/// ```text
///   shopper --[first fragment]--> opens the flow    --[later one]--> sent back to the kernel
/// ```
#[test]
fn first_fragment_opens_a_flow_and_later_ones_follow_it() {
    let mut world = World::with(SHOP);
    let source = (world.caller("1.shopper"), 4_000);
    let mut first = packet(source, world.called("2.web"), QUESTION);
    let mut later = first.clone();
    first[6] = 0x20;
    later[7] = 8;
    world.send("1.shopper", &first);
    assert!(matches!(
        world.log[..],
        [Output::OpenFlow(_), Output::Forward(_), ..]
    ));
    world.log.clear();
    world.send("1.shopper", &later);
    assert!(matches!(world.log[..], [Output::Forward(_)]));
    assert_eq!(world.flows.len(), 1);

    world.log.clear();
    world.send("1.stranger", &later);
    assert!(world.log.is_empty());
    assert_eq!(world.counted(DropReason::ForgedSource), 1);
}

#[test]
fn pages_of_flows_follow_each_other_without_gap_or_repetition() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    for port in 0..25 {
        world.call("1.shopper", 4_000 + port, to, Kind::Udp(443));
    }
    world.tell(Input::FlowsWanted);
    let all: Vec<_> = world.router.flows().iter().map(|flow| flow.key).collect();
    assert_eq!(all.len(), 25);
    for count in [1, 7, 25, 100] {
        let (mut behind, mut paged) = (None, Vec::new());
        loop {
            let page = world.router.flow_page(behind, count);
            let Some(last) = page.last() else {
                break;
            };
            behind = Some(last.slots.forward);
            assert!(page.len() <= count);
            paged.extend(page.iter().map(|flow| flow.key));
        }
        assert_eq!(paged, all);
    }
}

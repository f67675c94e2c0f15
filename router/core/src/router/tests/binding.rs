//! First packets: who reaches whom, where they land, and what the refused are told.

use super::world::{Kind, World, config, packet};
use super::{SHOP, probed};
use crate::composition::Composition;
use crate::drop_reason::DropReason;
use crate::flow_table::FlowLimits;
use crate::id::{InstanceId, Version};
use crate::packet::{Packet, Transport};
use crate::port::{Input, Output};
use crate::service_id::ServiceIdPrefix;
use crate::service_table::{Action, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;

const SYN: Kind = Kind::Syn(80);

fn ready(world: &mut World, name: &str, ready: bool) {
    let instance = world.id(name);
    world.tell(Input::Readiness { instance, ready });
}

/// The shop with probes, everything ready.
fn probed_shop() -> World {
    let mut world = World::with(&probed());
    for name in ["1.web", "2.web", "3.web"] {
        ready(&mut world, name, true);
    }
    world.log.clear();
    world
}

#[test]
fn permitted_flow_is_opened_before_its_packet_is_sent_on() {
    let mut world = World::with(SHOP);
    for to in [world.called("2.web"), world.called_v6("2.web")] {
        world.log.clear();
        assert_eq!(
            world.call("1.shopper", 4_000, to, SYN).as_deref(),
            Some("2.web")
        );
        let first = world.log.first();
        assert!(matches!(first, Some(Output::OpenFlow(_))));
        assert_eq!(world.forwarded(), 1);
    }
    for entries in world.flows.values() {
        assert_eq!(
            entries.forward.key, entries.forward.delivered,
            "nothing is rewritten"
        );
    }
}

#[test]
fn second_packet_of_a_flow_on_its_way_up_is_just_sent_on() {
    let mut world = World::with(SHOP);
    let to = world.called("1.web");
    world.call("1.shopper", 4_000, to, Kind::Udp(443));
    world.call("1.shopper", 4_000, to, Kind::Udp(443));
    assert_eq!((world.flows.len(), world.forwarded()), (1, 2));
}

#[test]
fn denied_callers_are_told_at_once() {
    let mut world = World::with(SHOP);
    let (web, store) = (world.called("1.web"), world.called("1.store"));
    let cases = [
        ("1.stranger", web, SYN),
        ("1.stranger", web, Kind::Udp(443)),
        ("1.stranger", web, Kind::Ping),
        ("1.shopper", web, Kind::Syn(81)),
        ("1.shopper", web, Kind::Udp(80)),
        ("1.shopper", store, Kind::Syn(6_379)),
        ("1.store", web, SYN),
    ];
    for (from, to, kind) in cases {
        world.log.clear();
        assert_eq!(world.call(from, 4_000, to, kind), None);
        let [answer] = world.injected()[..] else {
            panic!("{from} {kind:?} was not answered");
        };
        let sliced = etherparse::SlicedPacket::from_ip(answer).unwrap();
        match sliced.transport.unwrap() {
            etherparse::TransportSlice::Tcp(tcp) => assert!(tcp.rst() && tcp.ack()),
            etherparse::TransportSlice::Icmpv4(icmp) => {
                assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 13));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.counted(DropReason::NotPermitted), cases.len() as u64);
}

#[test]
fn ping_goes_where_any_port_is_permitted() {
    let mut world = World::with(SHOP);
    let to = world.called("3.web");
    assert_eq!(
        world.call("1.shopper", 9, to, Kind::Ping).as_deref(),
        Some("3.web")
    );
}

#[test]
fn forged_sources_and_nonsense_are_dropped_silently() {
    let mut world = World::with(SHOP);
    let forged = packet((world.caller("1.web"), 1), world.called("2.web"), SYN);
    world.send("1.shopper", &forged);
    world.send("1.shopper", &forged[..30]);
    assert!(world.log.is_empty());
    assert_eq!(world.counted(DropReason::ForgedSource), 1);
    assert_eq!(world.counted(DropReason::Truncated), 1);
}

#[test]
fn another_instances_flow_cannot_be_joined() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    world.call("1.shopper", 4_000, to, SYN);
    world.log.clear();
    let joined = packet((world.caller("1.shopper"), 4_000), to, Kind::Ack(80));
    world.send("1.stranger", &joined);
    assert_eq!(world.forwarded(), 0);
    assert_eq!(world.counted(DropReason::ForgedSource), 1);
}

#[test]
fn segment_without_flow_is_reset_where_it_expects() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    assert_eq!(world.call("1.shopper", 4_000, to, Kind::Ack(80)), None);
    let [answer] = world.injected()[..] else {
        panic!("{:?}", world.log);
    };
    let Transport::Tcp(segment) = Packet::parse(answer).unwrap().transport else {
        panic!("{answer:?}");
    };
    assert!(segment.rst && segment.sequence == 1);
    assert_eq!(world.counted(DropReason::NotAFirstPacket), 1);
}

#[test]
fn unknown_addresses_are_unreachable() {
    let mut world = World::with(SHOP);
    let nobody: IpAddr = "100.127.0.9".parse().unwrap();
    assert_eq!(world.call("1.shopper", 1, nobody, Kind::Udp(53)), None);
    assert_eq!(world.injected().len(), 1);
    assert_eq!(world.counted(DropReason::NoSuchAddress), 1);
}

/// ```text
///   shopper -> 2.web (not ready)   goes to 1.web and 3.web in turn, which see their own address
/// ```
#[test]
fn flow_to_an_instance_that_is_not_ready_goes_to_its_siblings_in_turn() {
    let mut world = probed_shop();
    ready(&mut world, "2.web", false);
    let to = world.called("2.web");
    let mut servers = BTreeMap::<_, u32>::new();
    for port in 0..10 {
        let server = world.call("1.shopper", 4_000 + port, to, SYN).unwrap();
        *servers.entry(server).or_default() += 1;
    }
    assert_eq!(
        servers,
        BTreeMap::from([("1.web".into(), 5), ("3.web".into(), 5)])
    );
    for entries in world.flows.values() {
        let name = world.plans[&entries.server].name.to_string();
        assert_eq!(
            entries.forward.delivered.destination.ip(),
            world.called(&name)
        );
        assert_eq!(entries.reverse.delivered.source.ip(), to);
    }
}

#[test]
fn flow_to_an_instance_that_is_no_more_goes_to_a_sibling() {
    let mut world = World::with(SHOP);
    let to = world.called("3.web");
    let smaller = SHOP
        .replace("version = 1", "version = 2")
        .replace("replicas = 3", "replicas = 2");
    world.apply(&smaller).unwrap();
    assert_eq!(world.newest("3.web"), None);
    let server = world.call("1.shopper", 4_000, to, SYN).unwrap();
    assert!(["1.web", "2.web"].contains(&&server[..]));
}

#[test]
fn strict_affinity_fails_instead() {
    let mut world = World::with(SHOP);
    let instance = world.id("1.store");
    let to = world.called("1.store");
    world.tell(Input::ProcessExited {
        instance,
        status: "exit 1".into(),
        restart_after: Some(std::time::Duration::from_secs(1)),
    });
    assert_eq!(world.call("1.web", 1, to, Kind::Syn(6_379)), None);
    assert_eq!(world.counted(DropReason::NoInstance), 1);
    assert_eq!(world.injected().len(), 1);
}

#[test]
fn no_ready_instance_at_all_is_a_refusal() {
    let mut world = probed_shop();
    for name in ["1.web", "2.web", "3.web"] {
        ready(&mut world, name, false);
    }
    let to = world.called("2.web");
    assert_eq!(world.call("1.shopper", 4_000, to, SYN), None);
    assert_eq!(world.counted(DropReason::NoInstance), 1);
}

/// ```text
///   1.web -> 2.web (gone)   others ready: one of them    alone: itself, as if 2.web had called
/// ```
#[test]
fn instance_balances_to_itself_only_when_alone() {
    let mut world = probed_shop();
    let mut shop = Composition::parse(&probed()).unwrap();
    let web = "web".parse().unwrap();
    shop.version = Version(2);
    shop.automatons.get_mut(&web).unwrap().needs.insert(web);
    world.apply_composition(shop).unwrap();
    let (to, own) = (world.called("2.web"), world.called("1.web"));
    ready(&mut world, "2.web", false);
    for port in 0..6 {
        assert_eq!(world.call("1.web", port, to, SYN).as_deref(), Some("3.web"));
    }
    ready(&mut world, "3.web", false);
    assert_eq!(world.call("1.web", 99, to, SYN).as_deref(), Some("1.web"));
    let alone = world
        .flows
        .values()
        .find(|flow| flow.server == flow.client)
        .unwrap();
    assert_eq!(alone.forward.delivered.source.ip(), to);
    assert_eq!(alone.forward.delivered.destination.ip(), own);
    assert_eq!(alone.reverse.delivered, alone.forward.key.reversed());
}

#[test]
fn caller_address_leads_to_its_identity() {
    let mut world = World::with(SHOP);
    let to = world.caller("2.web");
    assert_eq!(
        world.call("1.shopper", 1, to, SYN).as_deref(),
        Some("2.web")
    );
    let entries = world.flows.values().next().unwrap();
    assert_eq!(entries.forward.delivered.destination.ip(), to);
}

#[test]
fn drop_rule_for_the_whole_site_spares_what_has_a_rule_of_its_own() {
    let mut config = config();
    let prefix = ServiceIdPrefix::service(crate::service_id::ServiceId::of(
        &config.site,
        &"web".parse().unwrap(),
    ));
    config.rules.push(Rule {
        prefix,
        action: Action::Drop,
        priority: 1,
        weight: 1,
    });
    let mut world = World::new(config);
    world.apply(SHOP).unwrap();
    let (web, store) = (world.called("1.web"), world.called("1.store"));
    assert_eq!(world.call("1.shopper", 1, web, SYN), None);
    assert_eq!(world.counted(DropReason::ServiceDropped), 1);
    assert!(world.call("1.web", 1, store, Kind::Syn(6_379)).is_some());
}

#[test]
fn syn_flood_is_bounded_and_leaves_room_for_others() {
    let mut config = config();
    config.flow_limits = FlowLimits::for_slots(64);
    let mut world = World::new(config);
    world.apply(SHOP).unwrap();
    let to = world.called("1.web");
    for port in 0..500 {
        world.call("1.shopper", port, to, SYN);
    }
    assert_eq!(world.flows.len(), 16);
    assert_eq!(world.counted(DropReason::FlowLimitInstance), 484);
    let other = world.called("1.store");
    assert!(world.call("2.web", 1, other, Kind::Syn(6_379)).is_some());
}

#[test]
fn full_table_refuses_new_flows_and_keeps_live_ones() {
    let mut config = config();
    config.flow_limits = FlowLimits {
        flows_max: 4,
        flows_per_instance_max: 4,
    };
    let mut world = World::new(config);
    world.apply(SHOP).unwrap();
    let (web, store) = (world.called("1.web"), world.called("1.store"));
    for port in 0..4 {
        assert!(world.call("1.shopper", port, web, SYN).is_some());
    }
    let live = world.flows.clone();
    assert_eq!(world.call("2.web", 1, store, Kind::Syn(6_379)), None);
    assert_eq!(world.counted(DropReason::FlowTableFull), 1);
    assert_eq!(world.flows, live);
}

#[test]
fn revoked_permission_closes_live_flows() {
    let mut world = World::with(SHOP);
    let (web, store) = (world.called("1.web"), world.called("1.store"));
    world.call("1.shopper", 1, web, SYN);
    world.call("1.web", 1, store, Kind::Syn(6_379));
    let without = SHOP
        .replace("version = 1", "version = 2")
        .replace("needs = [\"web\"]", "");
    Composition::parse(&without).unwrap();
    world.apply(&without).unwrap();
    let clients: Vec<InstanceId> = world.flows.values().map(|flow| flow.client).collect();
    assert_eq!(clients, [world.id("1.web")]);
}

//! Virtual IPs of services themselves: stable, balanced, and there without any instance.

use super::probed;
use super::world::{Kind, World, config};
use crate::composition::Composition;
use crate::drop_reason::DropReason;
use crate::id::InstanceId;
use crate::lease::QUARANTINE;
use crate::names::{Answer, Question, QuestionKind, answer};
use crate::packet::{Packet, Transport};
use crate::port::Input;
use crate::router::RouterConfig;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

const SYN: Kind = Kind::Syn(80);

/// The shop with probes, its web answered by itself.
fn text() -> String {
    probed().replace("[automaton.web]", "[automaton.web]\nanswer = \"service\"")
}

/// The same of a certain version.
fn version(text: &str, number: u64) -> String {
    text.replace("version = 1", &format!("version = {number}"))
}

fn ready(world: &mut World, name: &str, ready: bool) {
    let instance = world.id(name);
    world.tell(Input::Readiness { instance, ready });
}

/// The shop with three ready instances of web, and what the shopper is answered for it.
fn shop() -> (World, [IpAddr; 2]) {
    let mut world = World::with(&text());
    for name in ["1.web", "2.web", "3.web"] {
        ready(&mut world, name, true);
    }
    let vips = answered(&mut world);
    (world, vips)
}

/// What the shopper is answered for web now, in both families.
fn answered(world: &mut World) -> [IpAddr; 2] {
    let instance = world.id("1.shopper");
    let names = world.router.names_published();
    [QuestionKind::A, QuestionKind::Aaaa].map(|kind| {
        let name = "web.matrix".to_owned();
        match answer(names, instance, &Question { name, kind }, 0) {
            Answer::V4(v4) if v4.len() == 1 => v4[0].into(),
            Answer::V6(v6) if v6.len() == 1 => v6[0].into(),
            other => panic!("{other:?}"),
        }
    })
}

/// How many of many flows to `vip` each instance took.
fn spread(world: &mut World, vip: IpAddr) -> BTreeMap<String, u32> {
    let mut taken = BTreeMap::new();
    for port in 5_000..5_030 {
        let server = world.call("1.shopper", port, vip, SYN);
        *taken.entry(server.unwrap_or_default()).or_default() += 1;
    }
    taken
}

#[test]
fn flows_to_a_service_are_balanced_and_rewritten_for_their_servers() {
    let (mut world, vips) = shop();
    for vip in vips {
        let taken = spread(&mut world, vip);
        let even = ["1.web", "2.web", "3.web"].map(|name| (name.to_owned(), 10));
        assert_eq!(taken, BTreeMap::from(even));
    }
    for flow in world.flows.values() {
        let server = world.plans[&flow.server].addresses.called;
        let delivered = flow.forward.delivered.destination.ip();
        assert!([IpAddr::from(server.v4), server.v6.into()].contains(&delivered));
        assert!(vips.contains(&flow.reverse.delivered.source.ip()));
    }
    assert!(world.call("1.shopper", 7, vips[0], Kind::Ping).is_some());
}

#[test]
fn only_those_who_may_call_the_service_reach_its_address_and_only_its_ports() {
    let (mut world, [vip, _]) = shop();
    assert_eq!(world.call("1.store", 4_000, vip, SYN), None);
    assert_eq!(world.call("1.shopper", 4_000, vip, Kind::Syn(81)), None);
    assert_eq!(world.counted(DropReason::NotPermitted), 2);
}

#[test]
fn address_answers_at_once_without_any_instance_and_serves_again_when_one_is_back() {
    let (mut world, [vip, _]) = shop();
    for name in ["1.web", "2.web", "3.web"] {
        ready(&mut world, name, false);
    }
    assert_eq!(answered(&mut world)[0], vip, "it outlives them in DNS, too");
    world.log.clear();
    assert_eq!(world.call("1.shopper", 4_000, vip, SYN), None);
    let told = world.injected();
    let reset = Packet::parse(told[0]).unwrap();
    assert!(matches!(reset.transport, Transport::Tcp(_)));
    assert_eq!(reset.key.source.ip(), vip, "whoever was called refuses");
    assert_eq!(world.counted(DropReason::NoInstance), 1);

    ready(&mut world, "2.web", true);
    let served = world.call("1.shopper", 4_000, vip, SYN);
    assert_eq!(served.as_deref(), Some("2.web"));
}

#[test]
fn address_stays_through_restarts_versions_and_a_short_absence() {
    let (mut world, vips) = shop();
    world.restart();
    assert_eq!(answered(&mut world), vips);
    world.apply(&version(&text(), 2)).unwrap();
    assert_eq!(answered(&mut world), vips);
    world.apply(&version(&probed(), 3)).unwrap();
    world.pass(QUARANTINE / 2);
    world.restart();
    world.apply(&version(&text(), 4)).unwrap();
    assert_eq!(answered(&mut world), vips);
    world.pass(QUARANTINE);
    world.restart();
    assert_eq!(answered(&mut world), vips);
}

#[test]
fn address_given_up_leads_to_the_instances_until_its_rest_is_over() {
    let (mut world, [vip, _]) = shop();
    world.apply(&version(&probed(), 2)).unwrap();
    assert!(world.call("1.shopper", 4_000, vip, SYN).is_some());
    world.pass(QUARANTINE - Duration::from_secs(1));
    assert!(world.call("1.shopper", 4_001, vip, SYN).is_some());
    world.pass(Duration::from_secs(2));
    assert_eq!(world.call("1.shopper", 4_002, vip, SYN), None);
    assert_eq!(world.counted(DropReason::NoSuchAddress), 1);
}

#[test]
fn strict_affinity_binds_to_instances_and_not_to_a_service() {
    let strict = text().replace("[automaton.web]", "[automaton.web]\naffinity = \"strict\"");
    let mut world = World::with(&strict);
    ready(&mut world, "3.web", true);
    let [vip, _] = answered(&mut world);
    let served = world.call("1.shopper", 4_000, vip, SYN);
    assert_eq!(served.as_deref(), Some("3.web"));
}

#[test]
fn composition_whose_address_cannot_be_given_changes_nothing() {
    // Room for six identities: five instances, one address of a service, not two.
    let small = RouterConfig::new([7; 32], "10.0.0.0/28".parse().unwrap());
    let mut world = World::new(small);
    let fewer = text().replace("replicas = 3", "replicas = 2");
    let both = fewer.replace(
        "[automaton.store]",
        "[automaton.store]\nanswer = \"service\"",
    );
    let refused = world.apply(&both).unwrap_err();
    assert!(refused.contains("no address is left"), "{refused}");
    assert!(world.compositions.is_empty() && world.plans.is_empty() && world.vips.is_empty());
    assert_eq!(world.router.services().len(), 0);
    world.pass(QUARANTINE);
    world.apply(&fewer).unwrap();
}

#[test]
fn services_of_a_crash_between_two_records_get_their_addresses_at_the_next_start() {
    let mut world = World::new(config());
    let shop = Composition::parse(&text()).unwrap();
    world.compositions.insert("shop".to_owned(), shop);
    world.restart();
    assert_eq!(world.vips.len(), 1);
    assert!(world.plans.contains_key(&InstanceId(1)));
}

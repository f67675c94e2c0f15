//! How flows spread over a service's instances, by first packets and by names alike.

use super::SHOP;
use super::world::{Kind, World, config};
use crate::id::InstanceId;
use crate::names::{Answer, NamesSnapshot, Question, QuestionKind, answer};
use crate::port::{Input, Output};
use crate::router::RouterConfig;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const SYN: Kind = Kind::Syn(80);

/// A shop with four web servers that are balanced as `keys` say, and one more whose address leads to
/// them: it was scaled away.
fn shop(keys: &str) -> World {
    shop_with(keys, false)
}

fn shop_with(keys: &str, aggregates: bool) -> World {
    let five = format!("replicas = 5\n{keys}");
    let text = SHOP.replace("replicas = 3", &five);
    let mut world = World::new(RouterConfig {
        aggregates,
        ..config()
    });
    world.apply(&text).unwrap();
    world.apply(&four(&text)).unwrap();
    world
}

fn four(text: &str) -> String {
    let text = text.replace("version = 1", "version = 2");
    text.replace("replicas = 5", "replicas = 4")
}

/// The address of the web server that is no more.
fn orphan(world: &World) -> IpAddr {
    let called = world.called("4.web");
    let IpAddr::V4(called) = called else { panic!() };
    IpAddr::from((u32::from(called) + 1).to_be_bytes())
}

/// Who takes `flows` flows to an address without a holder.
fn spread(world: &mut World, caller: &str, flows: u16) -> BTreeMap<String, u32> {
    let to = orphan(world);
    let mut servers = BTreeMap::new();
    for port in 0..flows {
        let server = world.call(caller, 1_000 + port, to, SYN).unwrap();
        *servers.entry(server).or_default() += 1;
    }
    servers
}

fn names(world: &World) -> Arc<NamesSnapshot> {
    let mut newest = world.log.iter().rev();
    let published = newest.find_map(|output| match output {
        Output::PublishNames(names) => Some(Arc::clone(names)),
        _ => None,
    });
    published.unwrap()
}

/// How often each address comes first in answers to `caller`.
fn first(world: &World, caller: InstanceId, questions: u64) -> BTreeMap<IpAddr, u32> {
    let question = Question {
        name: "web.matrix".into(),
        kind: QuestionKind::A,
    };
    let (names, mut firsts) = (names(world), BTreeMap::new());
    for draw in 0..questions {
        let Answer::V4(addresses) = answer(&names, caller, &question, draw) else {
            panic!()
        };
        *firsts.entry(IpAddr::from(addresses[0])).or_default() += 1;
    }
    firsts
}

#[test]
fn weights_decide_the_parts_of_flows_and_of_answers() {
    let mut world = shop("weights = [300, 100, 50]");
    let hits = spread(&mut world, "1.shopper", 550);
    let expected = [
        ("1.web", 300),
        ("2.web", 100),
        ("3.web", 50),
        ("4.web", 100),
    ];
    assert_eq!(
        hits,
        expected.map(|(name, hits)| (name.to_owned(), hits)).into()
    );
    let firsts = first(&world, world.id("1.shopper"), 5_500);
    let heaviest = firsts[&world.called("1.web")];
    assert!((2_800..3_200).contains(&heaviest), "{firsts:?}");
}

#[test]
fn weights_decide_what_the_kernel_opens_by_itself_too() {
    let mut world = shop_with("weights = [300, 100, 50]", true);
    let hits = spread(&mut world, "1.shopper", 550);
    for (name, expected) in [
        ("1.web", 300),
        ("2.web", 100),
        ("3.web", 50),
        ("4.web", 100),
    ] {
        let near = hits[name].abs_diff(expected) <= 27;
        assert!(near, "within a twentieth of all: {hits:?}");
    }
}

#[test]
fn weights_change_without_a_restart() {
    let mut world = shop("weights = [300, 100, 50]");
    let text = SHOP.replace("version = 1", "version = 3");
    let changed = text.replace("replicas = 3", "replicas = 4\nweights = [1, 1, 1, 1]");
    world.log.clear();
    world.apply(&changed).unwrap();
    let prepared = |output: &Output| matches!(output, Output::PrepareInstance(_));
    assert!(!world.log.iter().any(prepared));
    let hits = spread(&mut world, "1.shopper", 400);
    assert!(hits.values().all(|hits| *hits == 100), "{hits:?}");
}

/// ```text
///   1.web is started anew -> a tenth of a sibling's part ... half ... -> a whole part
/// ```
#[test]
fn fresh_instance_gets_its_part_in_steps() {
    let mut world = shop("slow_start_ms = 9000");
    world.pass(Duration::from_secs(9));
    let instance = world.id("1.web");
    world.tell(Input::ProcessExited {
        instance,
        status: "signal 9".into(),
        restart_after: Some(Duration::ZERO),
    });
    world.tell(Input::ProcessStarted { instance });

    let hits = spread(&mut world, "1.shopper", 310);
    assert_eq!(hits["1.web"], 10, "{hits:?}");
    let firsts = first(&world, world.id("1.shopper"), 3_100);
    let fresh = firsts[&world.called("1.web")];
    assert!((50..150).contains(&fresh), "{firsts:?}");

    world.log.clear();
    world.pass(Duration::from_secs(4));
    let published = |output: &Output| matches!(output, Output::PublishNames(_));
    assert!(world.log.iter().any(published), "names follow");
    world.pass(Duration::from_secs(5));
    let caller = world.id("1.shopper");
    let firsts = first(&world, caller, 4_000);
    assert!(firsts[&world.called("1.web")] > 850, "{firsts:?}");
    assert_eq!(
        world.router.instances[&instance].warmth.poll_timeout(),
        None
    );
}

#[test]
fn what_was_ready_before_a_restart_of_the_daemon_or_a_failed_probe_stays_warm() {
    let mut world = shop("slow_start_ms = 9000\nready = { tcp = true, port = \"http\" }");
    let instance = world.id("1.web");
    let probe = |world: &mut World, ready| world.tell(Input::Readiness { instance, ready });
    probe(&mut world, true);
    world.pass(Duration::from_secs(9));
    let whole = |world: &World| world.router.instances[&instance].warmth.steps().get() == 10;
    assert!(whole(&world));
    probe(&mut world, false);
    probe(&mut world, true);
    assert!(whole(&world));
    world.restart();
    assert!(whole(&world));
}

#[test]
fn least_load_turns_from_who_uses_the_processor_most() {
    let mut world = shop("balance = \"least-load\"");
    for second in 1..6 {
        for name in ["1.web", "2.web", "3.web", "4.web"] {
            let busy = if name == "2.web" { 900 } else { 100 };
            let used = Duration::from_millis(second * busy);
            world.processors.insert(world.id(name), used);
        }
        world.pass(Duration::from_secs(1));
    }
    let hits = spread(&mut world, "1.shopper", 100);
    assert!(!hits.contains_key("2.web"), "{hits:?}");
    assert!(hits.values().all(|hits| *hits > 20), "{hits:?}");
}

#[test]
fn processor_times_are_read_only_while_somebody_balances_by_them() {
    let asked = |world: &World| {
        let asks = |output: &&Output| matches!(output, Output::ReadProcessors(_));
        world.log.iter().filter(asks).count()
    };
    let mut world = shop("");
    world.pass(Duration::from_secs(10));
    assert_eq!(asked(&world), 0);

    let text = SHOP.replace("version = 1", "version = 3");
    let by_load = text.replace("replicas = 3", "replicas = 4\nbalance = \"least-load\"");
    world.apply(&by_load).unwrap();
    world.pass(Duration::from_secs(10));
    assert_eq!(asked(&world), 10);

    let text = SHOP.replace("version = 1", "version = 4");
    world.apply(&text).unwrap();
    world.pass(Duration::from_secs(10));
    assert_eq!(asked(&world), 10);
}

#[test]
fn processor_times_are_asked_for_one_reading_at_a_time() {
    let asked = |world: &World| {
        let asks = |output: &&Output| matches!(output, Output::ReadProcessors(_));
        world.log.iter().filter(asks).count()
    };
    let mut world = shop("balance = \"least-load\"");
    world.processors_hang = true;
    world.pass(Duration::from_secs(10));
    assert_eq!(asked(&world), 1);

    world.tell(Input::ProcessorsRead(Vec::new()));
    world.pass(Duration::from_secs(10));
    assert_eq!(asked(&world), 2);
}

#[test]
fn maglev_sends_a_caller_to_one_instance_by_name_and_by_first_packet() {
    let mut world = shop("balance = \"maglev\"");
    let hits = spread(&mut world, "1.shopper", 20);
    let (server, _) = hits.first_key_value().unwrap();
    assert_eq!(hits.len(), 1, "{hits:?}");
    let firsts = first(&world, world.id("1.shopper"), 20);
    assert_eq!(firsts, BTreeMap::from([(world.called(server), 20)]));
}

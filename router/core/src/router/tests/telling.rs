//! What other hosts are told of the instances here.

use super::world::{Kind, World, config};
use crate::host::HostId;
use crate::peer::RemoteInstance;
use crate::port::{Input, Output};
use crate::router::OwnHost;
use std::sync::Arc;
use std::time::Duration;

fn among_others(text: &str) -> World {
    let mut config = config();
    config.host = Some(OwnHost {
        id: HostId::from_bytes([1; 32]),
        name: "a".parse().unwrap(),
    });
    let mut world = World::new(config);
    world.apply(text).unwrap();
    world
}

/// What was told of an instance since the log was taken last.
fn told(world: &World, name: &str) -> Vec<Arc<RemoteInstance>> {
    let told = world.log.iter().filter_map(|output| match output {
        Output::Instance(instance) if instance.name.to_string() == name => Some(instance.clone()),
        _ => None,
    });
    told.collect()
}

#[test]
fn instances_are_told_of_from_their_beginning_to_their_end() {
    let mut world = among_others(&super::probed());
    let instance = world.id("1.web");
    assert!(!told(&world, "1.web").last().unwrap().ready);

    world.log.clear();
    let ready = true;
    world.tell(Input::Readiness { instance, ready });
    assert!(told(&world, "1.web").last().unwrap().ready);
    assert!(told(&world, "2.web").is_empty(), "nothing is new of it");

    world.log.clear();
    let composition = "shop".parse().unwrap();
    world
        .ask(|request| Input::Delete {
            request,
            composition,
        })
        .unwrap();
    world.pass(Duration::from_secs(60));
    assert!(!told(&world, "1.web").last().unwrap().ready);
    let gone = |output: &Output| matches!(output, Output::InstanceGone { instance: it } if *it == instance);
    assert_eq!(world.log.iter().filter(|output| gone(output)).count(), 1);
}

#[test]
fn loads_are_told_a_few_times_a_second_until_they_are_over() {
    let balanced = super::SHOP.replace("replicas = 3", "balance = \"two-choices\"");
    let mut world = among_others(&balanced);
    world.pass(Duration::from_secs(1));
    world.log.clear();
    let to = world.called("1.web");
    for port in 0..100 {
        world.call("1.shopper", 4_000 + port, to, Kind::Syn(80));
        world.pass(Duration::from_millis(10));
    }
    let times = told(&world, "1.web").len();
    assert!((3..=5).contains(&times), "told {times} times in a second");

    world.tell(Input::ProcessExited {
        instance: world.id("1.shopper"),
        status: "signal 9".into(),
        restart_after: Some(Duration::from_secs(1)),
    });
    world.pass(Duration::from_secs(600));
    assert_eq!(told(&world, "1.web").last().unwrap().flows, 0);
}

#[test]
fn loads_by_which_nobody_chooses_are_not_told() {
    let mut world = among_others(super::SHOP);
    let to = world.called("1.web");
    world.log.clear();
    for port in 0..50 {
        world.call("1.shopper", 4_000 + port, to, Kind::Syn(80));
    }
    world.pass(Duration::from_secs(5));
    assert!(told(&world, "1.web").is_empty());
    let instance = world.id("1.web");
    world
        .ask(|request| Input::Drain {
            request,
            instance,
            drained: true,
        })
        .unwrap();
    assert_eq!(told(&world, "1.web").last().unwrap().flows, 0);
}

#[test]
fn host_without_others_tells_nobody() {
    let mut world = World::new(config());
    world.apply(super::SHOP).unwrap();
    assert!(told(&world, "1.web").is_empty());
}

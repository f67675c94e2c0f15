//! Compositions applied, changed, deleted: what starts, what ends, and in which order.

use super::world::{World, config};
use super::{SHOP, probed};
use crate::address::Ipv4Block;
use crate::port::{Input, Output, Record};
use crate::router::RouterConfig;
use std::time::Duration;

fn version(text: &str, number: u32) -> String {
    text.replace("version = 1", &format!("version = {number}"))
}

fn ready(world: &mut World, name: &str) {
    let instance = world.id(name);
    let ready = true;
    world.tell(Input::Readiness { instance, ready });
}

fn removed(world: &World) -> usize {
    let removal = |output: &&Output| matches!(output, Output::RemoveInstance { .. });
    world.log.iter().filter(removal).count()
}

fn prepared(world: &World) -> usize {
    let prepare = |output: &&Output| matches!(output, Output::PrepareInstance(_));
    world.log.iter().filter(prepare).count()
}

#[test]
fn everything_is_recorded_before_anything_is_done() {
    let mut world = World::new(config());
    world.prompt = false;
    let answer = world.apply(SHOP).unwrap();
    assert_eq!(answer, "shop version 1 applied: 6 to start, 0 to end");
    let records = world
        .log
        .iter()
        .take_while(|output| matches!(output, Output::Record(_)));
    assert_eq!(records.count(), 7);
    assert!(matches!(
        world.log[0],
        Output::Record(Record::Composition(_))
    ));
    assert_eq!(prepared(&world), 6);
}

#[test]
fn same_content_again_changes_nothing() {
    let mut world = World::with(SHOP);
    let answer = world.apply(SHOP).unwrap();
    assert_eq!(answer, "shop version 1 is applied already; nothing changed");
    assert_eq!(world.log.len(), 1);
}

#[test]
fn what_must_not_be_applied_is_refused_and_changes_nothing() {
    let mut world = World::with(&version(SHOP, 5));
    let other = SHOP.replace("\"shop\"", "\"other\"");
    let many = version(SHOP, 6).replace("replicas = 3", "replicas = 1024");
    let cases = [
        (
            version(SHOP, 5).replace("nginx", "caddy"),
            "another content",
        ),
        (version(SHOP, 4), "is older"),
        (other, "belongs to composition `shop`"),
        (many, "lower `replicas`"),
    ];
    for (text, expected) in cases {
        world.log.clear();
        let error = world.apply(&text).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert_eq!(world.log.len(), 1);
    }
    assert_eq!(world.router.instances().len(), 6);
}

#[test]
fn too_few_addresses_refuse_the_whole_composition() {
    let block = Ipv4Block::new("10.0.0.0".parse().unwrap(), 29).unwrap();
    let mut world = World::new(RouterConfig::new([7; 32], block));
    let error = world.apply(SHOP).unwrap_err();
    assert!(error.contains("no address is left"), "{error}");
    assert_eq!(world.log.len(), 1);
    assert!(world.router.instances().is_empty());
}

#[test]
fn replicas_go_up_and_down_and_the_rest_keeps_running() {
    let mut world = World::with(SHOP);
    let before = world.id("1.web");
    let five = version(SHOP, 2).replace("replicas = 3", "replicas = 5");
    world.apply(&five).unwrap();
    assert_eq!((prepared(&world), removed(&world)), (2, 0));
    assert_eq!(world.stage("5.web"), "ready");
    world.log.clear();
    world
        .apply(&version(SHOP, 3).replace("replicas = 3", "replicas = 1"))
        .unwrap();
    assert_eq!((prepared(&world), removed(&world)), (0, 4));
    assert_eq!(world.id("1.web"), before);
}

/// ```text
///   1.web v1 ready ----------------------------------- removed
///            apply v2 -> 1.web v2 starts -> ready ----^
/// ```
#[test]
fn changed_automaton_is_replaced_once_its_successor_is_ready() {
    let probed = probed();
    let mut world = World::with(&probed);
    for name in ["1.web", "2.web", "3.web"] {
        ready(&mut world, name);
    }
    let old = world.id("1.web");
    world.log.clear();
    world
        .apply(&version(&probed, 2).replace("nginx", "caddy"))
        .unwrap();
    assert_eq!((prepared(&world), removed(&world)), (3, 0));
    assert_ne!(world.id("1.web"), old);
    assert_eq!(world.router.instances().len(), 9);
    ready(&mut world, "1.web");
    assert_eq!(removed(&world), 1);
    assert!(!world.plans.contains_key(&old));
    assert_eq!(world.router.instances().len(), 8);
    world.pass(RouterConfig::ROLLOUT_PATIENCE);
    assert_eq!(removed(&world), 3, "patience ends");
}

#[test]
fn older_version_that_is_declared_again_stays() {
    let mut world = World::with(&probed());
    ready(&mut world, "1.web");
    let old = world.id("1.web");
    world
        .apply(&version(&probed(), 2).replace("nginx", "caddy"))
        .unwrap();
    world.apply(&version(&probed(), 3)).unwrap();
    world.pass(RouterConfig::ROLLOUT_PATIENCE);
    assert_eq!(world.id("1.web"), old);
    assert_eq!(world.router.instances().len(), 6);
}

#[test]
fn new_port_or_need_restarts_nobody() {
    let mut world = World::with(SHOP);
    let wider = version(SHOP, 2).replace("port = 80", "port = 8080");
    world.apply(&wider).unwrap();
    assert_eq!((prepared(&world), removed(&world)), (0, 0));
}

#[test]
fn new_probe_is_probed_without_a_restart() {
    let mut world = World::with(SHOP);
    let probed = version(&probed(), 2);
    world.apply(&probed).unwrap();
    let probe = |output: &&Output| {
        matches!(
            output,
            Output::Probe {
                readiness: Some(_),
                ..
            }
        )
    };
    assert_eq!(world.log.iter().filter(probe).count(), 3);
    assert_eq!((prepared(&world), removed(&world)), (0, 0));
}

#[test]
fn automaton_that_is_declared_no_longer_ends() {
    let mut world = World::with(SHOP);
    let (without, _) = SHOP.split_once("[automaton.stranger]").unwrap();
    world.apply(&version(without, 2)).unwrap();
    assert_eq!((prepared(&world), removed(&world)), (0, 1));
    assert_eq!(world.router.instances().len(), 5);
}

#[test]
fn delete_ends_every_instance_and_frees_the_names() {
    let mut world = World::with(SHOP);
    let delete = |request| Input::Delete {
        request,
        composition: "shop".parse().unwrap(),
    };
    assert_eq!(world.ask(delete).unwrap(), "shop deleted: 6 to end");
    assert!(world.router.instances().is_empty());
    assert!(world.plans.is_empty() && world.compositions.is_empty());
    assert!(world.locations.is_empty());
    assert!(
        world
            .ask(delete)
            .unwrap_err()
            .contains("no composition `shop`")
    );
    world.apply(&SHOP.replace("\"shop\"", "\"other\"")).unwrap();
}

#[test]
fn down_ends_instances_and_keeps_compositions() {
    let mut world = World::with(SHOP);
    let answer = world.ask(|request| Input::Down { request }).unwrap();
    assert_eq!(answer, "the host stops: 6 to end");
    assert!(world.plans.is_empty());
    assert_eq!(world.compositions.len(), 1);
    let refused = world.apply(&version(SHOP, 2)).unwrap_err();
    assert!(refused.contains("stopping"));
    world.restart();
    assert_eq!(world.router.instances().len(), 6);
}

#[test]
fn quiet_host_wants_to_be_woken_only_for_quarantines() {
    let mut world = World::with(SHOP);
    assert_eq!(world.router.poll_timeout(), None);
    world.ask(|request| Input::Down { request }).unwrap();
    world.pass(Duration::from_secs(601));
    assert_eq!(world.router.poll_timeout(), None);
}

//! A daemon that died and came back: what ran goes on, what is missing starts, the rest ends.

use super::world::{Kind, World};
use super::{SHOP, probed};
use crate::id::{EndpointIndex, InstanceId, LocationIndex};
use crate::lease::QUARANTINE;
use crate::port::{Input, Output};
use crate::way::Way;

fn outputs(world: &World, which: impl Fn(&Output) -> bool) -> usize {
    world.log.iter().filter(|output| which(output)).count()
}

#[test]
fn running_instances_and_their_flows_go_on_untouched() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    for port in 0..20 {
        world.call("1.shopper", port, to, Kind::Syn(80));
    }
    let (flows, ids) = (world.flows.clone(), world.plans.clone());
    world.restart();
    assert_eq!((&world.flows, &world.plans), (&flows, &ids));
    let touched = outputs(&world, |output| {
        !matches!(output, Output::SetLocation { .. } | Output::PublishNames(_))
    });
    assert_eq!(touched, 0, "{:?}", world.log);
    assert_eq!(world.stage("2.web"), "ready");
    assert!(world.call("1.shopper", 77, to, Kind::Syn(80)).is_some());
}

#[test]
fn probed_instances_count_as_ready_until_a_probe_says_otherwise() {
    let text = probed();
    let mut world = World::with(&text);
    world.restart();
    assert_eq!(world.stage("1.web"), "ready");
    assert_eq!(
        outputs(&world, |output| matches!(output, Output::Probe { .. })),
        3
    );
    let instance = world.id("1.web");
    let ready = false;
    world.tell(Input::Readiness { instance, ready });
    assert_eq!(world.stage("1.web"), "running");
}

#[test]
fn flows_that_lead_nowhere_any_more_are_closed() {
    let mut world = World::with(SHOP);
    for (port, name) in [(1, "1.web"), (2, "2.web"), (3, "3.web")] {
        let to = world.called(name);
        world.call("1.shopper", port, to, Kind::Syn(80));
    }
    let gone = world.id("2.web");
    let moved = world.id("3.web");
    world.networks.remove(&gone);
    world.networks.insert(moved, (EndpointIndex(60), 60));
    world.restart();
    let servers: Vec<_> = world.flows.values().map(|flow| flow.server).collect();
    assert_eq!(servers, [world.id("1.web")]);
    assert_eq!(
        world.locations.get(&LocationIndex(60)),
        Some(&Way::Device(60))
    );
    assert_eq!(world.stage("2.web"), "ready", "made anew");
}

#[test]
fn datagrams_to_a_program_that_ended_meanwhile_bind_anew() {
    let mut world = World::with(SHOP);
    let to = world.called("2.web");
    world.call("1.shopper", 1, to, Kind::Udp(443));
    let ended = world.id("2.web");
    world.running.remove(&ended);
    world.restart();
    assert!(world.flows.is_empty());
    assert_eq!(world.stage("2.web"), "exited");
}

#[test]
fn instances_that_nobody_recorded_are_taken_away() {
    let mut world = World::with(SHOP);
    let unknown = InstanceId(77);
    world.networks.insert(unknown, (EndpointIndex(63), 63));
    world.restart();
    let removal = |output: &Output| matches!(output, Output::RemoveInstance { instance, .. } if *instance == unknown);
    assert_eq!(outputs(&world, removal), 1);
}

#[test]
fn instances_of_a_deleted_composition_end_and_are_never_prepared() {
    let mut world = World::with(SHOP);
    let dead = world.id("1.store");
    world.networks.remove(&dead);
    world.running.remove(&dead);
    world.compositions.clear();
    world.restart();
    assert_eq!(
        outputs(&world, |output| matches!(
            output,
            Output::PrepareInstance(_)
        )),
        0
    );
    assert!(world.plans.is_empty());
    assert!(world.router.instances().is_empty());
}

#[test]
fn crash_between_two_records_is_made_good() {
    let mut world = World::with(SHOP);
    let lost = world.id("3.web");
    world.plans.remove(&lost);
    world.networks.remove(&lost);
    world.restart();
    assert_eq!(world.router.instances().len(), 6);
    assert_eq!(world.stage("3.web"), "ready");
    assert!(
        world.id("3.web") > world.id("1.stranger"),
        "identities are never used twice"
    );
}

#[test]
fn recorded_instance_that_never_was_made_starts_with_its_addresses() {
    let mut world = World::with(SHOP);
    let (id, addresses) = (world.id("1.web"), world.called("1.web"));
    world.networks.remove(&id);
    world.running.remove(&id);
    world.restart();
    assert_eq!((world.id("1.web"), world.called("1.web")), (id, addresses));
    assert_eq!(world.stage("1.web"), "ready");
}

/// ```text
///   1.shopper --SYN--> 3.web's address      (3.web was scaled away before the restart)
///                      served by 1.web or 2.web
/// ```
#[test]
fn address_of_an_instance_removed_before_the_restart_still_leads_to_its_siblings() {
    let mut world = World::with(SHOP);
    let to = world.called("3.web");
    let text = SHOP
        .replace("version = 1", "version = 2")
        .replace("replicas = 3", "replicas = 2");
    world.apply(&text).unwrap();
    world.restart();
    let server = world.call("1.shopper", 1, to, Kind::Syn(80)).unwrap();
    assert!(["1.web", "2.web"].contains(&server.as_str()), "{server}");

    world.pass(QUARANTINE);
    assert_eq!(world.call("1.shopper", 2, to, Kind::Syn(80)), None);
}

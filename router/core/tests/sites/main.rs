//! A network of sites in one thread: many neighbourhoods under loss, doubles, partitions between sites,
//! gateways that die in a row, restarts of everything, clocks of other rates, and lies.
//!
//! A seed draws everything. First nothing may happen that must never happen; then the disturbances
//! stop, and every service must be found from every host. A seed that fails prints what it drew.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod checks;
mod host;
mod lies;
mod overlay;
mod plan;
mod world;

use plan::Plan;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;
use world::World;

/// How long the network may take until every service is found from every host: membership after a
/// restart, an election, the next gateway that is tried, and two rounds of the exchange.
const OF_ONE_MIND_WITHIN: Duration = Duration::from_secs(40);

fn run(seed: u64) -> World {
    let plan = Plan::draw(seed);
    let drawn = format!("{plan:?}");
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(plan);
        world.run(world.plan.disturbed_for);
        world.calm_down();
        world.converge(OF_ONE_MIND_WITHIN);
        world
    }));
    lived.unwrap_or_else(|failure| {
        eprintln!("seed {seed} drew {drawn}");
        resume_unwind(failure)
    })
}

#[test]
fn every_service_is_found_from_every_site_seeds_0_to_15() {
    (0..16).for_each(|seed| drop(run(seed)));
}

#[test]
fn every_service_is_found_from_every_site_seeds_16_to_31() {
    (16..32).for_each(|seed| drop(run(seed)));
}

#[test]
fn every_service_is_found_from_every_site_seeds_32_to_47() {
    (32..48).for_each(|seed| drop(run(seed)));
}

#[test]
fn every_service_is_found_from_every_site_seeds_48_to_63() {
    (48..64).for_each(|seed| drop(run(seed)));
}

#[test]
fn same_seed_makes_the_same_run() {
    assert_eq!(run(7).fingerprint, run(7).fingerprint);
}

/// What the lies are for: some reach their addressees, and are told apart.
#[test]
fn lies_are_told_and_refused() {
    let worlds: Vec<World> = (0..6).map(run).collect();
    for name in ["forged", "unreadable", "old_summary", "unknown_member"] {
        let hosts = worlds.iter().flat_map(|world| &world.hosts);
        let count: u64 = hosts.map(|host| host.refused(name)).sum();
        assert!(count > 0, "nobody was refused for `{name}`");
    }
}

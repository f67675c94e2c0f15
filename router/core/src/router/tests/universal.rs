//! What holds of time for every machine, shown for the Router and so for the parts it is made of.

use super::random_walk::{Step, any_step, apply};
use super::world::{World, config};
use crate::flow_table::FlowLimits;
use proptest::prelude::*;
use std::time::Duration;

/// Longer than any timer runs.
const EVER: Duration = Duration::from_secs(1_000_000);

/// Things that happen, each after a pause: mostly short ones, some longer than any quarantine.
fn any_steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let pause = prop_oneof![8 => 0u64..400, 4 => 0u64..40_000, 1 => 0u64..700_000];
    proptest::collection::vec((pause, any_step()), 1..80)
}

/// A world in which nobody wakes the router meanwhile.
fn world() -> World {
    let mut config = config();
    config.flow_limits = FlowLimits::for_slots(48);
    let mut world = World::new(config);
    world.prompt = false;
    world
}

/// Lets time pass; wakes the router when it asks for it first, then only in the end, however long
/// ago something was due.
fn oversleep(world: &mut World, millis: u64) {
    let end = world.now + Duration::from_millis(millis);
    let first = world.router.poll_timeout().filter(|due| *due < end);
    for now in first.into_iter().chain([end]) {
        world.now = world.now.max(now);
        world.router.handle_timeout(world.now);
        world.drain();
        let due = world.router.poll_timeout();
        assert!(due.is_none_or(|due| due > world.now), "{due:?} is over");
    }
}

/// Wakes the router at the last moment at which nothing is due yet.
fn wake_early(world: &mut World) {
    let early = match world.router.poll_timeout() {
        Some(due) => due - Duration::from_nanos(1),
        None => world.now + EVER,
    };
    let before = format!("{:?}", world.router);
    world.router.handle_timeout(early);
    let after = format!("{:?}", world.router);
    assert!(after == before, "from {before}\nto {after}");
}

proptest! {
    #[test]
    fn nothing_is_due_once_time_was_let_pass(steps in any_steps()) {
        let mut world = world();
        for (pause, step) in &steps {
            oversleep(&mut world, *pause);
            apply(&mut world, step);
        }
    }

    #[test]
    fn early_timeout_does_nothing(steps in any_steps()) {
        let mut world = world();
        for (pause, step) in &steps {
            oversleep(&mut world, *pause);
            wake_early(&mut world);
            apply(&mut world, step);
            if world.router.poll_timeout().is_none_or(|due| due > world.now) {
                wake_early(&mut world);
            }
        }
    }
}

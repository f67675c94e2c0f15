//! Programs that hang are killed, those that only stumble are not.

use super::SHOP;
use super::world::World;
use crate::port::{Input, Output};

/// A shop whose store is asked whether it is alive, three times.
fn watched() -> World {
    let alive = "affinity = \"strict\"\nalive = { tcp = true, port = \"redis\" }";
    World::with(&SHOP.replace("affinity = \"strict\"", alive))
}

fn hear(world: &mut World, alive: bool) {
    let instance = world.id("1.store");
    let verdict = alive.then_some(()).ok_or("no answer".to_owned());
    world.tell(Input::Liveness { instance, verdict });
}

fn killed(world: &World) -> usize {
    let kill = |output: &&Output| matches!(output, Output::KillProcess { .. });
    world.log.iter().filter(kill).count()
}

#[test]
fn program_that_misses_often_enough_in_a_row_is_killed_and_that_is_said() {
    let mut world = watched();
    world.prompt = false;
    for alive in [true, false, false, true, false, false] {
        hear(&mut world, alive);
    }
    assert_eq!(killed(&world), 0, "never three in a row");
    hear(&mut world, false);
    hear(&mut world, false);
    assert_eq!(killed(&world), 1, "asked for once");

    let exit = world.reports.pop_front().unwrap();
    world.tell(exit);
    assert_eq!(world.stage("1.store"), "exited");
    let id = world.id("1.store");
    let view = |world: &World| {
        let mut views = world.router.instances().into_iter();
        views.find(|view| view.id == id).unwrap()
    };
    let said = view(&world).last_error.unwrap();
    assert_eq!(said, "not alive (no answer), killed");

    world.tell(Input::ProcessStarted { instance: id });
    assert!(view(&world).ready && view(&world).was_killed);
    world.tell(Input::ProcessExited {
        instance: id,
        status: "exited with code 1".into(),
        restart_after: None,
    });
    assert!(!view(&world).was_killed, "its newest end was its own");
}

#[test]
fn program_that_was_never_alive_is_starting_and_not_hung() {
    let mut world = watched();
    for _ in 0..20 {
        hear(&mut world, false);
    }
    assert_eq!(killed(&world), 0);
    for alive in [true, false, false, false] {
        hear(&mut world, alive);
    }
    assert_eq!(killed(&world), 1);
    let instance = world.id("1.store");
    world.tell(Input::ProcessStarted { instance });
    for _ in 0..20 {
        hear(&mut world, false);
    }
    assert_eq!(killed(&world), 1, "started anew, it is starting again");
}

#[test]
fn only_programs_that_run_are_asked() {
    let watches = |world: &World| -> Vec<bool> {
        let asked = world.log.iter().filter_map(|output| match output {
            Output::Watch { liveness, .. } => Some(liveness.is_some()),
            _ => None,
        });
        asked.collect()
    };
    let mut world = watched();
    let instance = world.id("1.store");
    world.tell(Input::ProcessExited {
        instance,
        status: "exited with code 1".into(),
        restart_after: None,
    });
    assert_eq!(watches(&world), [false]);
    for _ in 0..9 {
        hear(&mut world, false);
    }
    assert_eq!(killed(&world), 0, "late news");
    world.tell(Input::ProcessStarted { instance });
    assert_eq!(watches(&world), [false, true]);

    world
        .apply(&SHOP.replace("version = 1", "version = 2"))
        .unwrap();
    assert_eq!(
        watches(&world),
        [false, true, false],
        "nobody wants it asked any more"
    );
}

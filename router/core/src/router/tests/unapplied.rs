//! Compositions of the site that cannot be applied here, and later can.

use super::super::unapplied::{RETRY_FIRST, RETRY_MAX};
use super::world::World;
use crate::composition::Composition;
use crate::port::Input;
use std::time::Duration;

fn with_web(name: &str, version: u32) -> String {
    format!(
        "[composition]\nname = \"{name}\"\nversion = {version}\n\
         [automaton.web]\ncommand = [\"nginx\"]\n"
    )
}

fn site_wants(world: &mut World, text: &str) {
    world.tell(Input::Composition(Composition::parse(text).unwrap()));
}

/// The tries of what could not be applied.
fn tries(world: &World) -> Vec<u32> {
    world.router.not_applied().map(|it| it.tries).collect()
}

/// A host whose own composition holds the name of the site's automaton.
fn in_the_way() -> World {
    let mut world = World::with(&with_web("mine", 1));
    site_wants(&mut world, &with_web("ours", 1));
    world
}

#[test]
fn what_cannot_be_applied_is_tried_again_after_ever_longer_pauses_and_shown() {
    let mut world = in_the_way();
    let shown: Vec<_> = world.router.not_applied().collect();
    assert_eq!(shown[0].composition.to_string(), "ours");
    assert!(shown[0].why.contains("belongs to composition `mine`"));
    for (tried, pause) in [(1, 1), (2, 2), (3, 4)] {
        assert_eq!(tries(&world), [tried]);
        world.pass(Duration::from_secs(pause) - Duration::from_millis(100));
        assert_eq!(tries(&world), [tried], "not yet");
        world.pass(Duration::from_millis(100));
    }
    world.pass(RETRY_MAX * 4);
    let before = tries(&world)[0];
    world.pass(RETRY_MAX);
    assert_eq!(tries(&world), [before + 1]);
}

#[test]
fn it_is_applied_once_it_can_be() {
    let mut world = in_the_way();
    let delete = |request| Input::Delete {
        request,
        composition: "mine".parse().unwrap(),
    };
    world.ask(delete).unwrap();
    world.pass(RETRY_FIRST);
    assert_eq!(tries(&world), [] as [u32; 0]);
    let applied = world.router.compositions();
    assert_eq!(applied[0].name.to_string(), "ours");
}

#[test]
fn what_the_site_wants_no_more_or_otherwise_is_not_tried_again() {
    let mut world = in_the_way();
    world.tell(Input::CompositionGone("ours".parse().unwrap()));
    assert_eq!(tries(&world), [] as [u32; 0]);
    let mut world = in_the_way();
    world.pass(RETRY_FIRST);
    assert_eq!(tries(&world), [2]);
    site_wants(&mut world, &with_web("ours", 2));
    let shown: Vec<_> = world.router.not_applied().collect();
    assert_eq!((shown[0].version.0, shown[0].tries), (2, 1));
}

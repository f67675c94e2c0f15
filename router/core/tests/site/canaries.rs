//! Canaries: each check is shown a site that breaks its rule, and must see it.

use super::host::credential;
use super::plan::{Plan, Step};
use super::steps::{be_born, state};
use super::world::{Message, World};
use margay_core::catalog::{
    Binding, Catalog, CatalogConfig, CatalogInput, CatalogLimits, CatalogOutput, Generation,
    GivenBy, Identity, Key, Statement,
};
use margay_core::host::OriginEpoch;
use std::time::Duration;

/// Three hosts that have met.
fn met(steps: Vec<(Duration, Step)>) -> World {
    let mut world = World::new(Plan::calm(3, steps));
    world.run(Duration::from_secs(10));
    world
}

fn another_credential(world: &World) -> Statement {
    let mut credential = credential(&world.hosts[0].id);
    credential.push(b'!');
    Statement::Host { credential }
}

#[test]
#[should_panic(expected = "never said")]
fn word_that_its_origin_did_not_say_is_seen() {
    let mut world = met(Vec::new());
    let forged = another_credential(&world);
    world.tell(0, CatalogInput::State(forged));
    world.run(Duration::from_secs(20));
}

#[test]
#[should_panic(expected = "went back")]
fn word_that_comes_back_is_seen() {
    let mut world = met(Vec::new());
    let said = another_credential(&world);
    state(&mut world, 0, said);
    world.run(Duration::from_secs(20));
    // The second host forgets everything while it runs, and hears the first word again.
    let config = CatalogConfig {
        key: world.hosts[1].key.clone(),
        epoch: OriginEpoch(1),
        limits: CatalogLimits::default(),
    };
    let now = world.hosts[1].clock.shows(world.now);
    let forgetful = Catalog::new(config, 1, now);
    world.hosts[1].daemon.as_mut().unwrap().catalog = forgetful;
    let certified = CatalogInput::Certified(world.hosts[0].id);
    world.tell(1, certified);
    let bytes = first_word(&world);
    world.deliver(0, 1, Message::Gossip(bytes));
    world.run(world.now + Duration::from_millis(1));
}

/// What the first host published when it began.
fn first_word(world: &World) -> Vec<u8> {
    let host = &world.hosts[0];
    let config = CatalogConfig {
        key: host.key.clone(),
        epoch: OriginEpoch(1),
        limits: CatalogLimits::default(),
    };
    let now = host.clock.shows(world.now);
    let mut catalog = Catalog::new(config, 1, now);
    let credential = credential(&host.id);
    catalog.handle_input(CatalogInput::State(Statement::Host { credential }), now);
    catalog.handle_timeout(now + Duration::from_secs(1));
    let outputs = std::iter::from_fn(|| catalog.poll_output());
    let mut published = outputs.filter_map(|output| match output {
        CatalogOutput::Publish { bytes } => Some(bytes),
        _ => None,
    });
    published.next().unwrap()
}

#[test]
#[should_panic(expected = "nobody gave")]
fn identity_that_nobody_gave_away_is_seen() {
    let mut world = met(Vec::new());
    be_born(&mut world, 0, 1);
    world.run(Duration::from_secs(20));
    let keys = world.hosts[0].says.keys();
    let mut identities = keys.filter_map(|key| match key {
        Key::Binding(identity) => Some(*identity),
        _ => None,
    });
    let stolen: Identity = identities.next_back().unwrap();
    // Its holder signs for once what it does not do.
    let (thief, generation) = (world.hosts[1].id, Generation(2));
    let holder = &world.hosts[0].key;
    let given_by = Some(GivenBy::sign(holder, &stolen, generation, &thief));
    let binding = Binding {
        identity: stolen,
        generation,
        given_by,
    };
    world.tell(1, CatalogInput::State(Statement::Binding(binding)));
    world.run(Duration::from_secs(30));
}

#[test]
#[should_panic(expected = "not of one mind")]
fn site_that_stays_divided_is_seen() {
    let forever = Duration::from_secs(100_000);
    let cut = Step::Partition {
        sides: 1,
        lasts: forever,
    };
    let mut world = met(vec![(Duration::from_secs(1), cut)]);
    world.converge(Duration::from_secs(60));
}

//! Compositions of the whole site: what an operator applies here is told to every host.

use super::Hosts;
use crate::world::World;
use anyhow::Result;
use margay_core::composition::{Composition, CompositionName};
use margay_core::name::HostName;
use margay_core::neighbourhood::NeighbourhoodInput;
use std::collections::BTreeSet;

/// Refuses a composition that the site would not take from here.
pub async fn check(world: &World, composition: &Composition) -> Result<()> {
    let composition = composition.clone();
    ask(world, move |hosts| hosts.near.check(&composition)).await
}

/// Says which hosts a composition places instances on that are no members: nothing runs there.
pub async fn absent_hosts(world: &World, composition: &Composition) -> Option<String> {
    let automatons = composition.automatons.values();
    let named: BTreeSet<HostName> = automatons.flat_map(|it| it.on.iter().cloned()).collect();
    let asked = named.clone();
    let strangers = world
        .router
        .hosts(move |hosts, _, _| hosts.strangers(asked));
    let absent = match strangers.await {
        Ok(absent) => absent,
        Err(_alone) if named.is_empty() => return None,
        Err(_alone) => {
            return Some(
                "this host belongs to no network, so that all of it runs here whatever `on` says"
                    .to_owned(),
            );
        }
    };
    let names: Vec<&str> = absent.iter().map(HostName::as_str).collect();
    let (are, they) = match names.len() {
        0 => return None,
        1 => ("is no member", "its"),
        _ => ("are no members", "their"),
    };
    Some(format!(
        "{} {are}, and {they} instances run once a host of that name has joined",
        names.join(", ")
    ))
}

/// Refuses to delete where the site would not take it from here.
pub async fn check_deletion(world: &World) -> Result<()> {
    // Whom the network does not let in any more clears up by itself, or it could never join again.
    ask(world, |hosts| match hosts.is_shut_out() {
        true => Ok(()),
        false => hosts.near.check_operator(),
    })
    .await
}

/// Tells the site what was applied here.
pub async fn tell(world: &World, composition: Composition, text: String) {
    tell_near(world, NeighbourhoodInput::Composed { composition, text }).await;
}

/// Tells the site what was deleted here.
pub async fn tell_deletion(world: &World, composition: CompositionName) {
    tell_near(world, NeighbourhoodInput::Deleted { composition }).await;
}

/// A host alone may do whatever it likes.
async fn ask<E: std::error::Error + Send + Sync + 'static>(
    world: &World,
    question: impl FnOnce(&Hosts) -> Result<(), E> + Send + 'static,
) -> Result<()> {
    match world.router.hosts(|hosts, _, _| question(hosts)).await {
        Ok(answer) => Ok(answer?),
        Err(_alone) => Ok(()),
    }
}

async fn tell_near(world: &World, input: NeighbourhoodInput) {
    let told = world
        .router
        .hosts(|hosts, _, now| hosts.near.handle_input(input, now));
    if told.await.is_err() {
        tracing::debug!("there is no site to tell");
    }
}

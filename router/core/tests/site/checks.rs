//! What must hold at every step, and what must have come about at the end; one function each.

use super::host::Host;
use super::world::{Truth, World};
use margay_core::catalog::{Generation, Identity, Key, OriginView, Statement};
use margay_core::host::{HostId, OriginEpoch};
use margay_core::id::Version;
use margay_core::name::AutomatonName;
use std::collections::{BTreeMap, BTreeSet};

/// What one daemon has believed so far.
#[derive(Default)]
pub struct Seen {
    origins: BTreeMap<HostId, OriginView>,
    places: BTreeMap<(HostId, Key), (OriginEpoch, u64)>,
    words: BTreeMap<(HostId, Key), usize>,
    generations: BTreeMap<Identity, Generation>,
    versions: BTreeMap<String, Version>,
}

/// Everything that must hold of one host, at every step at which its catalog changed.
pub fn safety(truth: &Truth, host: &mut Host) {
    let name = host.id.short();
    let Some(daemon) = &mut host.daemon else {
        return;
    };
    let views: BTreeMap<HostId, OriginView> = daemon.catalog.origins().collect();
    let seen = &mut daemon.seen;
    let changed = views
        .iter()
        .filter(|(origin, view)| seen.origins.get(*origin) != Some(*view));
    let changed: Vec<HostId> = changed.map(|(origin, _)| *origin).collect();
    seen.origins = views;
    for origin in &changed {
        only_what_was_said(truth, &name, origin, daemon);
    }
    if !changed.is_empty() {
        only_hosts_that_are_up(truth, &name, host);
        generations_grow(truth, &name, host);
        compositions_grow(truth, &name, host);
    }
}

/// No host believes what its origin did not say, and nothing that was taken back or said anew comes
/// back.
fn only_what_was_said(
    truth: &Truth,
    name: &str,
    origin: &HostId,
    daemon: &mut super::host::Daemon,
) {
    let keys = truth.said.keys().filter(|(of, _)| of == origin);
    for (_, key) in keys {
        let at = daemon.catalog.said_at(origin, key);
        let said = daemon.catalog.said(origin, key);
        let place = (*origin, key.clone());
        if let Some(at) = at {
            let before = daemon.seen.places.insert(place.clone(), at);
            assert!(
                before.is_none_or(|before| before <= at),
                "{name}: {key:?} of {origin:?} went back from {before:?} to {at:?}"
            );
        }
        if let Some(said) = said {
            let known = truth.said[&place].contains(&said);
            assert!(known, "{name}: {origin:?} never said {said:?}");
        }
    }
}

/// What is shown belongs to hosts that are up, was said by them, and is no older than what was shown.
fn only_hosts_that_are_up(truth: &Truth, name: &str, host: &mut Host) {
    let Some(daemon) = &mut host.daemon else {
        return;
    };
    let up: BTreeSet<HostId> = daemon.membership.up().map(|(host, _)| host).collect();
    for service in services() {
        for (origin, instance) in daemon.catalog.instances_of(&service) {
            assert!(
                origin == host.id || up.contains(&origin),
                "{name}: shows {instance:?} of {origin:?}, which is down"
            );
            let key = (origin, Key::Instance(instance.identity));
            let said = Statement::Instance(instance);
            let words = truth.said.get(&key).map_or(&[][..], Vec::as_slice);
            let word = words.iter().position(|word| *word == said);
            let word = word.unwrap_or_else(|| panic!("{name}: {origin:?} never said {said:?}"));
            let before = daemon.seen.words.insert(key, word);
            assert!(
                before.is_none_or(|before| before <= word) || truth.restored.contains(&origin),
                "{name}: shows an older word: {said:?}"
            );
        }
    }
}

/// Generations only grow, and never beyond what a holder gave away.
fn generations_grow(truth: &Truth, name: &str, host: &mut Host) {
    let Some(daemon) = &mut host.daemon else {
        return;
    };
    for (identity, holders) in &truth.holders {
        let Some(holder) = daemon.catalog.holder(identity) else {
            continue;
        };
        let known = holders.get(&holder.generation);
        assert_eq!(
            known,
            Some(&holder.host),
            "{name}: nobody gave {identity:?} so"
        );
        let before = daemon.seen.generations.insert(*identity, holder.generation);
        assert!(
            before.is_none_or(|before| before <= holder.generation),
            "{name}: {identity:?} went back to {holder:?}"
        );
    }
}

/// Versions only grow, and are what the operator signed.
fn compositions_grow(truth: &Truth, name: &str, host: &mut Host) {
    let Some(daemon) = &mut host.daemon else {
        return;
    };
    for composition in daemon.catalog.compositions() {
        let signed = truth.compositions.get(&composition.version);
        assert_eq!(
            signed.and_then(Option::as_ref),
            Some(composition.as_ref()),
            "{name}: nobody signed it"
        );
        let key = composition.name.to_string();
        let before = daemon.seen.versions.insert(key, composition.version);
        assert!(
            before.is_none_or(|before| before <= composition.version),
            "{name}: a version went back"
        );
    }
}

/// What keeps the site from being of one mind; empty once it is.
pub fn divergence(world: &World) -> Vec<String> {
    let running: BTreeSet<HostId> = world.running().map(|host| host.id).collect();
    let mut found = Vec::new();
    let mut signed = Vec::new();
    for host in world.running() {
        let name = host.id.short();
        let Some(daemon) = &host.daemon else {
            continue;
        };
        let mut up: BTreeSet<HostId> = daemon.membership.up().map(|(host, _)| host).collect();
        up.insert(host.id);
        if up != running {
            found.push(format!("{name} holds {up:?} for up, not {running:?}"));
        }
        for other in world.running() {
            disagreements(world, host, other, &mut found);
        }
        let shop = "shop".parse().unwrap();
        signed.push(daemon.catalog.signed_composition(&shop).cloned());
    }
    // The newest may be lost with the only host that ever had it.
    if signed.windows(2).any(|two| two[0] != two[1]) {
        found.push("hosts have different versions of the composition".to_owned());
    }
    found
}

/// Where what `host` has of `other`'s word differs from it.
fn disagreements(world: &World, host: &Host, other: &Host, found: &mut Vec<String>) {
    let (name, of) = (host.id.short(), other.id.short());
    let Some(daemon) = &host.daemon else {
        return;
    };
    let view = daemon.catalog.origins().find(|(id, _)| *id == other.id);
    if !view.is_some_and(|(_, view)| view.sound) {
        found.push(format!("{name} does not have all of {of}: {view:?}"));
    }
    for (_, key) in world.truth.said.keys().filter(|(id, _)| *id == other.id) {
        let (here, there) = (daemon.catalog.said(&other.id, key), other.says.get(key));
        if here.as_ref() != there {
            found.push(format!("{name} believes {here:?} of {of}, not {there:?}"));
        }
        if let (Key::Binding(identity), Some(Statement::Binding(binding))) = (key, there) {
            let holder = daemon.catalog.holder(identity);
            if holder.map(|it| (it.host, it.generation)) != Some((other.id, binding.generation)) {
                found.push(format!("{name} takes {holder:?} for the holder, not {of}"));
            }
        }
    }
    for service in services() {
        let shown = daemon.catalog.instances_of(&service);
        let shown = shown.into_iter().filter(|(id, _)| *id == other.id).count();
        let there = other.identities();
        let there = there.iter().filter_map(|identity| other.instance(identity));
        let there = there.filter(|it| it.service.automaton == service).count();
        if shown != there {
            found.push(format!(
                "{name} shows {shown} {service} of {of}, not {there}"
            ));
        }
    }
}

/// Every service that instances are of.
pub fn services() -> impl Iterator<Item = AutomatonName> {
    ["web", "store", "queue"]
        .into_iter()
        .map(|name| name.parse().unwrap())
}

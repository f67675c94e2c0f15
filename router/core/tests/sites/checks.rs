//! What must never happen, and what must be so in the end.

use super::host::{Host, service, site_of};
use super::plan::{HOSTS_A_SITE, SITES};
use super::world::World;
use margay_core::name::SitePath;
use margay_core::peer::{Known, RemoteInstance};

/// An instance that a Router is told of is one that its host told of, with what is this host's to say.
pub fn instance(world: &World, index: usize, told: &RemoteInstance) {
    let origin = world.hosts.iter().position(|host| host.id == told.host);
    let origin = origin.expect("an instance of a host that is none");
    assert_ne!(origin, index, "own instances come from nobody else");
    let said = &world.said[origin];
    let said = said
        .get(&told.flows)
        .expect("a word that its host never said");
    let as_said = RemoteInstance {
        distance: told.distance,
        via: told.via,
        known: told.known,
        ready: told.ready,
        ..said.clone()
    };
    assert_eq!(*told, as_said, "not what its host said");
    assert!(
        !told.ready || said.ready,
        "ready, and its host did not say so"
    );
    let (here, there) = (site_of(index), site_of(origin));
    assert_eq!(told.distance.0, tiers_between(&here, &there));
    assert_eq!(told.known == Known::Flooded, here == there, "{told:?}");
    assert_eq!(
        told.via.is_some(),
        here != there && told.known != Known::Called
    );
}

fn tiers_between(one: &SitePath, other: &SitePath) -> u8 {
    match (one == other, one.tiers().len().max(other.tiers().len())) {
        (true, _) => 0,
        (false, 2) if one.tiers()[0] == other.tiers()[0] => 1,
        (false, deepest) => u8::try_from(deepest).unwrap(),
    }
}

/// What is not as it must be in the end.
pub fn divergence(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for host in &world.hosts {
        for site in 0..SITES.len() {
            if !finds(world, host, site) {
                found.push(format!(
                    "host {} does not find {}",
                    host.number,
                    service(site)
                ));
            }
        }
        let near = host.near.as_ref().expect("all run");
        let name = world.composition_name();
        let version = near.catalog().composition_version(&name);
        if version != world.composed {
            let composed = world.composed;
            found.push(format!(
                "host {}: {version:?}, not {composed:?}",
                host.number
            ));
        }
    }
    found
}

/// Whether a host knows another's instance of a site's service that takes flows, if there is any.
pub fn finds(world: &World, host: &Host, site: usize) -> bool {
    let origins = site * HOSTS_A_SITE..(site + 1) * HOSTS_A_SITE;
    let serving = world.hosts[origins].iter();
    let mut serving = serving
        .filter(|it| it.serves && it.id != host.id)
        .peekable();
    let told = |origin: &Host| {
        host.told
            .values()
            .any(|it| it.ready && it.host == origin.id)
    };
    serving.peek().is_none() || serving.any(told)
}

//! Founding a network: its root key, its first issuer, and this host as its first member.

use super::errand::commit;
use super::identity::Keys;
use super::wall_time;
use crate::journal::{Entry, MembershipRecord};
use crate::world::World;
use anyhow::{Context, Result, bail};
use margay_core::address::Ipv4Block;
use margay_core::admission::{
    BLOCK_PREFIX, Issued, Issuer, IssuerConfig, MEMBERSHIP_LIFETIME, Membership, Place, Role, Root,
};
use margay_core::name::{HostName, SitePath};
use margay_core::signature::PrivateKey;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Founds the network whose root key is `root`; the daemon starts again as its first host.
pub async fn create(
    world: &World,
    root: PrivateKey,
    name: HostName,
    site: SitePath,
) -> Result<Value> {
    ensure_free(world).await?;
    if let Some(entry) = &world.network {
        bail!(
            "this host belongs to network {} already, as {}; `margay join TOKEN` moves it to another",
            entry.network.short(),
            entry.name
        );
    }
    let keys = Keys::read_or_make(&world.directories)?;
    let (entry, records) = found(&Root::new(root), &keys, name, site)?;
    let said = format!(
        "network {} is founded; this host is {} in it, with the addresses of {}",
        entry.network.short(),
        entry.name,
        entry.block
    );
    commit(world, records)
        .await
        .context("no network was founded")?;
    Ok(json!(said))
}

/// Refuses to change what a host with instances is: their addresses and numbers would be others.
pub async fn ensure_free(world: &World) -> Result<()> {
    if world.underlay.is_empty() {
        bail!(
            "no other host can reach this one; start the daemon with `margay up --underlay ADDR:PORT`, \
             an address of this host and a UDP port that others reach, and try again"
        );
    }
    let sizes = world.router.look(|router, _| router.sizes()).await?;
    if sizes.compositions > 0 {
        bail!(
            "this host runs {} compositions, whose instances would get other addresses; `margay delete` \
             them first, and apply them again afterwards",
            sizes.compositions
        );
    }
    let instances = world.router.look(|router, _| router.instances().len());
    let instances = instances.await?;
    if instances > 0 {
        bail!("this host has {instances} instances that are about to end; try again in a moment");
    }
    Ok(())
}

fn found(
    root: &Root,
    keys: &Keys,
    name: HostName,
    site: SitePath,
) -> Result<(Entry, Vec<MembershipRecord>)> {
    let now = wall_time();
    let network = root.network();
    let known = Membership::new(network);
    let host = keys.host.public();
    let credential = root.certify(host, Ipv4Block::DEFAULT, &known, now)?;
    let config = IssuerConfig {
        key: keys.host.clone(),
        credential: credential.clone(),
        network,
        block_prefix: BLOCK_PREFIX,
        lifetime: MEMBERSHIP_LIFETIME,
    };
    let mut issuer = Issuer::new(config, [])?;
    let place = Place {
        name: name.clone(),
        site: site.clone(),
        roles: BTreeSet::from([Role::Issuer]),
    };
    let roles = place.roles.clone();
    let Issued {
        credential: own,
        certificate,
        records,
    } = issuer.admit(host, place, &known, now)?;
    let block = certificate.blocks.first().context("no block was granted")?;
    let entry = Entry {
        network,
        name,
        site,
        roles,
        block: *block,
        issuer: Some(credential.to_bytes()),
        sponsor: None,
    };
    let entered = MembershipRecord::Entered(Box::new(entry.clone()), own.to_bytes());
    let issued = records.into_iter().map(MembershipRecord::Issued);
    Ok((entry, [entered].into_iter().chain(issued).collect()))
}

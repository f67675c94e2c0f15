//! `margay down`: ends the instances and takes away all that the host put into the kernel.

use crate::world::World;
use anyhow::{Context, Result};
use margay_core::port::Input;
use margay_datapath::bpffs;
use margay_datapath::datapath::Datapath;
use margay_datapath::outside;
use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long all instances together may take to end; each gets SIGKILL after its own grace.
const END_MAX: Duration = Duration::from_secs(60);

/// How soon to look again whether core has heard of the last instance's end: it is on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Ends the host; the daemon has nothing left to do afterwards.
pub async fn end_host(world: &World) -> Result<String> {
    let said = end_instances(world).await?;
    world.networks.end_spares(world).await;
    // Whoever may have left them: an instance that ended long ago, or one of an earlier daemon.
    if let Err(error) = tokio::task::spawn_blocking(outside::clear).await? {
        tracing::warn!(%error, "Margay's table stays in the host's packet filter");
    }
    if !world.ending.swap(true, Ordering::AcqRel) {
        world
            .keeper
            .call(|keeper| keeper.shutdown())
            .await
            .context("the keeper did not end")?;
    }
    let left = world.router.hosts(|hosts, _, now| hosts.leave(now));
    if left.await.is_err() {
        tracing::debug!("no other host is to be told");
    }
    let pins = world.directories.bpf();
    Datapath::unpin(&pins).with_context(|| format!("cannot empty {}", pins.display()))?;
    bpffs::unmount(&pins)?;
    if let Err(error) = std::fs::remove_dir(&world.cgroup)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(%error, "cannot remove {}", world.cgroup.display());
    }
    let socket = world.directories.control_socket();
    std::fs::remove_file(&socket).with_context(|| format!("cannot remove {}", socket.display()))?;
    tracing::info!("the host is down");
    Ok(said)
}

/// Ends every instance; returns when all of them are recorded as gone.
async fn end_instances(world: &World) -> Result<String> {
    let end = |request| Input::Down { request };
    let said = world.operators.ask(&world.router, end).await?;
    let gone = tokio::time::timeout(END_MAX, all_gone(world)).await;
    gone.with_context(|| {
        let patience = END_MAX.as_secs();
        format!("some instances did not end in {patience} s; `margay ps` shows them")
    })??;
    // Answers follow records in order: once this one is there, so are the records before it.
    world.operators.ask(&world.router, end).await?;
    Ok(said)
}

/// Waits until core has heard of every instance's end.
async fn all_gone(world: &World) -> Result<()> {
    world.instances.all_gone().await;
    while !world
        .router
        .look(|router, _| router.instances().is_empty())
        .await?
    {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

//! What the hosts' part of the router thread wants done and that takes time.

use crate::journal::{MembershipRecord, random};
use crate::world::{World, lock};
use anyhow::{Context, Result};
use margay_core::host::{HostId, OriginEpoch};
use margay_core::way::Path;
use margay_datapath::host_link::ExchangeId;
use margay_datapath::network::route_to;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// By how much a host's data port lies above its link's.
const DATA_PORT_ABOVE: u16 = 1;

/// What takes time.
#[derive(Debug)]
pub enum Errand {
    /// Make something durable.
    Record(Vec<MembershipRecord>),
    /// Let a newcomer in, once what it was given is durable.
    Admit {
        /// What it was given.
        records: Vec<MembershipRecord>,
        /// Its exchange.
        exchange: ExchangeId,
        /// Who it is.
        host: HostId,
        /// What it is told.
        answer: Vec<u8>,
    },
    /// Answer a member that wants its next certificate, once that is durable.
    AnswerRenewal {
        /// What it was given.
        records: Vec<MembershipRecord>,
        /// Who asked.
        host: HostId,
        /// What it is told.
        answer: Vec<u8>,
    },
    /// Find out how packets get to a host.
    FindPath {
        /// Which.
        host: HostId,
        /// Where its link is.
        address: SocketAddr,
    },
    /// Raise this host's life to this one.
    Outlive(OriginEpoch),
}

/// The port of packets in datagrams beside the host link's `port`.
pub fn data_port(port: u16) -> u16 {
    port.wrapping_add(DATA_PORT_ABOVE)
}

/// Runs errands in their order, until the router thread has ended.
pub async fn run(world: Arc<World>, mut errands: mpsc::UnboundedReceiver<Errand>) {
    while let Some(errand) = errands.recv().await {
        if let Err(error) = run_one(&world, errand).await {
            tracing::error!("{error:#}");
        }
    }
}

async fn run_one(world: &World, errand: Errand) -> Result<()> {
    match errand {
        Errand::Record(records) => commit(world, records).await,
        Errand::Admit {
            records,
            exchange,
            host,
            answer,
        } => {
            let durable = commit(world, records).await;
            durable.context("a host that wants to join is not answered")?;
            let admit = world
                .router
                .hosts(move |hosts, _, now| hosts.admit(exchange, host, answer, now));
            admit.await
        }
        Errand::AnswerRenewal {
            records,
            host,
            answer,
        } => {
            let durable = commit(world, records).await;
            durable.context("a host is not renewed")?;
            let answer = world
                .router
                .hosts(move |hosts, _, now| hosts.answer_renewal(host, &answer, now));
            answer.await
        }
        Errand::FindPath { host, address } => {
            let path = path_to(world, address).await;
            let path = path.with_context(|| format!("no packets go to host {}", host.short()))?;
            let found = world.router.hosts(move |hosts, datapath, now| {
                hosts.path_found(host, address, path, datapath, now);
            });
            found.await
        }
        Errand::Outlive(epoch) => {
            let epoch = epoch.next(u16::from_be_bytes(random()?));
            commit(world, vec![MembershipRecord::Epoch(epoch)]).await?;
            let raised = world
                .router
                .hosts(move |hosts, _, now| hosts.outlived(epoch, now));
            raised.await
        }
    }
}

/// Makes records durable.
pub async fn commit(world: &World, records: Vec<MembershipRecord>) -> Result<()> {
    let journal = world.journal.clone();
    let commit = tokio::task::spawn_blocking(move || lock(&journal).commit_membership(&records));
    commit.await.context("a commit was cut off")?
}

/// By the host's own routes.
async fn path_to(world: &World, address: SocketAddr) -> Result<Path> {
    let route = route_to(address.ip()).await?;
    let own = world.underlay.first().context("no link is open here")?;
    Ok(Path {
        ifindex: route.ifindex,
        on_link: route.gateway.is_none(),
        source: SocketAddr::new(route.source, data_port(own.port())),
        destination: SocketAddr::new(address.ip(), data_port(address.port())),
    })
}

//! Makes and takes away instances' networks, some of them ahead: to put a program on a device takes the
//! kernel many milliseconds.

use crate::world::{World, lock};
use anyhow::{Context, Result};
use margay_core::id::EndpointIndex;
use margay_datapath::attach::InstanceLinks;
use margay_datapath::namespace::new_namespace;
use margay_datapath::network::{EmptyNetwork, make_network, remove_device};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

/// Networks that wait for an instance: as many as a small composition has instances. Each costs the
/// kernel some hundred kilobytes.
const SPARES: usize = 4;

/// How long to wait before what was taken is made anew: whoever took it starts its program first.
const PAUSE: Duration = Duration::from_millis(100);

/// A namespace with a network that is nobody's yet; the eBPF program on its device lets nothing pass.
pub struct Spare {
    /// The network namespace.
    pub namespace: Arc<OwnedFd>,
    /// Its place in the kernel's tables.
    pub endpoint: EndpointIndex,
    /// The network inside.
    pub network: EmptyNetwork,
}

/// Makes and takes away networks.
pub struct Networks {
    links: Arc<InstanceLinks>,
    /// What was made ahead.
    made: Mutex<Vec<Spare>>,
    /// Told when one was taken.
    taken: Notify,
    /// Whether the host still wants any. Held while they are made, so that none is made beyond that.
    wanted: tokio::sync::Mutex<bool>,
    /// One program is put on its device at a time, and here the others wait: the kernel makes them wait
    /// anyway, and each would hold a thread.
    turn: tokio::sync::Mutex<()>,
}

impl Networks {
    /// None is made yet; the program comes onto devices by `links`.
    pub fn new(links: InstanceLinks) -> Self {
        Networks {
            links: Arc::new(links),
            made: Mutex::default(),
            taken: Notify::new(),
            wanted: tokio::sync::Mutex::new(true),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Takes a network, or makes one where none waits.
    pub async fn take(&self, world: &World) -> Result<Spare> {
        let spare = lock(&self.made).pop();
        self.taken.notify_one();
        match spare {
            Some(spare) => Ok(spare),
            None => self.make(world).await,
        }
    }

    /// Makes networks ahead until the host wants no more.
    pub async fn keep_spares(&self, world: &World) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let wanted = self.wanted.lock().await;
            if !*wanted {
                return;
            }
            while lock(&self.made).len() < SPARES {
                match self.make(world).await {
                    Ok(spare) => lock(&self.made).push(spare),
                    Err(error) => {
                        // An instance that needs one tries again, and tells its operator.
                        tracing::debug!("no network was made ahead: {error:#}");
                        break;
                    }
                }
            }
            drop(wanted);
            self.taken.notified().await;
        }
    }

    /// Takes away what waits; no more is made ahead.
    pub async fn end_spares(&self, world: &World) {
        *self.wanted.lock().await = false;
        self.taken.notify_one();
        let waiting = std::mem::take(&mut *lock(&self.made));
        for spare in waiting {
            let ifindex = spare.network.ifindex();
            if let Err(error) = self.remove(ifindex).await {
                tracing::warn!("a network that was made ahead stays: {error:#}");
            }
            world.endpoints.free(spare.endpoint);
        }
    }

    /// Takes away a device with its link; one that is gone already is a success.
    pub async fn remove(&self, ifindex: u32) -> Result<()> {
        remove_device(ifindex).await?;
        Ok(self.links.detach(ifindex)?)
    }

    async fn make(&self, world: &World) -> Result<Spare> {
        let endpoint = world.endpoints.take()?;
        let made = self.make_at(endpoint).await;
        if made.is_err() {
            world.endpoints.free(endpoint);
        }
        made
    }

    async fn make_at(&self, endpoint: EndpointIndex) -> Result<Spare> {
        let made = spawn_blocking(new_namespace).await?;
        let namespace = Arc::new(made.context("cannot make a network namespace")?);
        let network = make_network(namespace.as_fd(), endpoint).await?;
        let (links, ifindex) = (self.links.clone(), network.ifindex());
        let turn = self.turn.lock().await;
        let attached = spawn_blocking(move || links.attach(ifindex)).await?;
        drop(turn);
        if let Err(error) = attached {
            if let Err(stays) = self.remove(ifindex).await {
                tracing::warn!("a device without its program stays: {stays:#}");
            }
            return Err(error.into());
        }
        Ok(Spare {
            namespace,
            endpoint,
            network,
        })
    }
}

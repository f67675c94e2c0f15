//! The overlay as the daemon holds it: commands in, events out, counters to read.

use crate::behaviour::{Protocols, swarm};
use crate::config::{OverlayConfig, Pace};
use crate::drops::{Drops, OverlayDrop};
use crate::gate::Gate;
use crate::identity::{multiaddr, socket_addr};
use crate::queue::{Receiver, Sender, queue};
use crate::task::Task;
use libp2p::Swarm;
use libp2p::futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use margay_core::overlay::{OverlayCommand, OverlayEvent};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// How long listeners are waited for, to learn the ports that they took. They listen already.
const LISTENING_TIMEOUT: Duration = Duration::from_secs(1);

/// Why no overlay was opened.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The address is taken, or not this host's.
    #[error("cannot listen at {address} (TCP) for other hosts: {why}; free it, or name another")]
    Listen {
        /// Where to listen.
        address: SocketAddr,
        /// What the kernel says.
        why: io::Error,
    },
    /// The protocols could not be set up.
    #[error("cannot set up the overlay: {0}")]
    Protocols(String),
}

/// The overlay of this host: a task on the runtime that opened it, until this is dropped.
#[derive(Debug)]
pub struct Overlay {
    commands: Sender<OverlayCommand>,
    drops: Arc<Drops>,
    listening: Vec<SocketAddr>,
}

impl Overlay {
    /// Listens, and runs as one task (and one more for each connection) of the runtime that it is
    /// called on. Nobody is let in before they are admitted.
    pub async fn open(config: OverlayConfig) -> Result<(Overlay, OverlayEvents), OverlayError> {
        Self::open_at(config, Pace::default()).await
    }

    /// [`Overlay::open`] at another pace.
    pub(crate) async fn open_at(
        config: OverlayConfig,
        pace: Pace,
    ) -> Result<(Overlay, OverlayEvents), OverlayError> {
        let drops = Arc::new(Drops::new());
        let mut swarm = swarm(&config, &pace, drops.clone()).map_err(OverlayError::Protocols)?;
        for address in &config.listen {
            let listened = listen(&mut swarm, *address);
            listened.map_err(|why| OverlayError::Listen {
                address: *address,
                why,
            })?;
        }
        let listening = listening(&mut swarm, config.listen.len()).await;
        let (command_sender, commands) = queue(drops.clone(), OverlayDrop::CommandQueueFull);
        let (events, event_receiver) = queue(drops.clone(), OverlayDrop::EventQueueFull);
        let task = Task::new(&config, &pace, swarm, commands, events, drops.clone());
        tokio::spawn(task.run());
        let overlay = Overlay {
            commands: command_sender,
            drops,
            listening,
        };
        Ok((overlay, OverlayEvents(event_receiver)))
    }

    /// Hands over a command, from any thread and without waiting; one that finds the queue full is
    /// dropped and counted. Says whether it was taken.
    pub fn send(&self, command: OverlayCommand) -> bool {
        self.commands.send(command)
    }

    /// Where it listens; the port is the one that was taken if 0 was asked for.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// How often what was dropped, refused or cut short, by the reason's name; each only grows.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.drops.named()
    }
}

/// What the overlay tells core, in order; what finds the queue full is dropped and counted.
#[derive(Debug)]
pub struct OverlayEvents(Receiver<OverlayEvent>);

impl OverlayEvents {
    /// Waits for the next event; `None` once the overlay has ended. May be cancelled at any time.
    pub async fn next(&mut self) -> Option<OverlayEvent> {
        self.0.receive().await
    }
}

/// Listens at an address that nobody else listens at: libp2p itself would share it with another
/// process that allows that, and each would get half of the calls.
fn listen(swarm: &mut Swarm<Gate<Protocols>>, address: SocketAddr) -> io::Result<()> {
    drop(TcpListener::bind(address)?);
    let listened = swarm.listen_on(multiaddr(address));
    listened.map(|_| ()).map_err(io::Error::other)
}

/// Waits until each listener has said where it listens.
async fn listening(swarm: &mut Swarm<Gate<Protocols>>, listeners: usize) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    let all = async {
        while addresses.len() < listeners {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                addresses.extend(socket_addr(&address));
            }
        }
    };
    if tokio::time::timeout(LISTENING_TIMEOUT, all).await.is_err() {
        tracing::warn!(?addresses, "not every listener says where it listens");
    }
    addresses
}

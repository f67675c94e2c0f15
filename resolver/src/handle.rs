//! The resolver's thread as others see it: start, add, remove, counts, stop.

use crate::counts::{ResolverCounts, Tally};
use crate::forward::{Forwarder, Outside};
use crate::limits::Limits;
use crate::responder::Responder;
use crate::searches::Searches;
use crate::worker::{Command, WAKE, Worker};
use arc_swap::ArcSwap;
use margay_core::id::InstanceId;
use margay_core::names::NamesSnapshot;
use mio::{Poll, Waker};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Commands that may wait for the resolver's thread. It takes all of them between two rounds, a few
/// milliseconds apart; senders beyond the bound wait that long.
const COMMANDS_MAX: usize = 256;

/// Why the resolver could not do as told.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// No poll.
    #[error("cannot poll sockets for the resolver; raise the limit of open files: {0}")]
    Poll(#[source] io::Error),
    /// No thread.
    #[error("cannot start the resolver's thread; raise the limit of threads: {0}")]
    Thread(#[source] io::Error),
    /// A socket cannot be made non-blocking.
    #[error("cannot use the dns sockets of instance {instance}; open them anew: {source}")]
    Socket {
        /// Whose.
        instance: InstanceId,
        /// The kernel's word.
        source: io::Error,
    },
    /// The thread has ended.
    #[error("the resolver has stopped (its log says why); restart the daemon")]
    Stopped,
}

/// Starts resolvers.
pub struct Resolver;

impl Resolver {
    /// Starts a resolver that answers from `names`, whichever snapshot is the latest.
    pub fn spawn(names: Arc<ArcSwap<NamesSnapshot>>) -> Result<ResolverHandle, ResolverError> {
        Resolver::spawn_limited(names, Limits::default())
    }

    /// Starts a resolver with limits of its own.
    pub fn spawn_limited(
        names: Arc<ArcSwap<NamesSnapshot>>,
        limits: Limits,
    ) -> Result<ResolverHandle, ResolverError> {
        Resolver::start(names, limits, None, Searches::default())
    }

    /// Starts a resolver that asks `outside` for names of other zones, on behalf of the instances that
    /// may reach them, and has services sought by `searches`.
    pub fn spawn_forwarding(
        names: Arc<ArcSwap<NamesSnapshot>>,
        outside: Outside,
        searches: Searches,
    ) -> Result<ResolverHandle, ResolverError> {
        Resolver::start(names, Limits::default(), Some(outside), searches)
    }

    /// Starts a resolver that has services sought by `searches`, and asks nobody else.
    pub fn spawn_seeking(
        names: Arc<ArcSwap<NamesSnapshot>>,
        searches: Searches,
    ) -> Result<ResolverHandle, ResolverError> {
        Resolver::start(names, Limits::default(), None, searches)
    }

    fn start(
        names: Arc<ArcSwap<NamesSnapshot>>,
        limits: Limits,
        outside: Option<Outside>,
        searches: Searches,
    ) -> Result<ResolverHandle, ResolverError> {
        let poll = Poll::new().map_err(ResolverError::Poll)?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(ResolverError::Poll)?;
        let waker = Arc::new(waker);
        searches.wake_by(Arc::clone(&waker));
        let tally = Arc::new(Tally::new());
        let forwarding =
            outside.map(|outside| Forwarder::new(outside, Arc::clone(&waker), Arc::clone(&tally)));
        let (forwarder, deliveries) = forwarding.unzip();
        let (sender, commands) = sync_channel(COMMANDS_MAX);
        let responder = Responder::new(names, Arc::clone(&tally))
            .with_forwarder(forwarder)
            .with_searches(searches);
        let worker = Worker::new(poll, commands, responder, limits).map_err(ResolverError::Poll)?;
        let worker = worker.with_deliveries(deliveries);
        let thread = std::thread::Builder::new()
            .name("margay-resolver".to_owned())
            .spawn(move || worker.run())
            .map_err(ResolverError::Thread)?;
        Ok(ResolverHandle {
            sender,
            waker,
            tally,
            thread: Some(thread),
        })
    }
}

/// A running resolver; dropping it stops it.
#[derive(Debug)]
pub struct ResolverHandle {
    sender: SyncSender<Command>,
    waker: Arc<Waker>,
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

impl ResolverHandle {
    /// Answers what arrives on the two sockets as asked by `instance`, in place of earlier ones.
    ///
    /// The sockets are bound already, inside the instance's namespace. They may be duplicates of
    /// descriptors that another process holds; they are set non-blocking.
    pub fn add(
        &self,
        instance: InstanceId,
        udp: UdpSocket,
        tcp: TcpListener,
    ) -> Result<(), ResolverError> {
        let set = udp.set_nonblocking(true).and(tcp.set_nonblocking(true));
        set.map_err(|source| ResolverError::Socket { instance, source })?;
        self.send(Command::Add { instance, udp, tcp })
    }

    /// Stops answering `instance` and closes its connections. Duplicates of its sockets stay open:
    /// queries wait in them for the next resolver.
    pub fn remove(&self, instance: InstanceId) -> Result<(), ResolverError> {
        self.send(Command::Remove(instance))
    }

    /// The counters now.
    pub fn counts(&self) -> ResolverCounts {
        self.tally.read()
    }

    /// Stops the resolver's thread and waits for its end.
    pub fn stop(self) {
        drop(self);
    }

    fn send(&self, command: Command) -> Result<(), ResolverError> {
        let sent = self.sender.send(command);
        sent.map_err(|_| ResolverError::Stopped)?;
        self.waker.wake().map_err(ResolverError::Poll)
    }
}

impl Drop for ResolverHandle {
    fn drop(&mut self) {
        // An error means that the thread has ended already, which is what is wanted.
        let _ = self.send(Command::Stop);
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the resolver's thread had panicked");
        }
    }
}

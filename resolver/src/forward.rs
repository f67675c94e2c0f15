//! Questions for names of other zones on their way: who asks, how many, and how replies come back.

use crate::datagram::Peer;
use crate::reply::Transport;
use crate::upstream::Upstream;
use margay_core::id::InstanceId;
use mio::{Token, Waker};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;

/// Questions under way in all; each holds a query, a reply and a task, some kilobytes.
const UNDER_WAY_MAX: usize = 1024;

/// Questions under way of one instance: more than any program has names to wait for, and so few that
/// one that floods leaves most for the others.
const UNDER_WAY_PER_INSTANCE_MAX: usize = 64;

/// Whom names of other zones are asked of, and by which runtime.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Where questions are asked.
    pub runtime: Handle,
    /// The host's own `resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Where we answer ourselves; never asked.
    pub ours: Vec<IpAddr>,
}

/// Where a reply goes.
#[derive(Clone, Debug)]
pub(crate) enum Asker {
    /// From a UDP socket to a peer.
    Datagram(Token, Peer),
    /// Into a TCP connection.
    Connection(Token),
}

impl Asker {
    /// How the question came.
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Asker::Datagram(..) => Transport::Udp,
            Asker::Connection(_) => Transport::Tcp,
        }
    }
}

/// A reply that came from elsewhere; without bytes if none is owed.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) to: Asker,
    pub(crate) bytes: Vec<u8>,
}

/// Asks on behalf of instances.
pub(crate) struct Forwarder {
    upstream: Arc<Upstream>,
    runtime: Handle,
    waker: Arc<Waker>,
    /// Has room for as many as can be under way.
    deliveries: SyncSender<Delivery>,
    under_way: Arc<Mutex<BTreeMap<InstanceId, usize>>>,
}

impl Forwarder {
    /// Asks as `outside` says; replies come out of the receiver, and `waker` is told.
    pub(crate) fn new(outside: Outside, waker: Arc<Waker>) -> (Forwarder, Receiver<Delivery>) {
        let (deliveries, delivered) = sync_channel(UNDER_WAY_MAX);
        let forwarder = Forwarder {
            upstream: Arc::new(Upstream::new(outside.resolv_conf, outside.ours)),
            runtime: outside.runtime,
            waker,
            deliveries,
            under_way: Arc::default(),
        };
        (forwarder, delivered)
    }

    /// Asks elsewhere; returns whether there is room for one more question.
    pub(crate) fn forward(&self, caller: InstanceId, query: &[u8], asker: Asker) -> bool {
        {
            let mut under_way = lock(&self.under_way);
            let all: usize = under_way.values().sum();
            let own = under_way.entry(caller).or_default();
            if all >= UNDER_WAY_MAX || *own >= UNDER_WAY_PER_INSTANCE_MAX {
                return false;
            }
            *own += 1;
        }
        let (upstream, query) = (Arc::clone(&self.upstream), query.to_vec());
        let (deliveries, waker) = (self.deliveries.clone(), Arc::clone(&self.waker));
        let under_way = Arc::clone(&self.under_way);
        self.runtime.spawn(async move {
            let bytes = upstream.reply(&query, asker.transport()).await;
            release(&mut lock(&under_way), caller);
            // It fails only when the resolver has ended; then nobody waits.
            if deliveries.try_send(Delivery { to: asker, bytes }).is_ok()
                && let Err(error) = waker.wake()
            {
                tracing::warn!(%error, "a reply from elsewhere waits for the next event");
            }
        });
        true
    }
}

fn release(under_way: &mut BTreeMap<InstanceId, usize>, caller: InstanceId) {
    if let Some(own) = under_way.get_mut(&caller) {
        *own -= 1;
        if *own == 0 {
            under_way.remove(&caller);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Questions for names of other zones on their way: who asks, and how replies come back.

use crate::counts::{Count, Tally};
use crate::datagram::Peer;
use crate::reply::Transport;
use crate::under_way::{Place, UNDER_WAY_MAX, UnderWay};
use crate::upstream::Upstream;
use margay_core::id::InstanceId;
use mio::{Token, Waker};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use tokio::runtime::Handle;

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

/// A reply that came from elsewhere; without bytes if none could be written.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) to: Asker,
    pub(crate) bytes: Vec<u8>,
    /// Its question's, held until the reply is passed on or dropped.
    pub(crate) place: Place,
}

/// Asks on behalf of instances.
pub(crate) struct Forwarder {
    upstream: Arc<Upstream>,
    runtime: Handle,
    waker: Arc<Waker>,
    tally: Arc<Tally>,
    /// Has room for as many as can be under way.
    deliveries: SyncSender<Delivery>,
    under_way: UnderWay,
}

impl Forwarder {
    /// Asks as `outside` says; replies come out of the receiver, and `waker` is told.
    pub(crate) fn new(
        outside: Outside,
        waker: Arc<Waker>,
        tally: Arc<Tally>,
    ) -> (Forwarder, Receiver<Delivery>) {
        let (deliveries, delivered) = sync_channel(UNDER_WAY_MAX);
        let forwarder = Forwarder {
            upstream: Arc::new(Upstream::new(outside.resolv_conf, outside.ours)),
            runtime: outside.runtime,
            waker,
            tally,
            deliveries,
            under_way: UnderWay::default(),
        };
        (forwarder, delivered)
    }

    /// Asks elsewhere; returns whether there is room for one more question.
    pub(crate) fn forward(&self, caller: InstanceId, query: &[u8], to: Asker) -> bool {
        let Some(place) = self.under_way.enter(caller) else {
            return false;
        };
        let (upstream, query) = (Arc::clone(&self.upstream), query.to_vec());
        let (deliveries, waker) = (self.deliveries.clone(), Arc::clone(&self.waker));
        let tally = Arc::clone(&self.tally);
        self.runtime.spawn(async move {
            let bytes = upstream.reply(&query, to.transport()).await;
            if bytes.is_empty() {
                tally.count(Count::NotEncodable);
            }
            match deliveries.try_send(Delivery { to, bytes, place }) {
                Ok(()) => {
                    if let Err(error) = waker.wake() {
                        tracing::warn!(%error, "a reply from elsewhere waits for the next event");
                    }
                }
                // The resolver has ended, and with it all who asked.
                Err(TrySendError::Disconnected(_)) => tally.count(Count::AskerGone),
                Err(TrySendError::Full(_)) => {
                    unreachable!("what waits in the channel has a place under way")
                }
            }
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::query;
    use crate::under_way::UNDER_WAY_PER_INSTANCE_MAX;
    use hickory_proto::rr::RecordType;
    use mio::Poll;
    use tokio::runtime::{Builder, Runtime};

    /// A runtime that works only when told to, and a forwarder that finds no server to ask.
    fn world() -> (Runtime, Forwarder, Receiver<Delivery>) {
        let runtime = Builder::new_current_thread().build().unwrap();
        let outside = Outside {
            runtime: runtime.handle().clone(),
            resolv_conf: "no-such-file".into(),
            ours: Vec::new(),
        };
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (forwarder, delivered) = Forwarder::new(outside, waker, Arc::new(Tally::new()));
        (runtime, forwarder, delivered)
    }

    /// Asks for each of `callers` and finishes all replies; returns how many questions were taken.
    fn ask(runtime: &Runtime, forwarder: &Forwarder, callers: std::ops::Range<u64>) -> usize {
        let query = query("www.example.com.", RecordType::A).to_vec().unwrap();
        let taken = callers.filter(|caller| {
            forwarder.forward(InstanceId(*caller), &query, Asker::Connection(Token(1)))
        });
        let taken = taken.count();
        // Tasks take turns in order: behind this one no reply is left to be made.
        runtime.block_on(runtime.spawn(async {})).unwrap();
        taken
    }

    #[test]
    fn replies_that_nobody_fetches_keep_their_places_and_none_is_lost() {
        let (runtime, forwarder, delivered) = world();

        let asked = UNDER_WAY_MAX as u64 / 2 + 1;
        let taken: Vec<_> = (0..3)
            .map(|_| ask(&runtime, &forwarder, 0..asked))
            .collect();

        assert_eq!(taken.iter().sum::<usize>(), UNDER_WAY_MAX);
        assert_eq!(delivered.try_iter().count(), UNDER_WAY_MAX);
        assert_eq!(ask(&runtime, &forwarder, 0..asked), asked as usize);
    }

    #[test]
    fn instance_keeps_its_share_until_its_replies_are_fetched() {
        let (runtime, forwarder, delivered) = world();
        let ask_once = || ask(&runtime, &forwarder, 1..2) == 1;

        let taken = (0..100).filter(|_| ask_once()).count();

        assert_eq!(taken, UNDER_WAY_PER_INSTANCE_MAX);
        drop(delivered.try_recv().unwrap());
        assert!(ask_once());
        assert!(!ask_once());
    }

    #[test]
    fn reply_to_a_resolver_that_has_ended_is_counted() {
        let (runtime, forwarder, delivered) = world();
        drop(delivered);

        assert_eq!(ask(&runtime, &forwarder, 1..2), 1);

        assert_eq!(forwarder.tally.read().dropped_asker_gone, 1);
    }
}

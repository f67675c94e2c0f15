//! Queues between core and the overlay, bounded by how many they hold and by how many bytes.

use crate::drops::{Drops, OverlayDrop};
use margay_core::overlay::{OverlayCommand, OverlayEvent};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// How many commands, or events, wait: a network of ten thousand hosts is admitted at once.
const QUEUED_MAX: usize = 32 << 10;

/// How many of them carry something to read: the rest is kept for hosts that come and go, of which
/// core is not told again.
const CARRYING_MAX: usize = QUEUED_MAX / 2;

/// How many bytes they carry in all: 256 messages of the longest kind.
const QUEUED_BYTES_MAX: usize = 16 << 20;

/// What a queue weighs.
pub(crate) trait Carries {
    /// The bytes that it carries from host to host, if that is what it does.
    fn carried(&self) -> Option<usize>;
}

impl Carries for OverlayCommand {
    fn carried(&self) -> Option<usize> {
        match self {
            OverlayCommand::Publish { bytes, .. }
            | OverlayCommand::Ask { bytes, .. }
            | OverlayCommand::Answer { bytes, .. } => Some(bytes.len()),
            _ => None,
        }
    }
}

impl Carries for OverlayEvent {
    fn carried(&self) -> Option<usize> {
        match self {
            OverlayEvent::Heard { bytes, .. } | OverlayEvent::Asked { bytes, .. } => {
                Some(bytes.len())
            }
            OverlayEvent::Answered { answer, .. } => answer.as_ref().map(Vec::len),
            _ => None,
        }
    }
}

/// The end that fills a queue; what does not fit is dropped and counted.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    items: mpsc::Sender<T>,
    carried: Arc<AtomicUsize>,
    drops: Arc<Drops>,
    full: OverlayDrop,
}

/// The end that empties it.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    items: mpsc::Receiver<T>,
    carried: Arc<AtomicUsize>,
}

/// Makes a queue that counts as `full` what it drops.
pub(crate) fn queue<T: Carries>(drops: Arc<Drops>, full: OverlayDrop) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(QUEUED_MAX);
    let carried = Arc::new(AtomicUsize::new(0));
    (
        Sender {
            items: sender,
            carried: carried.clone(),
            drops,
            full,
        },
        Receiver {
            items: receiver,
            carried,
        },
    )
}

impl<T: Carries> Sender<T> {
    /// Takes `item` at once or drops it; whether it was taken.
    pub(crate) fn send(&self, item: T) -> bool {
        let taken = match item.carried() {
            None => self.items.try_send(item).is_ok(),
            Some(bytes) => self.send_carrying(item, bytes),
        };
        if !taken {
            self.drops.count(self.full);
        }
        taken
    }

    fn send_carrying(&self, item: T, bytes: usize) -> bool {
        let before = self.carried.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= QUEUED_BYTES_MAX && self.waiting() < CARRYING_MAX;
        let taken = fits && self.items.try_send(item).is_ok();
        if !taken {
            self.carried.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    fn waiting(&self) -> usize {
        self.items.max_capacity() - self.items.capacity()
    }
}

impl<T: Carries> Receiver<T> {
    /// Waits for what comes next; `None` once nothing will.
    pub(crate) async fn receive(&mut self) -> Option<T> {
        let item = self.items.recv().await?;
        let bytes = item.carried().unwrap_or(0);
        self.carried.fetch_sub(bytes, Ordering::Relaxed);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_core::overlay::{OVERLAY_BYTES_MAX, Topic};

    fn publication(length: usize) -> OverlayCommand {
        OverlayCommand::Publish {
            topic: Topic("site/a".into()),
            bytes: vec![0; length],
        }
    }

    fn full(drops: &Drops) -> u64 {
        let mut named = drops.named();
        named
            .find(|(name, _)| *name == "command_queue_full")
            .unwrap()
            .1
    }

    #[tokio::test]
    async fn bytes_are_bounded_until_they_are_taken_out() {
        let drops = Arc::new(Drops::new());
        let (sender, mut receiver) = queue(drops.clone(), OverlayDrop::CommandQueueFull);

        let fit = QUEUED_BYTES_MAX / OVERLAY_BYTES_MAX;
        assert!((0..fit).all(|_| sender.send(publication(OVERLAY_BYTES_MAX))));
        assert!(!sender.send(publication(1)));
        assert_eq!(full(&drops), 1);

        receiver.receive().await.unwrap();
        assert!(sender.send(publication(OVERLAY_BYTES_MAX)));
    }

    #[tokio::test]
    async fn what_is_carried_leaves_room_for_hosts_that_come_and_go() {
        let drops = Arc::new(Drops::new());
        let (sender, _receiver) = queue(drops.clone(), OverlayDrop::CommandQueueFull);

        while sender.send(publication(1)) {}
        let told = (0..QUEUED_MAX)
            .filter(|_| sender.send(OverlayCommand::ServeKademlia(true)))
            .count();

        assert_eq!(told, QUEUED_MAX - CARRYING_MAX);
        assert_eq!(full(&drops), 1 + CARRYING_MAX as u64);
    }
}

//! What the overlay drops and refuses: one named counter for each reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the reasons with their names and explanations.
macro_rules! reasons {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// Why something was dropped, refused or cut short.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum OverlayDrop {
            $(#[doc = $doc] $variant,)*
        }

        impl OverlayDrop {
            const NAMES: &'static [&'static str] = &[$($name),*];
        }
    };
}

reasons! {
    CommandQueueFull = "command_queue_full", "A command of core found its queue full.";
    EventQueueFull = "event_queue_full", "An event for core found its queue full.";
    TooLong = "too_long", "Something to be published, asked or answered is longer than a message may be.";
    NotAdmitted = "not_admitted", "A host that was not admitted called, or was to be called, kept or asked.";
    HandshakeFailed = "handshake_failed", "A handshake failed: of another network, no libp2p at all, or too slow.";
    ConnectionLimit = "connection_limit", "A connection was refused: there are too many.";
    SourceLimit = "source_limit", "A connection was refused: as many handshakes with its address are under way as may be.";
    Unreachable = "unreachable", "A host could not be reached at any of its addresses.";
    Silent = "silent", "A connection was closed: its host answers no ping, or never said what it speaks.";
    Unreadable = "unreadable", "A connection was closed: a question or an answer that it brought was too long.";
    Flood = "flood", "A message was dropped: its host brings more than one may, and is hung up on if it goes on.";
    Shunned = "shunned", "A host called, or was to be called, that was hung up on for flooding a moment ago.";
    Stalled = "stalled", "A question did not arrive whole in time.";
    Unanswered = "unanswered", "A question of another host was answered too late, or not at all.";
    NoAnswer = "no_answer", "A question got no answer: its host is away, busy or silent.";
    TooManyQuestions = "too_many_questions", "Too many questions were under way.";
    PublishedToNobody = "published_to_nobody", "Nobody who is connected has subscribed to what was published.";
    PublishedAgain = "published_again", "The same was published a moment ago.";
    PublishQueuesFull = "publish_queues_full", "No neighbour takes what is published: all their queues are full.";
    SlowNeighbour = "slow_neighbour", "A neighbour does not take gossip as fast as it comes.";
    TooManyProvided = "too_many_provided", "This host provides as many keys as one may.";
    ProvidersFull = "providers_full", "A provider record found the store, its key or its host's share full.";
    NotAProvider = "not_a_provider", "Something other than a provider record was to be stored.";
    TooManySearches = "too_many_searches", "Too many searches were under way.";
}

/// The live counters: written by the overlay, read by any.
#[derive(Debug)]
pub(crate) struct Drops([AtomicU64; OverlayDrop::NAMES.len()]);

impl Drops {
    /// All zero.
    pub(crate) fn new() -> Self {
        Drops([const { AtomicU64::new(0) }; OverlayDrop::NAMES.len()])
    }

    /// Counts one.
    pub(crate) fn count(&self, why: OverlayDrop) {
        self.count_many(why, 1);
    }

    /// Counts `how_many` at once.
    pub(crate) fn count_many(&self, why: OverlayDrop, how_many: usize) {
        self.0[why as usize].fetch_add(how_many as u64, Ordering::Relaxed);
    }

    /// Each reason's name, and how often it came about.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let values = self.0.iter().map(|cell| cell.load(Ordering::Relaxed));
        OverlayDrop::NAMES.iter().copied().zip(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_reads_back_under_its_own_name() {
        let drops = Drops::new();

        drops.count(OverlayDrop::NotAdmitted);
        drops.count_many(OverlayDrop::TooManySearches, 3);

        let counted: Vec<_> = drops.named().filter(|(_, value)| *value > 0).collect();
        assert_eq!(counted, [("not_admitted", 1), ("too_many_searches", 3)]);
    }
}

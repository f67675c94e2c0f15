//! What the resolver counts: every query, every answer by kind, every refusal by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters with their names and explanations.
macro_rules! counts {
    ($($variant:ident = $name:ident, $doc:literal;)*) => {
        /// One thing that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Count {
            $(#[doc = $doc] $variant,)*
        }

        /// How many counters there are.
        const COUNTS: usize = [$(Count::$variant),*].len();

        /// The resolver's counters at one moment; each only ever grows.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ResolverCounts {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl ResolverCounts {
            /// Every counter as (name in metrics and the CLI, what it counts, value).
            pub fn named(&self) -> [(&'static str, &'static str, u64); COUNTS] {
                [$((stringify!($name), $doc, self.$name)),*]
            }
        }

        impl Tally {
            /// The counters now.
            pub(crate) fn read(&self) -> ResolverCounts {
                ResolverCounts {
                    $($name: self.cells[Count::$variant as usize].load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counts! {
    QueriesUdp = queries_udp, "Datagrams received.";
    QueriesTcp = queries_tcp, "Whole messages received over TCP.";
    Addresses = answered_addresses, "Replies with at least one address.";
    Records = answered_records, "Replies with records of another kind.";
    NoData = answered_no_data, "Replies that the name exists without records of this kind.";
    NameError = answered_name_error, "Replies that the name does not exist for the caller.";
    Refused = answered_refused, "Replies to the host's own programs that other servers know the name.";
    FormatError = answered_format_error, "Replies that the query is malformed.";
    NotImplemented = answered_not_implemented, "Replies that the kind of request is not served.";
    BadVersion = answered_bad_version, "Replies that the version of EDNS is not served.";
    Elsewhere = asked_elsewhere, "Questions for names of other zones that the host's own servers were asked.";
    ElsewhereFull = refused_elsewhere_full, "Questions for names of other zones that were refused: too many were under way.";
    Held = held_for_search, "Questions that waited until their service was sought beyond the site.";
    HeldInVain = held_in_vain, "Questions that waited for a search as long as any may, and were answered without.";
    HeldFull = not_held_full, "Questions that were answered at once: too many waited for searches already.";
    Truncated = answered_truncated, "Replies that did not fit and told the caller to ask over TCP.";
    TooShort = dropped_too_short, "Messages too short to hold a header; nothing to reply to.";
    NotAQuery = dropped_not_a_query, "Messages that are responses; replying could make a loop.";
    NotEncodable = dropped_not_encodable, "Replies that the codec refused to write.";
    SendRefused = dropped_send_refused, "Datagrams that the kernel refused to send.";
    AskerGone = dropped_asker_gone, "Replies from elsewhere whose asker was gone: its instance removed or its connection closed.";
    ReceiveFailed = receive_failed, "Reads from a UDP socket that failed.";
    Accepted = connections_accepted, "TCP connections accepted.";
    AcceptFailed = accept_failed, "Accepts that failed; they are tried again.";
    RefusedInstance = connections_refused_instance, "TCP connections closed at once: their instance has its share.";
    RefusedTotal = connections_refused_total, "TCP connections closed at once: the resolver is full.";
    Finished = connections_finished, "TCP connections that their peer ended.";
    Broken = connections_broken, "TCP connections that failed.";
    Idle = connections_idle, "TCP connections closed because no whole query came in time.";
    SlowReader = connections_slow_reader, "TCP connections closed because their peer did not read its replies.";
    QueryTooLong = connections_query_too_long, "TCP connections closed because they announced a query above the limit.";
    Removed = connections_removed, "TCP connections closed because their instance was removed.";
    NotRegistered = sockets_not_registered, "Sockets that the kernel's poll refused.";
}

/// The live counters: written by the resolver's thread, read by any.
#[derive(Debug)]
pub(crate) struct Tally {
    cells: [AtomicU64; COUNTS],
}

impl Tally {
    /// All zero.
    pub(crate) fn new() -> Tally {
        Tally {
            cells: [const { AtomicU64::new(0) }; COUNTS],
        }
    }

    /// Counts one.
    pub(crate) fn count(&self, what: Count) {
        self.count_many(what, 1);
    }

    /// Counts `how_many` at once.
    pub(crate) fn count_many(&self, what: Count, how_many: usize) {
        self.cells[what as usize].fetch_add(how_many as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_reads_back_under_its_own_name() {
        let tally = Tally::new();

        tally.count(Count::QueriesUdp);
        tally.count_many(Count::SlowReader, 3);

        let counts = tally.read();
        assert_eq!((counts.queries_udp, counts.connections_slow_reader), (1, 3));
        let sum: u64 = counts.named().iter().map(|(_, _, value)| value).sum();
        assert_eq!(sum, 4);
        assert!(
            counts
                .named()
                .iter()
                .any(|(name, _, value)| (*name, *value) == ("queries_udp", 1))
        );
    }
}

//! Replies over the latest snapshot, counted.

use crate::counts::{Count, Tally};
use crate::reply::{Disposition, Outcome, Silence, Transport, reply};
use arc_swap::ArcSwap;
use margay_core::id::InstanceId;
use margay_core::names::NamesSnapshot;
use std::sync::Arc;

/// Turns queries into replies over the latest snapshot of names, and counts them.
pub(crate) struct Responder {
    names: Arc<ArcSwap<NamesSnapshot>>,
    tally: Arc<Tally>,
    /// Raised for each query; core mixes it before it orders ties by it.
    draw: u64,
}

impl Responder {
    /// A responder over `names` that counts in `tally`.
    pub(crate) fn new(names: Arc<ArcSwap<NamesSnapshot>>, tally: Arc<Tally>) -> Responder {
        Responder {
            names,
            tally,
            draw: 0,
        }
    }

    /// Where things are counted.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Writes the reply into `out`, in place of what it held; returns whether there is one to send.
    pub(crate) fn respond(
        &mut self,
        caller: InstanceId,
        query: &[u8],
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> bool {
        self.draw = self.draw.wrapping_add(1);
        let disposition = reply(&self.names.load(), caller, query, transport, self.draw, out);
        self.tally.count(match transport {
            Transport::Udp => Count::QueriesUdp,
            Transport::Tcp => Count::QueriesTcp,
        });
        match disposition {
            Disposition::Replied { outcome, truncated } => {
                self.tally.count(outcome_count(outcome));
                if truncated {
                    self.tally.count(Count::Truncated);
                }
                true
            }
            Disposition::Silent(silence) => {
                self.tally.count(silence_count(silence));
                false
            }
        }
    }
}

fn outcome_count(outcome: Outcome) -> Count {
    match outcome {
        Outcome::Addresses => Count::Addresses,
        Outcome::Records => Count::Records,
        Outcome::NoData => Count::NoData,
        Outcome::NameError => Count::NameError,
        Outcome::Refused => Count::Refused,
        Outcome::FormatError => Count::FormatError,
        Outcome::NotImplemented => Count::NotImplemented,
        Outcome::BadVersion => Count::BadVersion,
    }
}

fn silence_count(silence: Silence) -> Count {
    match silence {
        Silence::TooShort => Count::TooShort,
        Silence::NotAQuery => Count::NotAQuery,
        Silence::NotEncodable => Count::NotEncodable,
    }
}

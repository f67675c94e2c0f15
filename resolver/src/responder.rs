//! Replies over the latest snapshot, counted.

use crate::counts::{Count, Tally};
use crate::forward::{Asker, Forwarder};
use crate::held::{Held, Refusal};
use crate::reply::{Disposition, Outcome, Silence, Transport, reply_or_seek};
use crate::searches::Searches;
use crate::upstream::{BUSY, failed, write_reply};
use arc_swap::ArcSwap;
use margay_core::id::InstanceId;
use margay_core::names::NamesSnapshot;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// Its reply is written.
    Ready,
    /// Its reply will be delivered.
    Later,
    /// None is owed.
    None,
}

/// Turns queries into replies over the latest snapshot of names, and counts them.
pub(crate) struct Responder {
    names: Arc<ArcSwap<NamesSnapshot>>,
    tally: Arc<Tally>,
    /// By whom names of other zones are asked for, if anyone may.
    forwarder: Option<Forwarder>,
    /// Questions that wait for searches.
    held: Held,
    /// Raised for each query; core mixes it before it orders ties by it.
    draw: u64,
}

impl Responder {
    /// A responder over `names` that counts in `tally`.
    pub(crate) fn new(names: Arc<ArcSwap<NamesSnapshot>>, tally: Arc<Tally>) -> Responder {
        Responder {
            names,
            tally,
            forwarder: None,
            held: Held::new(Searches::default()),
            draw: 0,
        }
    }

    /// The same, with names of other zones asked for by `forwarder`.
    pub(crate) fn with_forwarder(mut self, forwarder: Option<Forwarder>) -> Responder {
        self.forwarder = forwarder;
        self
    }

    /// The same, with services sought beyond the site.
    pub(crate) fn with_searches(mut self, searches: Searches) -> Responder {
        self.held = Held::new(searches);
        self
    }

    /// Where things are counted.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Writes the reply into `out`, in place of what it held; returns what is to be done.
    ///
    /// A reply that comes from elsewhere is delivered to `asker`.
    pub(crate) fn respond(
        &mut self,
        caller: InstanceId,
        query: &[u8],
        transport: Transport,
        mut asker: impl FnMut() -> Asker,
        out: &mut Vec<u8>,
    ) -> Response {
        self.draw = self.draw.wrapping_add(1);
        let names = self.names.load();
        let (disposition, sought) = reply_or_seek(&names, caller, query, transport, self.draw, out);
        drop(names);
        self.tally.count(match transport {
            Transport::Udp => Count::QueriesUdp,
            Transport::Tcp => Count::QueriesTcp,
        });
        if let Some(service) = sought {
            let now = Instant::now();
            match self.held.enter(caller, query, &service, &mut asker, now) {
                Ok(()) => {
                    self.tally.count(Count::Held);
                    return Response::Later;
                }
                Err(Refusal::Full) => self.tally.count(Count::HeldFull),
                Err(Refusal::NobodySeeks) => {}
            }
        }
        match disposition {
            Disposition::Elsewhere => self.forward(caller, query, asker(), out),
            written => self.count_reply(written),
        }
    }

    /// Counts what was written.
    fn count_reply(&self, disposition: Disposition) -> Response {
        match disposition {
            Disposition::Replied { outcome, truncated } => {
                self.tally.count(outcome_count(outcome));
                if truncated {
                    self.tally.count(Count::Truncated);
                }
                Response::Ready
            }
            Disposition::Silent(silence) => {
                self.tally.count(silence_count(silence));
                Response::None
            }
            Disposition::Elsewhere => Response::None,
        }
    }

    /// When the first question that waits for a search is answered at the latest.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.held.until()
    }

    /// Answers the questions whose search is over, or whose time is; each reply with whom it is for,
    /// without bytes if none could be written.
    pub(crate) fn answer_held(&mut self, now: Instant) -> Vec<(Asker, Vec<u8>)> {
        let taken = self.held.take(|| self.names.load_full(), now);
        if taken.is_empty() {
            return Vec::new();
        }
        let names = self.names.load_full();
        let (mut replies, mut waiting) = (Vec::new(), VecDeque::new());
        for question in taken {
            self.draw = self.draw.wrapping_add(1);
            let (transport, mut out) = (question.to.transport(), Vec::new());
            let (caller, query) = (question.caller, &question.query);
            let (disposition, sought) =
                reply_or_seek(&names, caller, query, transport, self.draw, &mut out);
            match sought {
                Some(_) if !question.is_over(now) => {
                    waiting.push_back(question);
                    continue;
                }
                Some(_) => self.tally.count(Count::HeldInVain),
                None => {}
            }
            self.count_reply(disposition);
            replies.push((question.to, out));
        }
        self.held.give_back(waiting);
        replies
    }

    /// Has the host's servers asked; says so at once if that is not possible now.
    fn forward(
        &mut self,
        caller: InstanceId,
        query: &[u8],
        asker: Asker,
        out: &mut Vec<u8>,
    ) -> Response {
        let transport = asker.transport();
        let taken = self
            .forwarder
            .as_ref()
            .is_some_and(|forwarder| forwarder.forward(caller, query, asker));
        if taken {
            self.tally.count(Count::Elsewhere);
            return Response::Later;
        }
        self.tally.count(Count::ElsewhereFull);
        if write_reply(query, transport, failed(BUSY), out) {
            Response::Ready
        } else {
            self.tally.count(Count::NotEncodable);
            Response::None
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

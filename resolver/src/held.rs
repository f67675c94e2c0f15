//! Questions of instances that wait until the service that they are for was sought.

use crate::forward::Asker;
use crate::searches::{HELD_FOR, Searches};
use crate::under_way::{Place, UnderWay};
use margay_core::id::InstanceId;
use margay_core::name::AutomatonName;
use margay_core::names::NamesSnapshot;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// A question that waits.
pub(crate) struct Question {
    pub(crate) caller: InstanceId,
    pub(crate) query: Vec<u8>,
    pub(crate) to: Asker,
    until: Instant,
    /// Held until it is answered or dropped.
    _place: Place,
}

impl Question {
    /// Whether it waits no longer, whatever the names are.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }
}

/// All of them, the first one first.
pub(crate) struct Held {
    searches: Searches,
    questions: VecDeque<Question>,
    room: UnderWay,
    /// By which names they were looked at last.
    seen: Option<Arc<NamesSnapshot>>,
}

impl Held {
    /// None yet.
    pub(crate) fn new(searches: Searches) -> Held {
        Held {
            searches,
            questions: VecDeque::new(),
            room: UnderWay::default(),
            seen: None,
        }
    }

    /// Keeps a question and has its service sought; returns why not.
    pub(crate) fn enter(
        &mut self,
        caller: InstanceId,
        query: &[u8],
        service: &AutomatonName,
        to: impl FnOnce() -> Asker,
        now: Instant,
    ) -> Result<(), Refusal> {
        let place = self.room.enter(caller).ok_or(Refusal::Full)?;
        if !self.searches.want(service, now) {
            return Err(Refusal::NobodySeeks);
        }
        self.searches.hold(true);
        self.questions.push_back(Question {
            caller,
            query: query.to_vec(),
            to: to(),
            until: now + HELD_FOR,
            _place: place,
        });
        Ok(())
    }

    /// When the first one waits no longer.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.questions.front().map(|question| question.until)
    }

    /// Those that may be answered by now: all, if names were published since they were looked at, else
    /// those whose time is over. What is given back waits on.
    pub(crate) fn take(
        &mut self,
        names: impl FnOnce() -> Arc<NamesSnapshot>,
        now: Instant,
    ) -> VecDeque<Question> {
        if self.questions.is_empty() {
            return VecDeque::new();
        }
        let names = names();
        let are_same = self
            .seen
            .as_ref()
            .is_some_and(|seen| Arc::ptr_eq(seen, &names));
        self.seen = Some(names);
        let due = match are_same {
            true => self.questions.partition_point(|it| it.is_over(now)),
            false => self.questions.len(),
        };
        let rest = self.questions.split_off(due);
        std::mem::replace(&mut self.questions, rest)
    }

    /// Lets questions wait on, in front of those that were not taken.
    pub(crate) fn give_back(&mut self, mut questions: VecDeque<Question>) {
        questions.append(&mut self.questions);
        self.questions = questions;
        if self.questions.is_empty() && self.seen.take().is_some() {
            self.searches.hold(false);
        }
    }
}

/// Why a question does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many wait already, of its caller or in all.
    Full,
    /// This host seeks nothing.
    NobodySeeks,
}

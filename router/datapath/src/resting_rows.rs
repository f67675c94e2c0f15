//! Rows of an array that decisions take and give back, and that rest in between.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long a row rests before another decision gets it: a packet that found the row just before may
/// still be reading it. A packet takes microseconds; a second is generous even to a stalled machine.
const ROW_REST: Duration = Duration::from_secs(1);

/// Which rows are free, and which rest.
#[derive(Debug)]
pub(crate) struct RestingRows {
    /// Those that were never taken: handed out in their order, as what nobody uses need not be mapped.
    fresh: Range<u32>,
    /// Those that have rested.
    free: Vec<u32>,
    resting: VecDeque<(Instant, u32)>,
}

impl RestingRows {
    /// So many rows, all free.
    pub(crate) fn new(len: usize) -> Self {
        RestingRows {
            fresh: 0..len as u32,
            free: Vec::new(),
            resting: VecDeque::new(),
        }
    }

    /// A row that nobody reads; `None`: every one is in use or rests.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u32> {
        while let Some((since, row)) = self.resting.front()
            && now.duration_since(*since) >= ROW_REST
        {
            self.free.push(*row);
            self.resting.pop_front();
        }
        self.free.pop().or_else(|| self.fresh.next())
    }

    /// Takes a row back, which rests.
    pub(crate) fn give_back(&mut self, row: u32, now: Instant) {
        self.resting.push_back((now, row));
    }
}

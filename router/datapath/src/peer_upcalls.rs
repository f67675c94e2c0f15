//! Credits of other hosts' first packets on their way up.

use crate::layout::PeerUpcalls as Row;
use crate::mapped_array::MappedArray;
use std::sync::atomic::Ordering::Relaxed;

/// The kernel takes a credit for each packet, user space returns it.
#[derive(Debug)]
pub(crate) struct PeerUpcalls {
    row: MappedArray<Row>,
}

impl PeerUpcalls {
    pub(crate) fn new(row: MappedArray<Row>) -> Self {
        PeerUpcalls { row }
    }

    /// Returns one credit.
    pub(crate) fn done(&self) {
        self.row().done.fetch_add(1, Relaxed);
    }

    /// How many packets were handed up, ever.
    pub(crate) fn sent(&self) -> u64 {
        self.row().sent.load(Relaxed)
    }

    /// Returns all credits: no packet waits any more.
    pub(crate) fn reset(&self) {
        let row = self.row();
        row.done.store(row.sent.load(Relaxed), Relaxed);
    }

    fn row(&self) -> &Row {
        self.row.row(0).expect("the array has one row")
    }
}

//! Targets of aggregates on other hosts: one row for each, however many aggregates name it.

use crate::layout::RemoteTargetRow;
use crate::mapped_array::MappedArray;
use crate::resting_rows::RestingRows;
use margay_core::aggregate::RemoteTarget;
use std::collections::BTreeMap;
use std::time::Instant;

/// The array of targets.
#[derive(Debug)]
pub(crate) struct RemoteTargets {
    rows: MappedArray<RemoteTargetRow>,
    /// The row of each, and how many aggregates name it.
    used: BTreeMap<RemoteTarget, (u32, usize)>,
    spare: RestingRows,
}

impl RemoteTargets {
    /// Forgets what an earlier run wrote.
    pub(crate) fn new(rows: MappedArray<RemoteTargetRow>) -> Self {
        RemoteTargets {
            spare: RestingRows::new(rows.len()),
            rows,
            used: BTreeMap::new(),
        }
    }

    /// The row of a target, for one more aggregate; `None`: none is free.
    pub(crate) fn hold(&mut self, target: RemoteTarget, now: Instant) -> Option<u32> {
        if let Some((row, users)) = self.used.get_mut(&target) {
            *users += 1;
            return Some(*row);
        }
        let row = self.spare.take(now)?;
        self.rows.row(row)?.write(target);
        self.used.insert(target, (row, 1));
        Some(row)
    }

    /// One aggregate less names a target.
    pub(crate) fn release(&mut self, target: RemoteTarget, now: Instant) {
        let Some((row, users)) = self.used.get_mut(&target) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            self.spare.give_back(*row, now);
            self.used.remove(&target);
        }
    }
}

//! Counters of what was dropped or refused, by reason.

use crate::drop_reason::DropReason;
use std::collections::BTreeMap;

/// How often each reason applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DropCounters(BTreeMap<DropReason, u64>);

impl DropCounters {
    /// Counts one packet.
    pub(super) fn count(&mut self, reason: DropReason) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// What was counted, and how often.
    pub(super) fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }
}

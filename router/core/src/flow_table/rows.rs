//! The open flows, each in the row that its pair of slots numbers.

use super::Flow;
use super::pairs::Pair;

/// Flows by pair: as many rows as pairs were ever used at once.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Option<Flow>>,
    len: usize,
}

impl Rows {
    /// Puts a flow into the row of a pair that nobody holds.
    pub(super) fn insert(&mut self, pair: Pair, flow: Flow) {
        if self.rows.len() <= pair.row() {
            self.rows.resize_with(pair.row() + 1, || None);
        }
        let before = self.rows[pair.row()].replace(flow);
        debug_assert!(before.is_none(), "a pair has one holder");
        self.len += 1;
    }

    /// Empties a row.
    pub(super) fn remove(&mut self, pair: Pair) -> Option<Flow> {
        let flow = self.rows.get_mut(pair.row())?.take()?;
        self.len -= 1;
        Some(flow)
    }

    pub(super) fn get(&self, pair: Pair) -> Option<&Flow> {
        self.rows.get(pair.row())?.as_ref()
    }

    pub(super) fn get_mut(&mut self, pair: Pair) -> Option<&mut Flow> {
        self.rows.get_mut(pair.row())?.as_mut()
    }

    /// All flows, ordered by pair.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.iter_from(0)
    }

    /// The flows from this row on, ordered by pair.
    pub(super) fn iter_from(&self, row: usize) -> impl Iterator<Item = &Flow> {
        self.rows.get(row..).unwrap_or_default().iter().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

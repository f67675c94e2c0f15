//! Adoption: what an earlier run left in the kernel's flow table.

use crate::flow_maps::{FlowMaps, is_absent};
use crate::layout::RawKey;
use crate::slots::{self, Direction, SlotDescription};
use margay_core::id::SlotIndex;
use margay_core::moment::Moment;
use margay_core::port::{AdoptedFlow, FlowEntries};
use std::sync::atomic::Ordering::Relaxed;
use thiserror::Error;

/// Why the flow table could not be adopted.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// The table could not be read.
    #[error("cannot read the kernel's flow table")]
    Scan(#[source] Box<aya::maps::MapError>),
    /// A leftover could not be deleted.
    #[error("cannot delete a leftover of the kernel's flow table")]
    Delete(#[source] Box<aya::maps::MapError>),
}

/// One key of the table and the slot that it names.
#[derive(Clone, Copy, Debug)]
struct Found {
    slot: u32,
    key: RawKey,
}

impl FlowMaps {
    /// Lists the flows that stand whole, ordered by forward slot; deletes every entry that is not
    /// part of one (opening and closing stop half-way when the process dies: marks are taken off too).
    pub(crate) fn adopt(&mut self) -> Result<Vec<AdoptedFlow>, AdoptError> {
        let found = self.scan()?;
        let mut whole = vec![false; found.len()];
        let mut adopted = Vec::with_capacity(found.len() / 2);
        for forward in 0..found.len() {
            let Some((reverse, flow)) = self.assemble(&found, forward) else {
                continue;
            };
            (whole[forward], whole[reverse]) = (true, true);
            for direction in [forward, reverse] {
                if let Some(row) = self.slots.row(found[direction].slot) {
                    slots::unmark_closing(row);
                }
            }
            adopted.push(flow);
        }
        for (leftover, _) in found.iter().zip(whole).filter(|(_, whole)| !whole) {
            tracing::info!(slot = leftover.slot, "deleting half of a flow");
            self.delete(leftover.key)?;
        }
        Ok(adopted)
    }

    /// Every key whose row is its own, ordered by slot; deletes the others.
    fn scan(&mut self) -> Result<Vec<Found>, AdoptError> {
        let entries = self.flows.iter().map(|entry| {
            let (key, slot) = entry?;
            Ok(Found { slot, key })
        });
        let mut entries: Vec<Found> = entries
            .collect::<Result<_, _>>()
            .map_err(|error| AdoptError::Scan(Box::new(error)))?;
        entries.sort_by_key(|entry| entry.slot);
        let mut found: Vec<Found> = Vec::with_capacity(entries.len());
        for entry in entries {
            let row = self.description(entry);
            let is_own = row.is_some_and(|row| row.belongs_to(entry.key));
            let is_taken = found.last().is_some_and(|last| last.slot == entry.slot);
            if is_own && !is_taken && entry.key.flow_key().is_ok() {
                found.push(entry);
            } else {
                let key = entry.key.flow_key();
                let slot = entry.slot;
                tracing::warn!(?key, slot, "deleting an entry whose slot is not its own");
                self.delete(entry.key)?;
            }
        }
        Ok(found)
    }

    fn delete(&mut self, key: RawKey) -> Result<(), AdoptError> {
        match self.flows.remove(&key) {
            Err(error) if !is_absent(&error) => Err(AdoptError::Delete(Box::new(error))),
            _ => Ok(()),
        }
    }

    /// The row that an entry names.
    fn description(&self, entry: Found) -> Option<SlotDescription> {
        self.slots.row(entry.slot).map(SlotDescription::of)
    }

    /// The flow whose forward direction is the entry at this place, and the place of its reverse
    /// direction, if that stands too.
    fn assemble(&self, found: &[Found], forward: usize) -> Option<(usize, AdoptedFlow)> {
        let there = found[forward];
        let forward = self.description(there)?;
        if forward.direction() != Direction::Forward {
            return None;
        }
        let peer = forward.peer();
        let place = found
            .binary_search_by_key(&peer.0, |entry| entry.slot)
            .ok()?;
        let back = found[place];
        let reverse = self.description(back)?;
        let slot = SlotIndex(there.slot);
        if reverse.direction() != Direction::Reverse || reverse.peer() != slot {
            return None;
        }
        let opened = self.slots.row(slot.0)?.opened_ns.load(Relaxed);
        let key = |entry: Found| entry.key.flow_key().ok();
        let entries = FlowEntries {
            client: forward.client(),
            server: forward.server(),
            forward: forward.entry(key(there)?, slot).ok()?,
            reverse: reverse.entry(key(back)?, peer).ok()?,
        };
        let opened = Moment::from_nanos(opened);
        Some((place, AdoptedFlow { entries, opened }))
    }
}

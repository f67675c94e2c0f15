//! Adoption: what an earlier run left in the kernel's flow table.

use crate::flow_maps::{FlowError, FlowMaps};
use crate::layout::RawKey;
use crate::slots::{self, Direction, SlotDescription};
use margay_core::flow_key::FlowKey;
use margay_core::id::SlotIndex;
use margay_core::moment::Moment;
use margay_core::port::{AdoptedFlow, FlowEntries};
use std::collections::BTreeMap;
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
    Delete(#[from] FlowError),
    /// A leftover of unknown make could not be deleted.
    #[error("cannot delete a foreign entry of the kernel's flow table")]
    DeleteForeign(#[source] Box<aya::maps::MapError>),
}

/// One key of the table with the row it names.
#[derive(Clone, Copy, Debug)]
struct Found {
    key: FlowKey,
    description: SlotDescription,
}

impl FlowMaps {
    /// Lists the flows that stand whole, ordered by forward slot; deletes every entry that is not
    /// part of one (opening and closing stop half-way when the process dies: marks are taken off too).
    pub(crate) fn adopt(&mut self) -> Result<Vec<AdoptedFlow>, AdoptError> {
        let mut found = self.scan()?;
        let forward: Vec<u32> = found
            .iter()
            .filter(|(_, entry)| entry.description.direction() == Direction::Forward)
            .map(|(slot, _)| *slot)
            .collect();
        let mut adopted = Vec::with_capacity(forward.len());
        for slot in forward {
            let Some((peer, flow)) = self.assemble(&found, SlotIndex(slot)) else {
                continue;
            };
            for direction in [slot, peer.0] {
                found.remove(&direction);
                if let Some(row) = self.slots.row(direction) {
                    slots::unmark_closing(row);
                }
            }
            adopted.push(flow);
        }
        for leftover in found.values() {
            tracing::info!(key = %leftover.key, "deleting half of a flow");
            self.remove(leftover.key)?;
        }
        Ok(adopted)
    }

    /// Every key with its row, by slot; deletes keys whose row is not theirs.
    fn scan(&mut self) -> Result<BTreeMap<u32, Found>, AdoptError> {
        let entries: Vec<(RawKey, u32)> = self
            .flows
            .iter()
            .collect::<Result<_, _>>()
            .map_err(|error| AdoptError::Scan(Box::new(error)))?;
        let mut found = BTreeMap::new();
        for (raw, slot) in entries {
            let row = self.slots.row(slot).map(SlotDescription::of);
            match (raw.flow_key(), row) {
                (Ok(key), Some(description))
                    if description.belongs_to(raw) && !found.contains_key(&slot) =>
                {
                    found.insert(slot, Found { key, description });
                }
                (key, _) => {
                    tracing::warn!(?key, slot, "deleting an entry whose slot is not its own");
                    self.flows
                        .remove(&raw)
                        .map_err(|error| AdoptError::DeleteForeign(Box::new(error)))?;
                }
            }
        }
        Ok(found)
    }

    /// The flow whose forward direction has `slot`, if its reverse direction stands too.
    fn assemble(
        &self,
        found: &BTreeMap<u32, Found>,
        slot: SlotIndex,
    ) -> Option<(SlotIndex, AdoptedFlow)> {
        let forward = found.get(&slot.0)?;
        let peer = forward.description.peer();
        let reverse = found.get(&peer.0)?;
        if reverse.description.direction() != Direction::Reverse
            || reverse.description.peer() != slot
        {
            return None;
        }
        let opened = self.slots.row(slot.0)?.opened_ns.load(Relaxed);
        let entries = FlowEntries {
            client: forward.description.client(),
            server: forward.description.server(),
            forward: forward.description.entry(forward.key, slot).ok()?,
            reverse: reverse.description.entry(reverse.key, peer).ok()?,
        };
        Some((
            peer,
            AdoptedFlow {
                entries,
                opened: Moment::from_nanos(opened),
            },
        ))
    }
}

//! The kernel's flow table: keys in a hash, rows in the mapped slot array.

use crate::deletions::Deletions;
use crate::layout::{RawKey, Slot};
use crate::mapped_array::MappedArray;
use crate::slots::{self, Direction, SlotDescription};
use aya::maps::{HashMap, MapData, MapError};
use aya::sys::SyscallError;
use margay_core::flow_key::FlowKey;
use margay_core::id::SlotIndex;
use margay_core::moment::Moment;
use margay_core::port::{
    AdoptedFlow, DirectionEntry, FlowEntries, FlowKeys, FlowReading, FlowSlots, SlotReading,
    SpentFlow, TakenFlow,
};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use thiserror::Error;

/// `BPF_NOEXIST`: insert, never overwrite.
const INSERT_ONLY: u64 = 1;

/// Why the kernel's flow table did not do as told.
#[derive(Debug, Error)]
pub enum FlowError {
    /// The slot array has no such row.
    #[error("slot {slot} is beyond the {slots} of the kernel's table: raise `flows_max`")]
    NoSuchSlot {
        /// The row that was asked for.
        slot: SlotIndex,
        /// How many rows there are.
        slots: usize,
    },
    /// Another flow holds the key.
    #[error("the key {key} belongs to another flow: choose another source port")]
    KeyTaken {
        /// The key of the direction that collided.
        key: FlowKey,
    },
    /// The hash is full.
    #[error("the kernel's flow table is full: close flows or raise `flows_max`")]
    TableFull,
    /// The kernel refused for a reason of its own.
    #[error("the kernel refused to change the entry of {key}")]
    Kernel {
        /// The key of the direction that failed.
        key: FlowKey,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Both maps of the flow table.
#[derive(Debug)]
pub(crate) struct FlowMaps {
    pub(crate) flows: HashMap<MapData, RawKey, u32>,
    /// Of the same map.
    pub(crate) deletions: Deletions,
    pub(crate) slots: MappedArray<Slot>,
}

impl FlowMaps {
    /// Makes both directions pass: reverse first, so that no answer can come before its entry.
    ///
    /// Entries that already stand with the same values are left as they are, counters included. On
    /// failure neither direction passes that did not pass before.
    pub(crate) fn open(&mut self, entries: &FlowEntries, now: Moment) -> Result<(), FlowError> {
        if self.is_open(entries)? {
            return Ok(());
        }
        if self.slot_of(entries.forward.key)? == Some(entries.forward.slot) {
            // It was let in: both rows are written, and packets count in them.
            return self.insert(&entries.reverse).map(drop);
        }
        self.write_rows(entries, now)?;
        let reverse_is_new = self.insert(&entries.reverse)?;
        if let Err(error) = self.insert(&entries.forward) {
            if reverse_is_new {
                self.remove(entries.reverse.key)?;
            }
            return Err(error);
        }
        Ok(())
    }

    /// Makes packets from client to server pass, and has answers handed up.
    pub(crate) fn let_in(&mut self, entries: &FlowEntries, now: Moment) -> Result<(), FlowError> {
        self.write_rows(entries, now)?;
        self.insert(&entries.forward).map(drop)
    }

    fn write_rows(&self, entries: &FlowEntries, now: Moment) -> Result<(), FlowError> {
        for (entry, direction) in [
            (&entries.reverse, Direction::Reverse),
            (&entries.forward, Direction::Forward),
        ] {
            SlotDescription::new(entries, direction).write(self.slot(entry.slot)?, now);
        }
        Ok(())
    }

    /// Deletes both directions, forward first: a half-closed flow is one that adoption deletes.
    pub(crate) fn close(&self, flows: &[FlowKeys]) -> Result<(), FlowError> {
        let both = |flow: &FlowKeys| [flow.forward, flow.reverse];
        let keys: Vec<RawKey> = flows.iter().flat_map(both).map(RawKey::from).collect();
        self.deletions
            .delete(&keys)
            .map_err(|(index, source)| FlowError::Kernel {
                key: both(&flows[index / 2])[index % 2],
                source,
            })
    }

    /// Deletes both directions of those flows that nothing passed through since they were read;
    /// answers the others, which begin anew in the same entries.
    ///
    /// Both rows are marked first, and a packet that finds the mark goes up instead. It counts itself
    /// before it looks for the mark, and here the mark comes before the look at the counts: whichever
    /// was first, one of the two sees the other, and no packet passes unseen.
    pub(crate) fn close_unused(
        &self,
        flows: &[SpentFlow],
        now: Moment,
    ) -> (Vec<TakenFlow>, Result<(), FlowError>) {
        let mut unused = Vec::with_capacity(flows.len());
        let mut reused = Vec::new();
        for flow in flows {
            if self.mark_unless_used(flow) {
                unused.push(flow.keys);
            } else {
                reused.extend(self.begin_anew(flow, now));
            }
        }
        (reused, self.close(&unused))
    }

    /// Marks both rows as being closed; tells whether they count what was read of them.
    pub(crate) fn mark_unless_used(&self, flow: &SpentFlow) -> bool {
        let directions = self.directions(flow);
        for (row, _) in directions.iter().flatten() {
            slots::mark_closing(row);
        }
        let mut counted = directions.iter().flatten();
        counted.all(|(row, read)| slots::counts_only(row, read))
    }

    /// Leaves the rows to the flow that began in them.
    pub(crate) fn begin_anew(&self, flow: &SpentFlow, now: Moment) -> Option<TakenFlow> {
        for (row, read) in self.directions(flow).iter().flatten() {
            slots::begin_anew(row, read, now);
        }
        self.read_taken_one(flow.forward)
    }

    /// The rows of both directions with what was read of them; `None` beyond the table.
    fn directions<'a>(&'a self, flow: &'a SpentFlow) -> [Option<(&'a Slot, &'a SlotReading)>; 2] {
        let (forward, reverse) = &flow.read;
        let row = |slot: SlotIndex, read| Some((self.slots.row(slot.0)?, read));
        [row(flow.forward, forward), row(flow.reverse, reverse)]
    }

    /// Reads counters; a slot beyond the table has counted nothing.
    pub(crate) fn read(&self, flows: &[FlowSlots]) -> Vec<FlowReading> {
        let reading = |slot: SlotIndex| -> SlotReading {
            self.slots.row(slot.0).map(slots::read).unwrap_or_default()
        };
        flows
            .iter()
            .map(|flow| FlowReading {
                forward_key: flow.forward_key,
                forward: reading(flow.forward),
                reverse: reading(flow.reverse),
            })
            .collect()
    }

    /// Reads flows that the kernel opened, by their forward slots; `None` where the rows hold none.
    pub(crate) fn read_taken(&self, pairs: &[SlotIndex]) -> Vec<(SlotIndex, Option<TakenFlow>)> {
        let flow = |pair: &SlotIndex| (*pair, self.read_taken_one(*pair));
        pairs.iter().map(flow).collect()
    }

    /// Each direction's key is what the other delivers, turned round.
    fn read_taken_one(&self, pair: SlotIndex) -> Option<TakenFlow> {
        let row = self.slots.row(pair.0)?;
        let forward = SlotDescription::of(row);
        let other = self.slots.row(forward.peer().0)?;
        let reverse = SlotDescription::of(other);
        let key = reverse.delivered_key().ok()?.reversed();
        let answers = forward.delivered_key().ok()?.reversed();
        let whole = forward.belongs_to(key.into()) && reverse.belongs_to(answers.into());
        whole.then_some(())?;
        let entries = FlowEntries {
            client: forward.client(),
            server: forward.server(),
            forward: forward.entry(key, pair).ok()?,
            reverse: reverse.entry(answers, forward.peer()).ok()?,
        };
        let opened = Moment::from_nanos(row.opened_ns.load(Relaxed));
        Some(TakenFlow {
            flow: AdoptedFlow { entries, opened },
            forward: slots::read(row),
            reverse: slots::read(other),
        })
    }

    /// Deletes one key; one that is not there is success.
    pub(crate) fn remove(&mut self, key: FlowKey) -> Result<(), FlowError> {
        match self.flows.remove(&key.into()) {
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(refused(key, error)),
            Ok(()) => Ok(()),
        }
    }

    /// Whether both rows and both keys already say what `entries` says.
    fn is_open(&self, entries: &FlowEntries) -> Result<bool, FlowError> {
        for (entry, direction) in [
            (&entries.reverse, Direction::Reverse),
            (&entries.forward, Direction::Forward),
        ] {
            let wanted = SlotDescription::new(entries, direction);
            // Rows first: comparing them costs no system call and nearly always tells.
            if SlotDescription::of(self.slot(entry.slot)?) != wanted
                || self.slot_of(entry.key)? != Some(entry.slot)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Inserts one direction; answers whether it was not there before.
    fn insert(&mut self, entry: &DirectionEntry) -> Result<bool, FlowError> {
        let key = RawKey::from(entry.key);
        let Err(error) = self.flows.insert(key, entry.slot.0, INSERT_ONLY) else {
            return Ok(true);
        };
        match os_error(&error) {
            Some(libc::EEXIST) if self.slot_of(entry.key)? == Some(entry.slot) => Ok(false),
            Some(libc::EEXIST) => Err(FlowError::KeyTaken { key: entry.key }),
            Some(libc::E2BIG) => Err(FlowError::TableFull),
            _ => Err(refused(entry.key, error)),
        }
    }

    fn slot_of(&self, key: FlowKey) -> Result<Option<SlotIndex>, FlowError> {
        match self.flows.get(&key.into(), 0) {
            Ok(slot) => Ok(Some(SlotIndex(slot))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(refused(key, error)),
        }
    }

    fn slot(&self, slot: SlotIndex) -> Result<&Slot, FlowError> {
        self.slots.row(slot.0).ok_or(FlowError::NoSuchSlot {
            slot,
            slots: self.slots.len(),
        })
    }
}

fn refused(key: FlowKey, error: MapError) -> FlowError {
    let source = match error {
        MapError::SyscallError(SyscallError { io_error, .. }) => io_error,
        other => io::Error::other(other),
    };
    FlowError::Kernel { key, source }
}

/// The errno inside an error of aya's maps.
pub(crate) fn os_error(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(SyscallError { io_error, .. })
        | MapError::CreateError { io_error, .. }
        | MapError::IoError(io_error) => io_error.raw_os_error(),
        _ => None,
    }
}

/// Whether an error of aya's maps says that there is no such key.
pub(crate) fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::KeyNotFound) || os_error(error) == Some(libc::ENOENT)
}

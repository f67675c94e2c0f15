//! Aggregates as the kernel knows them: keys in a hash, decisions in mapped rows, epochs in cells.

use crate::flow_maps::is_absent;
use crate::layout::{AggregateRow, EpochCell as EpochRow, RawAggregateKey};
use crate::mapped_array::MappedArray;
use aya::maps::{HashMap, MapData, MapError};
use margay_core::aggregate::{Aggregate, AggregateKey, Epoch, EpochCell};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long a row rests before another aggregate gets it: a packet that found the row just before
/// may still be reading it. A packet takes microseconds; a second is generous even to a stalled
/// machine.
const ROW_REST: Duration = Duration::from_secs(1);

/// Why the kernel's table of aggregates did not do as told. Flows are decided one by one then.
#[derive(Debug, Error)]
pub enum AggregateError {
    /// Every row is in use or rests.
    #[error("no row for an aggregate is free: too many new ones within a second")]
    NoRowFree,
    /// The kernel refused.
    #[error("the kernel refused to change an aggregate")]
    Kernel(#[source] Box<MapError>),
}

/// The three maps.
#[derive(Debug)]
pub(crate) struct Aggregates {
    keys: HashMap<MapData, RawAggregateKey, u32>,
    rows: MappedArray<AggregateRow>,
    epochs: MappedArray<EpochRow>,
    /// Rows that the keys in use name.
    used: BTreeMap<RawAggregateKey, u32>,
    free: Vec<u32>,
    resting: VecDeque<(Instant, u32)>,
}

impl Aggregates {
    /// Forgets what an earlier run decided, and begins with the first epochs. Rows may be written
    /// when the programs that run now have ended.
    pub(crate) fn emptied(
        mut keys: HashMap<MapData, RawAggregateKey, u32>,
        rows: MappedArray<AggregateRow>,
        epochs: MappedArray<EpochRow>,
    ) -> Result<Self, MapError> {
        rows.each(|_, row| row.policy_epoch.store(0, Release));
        epochs.each(|_, epoch| epoch.number.store(Epoch::FIRST.0, Release));
        let old: Vec<RawAggregateKey> = keys.keys().collect::<Result<_, _>>()?;
        for key in &old {
            keys.remove(key)?;
        }
        Ok(Aggregates {
            keys,
            // The first ones are handed out first: what nobody uses need not be mapped.
            free: (0..rows.len() as u32).rev().collect(),
            rows,
            epochs,
            used: BTreeMap::new(),
            resting: VecDeque::new(),
        })
    }

    /// Puts a decision in force. One of the same key takes the place of the former, without a
    /// system call.
    pub(crate) fn open(
        &mut self,
        aggregate: &Aggregate,
        now: Instant,
    ) -> Result<(), AggregateError> {
        let key = RawAggregateKey::from(aggregate.key);
        if let Some(row) = self.used.get(&key) {
            self.write(*row, aggregate);
            return Ok(());
        }
        let row = self.take_row(now).ok_or(AggregateError::NoRowFree)?;
        self.write(row, aggregate);
        if let Err(error) = self.keys.insert(key, row, 0) {
            self.resting.push_back((now, row));
            return Err(AggregateError::Kernel(Box::new(error)));
        }
        self.used.insert(key, row);
        Ok(())
    }

    /// Ends decisions; one that is not there is success. Tries all, whatever fails.
    pub(crate) fn close(
        &mut self,
        keys: &[AggregateKey],
        now: Instant,
    ) -> Result<(), AggregateError> {
        let mut outcome = Ok(());
        for key in keys {
            let key = RawAggregateKey::from(*key);
            let Some(row) = self.used.remove(&key) else {
                continue;
            };
            if let Some(row) = self.rows.row(row) {
                row.policy_epoch.store(0, Release);
            }
            self.resting.push_back((now, row));
            match self.keys.remove(&key) {
                Err(error) if !is_absent(&error) => {
                    outcome = Err(AggregateError::Kernel(Box::new(error)));
                }
                _ => {}
            }
        }
        outcome
    }

    /// Ends every decision that was made in an earlier epoch of this cell, at once.
    pub(crate) fn set_epoch(&self, cell: EpochCell, epoch: Epoch) {
        if let Some(row) = self.epochs.row(cell_index(cell)) {
            row.number.store(epoch.0, Release);
        }
    }

    fn take_row(&mut self, now: Instant) -> Option<u32> {
        while let Some((since, row)) = self.resting.front()
            && now.duration_since(*since) >= ROW_REST
        {
            self.free.push(*row);
            self.resting.pop_front();
        }
        self.free.pop()
    }

    /// The row says nothing while it is written. A packet that reads it meanwhile gets the old
    /// target or the new one: the key, and so whom it may call, is the same.
    fn write(&self, row: u32, aggregate: &Aggregate) {
        let Some(row) = self.rows.row(row) else {
            return;
        };
        row.policy_epoch.store(0, Release);
        row.service_cell
            .store(cell_index(aggregate.service_cell), Release);
        row.service_epoch.store(aggregate.service_epoch.0, Relaxed);
        row.client.store(aggregate.client.0, Relaxed);
        row.turn.store(0, Relaxed);
        for (place, target) in row.ring.iter().zip(&aggregate.ring) {
            place.store(target.0, Relaxed);
        }
        let ring_len = aggregate.ring.len().min(row.ring.len()) as u32;
        row.ring_len.store(ring_len, Relaxed);
        row.policy_epoch.store(aggregate.policy_epoch.0, Release);
    }
}

/// `POLICY_EPOCH` is the first cell.
fn cell_index(cell: EpochCell) -> u32 {
    match cell {
        EpochCell::Policy => 0,
        EpochCell::Service(cell) => 1 + cell,
    }
}

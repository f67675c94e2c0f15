//! Aggregates as the kernel knows them: keys in a hash, decisions in mapped rows, epochs in cells.

use crate::flow_maps::is_absent;
use crate::layout::{AggregateRow, EpochCell as EpochRow, REMOTE_TARGET, RawAggregateKey};
use crate::mapped_array::MappedArray;
use crate::remote_targets::RemoteTargets;
use crate::resting_rows::RestingRows;
use aya::maps::{HashMap, MapData, MapError};
use margay_core::aggregate::{Aggregate, AggregateKey, Epoch, EpochCell, RemoteTarget, Target};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Instant;
use thiserror::Error;

/// Why the kernel's tables of aggregates and admissions did not do as told. Flows are decided one by
/// one then.
#[derive(Debug, Error)]
pub enum DecisionError {
    /// Every row is in use or rests.
    #[error("no row for a decision is free: too many new ones within a second")]
    NoRowFree,
    /// The kernel refused.
    #[error("the kernel refused to change a decision")]
    Kernel(#[source] Box<MapError>),
}

/// The maps of aggregates, and the epochs by which all decisions end.
#[derive(Debug)]
pub(crate) struct Aggregates {
    keys: HashMap<MapData, RawAggregateKey, u32>,
    rows: MappedArray<AggregateRow>,
    epochs: MappedArray<EpochRow>,
    targets: RemoteTargets,
    /// What the keys in use name.
    used: BTreeMap<RawAggregateKey, Used>,
    spare: RestingRows,
}

/// What is taken for an aggregate.
#[derive(Debug)]
struct Used {
    row: u32,
    /// The targets on other hosts that the row names.
    remote: Vec<RemoteTarget>,
}

impl Aggregates {
    /// Forgets what an earlier run decided, and begins with the first epochs. Rows may be written
    /// when the programs that run now have ended.
    pub(crate) fn emptied(
        mut keys: HashMap<MapData, RawAggregateKey, u32>,
        rows: MappedArray<AggregateRow>,
        targets: RemoteTargets,
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
            spare: RestingRows::new(rows.len()),
            rows,
            epochs,
            targets,
            used: BTreeMap::new(),
        })
    }

    /// Puts a decision in force. One of the same key takes the place of the former, without a
    /// system call.
    pub(crate) fn open(
        &mut self,
        aggregate: &Aggregate,
        now: Instant,
    ) -> Result<(), DecisionError> {
        let key = RawAggregateKey::from(aggregate.key);
        let (ring, remote) = self.hold_targets(aggregate, now)?;
        if let Some(used) = self.used.get_mut(&key) {
            let row = used.row;
            let before = std::mem::replace(&mut used.remote, remote);
            self.write(row, aggregate, &ring);
            self.release_targets(before, now);
            return Ok(());
        }
        let Some(row) = self.spare.take(now) else {
            self.release_targets(remote, now);
            return Err(DecisionError::NoRowFree);
        };
        self.write(row, aggregate, &ring);
        if let Err(error) = self.keys.insert(key, row, 0) {
            self.spare.give_back(row, now);
            self.release_targets(remote, now);
            return Err(DecisionError::Kernel(Box::new(error)));
        }
        self.used.insert(key, Used { row, remote });
        Ok(())
    }

    /// Ends decisions; one that is not there is success. Tries all, whatever fails.
    pub(crate) fn close(
        &mut self,
        keys: &[AggregateKey],
        now: Instant,
    ) -> Result<(), DecisionError> {
        let mut outcome = Ok(());
        for key in keys {
            let key = RawAggregateKey::from(*key);
            let Some(Used { row, remote }) = self.used.remove(&key) else {
                continue;
            };
            if let Some(row) = self.rows.row(row) {
                row.policy_epoch.store(0, Release);
            }
            self.spare.give_back(row, now);
            self.release_targets(remote, now);
            match self.keys.remove(&key) {
                Err(error) if !is_absent(&error) => {
                    outcome = Err(DecisionError::Kernel(Box::new(error)));
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

    /// The ring as the kernel reads it, and the rows of other hosts' targets that are held for it.
    fn hold_targets(
        &mut self,
        aggregate: &Aggregate,
        now: Instant,
    ) -> Result<(Vec<u32>, Vec<RemoteTarget>), DecisionError> {
        let mut held = Vec::new();
        let mut ring = Vec::with_capacity(aggregate.ring.len());
        for target in &aggregate.ring {
            let place = match target {
                Target::Here(endpoint) => endpoint.0,
                Target::There(remote) => {
                    let Some(row) = self.targets.hold(*remote, now) else {
                        self.release_targets(held, now);
                        return Err(DecisionError::NoRowFree);
                    };
                    held.push(*remote);
                    REMOTE_TARGET | row
                }
            };
            ring.push(place);
        }
        Ok((ring, held))
    }

    fn release_targets(&mut self, targets: Vec<RemoteTarget>, now: Instant) {
        for target in targets {
            self.targets.release(target, now);
        }
    }

    /// The row says nothing while it is written. A packet that reads it meanwhile gets the old
    /// target or the new one: the key, and so whom it may call, is the same.
    fn write(&self, row: u32, aggregate: &Aggregate, ring: &[u32]) {
        let Some(row) = self.rows.row(row) else {
            return;
        };
        row.policy_epoch.store(0, Release);
        row.service_cell
            .store(cell_index(aggregate.service_cell), Release);
        row.service_epoch.store(aggregate.service_epoch.0, Relaxed);
        row.client.store(aggregate.client.0, Relaxed);
        row.turn.store(0, Relaxed);
        for (place, target) in row.ring.iter().zip(ring) {
            place.store(*target, Relaxed);
        }
        let ring_len = ring.len().min(row.ring.len()) as u32;
        row.ring_len.store(ring_len, Relaxed);
        row.policy_epoch.store(aggregate.policy_epoch.0, Release);
    }
}

/// `POLICY_EPOCH` is the first cell.
pub(crate) fn cell_index(cell: EpochCell) -> u32 {
    match cell {
        EpochCell::Policy => 0,
        EpochCell::Service(cell) => 1 + cell,
    }
}

//! Admissions as the kernel knows them: keys in a hash, decisions in mapped rows.

use crate::aggregates::{DecisionError, cell_index};
use crate::flow_maps::is_absent;
use crate::layout::{AdmissionRow, RawAdmissionKey};
use crate::mapped_array::MappedArray;
use crate::resting_rows::RestingRows;
use aya::maps::{HashMap, MapData, MapError};
use margay_core::aggregate::{Admission, AdmissionKey};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Instant;

/// Both maps.
#[derive(Debug)]
pub(crate) struct Admissions {
    keys: HashMap<MapData, RawAdmissionKey, u32>,
    rows: MappedArray<AdmissionRow>,
    /// Rows that the keys in use name.
    used: BTreeMap<RawAdmissionKey, u32>,
    spare: RestingRows,
}

impl Admissions {
    /// Forgets what an earlier run admitted. Rows may be written when the programs that run now have
    /// ended.
    pub(crate) fn emptied(
        mut keys: HashMap<MapData, RawAdmissionKey, u32>,
        rows: MappedArray<AdmissionRow>,
    ) -> Result<Self, MapError> {
        rows.each(|_, row| row.policy_epoch.store(0, Release));
        let old: Vec<RawAdmissionKey> = keys.keys().collect::<Result<_, _>>()?;
        for key in &old {
            keys.remove(key)?;
        }
        Ok(Admissions {
            keys,
            spare: RestingRows::new(rows.len()),
            rows,
            used: BTreeMap::new(),
        })
    }

    /// Puts an admission in force. One of the same key takes the place of the former, without a
    /// system call.
    pub(crate) fn open(
        &mut self,
        admission: &Admission,
        now: Instant,
    ) -> Result<(), DecisionError> {
        let key = RawAdmissionKey::from(admission.key);
        if let Some(row) = self.used.get(&key) {
            self.write(*row, admission);
            return Ok(());
        }
        let row = self.spare.take(now).ok_or(DecisionError::NoRowFree)?;
        self.write(row, admission);
        if let Err(error) = self.keys.insert(key, row, 0) {
            self.spare.give_back(row, now);
            return Err(DecisionError::Kernel(Box::new(error)));
        }
        self.used.insert(key, row);
        Ok(())
    }

    /// Ends admissions; one that is not there is success. Tries all, whatever fails.
    pub(crate) fn close(
        &mut self,
        keys: &[AdmissionKey],
        now: Instant,
    ) -> Result<(), DecisionError> {
        let mut outcome = Ok(());
        for key in keys {
            let key = RawAdmissionKey::from(*key);
            let Some(row) = self.used.remove(&key) else {
                continue;
            };
            if let Some(row) = self.rows.row(row) {
                row.policy_epoch.store(0, Release);
            }
            self.spare.give_back(row, now);
            match self.keys.remove(&key) {
                Err(error) if !is_absent(&error) => {
                    outcome = Err(DecisionError::Kernel(Box::new(error)));
                }
                _ => {}
            }
        }
        outcome
    }

    /// The row says nothing while it is written. A packet that reads it meanwhile finds whom the same
    /// client may call at the same address, be it the former server or the present one.
    fn write(&self, row: u32, admission: &Admission) {
        let Some(row) = self.rows.row(row) else {
            return;
        };
        row.policy_epoch.store(0, Release);
        row.server_cell
            .store(cell_index(admission.server_cell), Release);
        row.server_epoch.store(admission.server_epoch.0, Relaxed);
        row.endpoint.store(admission.endpoint.0, Relaxed);
        row.client.store(admission.client.0, Relaxed);
        row.server.store(admission.server.0, Relaxed);
        row.from.store(admission.from.0, Relaxed);
        row.policy_epoch.store(admission.policy_epoch.0, Release);
    }
}

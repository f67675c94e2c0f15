//! The part of the kernel that decides by itself: aggregates and admissions, their epochs, and the
//! supply of slots.

use crate::aggregate::{
    Admission, AdmissionKey, Aggregate, AggregateKey, Epoch, EpochCell, Target,
};
use crate::id::{InstanceId, SlotIndex};
use crate::port::{Supplied, TakenPair};
use std::collections::{BTreeMap, VecDeque};

#[derive(Default)]
pub(super) struct Kernel {
    aggregates: BTreeMap<AggregateKey, (Aggregate, usize)>,
    admissions: BTreeMap<AdmissionKey, Admission>,
    epochs: BTreeMap<EpochCell, Epoch>,
    supply: VecDeque<SlotIndex>,
    taken: Vec<TakenPair>,
}

impl Kernel {
    pub(super) fn open(&mut self, aggregate: &Aggregate) {
        assert!(!aggregate.ring.is_empty());
        self.aggregates
            .insert(aggregate.key, (aggregate.clone(), 0));
    }

    pub(super) fn close(&mut self, keys: &[AggregateKey]) {
        for key in keys {
            assert!(self.aggregates.remove(key).is_some(), "it was open");
        }
    }

    pub(super) fn admit(&mut self, admission: Admission) {
        self.admissions.insert(admission.key, admission);
    }

    pub(super) fn end_admissions(&mut self, keys: &[AdmissionKey]) {
        for key in keys {
            assert!(self.admissions.remove(key).is_some(), "it was open");
        }
    }

    /// Is as if it had taken no admission.
    pub(super) fn forget_admissions(&mut self) {
        self.admissions.clear();
    }

    /// The admission for `key`, if it is in force.
    pub(super) fn admitted(&self, key: AdmissionKey) -> Option<Admission> {
        let admission = self.admissions.get(&key)?;
        let in_force = self.present(EpochCell::Policy) == admission.policy_epoch
            && self.present(admission.server_cell) == admission.server_epoch;
        in_force.then_some(*admission)
    }

    fn present(&self, cell: EpochCell) -> Epoch {
        self.epochs.get(&cell).copied().unwrap_or(Epoch::FIRST)
    }

    pub(super) fn set_epoch(&mut self, cell: EpochCell, epoch: Epoch) {
        let before = self.epochs.insert(cell, epoch);
        assert!(before.unwrap_or(Epoch::FIRST) < epoch, "epochs only grow");
    }

    pub(super) fn supply(&mut self, pairs: &[SlotIndex]) {
        self.supply.extend(pairs);
    }

    /// How many slots lie ready.
    pub(super) fn supplied(&self) -> usize {
        self.supply.len()
    }

    /// Whose turn it is by the decision for `key`, if it is in force.
    pub(super) fn target(&mut self, client: InstanceId, key: AggregateKey) -> Option<Target> {
        let (aggregate, _) = self.aggregates.get(&key)?;
        let policy = self.present(EpochCell::Policy);
        let service = self.present(aggregate.service_cell);
        let (aggregate, turn) = self.aggregates.get_mut(&key)?;
        let in_force = aggregate.client == client
            && aggregate.policy_epoch == policy
            && aggregate.service_epoch == service;
        let target = aggregate.ring[*turn % aggregate.ring.len()];
        let own = target == Target::Here(key.client);
        (in_force && !own).then(|| {
            *turn += 1;
            target
        })
    }

    /// Takes a pair for a flow of these two, or for none.
    pub(super) fn take(&mut self, opened: Option<(InstanceId, InstanceId)>) -> Option<SlotIndex> {
        let pair = self.supply.pop_front()?;
        let supplied = match opened {
            Some((client, server)) => Supplied::Opened { client, server },
            None => Supplied::Void,
        };
        self.taken.push(TakenPair { pair, supplied });
        Some(pair)
    }

    /// Gives back what was not taken.
    pub(super) fn reclaim(&mut self) {
        let unused = |pair| TakenPair {
            pair,
            supplied: Supplied::Unused,
        };
        self.taken.extend(self.supply.drain(..).map(unused));
    }

    pub(super) fn look(&mut self) -> Vec<TakenPair> {
        std::mem::take(&mut self.taken)
    }
}

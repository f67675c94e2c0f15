//! Instances by something that they have in common; no group is empty.

use crate::id::InstanceId;
use std::collections::{BTreeMap, BTreeSet};

/// Instances in groups.
#[derive(Debug)]
pub(crate) struct Grouped<K>(BTreeMap<K, BTreeSet<InstanceId>>);

impl<K> Default for Grouped<K> {
    fn default() -> Self {
        Grouped(BTreeMap::new())
    }
}

impl<K: Ord> Grouped<K> {
    /// Takes an instance into a group.
    pub(crate) fn insert(&mut self, group: K, instance: InstanceId) {
        self.0.entry(group).or_default().insert(instance);
    }

    /// Takes an instance out of a group, and the group away with its last.
    pub(crate) fn remove(&mut self, group: &K, instance: InstanceId) {
        if let Some(instances) = self.0.get_mut(group) {
            instances.remove(&instance);
            if instances.is_empty() {
                self.0.remove(group);
            }
        }
    }

    /// The instances of a group.
    pub(crate) fn of(&self, group: &K) -> impl Iterator<Item = InstanceId> + use<'_, K> {
        self.0.get(group).into_iter().flatten().copied()
    }

    /// Whether a group has any.
    pub(crate) fn contains(&self, group: &K) -> bool {
        self.0.contains_key(group)
    }
}

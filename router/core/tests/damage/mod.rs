//! Damage: inputs of which a few bytes are changed, and which may end early.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// How inputs are damaged.
#[derive(Clone, Copy)]
pub struct Damage {
    /// Up to so many bytes are changed.
    pub changes: usize,
    /// So many bytes at the beginning stay as they are: they say what the input is.
    pub spared: usize,
}

/// A few bytes, wherever they are.
pub const FEW: Damage = Damage {
    changes: 5,
    spared: 0,
};

/// One of the inputs, damaged; one in four is cut somewhere.
pub fn damaged(inputs: Vec<Vec<u8>>, damage: Damage) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 0..=damage.changes);
    let cut = prop_oneof![3 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (select(inputs), changes, cut).prop_map(move |(mut bytes, changes, cut)| {
        let length = bytes.len().saturating_sub(damage.spared);
        for (at, byte) in changes.into_iter().filter(|_| length > 0) {
            bytes[damage.spared + at.index(length)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes
    })
}

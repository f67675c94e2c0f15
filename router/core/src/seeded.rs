//! Hash tables whose order follows from a seed: quick, reproducible, and never iterated.

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use std::collections::HashMap;

/// A hash table that is looked into for every first packet.
///
/// A program that does not know the seed has no cheap way to choose ports that collide; the flows
/// that one instance may open bound what it could gain.
pub(crate) type SeededMap<K, V> = HashMap<K, V, SeedableRandomState>;

/// An empty table.
pub(crate) fn seeded_map<K, V>(seed: u64) -> SeededMap<K, V> {
    HashMap::with_hasher(SeedableRandomState::with_seed(
        seed,
        SharedSeed::global_fixed(),
    ))
}

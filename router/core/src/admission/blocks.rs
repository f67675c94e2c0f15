//! Blocks of addresses of which no two overlap, and who holds each.

use crate::address::Ipv4Block;
use crate::host::HostId;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Who holds which block.
#[derive(Clone, Debug, Default)]
pub(in crate::admission) struct BlockMap {
    /// By the first address.
    held: BTreeMap<Ipv4Addr, (Ipv4Block, HostId)>,
}

impl BlockMap {
    /// Gives `block` to `holder`; nobody holds any of it.
    pub(in crate::admission) fn insert(&mut self, block: Ipv4Block, holder: HostId) {
        debug_assert!(!self.is_taken(block), "{block} is held already");
        self.held.insert(block.base(), (block, holder));
    }

    /// Takes a block back, as it was given.
    pub(in crate::admission) fn remove(&mut self, block: Ipv4Block) {
        self.held.remove(&block.base());
    }

    /// Whether anybody holds any of `block`.
    pub(in crate::admission) fn is_taken(&self, block: Ipv4Block) -> bool {
        self.overlapping(block).next().is_some()
    }

    /// A block that shares addresses with `block` and that another than `host` holds, and who.
    pub(in crate::admission) fn taken(
        &self,
        block: Ipv4Block,
        host: &HostId,
    ) -> Option<(Ipv4Block, HostId)> {
        self.overlapping(block).find(|(_, holder)| holder != host)
    }

    /// What is held of `block`, the last first.
    fn overlapping(&self, block: Ipv4Block) -> impl Iterator<Item = (Ipv4Block, HostId)> {
        // Held blocks lie side by side, so that those that overlap it are the last to begin before
        // it ends.
        let begun = self
            .held
            .range(..=block.last())
            .rev()
            .map(|(_, held)| *held);
        begun.take_while(move |(held, _)| held.overlaps(block))
    }

    /// Who holds `addr`.
    pub(in crate::admission) fn holder(&self, addr: Ipv4Addr) -> Option<HostId> {
        let (_, (block, holder)) = self.held.range(..=addr).next_back()?;
        Some(*holder).filter(|_| block.contains(addr))
    }

    /// Whether nobody holds any.
    pub(in crate::admission) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Blocks in 10.0.0.0/24, so that many overlap.
    fn any_block() -> impl Strategy<Value = Ipv4Block> {
        (any::<u8>(), 24u8..=29).prop_map(|(last, prefix)| {
            let addr = u32::from_be_bytes([10, 0, 0, last]) & (u32::MAX << (32 - prefix));
            Ipv4Block::new(addr.into(), prefix).unwrap()
        })
    }

    proptest! {
        #[test]
        fn overlaps_and_holders_are_those_that_a_plain_search_finds(
            blocks in proptest::collection::vec(any_block(), 0..30), asked in any_block(), last: u8,
        ) {
            let mut map = BlockMap::default();
            let mut plain: Vec<(Ipv4Block, HostId)> = Vec::new();
            for (number, block) in (0u8..).zip(blocks) {
                let taken = plain.iter().any(|(held, _)| held.overlaps(block));
                prop_assert_eq!(map.is_taken(block), taken);
                if !taken {
                    // A few holders, so that some hold several.
                    let holder = HostId::from_bytes([number % 3; 32]);
                    map.insert(block, holder);
                    plain.push((block, holder));
                }
                if number % 5 == 4 {
                    let (gone, _) = plain.remove(0);
                    map.remove(gone);
                }
            }
            let asker = HostId::from_bytes([0; 32]);
            let others = |(held, holder): &&(Ipv4Block, HostId)| {
                held.overlaps(asked) && *holder != asker
            };
            match map.taken(asked, &asker) {
                Some(found) => prop_assert!(plain.iter().filter(others).any(|it| *it == found)),
                None => prop_assert_eq!(plain.iter().filter(others).count(), 0),
            }
            let addr = Ipv4Addr::new(10, 0, 0, last);
            let expected = plain.iter().find(|(held, _)| held.contains(addr));
            prop_assert_eq!(map.holder(addr), expected.map(|(_, holder)| *holder));
            prop_assert_eq!(map.is_empty(), plain.is_empty());
        }
    }
}

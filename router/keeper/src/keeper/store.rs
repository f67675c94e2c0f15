//! The descriptors that the keeper holds for others, by name.

use crate::message::{DESCRIPTORS_PER_NAME_MAX, NAME_BYTES_MAX, PAGE_ENTRIES};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use thiserror::Error;

/// The share of the descriptors that the keeper may open which it holds for others: 16,384 of
/// 65,536, a dozen for each of 1024 instances.
const HELD_SHARE: usize = 4;

/// Why descriptors are not held.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum HoldError {
    #[error("`{0}` is no name: give 1 to {NAME_BYTES_MAX} printable ASCII characters")]
    Name(String),
    #[error("`{0}` came without descriptors; send 1 to {DESCRIPTORS_PER_NAME_MAX}")]
    Nothing(String),
    #[error(
        "no room for `{name}`: {bound} descriptors are the most; release some, or raise `ulimit -n`"
    )]
    Full { name: String, bound: usize },
}

/// Names and what is held under them.
#[derive(Debug)]
pub(super) struct Store {
    held: BTreeMap<String, Vec<OwnedFd>>,
    count: usize,
    bound: usize,
}

impl Store {
    /// An empty store of a keeper that may open `descriptor_limit` descriptors.
    pub(super) fn new(descriptor_limit: usize) -> Self {
        Store {
            held: BTreeMap::new(),
            count: 0,
            bound: descriptor_limit / HELD_SHARE,
        }
    }

    /// Holds `descriptors` as `name`, in place of what was held under it.
    pub(super) fn hold(
        &mut self,
        name: String,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), HoldError> {
        let printable = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !printable {
            return Err(HoldError::Name(
                name.escape_default().take(NAME_BYTES_MAX).collect(),
            ));
        }
        if descriptors.is_empty() {
            return Err(HoldError::Nothing(name));
        }
        let before = self.held.get(&name).map_or(0, Vec::len);
        let count = self.count - before + descriptors.len();
        if count > self.bound {
            return Err(HoldError::Full {
                name,
                bound: self.bound,
            });
        }
        self.count = count;
        self.held.insert(name, descriptors);
        Ok(())
    }

    /// Borrows what is held as `name`.
    pub(super) fn fetch(&self, name: &str) -> Option<Vec<BorrowedFd<'_>>> {
        Some(self.held.get(name)?.iter().map(AsFd::as_fd).collect())
    }

    /// Lets go of what is held as `name`.
    pub(super) fn release(&mut self, name: &str) {
        if let Some(descriptors) = self.held.remove(name) {
            self.count -= descriptors.len();
        }
    }

    /// Lists one page of names in order, from the one that follows `after`.
    pub(super) fn names(&self, after: Option<&str>) -> Vec<String> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.held.range::<str, _>((start, Bound::Unbounded));
        names
            .take(PAGE_ENTRIES)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Lists everything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Vec<OwnedFd>)> {
        self.held.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(count: usize) -> Vec<OwnedFd> {
        (0..count)
            .map(|_| std::fs::File::open("/dev/null").unwrap().into())
            .collect()
    }

    #[test]
    fn a_name_is_held_until_it_is_released() {
        let mut store = Store::new(4096);

        store.hold("tap".into(), some(2)).unwrap();
        assert_eq!(store.fetch("tap").unwrap().len(), 2);

        store.release("tap");
        assert!(store.fetch("tap").is_none());
        assert_eq!(store.count, 0);
    }

    #[test]
    fn holding_again_replaces() {
        let mut store = Store::new(4096);

        store.hold("tap".into(), some(3)).unwrap();
        store.hold("tap".into(), some(1)).unwrap();

        assert_eq!(store.fetch("tap").unwrap().len(), 1);
        assert_eq!(store.count, 1);
    }

    #[test]
    fn names_come_in_pages() {
        let mut store = Store::new(4096);
        for number in 0..PAGE_ENTRIES + 2 {
            store.hold(format!("dns/{number:05}"), some(1)).unwrap();
        }

        let first = store.names(None);
        let second = store.names(first.last().map(String::as_str));

        assert_eq!(first.len(), PAGE_ENTRIES);
        assert_eq!(second.len(), 2);
        assert!(store.names(second.last().map(String::as_str)).is_empty());
    }

    #[test]
    fn a_full_store_refuses_more_and_takes_it_once_there_is_room() {
        let mut store = Store::new(8);
        store.hold("tap".into(), some(2)).unwrap();

        let full = HoldError::Full {
            name: "dns".into(),
            bound: 2,
        };
        assert_eq!(store.hold("dns".into(), some(1)), Err(full));
        store.hold("tap".into(), some(1)).unwrap();
        assert_eq!(store.hold("dns".into(), some(1)), Ok(()));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let mut store = Store::new(4096);

        for name in [
            String::new(),
            "a b".into(),
            "\n".into(),
            "x".repeat(NAME_BYTES_MAX + 1),
        ] {
            assert!(matches!(store.hold(name, some(1)), Err(HoldError::Name(_))));
        }
        assert_eq!(
            store.hold("tap".into(), some(0)),
            Err(HoldError::Nothing("tap".into()))
        );
    }
}

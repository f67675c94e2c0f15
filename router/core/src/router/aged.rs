//! Maps of bounded size, which forget the oldest row.

use std::collections::BTreeMap;
use std::ops::RangeFrom;

/// Rows by key; one more than there may be takes the place of the oldest.
#[derive(Debug)]
pub(super) struct AgedMap<K, V> {
    /// With the number that tells each row's age.
    rows: BTreeMap<K, (u64, V)>,
    ages: BTreeMap<u64, K>,
    next_age: u64,
    len_max: usize,
}

impl<K: Ord + Copy, V> AgedMap<K, V> {
    pub(super) fn new(len_max: usize) -> Self {
        AgedMap {
            rows: BTreeMap::new(),
            ages: BTreeMap::new(),
            next_age: 0,
            len_max,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(|(_, value)| value)
    }

    /// Puts a row in, as the youngest; the key of the one that had to make room for it.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<K> {
        self.next_age += 1;
        if let Some((before, _)) = self.rows.insert(key, (self.next_age, value)) {
            self.ages.remove(&before);
        }
        self.ages.insert(self.next_age, key);
        if self.rows.len() <= self.len_max {
            return None;
        }
        let (_, oldest) = self.ages.pop_first()?;
        self.rows.remove(&oldest);
        Some(oldest)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (age, value) = self.rows.remove(key)?;
        self.ages.remove(&age);
        Some(value)
    }

    /// Takes out the rows from the first of `range` on, up to the first that is not `within`.
    pub(super) fn take_from(
        &mut self,
        range: RangeFrom<K>,
        within: impl Fn(&K) -> bool,
    ) -> Vec<(K, V)> {
        let keys = self.rows.range(range).map(|(key, _)| *key);
        let keys: Vec<K> = keys.take_while(within).collect();
        self.take_all(keys)
    }

    /// Takes out the rows that `chosen` chooses; looks at all.
    pub(super) fn take_where(&mut self, chosen: impl Fn(&K, &V) -> bool) -> Vec<(K, V)> {
        let rows = self.rows.iter();
        let chosen = rows.filter(|(key, (_, value))| chosen(key, value));
        let keys: Vec<K> = chosen.map(|(key, _)| *key).collect();
        self.take_all(keys)
    }

    fn take_all(&mut self, keys: Vec<K>) -> Vec<(K, V)> {
        let taken = keys.into_iter();
        taken
            .filter_map(|key| Some((key, self.remove(&key)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_more_takes_the_place_of_the_oldest() {
        let mut map = AgedMap::new(2);
        assert_eq!((map.insert(1, 'a'), map.insert(2, 'b')), (None, None));
        assert_eq!(map.insert(1, 'c'), None, "renewed");
        assert_eq!(map.insert(3, 'd'), Some(2));
        assert_eq!(
            (map.get(&1), map.get(&2), map.get(&3)),
            (Some(&'c'), None, Some(&'d'))
        );
    }

    #[test]
    fn what_is_taken_out_has_no_age() {
        let mut map = AgedMap::new(2);
        map.insert(1, 'a');
        map.insert(2, 'b');
        assert_eq!(map.take_from(1.., |key| *key < 2), [(1, 'a')]);
        assert_eq!(map.insert(3, 'c'), None);
        assert_eq!(map.take_where(|_, value| *value == 'c'), [(3, 'c')]);
        assert_eq!(map.insert(4, 'd'), None);
    }
}

//! Questions under way elsewhere: bounded in all and for each instance.

use margay_core::id::InstanceId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Questions under way in all; each holds a query, a reply and a task, some kilobytes.
pub(crate) const UNDER_WAY_MAX: usize = 1024;

/// Questions under way of one instance: more than any program has names to wait for, and so few that
/// one that floods leaves most for the others.
pub(crate) const UNDER_WAY_PER_INSTANCE_MAX: usize = 64;

/// The questions that are under way, by who asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay(Arc<Mutex<Counted>>);

/// One question's place among those under way. It is given back when this value goes: with the reply,
/// wherever that ends.
#[derive(Debug)]
pub(crate) struct Place {
    under_way: UnderWay,
    caller: InstanceId,
}

/// How many there are; who has none has no row.
#[derive(Debug, Default)]
struct Counted {
    all: usize,
    by_caller: BTreeMap<InstanceId, usize>,
}

impl UnderWay {
    /// A place for one more question of `caller`, if there is room.
    pub(crate) fn enter(&self, caller: InstanceId) -> Option<Place> {
        let mut counted = self.lock();
        let own = counted.by_caller.get(&caller).copied().unwrap_or(0);
        if counted.all >= UNDER_WAY_MAX || own >= UNDER_WAY_PER_INSTANCE_MAX {
            return None;
        }
        counted.all += 1;
        counted.by_caller.insert(caller, own + 1);
        Some(Place {
            under_way: self.clone(),
            caller,
        })
    }

    fn leave(&self, caller: InstanceId) {
        let mut counted = self.lock();
        let own = counted.by_caller.remove(&caller);
        let left = own.expect("a place is counted until it goes") - 1;
        if left > 0 {
            counted.by_caller.insert(caller, left);
        }
        counted.all -= 1;
        debug_assert_eq!(counted.all, counted.by_caller.values().sum());
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.under_way.leave(self.caller);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(under_way: &UnderWay) -> usize {
        under_way.lock().by_caller.len()
    }

    #[test]
    fn one_instance_gets_its_share_and_all_together_the_whole() {
        let under_way = UnderWay::default();
        let ask = |caller| under_way.enter(InstanceId(caller));

        let first: Vec<_> = (0..100).filter_map(|_| ask(1)).collect();
        let others: Vec<_> = (2..200)
            .flat_map(|caller| [ask(caller), ask(caller)])
            .collect();
        let rest: Vec<_> = (200..2000).filter_map(ask).collect();

        assert_eq!(first.len(), UNDER_WAY_PER_INSTANCE_MAX);
        assert!(others.iter().all(Option::is_some));
        assert_eq!(first.len() + others.len() + rest.len(), UNDER_WAY_MAX);
        drop(first);
        assert!(ask(1).is_some(), "what ended makes room");
    }

    #[test]
    fn who_has_no_question_under_way_has_no_row() {
        let under_way = UnderWay::default();
        let callers = 0..UNDER_WAY_MAX as u64;
        let mut places: Vec<_> = callers
            .filter_map(|id| under_way.enter(InstanceId(id)))
            .collect();

        for refused in 5000..6000 {
            assert!(under_way.enter(InstanceId(refused)).is_none());
        }

        assert_eq!(rows(&under_way), UNDER_WAY_MAX);
        places.truncate(1);
        assert_eq!(rows(&under_way), 1);
        places.clear();
        assert_eq!(rows(&under_way), 0);
    }
}

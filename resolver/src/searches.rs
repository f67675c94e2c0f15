//! Searches for services beyond the site: who is told that one is wanted, and who is woken when names
//! were published that may end it.

use margay_core::name::AutomatonName;
use mio::Waker;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How long a question waits for a search in all: clients ask again, or another server, after 2 s and
/// more.
pub(crate) const HELD_FOR: Duration = Duration::from_millis(1_800);

/// How soon the same service is wanted again, however many ask: a client asks for A and AAAA at once.
const WANTED_AGAIN: Duration = Duration::from_millis(250);

/// Services remembered for that; beyond, those that were wanted longer ago are forgotten.
const WANTED_MAX: usize = 1_024;

/// Who is told which service is wanted.
type Seek = Box<dyn Fn(AutomatonName) + Send + Sync>;

/// What the resolvers and the publisher of names share; copies are of the same.
///
/// Until somebody is told of what is wanted, no question waits.
#[derive(Clone, Default)]
pub struct Searches(Arc<Shared>);

#[derive(Default)]
struct Shared {
    seek: OnceLock<Seek>,
    wanted: Mutex<BTreeMap<AutomatonName, Instant>>,
    /// Whether the resolver's thread holds questions, and how to wake it.
    holds: AtomicBool,
    waker: OnceLock<Arc<Waker>>,
    /// Tasks that hold questions of the host.
    published: Notify,
}

impl fmt::Debug for Searches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("searches")
    }
}

impl Searches {
    /// Tells `seek` from now on which services are wanted: each at most four times a second. Whoever
    /// was named first stays.
    pub fn begin(&self, seek: impl Fn(AutomatonName) + Send + Sync + 'static) {
        if self.0.seek.set(Box::new(seek)).is_err() {
            tracing::debug!("searches have begun before");
        }
    }

    /// Names were published. Costs next to nothing while no question waits.
    pub fn names_published(&self) {
        // Whoever begins to hold looks at the names again behind its own fence: either it sees these,
        // or it is seen here.
        fence(Ordering::SeqCst);
        if self.0.holds.load(Ordering::Relaxed)
            && let Some(Err(error)) = self.0.waker.get().map(|waker| waker.wake())
        {
            tracing::warn!(%error, "questions wait for the next event");
        }
        self.0.published.notify_waiters();
    }

    /// Has a service sought; tells whether that is possible.
    pub(crate) fn want(&self, service: &AutomatonName, now: Instant) -> bool {
        let Some(seek) = self.0.seek.get() else {
            return false;
        };
        if self.is_due(service, now) {
            seek(service.clone());
        }
        true
    }

    fn is_due(&self, service: &AutomatonName, now: Instant) -> bool {
        let wanted = self.0.wanted.lock();
        let mut wanted = wanted.unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < WANTED_AGAIN;
        if wanted.get(service).is_some_and(is_recent) {
            return false;
        }
        if wanted.len() >= WANTED_MAX {
            wanted.retain(|_, at| is_recent(at));
        }
        if wanted.len() < WANTED_MAX {
            wanted.insert(service.clone(), now);
        }
        true
    }

    /// Wakes the resolver's thread by `waker`.
    pub(crate) fn wake_by(&self, waker: Arc<Waker>) {
        if self.0.waker.set(waker).is_err() {
            tracing::error!("two resolvers share one set of searches; only the first is woken");
        }
    }

    /// The resolver's thread holds questions from now on, or none any more; it looks at the names again
    /// before it sleeps.
    pub(crate) fn hold(&self, holds: bool) {
        self.0.holds.store(holds, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Ends when names are published after this call.
    pub(crate) fn publication(&self) -> Notified<'_> {
        self.0.published.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_is_wanted_once_in_a_while_however_many_ask() {
        let searches = Searches::default();
        let now = Instant::now();
        let web: AutomatonName = "web".parse().unwrap();
        assert!(!searches.want(&web, now), "nobody is told");
        let told = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&told);
        searches.begin(move |service| seen.lock().unwrap().push(service));
        for ms in [0, 100, 249, 250, 300] {
            assert!(searches.want(&web, now + Duration::from_millis(ms)));
        }
        assert!(searches.want(&"store".parse().unwrap(), now));
        let told = told.lock().unwrap();
        let told: Vec<&str> = told.iter().map(|service| service.as_str()).collect();
        assert_eq!(told, ["web", "web", "store"]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let searches = Searches::default();
        searches.begin(|_| ());
        let now = Instant::now();
        for number in 0..2_000 {
            assert!(searches.want(&format!("s{number}").parse().unwrap(), now));
        }
        let remembered = searches.0.wanted.lock().unwrap().len();
        assert_eq!(remembered, WANTED_MAX);
    }
}

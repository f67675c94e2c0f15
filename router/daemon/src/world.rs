//! What the daemon's parts share: handles to the router thread, keeper, resolver and journal.

use crate::directories::Directories;
use crate::flow_watch::Watchers;
use crate::journal::{Entry, Journal};
use crate::networks::Networks;
use crate::router_thread::RouterHandle;
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use margay_core::id::{EndpointIndex, InstanceId, RequestId};
use margay_core::names::NamesSnapshot;
use margay_core::port::{Input, InstancePlan};
use margay_keeper::KeeperClient;
use margay_resolver::ResolverHandle;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Everything that instance workers, the control socket and the supervisor share.
pub struct World {
    /// Where things are on disk.
    pub directories: Directories,
    /// The control group below which each instance has its own.
    pub cgroup: PathBuf,
    /// The thread that decides.
    pub router: RouterHandle,
    /// The thread that answers DNS.
    pub resolver: ResolverHandle,
    /// Those who watch flows.
    pub watchers: Arc<Watchers>,
    /// What DNS answers from.
    pub names: Arc<ArcSwap<NamesSnapshot>>,
    /// The process that parents the instances.
    pub keeper: Keeper,
    /// What survives.
    pub journal: Arc<Mutex<Journal>>,
    /// What is known of each instance beside what core knows.
    pub instances: Instances,
    /// Operators who wait for an answer.
    pub operators: Operators,
    /// Dense indices of the kernel's endpoint table.
    pub endpoints: Endpoints,
    /// Makes and takes away instances' networks.
    pub networks: Networks,
    /// Whether an operator ends the host: then the keeper ends too, as it should.
    pub ending: AtomicBool,
    /// The network that this host belongs to, if it does.
    pub network: Option<Entry>,
    /// Where other hosts reach this one, if they shall.
    pub underlay: Vec<SocketAddr>,
    /// Told when the daemon shall start again, as who the host is from now on.
    pub start_again: Notify,
}

/// Locks a mutex whose data stays whole even if a holder panicked.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls the keeper from asynchronous code.
pub struct Keeper {
    client: Arc<KeeperClient>,
    /// One call is under way at a time, and here the others wait for it: waiting on the client's own
    /// lock would hold a thread for each.
    turn: tokio::sync::Mutex<()>,
}

impl Keeper {
    /// Wraps a connection.
    pub fn new(client: KeeperClient) -> Self {
        Keeper {
            client: Arc::new(client),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Makes one call on a thread that may block.
    pub async fn call<T, E>(
        &self,
        call: impl FnOnce(&KeeperClient) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let _turn = self.turn.lock().await;
        let client = self.client.clone();
        let called = tokio::task::spawn_blocking(move || call(&client));
        Ok(called.await.context("a call to the keeper was cut off")??)
    }
}

/// What is known of each instance beside what core knows.
#[derive(Default)]
pub struct Instances {
    facts: Mutex<BTreeMap<InstanceId, Facts>>,
    last_gone: Notify,
}

/// Facts of one instance.
#[derive(Clone)]
pub struct Facts {
    /// As it was planned.
    pub plan: Arc<InstancePlan>,
    /// The first process of its process namespace, while it runs.
    pub init_pid: Option<i32>,
    /// How often the keeper started it again.
    pub restarts: u32,
    /// Why its readiness probe failed last, if it did.
    pub probe_failure: Option<String>,
    /// Told when its processes have ended for good.
    pub stopped: Arc<Notify>,
}

impl Instances {
    /// Remembers an instance.
    pub fn insert(&self, plan: Arc<InstancePlan>, init_pid: Option<i32>, restarts: u32) {
        let stopped = Arc::new(Notify::new());
        let facts = Facts {
            plan: plan.clone(),
            init_pid,
            restarts,
            probe_failure: None,
            stopped,
        };
        lock(&self.facts).insert(plan.instance, facts);
    }

    /// Forgets an instance.
    pub fn remove(&self, instance: InstanceId) {
        let mut facts = lock(&self.facts);
        facts.remove(&instance);
        if facts.is_empty() {
            self.last_gone.notify_waiters();
        }
    }

    /// Waits until no instance is left.
    pub async fn all_gone(&self) {
        loop {
            let last_gone = self.last_gone.notified();
            if lock(&self.facts).is_empty() {
                return;
            }
            last_gone.await;
        }
    }

    /// What is known of `instance`.
    pub fn facts(&self, instance: InstanceId) -> Option<Facts> {
        lock(&self.facts).get(&instance).cloned()
    }

    /// Changes what is known of `instance`, if anything is.
    pub fn update(&self, instance: InstanceId, change: impl FnOnce(&mut Facts)) {
        if let Some(facts) = lock(&self.facts).get_mut(&instance) {
            change(facts);
        }
    }

    /// Finds an instance by what an operator calls it: `2.web`, `web` if there is only one, or its
    /// number.
    pub fn find(&self, name: &str) -> Result<Facts> {
        let instances = lock(&self.facts);
        // No automaton's name is all digits.
        let numbered = name.parse().ok().map(InstanceId);
        if let Some(facts) = numbered.and_then(|number| instances.get(&number)) {
            return Ok(facts.clone());
        }
        let exact = instances
            .values()
            .find(|facts| facts.plan.name.to_string() == name);
        if let Some(facts) = exact {
            return Ok(facts.clone());
        }
        let of_automaton: Vec<&Facts> = instances
            .values()
            .filter(|f| f.plan.name.automaton.as_str() == name)
            .collect();
        match of_automaton.as_slice() {
            [only] => Ok((*only).clone()),
            [] => anyhow::bail!("no instance is called `{name}`; `margay ps` lists them"),
            several => {
                let names: Vec<String> = several.iter().map(|f| f.plan.name.to_string()).collect();
                anyhow::bail!(
                    "`{name}` has several instances, say which: {}",
                    names.join(", ")
                )
            }
        }
    }
}

/// Operators who wait for an answer.
#[derive(Default)]
pub struct Operators {
    next: AtomicU64,
    waiting: Mutex<BTreeMap<RequestId, oneshot::Sender<Result<String, String>>>>,
}

impl Operators {
    /// Makes core answer a request.
    pub async fn ask(
        &self,
        router: &RouterHandle,
        input: impl FnOnce(RequestId) -> Input,
    ) -> Result<String> {
        let request = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(request, answer);
        router.input(input(request));
        answered
            .await
            .context("the daemon is going down")?
            .map_err(anyhow::Error::msg)
    }

    /// Hands an answer to whoever waits for it.
    pub fn answer(&self, request: RequestId, outcome: Result<String, String>) {
        if let Some(answer) = lock(&self.waiting).remove(&request) {
            // The operator may have hung up; what was asked is done all the same.
            let _ = answer.send(outcome);
        }
    }
}

/// The most instances with a network on one host: the size of the kernel's endpoint table.
pub const ENDPOINTS_MAX: u32 = 4096;

/// Hands out dense indices of the kernel's endpoint table.
#[derive(Default)]
pub struct Endpoints(Mutex<EndpointsInUse>);

#[derive(Default)]
struct EndpointsInUse {
    taken: BTreeSet<u32>,
    last: u32,
}

impl Endpoints {
    /// Marks an index of an earlier run as taken.
    pub fn adopt(&self, endpoint: EndpointIndex) {
        let mut in_use = lock(&self.0);
        in_use.taken.insert(endpoint.0);
        in_use.last = in_use.last.max(endpoint.0);
    }

    /// Takes the next free index round the table: one just freed rests until all others had their
    /// turn, so that a packet still queued for its former holder is not taken for the new one's.
    pub fn take(&self) -> Result<EndpointIndex> {
        let mut in_use = lock(&self.0);
        for step in 1..=ENDPOINTS_MAX {
            let index = (in_use.last + step) % ENDPOINTS_MAX;
            if in_use.taken.insert(index) {
                in_use.last = index;
                return Ok(EndpointIndex(index));
            }
        }
        anyhow::bail!("this host has {ENDPOINTS_MAX} instances, the most it can hold")
    }

    /// Gives an index back.
    pub fn free(&self, endpoint: EndpointIndex) {
        lock(&self.0).taken.remove(&endpoint.0);
    }
}

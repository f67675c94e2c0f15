//! Those who watch flows: the flow log and operators, fed by the router thread through one bounded
//! channel that never makes it wait.

use crate::router_thread::RouterHandle;
use crate::world::lock;
use anyhow::{Context, Result, ensure};
use margay_core::flow_event::{FlowEvent, Interest};
use margay_core::flow_table::{FlowChange, FlowEnd};
use margay_core::port::{Input, SlotReading};
use margay_datapath::datapath::Datapath;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Events that wait for the slowest who watches; beyond, it misses the oldest and is told how many.
/// A tenth of a second of the fastest load that one host can open.
const EVENTS_MAX: usize = 4096;

/// Operators who watch at once; each costs a copy of every event.
const WATCHERS_MAX: usize = 8;

/// An event as the router thread saw it.
#[derive(Debug)]
pub struct Seen {
    /// When, for people.
    pub time: SystemTime,
    /// What happened.
    pub event: FlowEvent,
    /// What the kernel counted by then: client to server and back.
    pub counted: (SlotReading, SlotReading),
}

/// The router thread's end of the channel.
#[derive(Clone)]
pub struct FlowEvents(broadcast::Sender<Arc<Seen>>);

impl FlowEvents {
    /// Makes a channel that nobody watches yet.
    pub fn new() -> Self {
        FlowEvents(broadcast::Sender::new(EVENTS_MAX))
    }

    /// Takes an event's counters and hands it on; never waits.
    pub fn tell(&self, event: FlowEvent, datapath: &Datapath) {
        let seen = Seen {
            time: SystemTime::now(),
            counted: counted(&event, datapath),
            event,
        };
        // Whoever watched may just have gone.
        let _ = self.0.send(Arc::new(seen));
    }

    /// Tells that refusals were suppressed, of which no kernel counts anything.
    #[cfg(test)]
    pub fn tell_suppressed(&self, refusals: u64) {
        let seen = Seen {
            time: SystemTime::now(),
            event: FlowEvent::Suppressed(refusals),
            counted: Default::default(),
        };
        assert!(self.0.send(Arc::new(seen)).is_ok());
    }

    /// A handle that does not keep the channel open.
    pub fn downgrade(&self) -> broadcast::WeakSender<Arc<Seen>> {
        self.0.downgrade()
    }

    /// Watches everything from now on.
    pub fn subscribe(&self) -> Watching {
        Watching(self.0.subscribe())
    }
}

/// The counters of a flow that has some: those that core judged by, where that is how it ended, for
/// whatever passed since belongs to the next; else what its slots count now.
fn counted(event: &FlowEvent, datapath: &Datapath) -> (SlotReading, SlotReading) {
    let FlowEvent::Flow { change, .. } = event else {
        return Default::default();
    };
    match change {
        FlowChange::Opened(_) | FlowChange::Closed(_, FlowEnd::KernelRefused) => Default::default(),
        FlowChange::Changed(flow)
        | FlowChange::Closed(flow, FlowEnd::Finished | FlowEnd::Silent) => {
            (flow.forward, flow.reverse)
        }
        FlowChange::Closed(flow, _) => {
            let reading = datapath.read_flows(&[flow.slots()]).pop();
            reading.map_or_else(Default::default, |it| (it.forward, it.reverse))
        }
    }
}

/// One who watches.
pub struct Watching(broadcast::Receiver<Arc<Seen>>);

/// What comes to one who watches.
pub enum News {
    /// An event.
    Seen(Arc<Seen>),
    /// So many events came faster than they were taken, and are lost.
    Missed(u64),
}

impl Watching {
    /// The next event; `None` once the router thread has ended.
    pub async fn next(&mut self) -> Option<News> {
        news(self.0.recv().await)
    }

    /// The next event, on a thread that may wait for it; `None` once the router thread has ended.
    pub fn wait_for_next(&mut self) -> Option<News> {
        news(self.0.blocking_recv())
    }

    /// The next event that is there already.
    pub fn next_ready(&mut self) -> Option<News> {
        match self.0.try_recv() {
            Ok(seen) => Some(News::Seen(seen)),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => Some(News::Missed(missed)),
            Err(_) => None,
        }
    }
}

fn news(received: Result<Arc<Seen>, RecvError>) -> Option<News> {
    match received {
        Ok(seen) => Some(News::Seen(seen)),
        Err(RecvError::Lagged(missed)) => Some(News::Missed(missed)),
        Err(RecvError::Closed) => None,
    }
}

/// Who watches now, so that core tells no more than somebody listens to.
pub struct Watchers {
    /// Ends with the router thread, not with us.
    events: broadcast::WeakSender<Arc<Seen>>,
    router: RouterHandle,
    /// What the flow log asks for.
    always: Interest,
    operators: Mutex<usize>,
}

impl Watchers {
    /// Has core tell what `always` asks for, and more while an operator watches.
    pub fn new(
        events: broadcast::WeakSender<Arc<Seen>>,
        router: RouterHandle,
        always: Interest,
    ) -> Self {
        let watchers = Watchers {
            events,
            router,
            always,
            operators: Mutex::new(0),
        };
        watchers.tell_core(0);
        watchers
    }

    /// Lets an operator watch until what is returned is dropped.
    pub fn join(self: &Arc<Self>) -> Result<OperatorWatching> {
        let mut operators = lock(&self.operators);
        ensure!(
            *operators < WATCHERS_MAX,
            "{WATCHERS_MAX} operators watch already; end one of them first"
        );
        let events = self.events.upgrade().context("the daemon is going down")?;
        *operators += 1;
        self.tell_core(*operators);
        Ok(OperatorWatching {
            watching: FlowEvents(events).subscribe(),
            watchers: self.clone(),
        })
    }

    fn tell_core(&self, operators: usize) {
        let watched = operators > 0;
        self.router.input(Input::Observe(Interest {
            flows: self.always.flows || watched,
            refusals: self.always.refusals || watched,
        }));
    }
}

/// An operator who watches.
pub struct OperatorWatching {
    /// What comes.
    pub watching: Watching,
    watchers: Arc<Watchers>,
}

impl Drop for OperatorWatching {
    fn drop(&mut self) {
        let mut operators = lock(&self.watchers.operators);
        *operators -= 1;
        self.watchers.tell_core(*operators);
    }
}

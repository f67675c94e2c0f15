//! An instance's end: withdrawn from every table first, then drained, then told to stop.

use super::{Lifecycle, LifecycleInput, LifecycleOutput, Stage};
use crate::moment::Moment;
use std::time::Duration;

/// How often a draining instance's flows are counted: short beside the seconds for which a closed
/// connection lingers, long beside what it costs to look at all flows.
pub const DRAIN_LOOK: Duration = Duration::from_millis(500);

/// How long flows may go on, and when they are counted.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// How long at most.
    patience: Duration,
    /// When it ends at the latest, once it has begun.
    deadline: Option<Moment>,
    /// When to look next.
    look: Option<Moment>,
}

impl Drain {
    pub(super) fn due(&self) -> Option<Moment> {
        self.deadline.into_iter().chain(self.look).min()
    }
}

impl Lifecycle {
    /// Begins the end: it takes no new flow, and nothing goes on before every table knows.
    pub(super) fn withdraw(&mut self, drain: Duration, now: Moment) {
        self.retry = None;
        self.drain.patience = drain;
        // What was not yet carried out is moot.
        let moot = [LifecycleOutput::Prepare, LifecycleOutput::Start];
        self.outputs.retain(|output| !moot.contains(output));
        self.enter(Stage::Withdrawing, now);
        self.ask(LifecycleOutput::Withdraw);
    }

    /// Takes news of an instance that is ending; what is of no consequence any more is ignored.
    pub(super) fn end(&mut self, input: LifecycleInput, now: Moment) {
        match (input, self.stage) {
            (_, Stage::Gone) => {}
            (LifecycleInput::Removed, _) => {
                self.drain = Drain::default();
                self.enter(Stage::Gone, now);
                self.ask(LifecycleOutput::Gone);
            }
            (LifecycleInput::Withdrawn, Stage::Withdrawing) => self.drain(now),
            (LifecycleInput::Remove { drain }, Stage::Withdrawing) => {
                self.drain.patience = self.drain.patience.min(drain);
            }
            (LifecycleInput::Remove { drain }, Stage::Draining) => {
                let hastened = now + drain;
                let deadline = self.drain.deadline.map(|at| at.min(hastened));
                self.drain.deadline = deadline;
                self.drain_timeout(now);
            }
            // Nobody is left who could serve what is still open.
            (
                LifecycleInput::Drained
                | LifecycleInput::Exited { .. }
                | LifecycleInput::NetworkLost,
                Stage::Draining,
            ) => self.remove(now),
            _ => {}
        }
    }

    /// Takes it out of what takes new flows, or lets it back in; its program goes on.
    pub(super) fn suspend(&mut self, suspended: bool) {
        let was_ready = self.is_ready();
        self.suspended = suspended;
        if was_ready != self.is_ready() {
            self.ask(LifecycleOutput::Ready(!was_ready));
        }
    }

    /// Lets time pass for what drains.
    pub(super) fn drain_timeout(&mut self, now: Moment) {
        let is_due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        if is_due(self.drain.deadline) {
            self.remove(now);
        } else if is_due(self.drain.look) {
            self.drain.look = Some(now + DRAIN_LOOK);
            self.ask(LifecycleOutput::CountFlows);
        }
    }

    /// Gives live flows their time.
    fn drain(&mut self, now: Moment) {
        self.enter(Stage::Draining, now);
        self.drain.deadline = Some(now + self.drain.patience);
        self.drain.look = Some(now);
        self.drain_timeout(now);
    }

    fn remove(&mut self, now: Moment) {
        self.drain = Drain::default();
        self.enter(Stage::Removing, now);
        self.ask_removal();
    }
}

//! One instance's life: from its plan through preparing, starting and ready to removed.
//!
//! ```text
//! preparing -> starting -> running -> ready        a program without probe is ready at once
//!     ^           ^           \________/
//!     |           |                |  exited: the keeper restarts it, or core after a pause
//!     +- pause ---+----------------+
//!
//! any -> withdrawing -> draining -> removing -> gone
//! any -> repairing -> preparing                    the network vanished
//! ```

mod ending;

pub use ending::DRAIN_LOOK;

use crate::moment::Moment;
use ending::Drain;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::time::Duration;

/// The first pause after a failure: long enough not to busy the host, short for a person who waits.
pub const PAUSE_MIN: Duration = Duration::from_millis(500);

/// The longest pause: a fault that lasts is tried twice a minute.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);

/// An instance that was ready for this long has recovered: its next failure pauses shortly again.
pub const RECOVERED_AFTER: Duration = Duration::from_secs(10);

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its namespace, device and DNS sockets are being made.
    Preparing,
    /// Its program is being started.
    Starting,
    /// Its program runs, its probe has not answered well yet.
    Running,
    /// It takes new flows.
    Ready,
    /// Its program ended; the keeper starts it again.
    Exited,
    /// Something failed; core tries again after a pause.
    Pausing,
    /// Its network vanished: what is left of it is taken away, then all is made anew.
    Repairing,
    /// It is no longer wanted; every table learns that it takes no new flow.
    Withdrawing,
    /// No new flow reaches it; those that it serves may end.
    Draining,
    /// It is being taken away.
    Removing,
    /// Nothing is left of it.
    Gone,
}

impl Stage {
    /// Every stage, in the order of a life.
    pub const ALL: &'static [Stage] = &[
        Stage::Preparing,
        Stage::Starting,
        Stage::Running,
        Stage::Ready,
        Stage::Exited,
        Stage::Pausing,
        Stage::Repairing,
        Stage::Withdrawing,
        Stage::Draining,
        Stage::Removing,
        Stage::Gone,
    ];

    /// The name in the CLI.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Preparing => "preparing",
            Stage::Starting => "starting",
            Stage::Running => "running",
            Stage::Ready => "ready",
            Stage::Exited => "exited",
            Stage::Pausing => "pausing",
            Stage::Repairing => "repairing",
            Stage::Withdrawing => "withdrawing",
            Stage::Draining => "draining",
            Stage::Removing => "removing",
            Stage::Gone => "gone",
        }
    }
}

/// What is known of an instance when its life is first looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing of it exists.
    Planned,
    /// It outlived the daemon, network and program whole. It counts as ready until a probe says
    /// otherwise: its callers must not notice that the daemon was away.
    Running,
    /// It outlived the daemon; the keeper is about to start its program again.
    Exited,
    /// It outlived the daemon, its network did not.
    Damaged,
}

/// How an instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifecycleConfig {
    /// How it is found.
    pub beginning: Beginning,
    /// Whether a probe says when it is ready.
    pub probed: bool,
    /// Time between SIGTERM and SIGKILL when it is taken away.
    pub grace: Duration,
}

/// What happens to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifecycleInput {
    /// Its network exists.
    Prepared,
    /// Its program runs.
    Started,
    /// Its program ended; the keeper starts it again if `restarted`.
    Exited {
        /// Whether the keeper will.
        restarted: bool,
    },
    /// The last thing asked for could not be done.
    Failed,
    /// Its probe answered.
    Probed {
        /// Well or not.
        ready: bool,
    },
    /// Its network vanished.
    NetworkLost,
    /// It is no longer wanted.
    Remove {
        /// How long the flows that it serves may go on.
        drain: Duration,
    },
    /// No table leads a new flow to it any more.
    Withdrawn,
    /// It serves no flow any more.
    Drained,
    /// An operator wants it to take no new flow, or to take them again.
    Suspend(bool),
    /// Nothing is left of it.
    Removed,
    /// A probe is wanted, or no longer.
    ProbeChanged {
        /// Wanted.
        probed: bool,
    },
}

/// What an instance needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleOutput {
    /// Make its network.
    Prepare,
    /// Start its program.
    Start,
    /// Begin, or end, to probe it.
    Probe(bool),
    /// Tell every table that it takes no new flow, then say so.
    Withdraw,
    /// Look whether it still serves flows, and say so if not.
    CountFlows,
    /// End it and take its network away.
    Remove {
        /// Time between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// It takes new flows from now on, or no longer.
    Ready(bool),
    /// It is over; forget it.
    Gone,
}

/// What is tried again after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    Prepare,
    Start,
}

/// One instance's life.
#[derive(Debug)]
pub struct Lifecycle {
    config: LifecycleConfig,
    stage: Stage,
    since: Moment,
    probing: bool,
    /// Whether an operator wants it to take no new flow.
    suspended: bool,
    drain: Drain,
    /// What is tried again, and when.
    retry: Option<(Moment, Retry)>,
    failures: u32,
    random: SmallRng,
    outputs: VecDeque<LifecycleOutput>,
}

impl Lifecycle {
    /// Begins a life.
    pub fn new(config: LifecycleConfig, seed: u64, now: Moment) -> Self {
        let mut life = Lifecycle {
            config,
            stage: Stage::Preparing,
            since: now,
            probing: false,
            suspended: false,
            drain: Drain::default(),
            retry: None,
            failures: 0,
            random: SmallRng::seed_from_u64(seed),
            outputs: VecDeque::new(),
        };
        match config.beginning {
            Beginning::Planned => life.ask(LifecycleOutput::Prepare),
            Beginning::Running => {
                life.enter(Stage::Ready, now);
                life.probe(config.probed);
            }
            Beginning::Exited => life.enter(Stage::Exited, now),
            Beginning::Damaged => life.repair(now),
        }
        life
    }

    /// Takes one input. What cannot happen at this stage is late news, and is ignored.
    pub fn handle_input(&mut self, input: LifecycleInput, now: Moment) {
        match (input, self.stage) {
            (input, _) if self.is_ending() => self.end(input, now),
            (LifecycleInput::Remove { drain }, _) => self.withdraw(drain, now),
            (LifecycleInput::Suspend(suspended), _) => self.suspend(suspended),
            // Whatever took it away, it is still wanted.
            (LifecycleInput::Removed, _) => self.prepare(now),
            (LifecycleInput::NetworkLost, stage) if stage != Stage::Repairing => self.repair(now),
            (LifecycleInput::Failed, Stage::Preparing) => self.pause(Retry::Prepare, now),
            (LifecycleInput::Failed, Stage::Pausing) => {}
            (LifecycleInput::Prepared, Stage::Preparing) => self.start(now),
            (LifecycleInput::ProbeChanged { probed }, stage) => {
                self.config.probed = probed;
                match stage {
                    Stage::Running if !probed => self.started(now),
                    Stage::Running | Stage::Ready => self.probe(probed),
                    _ => {}
                }
            }
            // A removal does not fail: what does is an effect that was under way when it was asked for.
            (_, Stage::Preparing | Stage::Repairing) => {}
            (LifecycleInput::Failed, _) => self.pause(Retry::Start, now),
            (LifecycleInput::Started, Stage::Starting | Stage::Exited | Stage::Pausing) => {
                self.started(now);
            }
            (LifecycleInput::Exited { restarted: true }, _) => {
                self.retry = None;
                self.enter(Stage::Exited, now);
            }
            (LifecycleInput::Exited { restarted: false }, _) => self.pause(Retry::Start, now),
            (LifecycleInput::Probed { ready: true }, Stage::Running) => {
                self.enter(Stage::Ready, now);
            }
            (LifecycleInput::Probed { ready: false }, Stage::Ready) if self.probing => {
                self.enter(Stage::Running, now);
            }
            _ => {}
        }
    }

    /// Lets time pass: tries again what failed, looks how the draining goes.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.drain_timeout(now);
        let Some((_, retry)) = self.retry.filter(|(at, _)| *at <= now) else {
            return;
        };
        self.retry = None;
        match retry {
            Retry::Prepare => self.prepare(now),
            Retry::Start => self.start(now),
        }
    }

    /// The next effect; `None` once drained.
    pub fn poll_output(&mut self) -> Option<LifecycleOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Lifecycle::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let retry = self.retry.map(|(at, _)| at);
        retry.into_iter().chain(self.drain.due()).min()
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether it takes new flows.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready && !self.suspended
    }

    /// Whether its program serves: also one that takes no new flow does until it is told to stop.
    pub fn serves(&self) -> bool {
        matches!(
            self.stage,
            Stage::Ready | Stage::Withdrawing | Stage::Draining
        )
    }

    /// Whether an operator wants it to take no new flow.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Whether it is being taken away for good.
    pub fn is_ending(&self) -> bool {
        matches!(
            self.stage,
            Stage::Withdrawing | Stage::Draining | Stage::Removing | Stage::Gone
        )
    }

    fn ask(&mut self, output: LifecycleOutput) {
        self.outputs.push_back(output);
    }

    /// Changes the stage, and says so if that changes whether it takes flows.
    fn enter(&mut self, stage: Stage, now: Moment) {
        let was_ready = self.is_ready();
        if was_ready && now.since(self.since) >= RECOVERED_AFTER {
            self.failures = 0;
        }
        if !matches!(stage, Stage::Running | Stage::Ready) {
            self.probe(false);
        }
        if stage != self.stage {
            self.stage = stage;
            self.since = now;
        }
        if was_ready != self.is_ready() {
            self.ask(LifecycleOutput::Ready(!was_ready));
        }
    }

    fn probe(&mut self, wanted: bool) {
        // Asked for again although it runs already, the probe itself may have changed.
        if wanted || self.probing {
            self.ask(LifecycleOutput::Probe(wanted));
        }
        self.probing = wanted;
    }

    fn prepare(&mut self, now: Moment) {
        self.retry = None;
        self.enter(Stage::Preparing, now);
        self.ask(LifecycleOutput::Prepare);
    }

    fn start(&mut self, now: Moment) {
        self.enter(Stage::Starting, now);
        self.ask(LifecycleOutput::Start);
    }

    fn started(&mut self, now: Moment) {
        self.retry = None;
        if self.config.probed {
            self.enter(Stage::Running, now);
            self.probe(true);
        } else {
            self.probe(false);
            self.enter(Stage::Ready, now);
        }
    }

    fn repair(&mut self, now: Moment) {
        self.retry = None;
        self.enter(Stage::Repairing, now);
        self.ask_removal();
    }

    /// What lost its network has nobody left to say goodbye to.
    fn ask_removal(&mut self) {
        let grace = if self.stage == Stage::Repairing {
            Duration::ZERO
        } else {
            self.config.grace
        };
        self.ask(LifecycleOutput::Remove { grace });
    }

    /// Tries again later; each failure in a row doubles the pause, and no two instances keep step.
    fn pause(&mut self, retry: Retry, now: Moment) {
        self.enter(Stage::Pausing, now);
        let doubled = PAUSE_MIN.saturating_mul(1 << self.failures.min(16));
        let jitter = self.random.random_range(0.75..1.0);
        let pause = doubled.min(PAUSE_MAX).mul_f64(jitter);
        self.failures = self.failures.saturating_add(1);
        self.retry = Some((now + pause, retry));
    }
}

#[cfg(test)]
mod tests;

//! The instances: their processes, pipes and restarts.

use super::cgroups::Leftovers;
use super::lifecycle::{Due, Ending, Lifecycle, Standing};
use super::spawn::{self, Process, SpawnError};
use super::store::{HoldError, Store};
use crate::message::{
    Event, INSTANCE_NAME_BYTES_MAX, InstanceState, InstanceStatus, PAGE_ENTRIES, ProcessSpec,
    log_name, namespace_name,
};
use crate::system;
use margay_core::id::InstanceId;
use margay_core::moment::Moment;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use thiserror::Error;

/// The most instances of one host: each costs two processes and a pipe of a mebibyte.
const INSTANCES_MAX: usize = 1024;

/// Of the descriptors that the keeper may open, those for each instance: three of its own (pidfd,
/// report, log), two that are held for it, and what daemons hold for it.
const DESCRIPTORS_PER_INSTANCE: usize = 16;

/// Why an instance is not started or stopped.
#[derive(Debug, Error)]
pub(super) enum InstanceError {
    #[error("instance {0} already runs; stop it first")]
    Running(InstanceId),
    #[error("instance {0} is unknown; list() shows those that are")]
    Unknown(InstanceId),
    #[error("instance {0} has no network namespace; call create_namespace first")]
    Homeless(InstanceId),
    #[error("{0} instances are the most here; remove some, or raise `ulimit -n`")]
    TooMany(usize),
    #[error(
        "instance {0} needs a `name` of 1 to {INSTANCE_NAME_BYTES_MAX} letters, digits, `.`, `-` or `_`"
    )]
    Name(InstanceId),
    #[error("the `{what}` of instance {instance} must be an absolute path")]
    RelativePath {
        instance: InstanceId,
        what: &'static str,
    },
    #[error("instance {0} needs a `command`")]
    NoCommand(InstanceId),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Hold(#[from] HoldError),
}

/// One instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) spec: ProcessSpec,
    pub(super) lifecycle: Lifecycle,
    pub(super) process: Option<Process>,
    /// The write end of the log pipe; gone once no program will write again.
    pub(super) log: Option<OwnedFd>,
    /// Whether it is forgotten as soon as it has ended.
    pub(super) forget: bool,
}

/// All instances, and what happened to them since it was last asked.
#[derive(Debug)]
pub(super) struct Instances {
    pub(super) table: BTreeMap<InstanceId, Instance>,
    events: Vec<Event>,
    leftovers: Leftovers,
    bound: usize,
}

impl Instances {
    /// No instances, of a keeper that may open `descriptor_limit` descriptors.
    pub(super) fn new(descriptor_limit: usize) -> Self {
        Instances {
            table: BTreeMap::new(),
            events: Vec::new(),
            leftovers: Leftovers::default(),
            bound: INSTANCES_MAX.min(descriptor_limit / DESCRIPTORS_PER_INSTANCE),
        }
    }

    /// Starts `spec`; its init's process id.
    pub(super) fn start(
        &mut self,
        spec: ProcessSpec,
        store: &mut Store,
        now: Moment,
    ) -> Result<i32, InstanceError> {
        check(&spec)?;
        let instance = spec.instance;
        match self.table.get(&instance) {
            Some(known) if known.lifecycle.standing() != Standing::Ended => {
                return Err(InstanceError::Running(instance));
            }
            None if self.table.len() >= self.bound => {
                return Err(InstanceError::TooMany(self.bound));
            }
            _ => {}
        }
        let (read, write) = spawn::log_pipe()?;
        store.hold(log_name(instance), vec![read])?;
        self.leftovers.keep(&spec.cgroup);
        let process = namespace(store, instance)
            .ok_or(InstanceError::Homeless(instance))
            .and_then(|namespace| Ok(spawn::start(&spec, namespace, write.as_fd())?))
            .inspect_err(|_| store.release(&log_name(instance)))?;
        let init_pid = process.pid.as_raw();
        let lifecycle = Lifecycle::new(spec.restart, now);
        let started = Instance {
            spec,
            lifecycle,
            process: Some(process),
            log: Some(write),
            forget: false,
        };
        self.table.insert(instance, started);
        self.events.push(Event::Started { instance, init_pid });
        Ok(init_pid)
    }

    /// Ends `instance` within `grace`.
    pub(super) fn stop(
        &mut self,
        instance: InstanceId,
        grace: Duration,
        now: Moment,
    ) -> Result<(), InstanceError> {
        let known = self
            .table
            .get_mut(&instance)
            .ok_or(InstanceError::Unknown(instance))?;
        if known.lifecycle.handle_stop(grace, now) {
            known.signal(Signal::SIGTERM);
        } else {
            known.log = None;
            self.events.push(Event::Stopped { instance });
        }
        Ok(())
    }

    /// Kills the program of `instance`, which is started again if it shall be.
    pub(super) fn kill(&self, instance: InstanceId) -> Result<(), InstanceError> {
        let known = self.table.get(&instance);
        known.ok_or(InstanceError::Unknown(instance))?.kill();
        Ok(())
    }

    /// Ends every instance within `grace`.
    pub(super) fn stop_all(&mut self, grace: Duration, now: Moment) {
        let all: Vec<InstanceId> = self.table.keys().copied().collect();
        for instance in all {
            self.stop(instance, grace, now)
                .expect("the instance is in the table");
        }
    }

    /// Forgets `instance`, now or as soon as it is killed, and releases what is held for it.
    pub(super) fn remove(&mut self, instance: InstanceId, store: &mut Store, now: Moment) {
        if let Some(known) = self.table.get_mut(&instance)
            && known.lifecycle.standing() == Standing::Alive
        {
            known.forget = true;
            known.lifecycle.handle_stop(Duration::ZERO, now);
            return;
        }
        self.forget(instance, store, now);
    }

    /// Reaps the program of `instance`, whose init has ended.
    pub(super) fn handle_exit(&mut self, instance: InstanceId, store: &mut Store, now: Moment) {
        let Some(known) = self.table.get_mut(&instance) else {
            return;
        };
        let Some(process) = known.process.take() else {
            return;
        };
        let status = process.reap();
        self.conclude(instance, status, now);
        if self.table.get(&instance).is_some_and(|known| known.forget) {
            self.forget(instance, store, now);
        }
    }

    /// Does what is due: restarts, kills, cgroups that were busy.
    pub(super) fn handle_timeout(&mut self, store: &Store, now: Moment) {
        self.leftovers.handle_timeout(now);
        let all: Vec<InstanceId> = self.table.keys().copied().collect();
        for instance in all {
            let Some(known) = self.table.get_mut(&instance) else {
                continue;
            };
            match known.lifecycle.handle_timeout(now) {
                Some(Due::Kill) => known.kill(),
                Some(Due::Start) => match known.restart(namespace(store, instance)) {
                    Ok(init_pid) => self.events.push(Event::Started { instance, init_pid }),
                    Err(error) => self.conclude(instance, error.to_string(), now),
                },
                None => {}
            }
        }
    }

    /// When [`Instances::handle_timeout`] has something to do next.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        let lives = self
            .table
            .values()
            .filter_map(|known| known.lifecycle.poll_timeout());
        lives.chain(self.leftovers.poll_timeout()).min()
    }

    /// Takes what happened, in order.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Lists one page of instances in order, from the one that follows `after`.
    pub(super) fn list(&self, after: Option<InstanceId>) -> Vec<InstanceStatus> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = self
            .table
            .range((start, Bound::Unbounded))
            .take(PAGE_ENTRIES);
        page.map(|(_, known)| known.status()).collect()
    }

    /// The running inits, each with the descriptor that tells of its end.
    pub(super) fn processes(&self) -> impl Iterator<Item = (InstanceId, BorrowedFd<'_>)> {
        self.table.iter().filter_map(|(instance, known)| {
            known
                .process
                .as_ref()
                .map(|process| (*instance, process.pidfd.as_fd()))
        })
    }

    /// Whether no program runs or will run by itself.
    pub(super) fn all_ended(&self) -> bool {
        self.table
            .values()
            .all(|known| known.lifecycle.standing() == Standing::Ended)
    }

    /// Takes the cgroups of ended instances away; before the keeper ends.
    pub(super) fn abandon(&mut self, now: Moment) {
        for known in self.table.values() {
            self.leftovers.remove(&known.spec.cgroup, now);
        }
    }

    fn conclude(&mut self, instance: InstanceId, status: String, now: Moment) {
        let Some(known) = self.table.get_mut(&instance) else {
            return;
        };
        let ending = known.lifecycle.handle_exit(now);
        let restart_after_ms = match ending {
            Ending::RestartAfter(delay) => {
                Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
            }
            Ending::Final | Ending::AsAsked => {
                // Readers of the log see its end once they have read all of it.
                known.log = None;
                None
            }
        };
        if ending == Ending::AsAsked {
            self.events.push(Event::Stopped { instance });
            return;
        }
        self.events.push(Event::Exited {
            instance,
            status,
            restart_after_ms,
        });
    }

    fn forget(&mut self, instance: InstanceId, store: &mut Store, now: Moment) {
        store.release(&log_name(instance));
        store.release(&namespace_name(instance));
        if let Some(known) = self.table.remove(&instance) {
            self.leftovers.remove(&known.spec.cgroup, now);
        }
    }
}

impl Instance {
    fn status(&self) -> InstanceStatus {
        InstanceStatus {
            instance: self.spec.instance,
            name: self.spec.name.clone(),
            init_pid: self.process.as_ref().map(|process| process.pid.as_raw()),
            restarts: self.lifecycle.restarts(),
            state: match self.lifecycle.standing() {
                Standing::Alive => InstanceState::Running,
                Standing::Waiting => InstanceState::Backoff,
                Standing::Ended => InstanceState::Stopped,
            },
        }
    }

    fn restart(&mut self, namespace: Option<BorrowedFd<'_>>) -> Result<i32, InstanceError> {
        let homeless = InstanceError::Homeless(self.spec.instance);
        let (Some(namespace), Some(log)) = (namespace, &self.log) else {
            return Err(homeless);
        };
        let process = spawn::start(&self.spec, namespace, log.as_fd())?;
        let init_pid = process.pid.as_raw();
        self.process = Some(process);
        Ok(init_pid)
    }

    /// Signals the init; one that has just ended needs no signal.
    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            let _ = system::pidfd_send_signal(process.pidfd.as_fd(), signal);
        }
    }

    /// Kills everything in the cgroup, and by its init everything in the pid namespace.
    fn kill(&self) {
        super::cgroups::kill(&self.spec.cgroup);
        self.signal(Signal::SIGKILL);
    }
}

fn namespace(store: &Store, instance: InstanceId) -> Option<BorrowedFd<'_>> {
    store.fetch(&namespace_name(instance))?.first().copied()
}

/// Refuses what could not be started, or would be started elsewhere than its sender meant.
fn check(spec: &ProcessSpec) -> Result<(), InstanceError> {
    let instance = spec.instance;
    let fits = (1..=INSTANCE_NAME_BYTES_MAX).contains(&spec.name.len());
    let plain = spec
        .name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if !fits || !plain {
        return Err(InstanceError::Name(instance));
    }
    if spec.command.is_empty() {
        return Err(InstanceError::NoCommand(instance));
    }
    let paths = [
        ("etc_dir", &spec.etc_dir),
        ("state_dir", &spec.state_dir),
        ("cgroup", &spec.cgroup),
    ];
    match paths.into_iter().find(|(_, path)| !path.is_absolute()) {
        Some((what, _)) => Err(InstanceError::RelativePath { instance, what }),
        None => Ok(()),
    }
}

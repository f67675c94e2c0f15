//! The keeper: one thread and one `poll` loop around instances, held descriptors and clients.

mod cgroups;
mod connections;
mod echoes;
mod endpoint;
mod init;
mod instances;
mod lifecycle;
mod spawn;
mod store;
mod upgrade;

use crate::message::{KeeperInfo, Reply, Request, log_name, namespace_name};
use crate::wire::Packet;
use connections::{ConnectionId, Connections};
use echoes::Echoes;
use endpoint::Endpoint;
pub use endpoint::EndpointError;
use instances::Instances;
use margay_core::id::InstanceId;
use margay_core::moment::Moment;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::time::{ClockId, clock_gettime};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use store::Store;
use thiserror::Error;
pub use upgrade::{READY, ResumeError, check as check_snapshot};

/// The time that instances have to end by themselves when the keeper is shut down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Descriptors that the keeper wants to be able to open: enough for every bound of its own.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// Descriptors without which it does not start: 64 clients, a message of 253, and some instances.
const DESCRIPTORS_NEEDED: u64 = 1024;

/// Where a process says how readily it is killed when memory runs out (proc(5)).
const KILL_PRIORITY_FILE: &str = "/proc/self/oom_score_adj";

/// The keeper: nearly last; -1000 would be never, even if it leaked.
const KEEPER_KILL_PRIORITY: &str = "-900";

/// An instance: as any process of the host.
const INSTANCE_KILL_PRIORITY: &str = "0";

/// Why a keeper ended.
#[derive(Debug, Error)]
pub enum KeeperFailure {
    /// Its socket could not be set up.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// It could not go on from its predecessor.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The kernel refused something without which no keeper works.
    #[error("cannot {step}: {}", source.desc())]
    Kernel {
        /// What it refused.
        step: &'static str,
        /// Its answer.
        source: Errno,
    },
}

fn kernel(step: &'static str) -> impl FnOnce(Errno) -> KeeperFailure {
    move |source| KeeperFailure::Kernel { step, source }
}

/// Who became readable.
enum Source {
    Signals,
    Listener,
    Client(ConnectionId),
    Init(InstanceId),
    Echoes,
}

/// The keeper itself.
#[derive(Debug)]
pub struct Keeper {
    endpoint: Endpoint,
    signals: SignalFd,
    connections: Connections,
    instances: Instances,
    store: Store,
    /// Once a daemon asked for it.
    echoes: Option<Echoes>,
    shutting_down: bool,
}

impl Keeper {
    /// Binds `socket`; refuses while another keeper serves it.
    pub fn bind(socket: &Path) -> Result<Keeper, KeeperFailure> {
        let limit = raise_descriptor_limit()?;
        Ok(Keeper {
            endpoint: Endpoint::bind(socket)?,
            signals: block_signals()?,
            connections: Connections::default(),
            instances: Instances::new(limit),
            store: Store::new(limit),
            echoes: None,
            shutting_down: false,
        })
    }

    /// Goes on from what the predecessor in this process left behind.
    pub fn resume(snapshot: OwnedFd) -> Result<Keeper, KeeperFailure> {
        let signals = block_signals()?;
        Ok(upgrade::resume(
            snapshot,
            signals,
            raise_descriptor_limit()?,
        )?)
    }

    /// Settles in the process that will run it.
    pub fn begin(&mut self) {
        // Its death is that of all instances. Without the privilege, it takes its chances.
        let _ = std::fs::write(KILL_PRIORITY_FILE, KEEPER_KILL_PRIORITY);
        // Only the message to a second keeper is poorer without it.
        let _ = self.endpoint.sign();
        note(&format!(
            "version {} serves as process {}",
            info().version,
            info().pid
        ));
    }

    /// Serves until it is shut down.
    pub fn run(mut self) -> Result<(), KeeperFailure> {
        while !(self.shutting_down && self.instances.all_ended()) {
            for source in self.wait()? {
                self.handle(source)?;
            }
            self.instances.handle_timeout(&self.store, now());
            for event in self.instances.take_events() {
                self.connections.publish(&event);
            }
        }
        self.instances.abandon(now());
        self.endpoint.unbind();
        note("shut down");
        Ok(())
    }

    fn wait(&self) -> Result<Vec<Source>, KeeperFailure> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut polled = vec![
            readable(self.signals.as_fd()),
            readable(self.endpoint.listener()),
        ];
        for (id, connection) in self.connections.iter() {
            sources.push(Source::Client(id));
            polled.push(readable(connection.socket.as_fd()));
        }
        for (instance, pidfd) in self.instances.processes() {
            sources.push(Source::Init(instance));
            polled.push(readable(pidfd));
        }
        let echoes = self.echoes.as_ref();
        if let Some(listener) = echoes.and_then(|echoes| echoes.listener(now())) {
            sources.push(Source::Echoes);
            polled.push(readable(listener));
        }
        let rested = echoes.and_then(Echoes::rests_until);
        let due = self
            .instances
            .poll_timeout()
            .into_iter()
            .chain(rested)
            .min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            // Rounded up, so that it is due when this wait ends.
            let ms = due.since(now()).as_micros().div_ceil(1000);
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(kernel("wait for events")(error)),
        }
        let ready = polled.iter().map(|fd| fd.any().unwrap_or(true));
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter_map(|(source, ready)| ready.then_some(source))
            .collect())
    }

    fn handle(&mut self, source: Source) -> Result<(), KeeperFailure> {
        match source {
            Source::Signals => {
                let taken = self
                    .signals
                    .read_signal()
                    .map_err(kernel("take a signal"))?;
                let signal = taken.and_then(|taken| Signal::try_from(taken.ssi_signo as i32).ok());
                if matches!(signal, Some(Signal::SIGTERM | Signal::SIGINT)) {
                    self.shut_down();
                }
            }
            Source::Listener => {
                if let Err(error) = self.connections.accept(self.endpoint.listener()) {
                    note(&format!("cannot accept a client: {}", error.desc()));
                }
            }
            Source::Client(id) => {
                if let Some(packet) = self.connections.receive(id) {
                    self.serve(id, packet);
                }
            }
            Source::Init(instance) => self.instances.handle_exit(instance, &mut self.store, now()),
            Source::Echoes => {
                if let Some(echoes) = &mut self.echoes {
                    echoes.answer(now());
                }
            }
        }
        Ok(())
    }

    /// Serves one request and answers it.
    fn serve(&mut self, id: ConnectionId, packet: Packet) {
        let refused = |reason: String| Reply::Refused { reason };
        let request = match packet.parse::<Request>() {
            Ok(request) => request,
            Err(error) => {
                return self
                    .connections
                    .answer(id, &refused(error.to_string()), &[]);
            }
        };
        match self.act(id, request, packet.descriptors) {
            Ok((reply, name)) => {
                let fds = name
                    .and_then(|name| self.store.fetch(&name))
                    .unwrap_or_default();
                self.connections.answer(id, &reply, &fds);
            }
            Err(reason) => self.connections.answer(id, &refused(reason), &[]),
        }
    }

    /// Does what `request` asks; the answer, and the name of the descriptors that go with it.
    fn act(
        &mut self,
        id: ConnectionId,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Reply, Option<String>), String> {
        let done = Ok((Reply::Done {}, None));
        match request {
            Request::Hello {} => Ok((Reply::Info(info()), None)),
            Request::Hold { name, .. } => {
                self.store
                    .hold(name, descriptors)
                    .map_err(|error| error.to_string())?;
                done
            }
            Request::Fetch { name } if self.store.fetch(&name).is_none() => {
                Ok((Reply::Missing {}, None))
            }
            Request::Fetch { name } => Ok((Reply::Done {}, Some(name))),
            Request::Release { name } => {
                self.store.release(&name);
                done
            }
            Request::Held { after } => Ok((
                Reply::Names {
                    names: self.store.names(after.as_deref()),
                },
                None,
            )),
            Request::List { after } => Ok((
                Reply::Instances {
                    instances: self.instances.list(after),
                },
                None,
            )),
            Request::CreateNamespace { instance } => {
                let name = self.create_namespace(instance)?;
                Ok((Reply::Done {}, Some(name)))
            }
            Request::Start(_) if self.shutting_down => Err("the keeper is shutting down".into()),
            Request::Start(spec) => {
                let log = log_name(spec.instance);
                let started = self.instances.start(spec, &mut self.store, now());
                let init_pid = started.map_err(|error| error.to_string())?;
                Ok((Reply::Started { init_pid }, Some(log)))
            }
            Request::Stop { instance, grace_ms } => {
                let grace = Duration::from_millis(grace_ms);
                let stopped = self.instances.stop(instance, grace, now());
                stopped.map_err(|error| error.to_string())?;
                done
            }
            Request::Kill { instance } => {
                let killed = self.instances.kill(instance);
                killed.map_err(|error| error.to_string())?;
                done
            }
            Request::Remove { instance } => {
                self.instances.remove(instance, &mut self.store, now());
                done
            }
            Request::Upgrade { binary } => {
                // Only returns if the predecessor, this process, goes on.
                Err(upgrade::upgrade(self, id, &binary).to_string())
            }
            Request::Shutdown {} => {
                self.shut_down();
                done
            }
            Request::Subscribe {} => {
                self.connections.subscribe(id);
                done
            }
            Request::AnswerEchoes { port } => {
                echoes::begin(&mut self.echoes, port, descriptors).map(|reply| (reply, None))
            }
        }
    }

    fn create_namespace(&mut self, instance: InstanceId) -> Result<String, String> {
        let name = namespace_name(instance);
        if self.store.fetch(&name).is_none() {
            let made = spawn::network_namespace(instance).map_err(|error| error.to_string())?;
            self.store
                .hold(name.clone(), vec![made])
                .map_err(|error| error.to_string())?;
        }
        Ok(name)
    }

    fn shut_down(&mut self) {
        self.shutting_down = true;
        self.instances.stop_all(SHUTDOWN_GRACE, now());
    }
}

/// Blocks all signals for good: the ends of children are told by their pidfds, and the few
/// signals that matter by this descriptor.
fn block_signals() -> Result<SignalFd, KeeperFailure> {
    SigSet::all()
        .thread_set_mask()
        .map_err(kernel("block signals"))?;
    let wanted = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(kernel("receive signals"))
}

/// Raises the number of descriptors that this process may open, as far as it is allowed to; the
/// bounds of what it holds are shares of it, so that it never runs out of them.
fn raise_descriptor_limit() -> Result<usize, KeeperFailure> {
    let step = "open 1024 descriptors; raise its limit (`ulimit -n`)";
    let files = Resource::RLIMIT_NOFILE;
    let (_, hard) = getrlimit(files).map_err(kernel(step))?;
    let limit = match setrlimit(files, DESCRIPTORS_WANTED, hard.max(DESCRIPTORS_WANTED)) {
        Ok(()) => DESCRIPTORS_WANTED,
        // Only a privileged process may go beyond its hard limit.
        Err(_) => {
            setrlimit(files, hard, hard).map_err(kernel(step))?;
            hard
        }
    };
    if limit < DESCRIPTORS_NEEDED {
        return Err(kernel(step)(Errno::EMFILE));
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn info() -> KeeperInfo {
    KeeperInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
    }
}

/// The monotonic clock, which goes on across an upgrade.
fn now() -> Moment {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    let nanos = Duration::from(time).as_nanos();
    Moment::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Writes a line to the log. A log that cannot be written must not end the keeper.
fn note(text: &str) {
    let line = format!("margay-keeper: {text}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

//! Upgrade in place: the keeper executes its successor, which inherits all that the keeper holds.
//!
//! What the keeper knows is written into a memory file; descriptors stay open under their numbers.
//! The process stays the same, so the instances keep their parent. The successor is first asked,
//! in a process of its own, whether it understands what it will find.

use super::connections::{Connection, ConnectionId, Connections};
use super::echoes::Echoes;
use super::endpoint::Endpoint;
use super::instances::{Instance, Instances};
use super::lifecycle::Lifecycle;
use super::spawn::Process;
use super::store::{HoldError, Store};
use super::{Keeper, SignalFd};
use crate::message::{ProcessSpec, Reply};
use crate::system;
use margay_core::echo::EchoSecret;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

/// What a binary answers to `--check-snapshot` if it can be the successor.
pub const READY: &str = "margay-keeper ready";

/// How long a successor may take to answer: it only reads a file, but nobody is served meanwhile.
const CHECK_MS_MAX: u16 = 5_000;

/// Why an upgrade does not happen; the keeper goes on as it is.
#[derive(Debug, Error)]
pub(super) enum UpgradeError {
    #[error("cannot run `{}`: {source}; name an executable margay-keeper", binary.display())]
    NotRun {
        binary: PathBuf,
        source: std::io::Error,
    },
    #[error("`{}` cannot succeed this keeper; name a margay-keeper of an adjacent version", .0.display())]
    NoSuccessor(PathBuf),
    #[error("cannot write down what the keeper holds: {0}")]
    Snapshot(#[from] std::io::Error),
}

/// Why a keeper cannot go on from its predecessor.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// The snapshot cannot be read.
    #[error("cannot read the predecessor's snapshot: {0}")]
    Unreadable(#[from] std::io::Error),
    /// The snapshot is of another kind.
    #[error("cannot understand the predecessor's snapshot: {0}")]
    Strange(#[from] serde_json::Error),
    /// Something that it names is not there.
    #[error("the predecessor's snapshot names what is not there: {0}")]
    Missing(Errno),
    /// It holds more than this version would.
    #[error("the predecessor holds what this version would not: {0}")]
    Excess(String),
}

impl From<HoldError> for ResumeError {
    fn from(error: HoldError) -> Self {
        ResumeError::Excess(error.to_string())
    }
}

/// All that a successor needs; descriptors by their numbers.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    path: PathBuf,
    socket: RawFd,
    lock: RawFd,
    shutting_down: bool,
    connections: Vec<ConnectionRecord>,
    held: BTreeMap<String, Vec<RawFd>>,
    instances: Vec<InstanceRecord>,
    #[serde(default)]
    echoes: Option<EchoesRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ConnectionRecord {
    socket: RawFd,
    subscribed: bool,
    /// Whether it waits for the answer to its request to upgrade.
    asked: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct InstanceRecord {
    spec: ProcessSpec,
    lifecycle: Lifecycle,
    process: Option<ProcessRecord>,
    log: Option<RawFd>,
    forget: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProcessRecord {
    pid: i32,
    report: RawFd,
}

#[derive(Debug, Serialize, Deserialize)]
struct EchoesRecord {
    socket: RawFd,
    port: u16,
    secret: EchoSecret,
}

/// Replaces the keeper by `binary`; returns only if it cannot.
pub(super) fn upgrade(keeper: &mut Keeper, asked: ConnectionId, binary: &Path) -> UpgradeError {
    match try_upgrade(keeper, asked, binary) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn try_upgrade(
    keeper: &mut Keeper,
    asked: ConnectionId,
    binary: &Path,
) -> Result<std::convert::Infallible, UpgradeError> {
    // The successor does not repeat what has happened before it.
    for event in keeper.instances.take_events() {
        keeper.connections.publish(&event);
    }
    let snapshot = describe(keeper, asked);
    let memory = write_down(&snapshot)?;
    ask(binary, &memory)?;
    super::note(&format!("upgrades to {}", binary.display()));
    let kept = snapshot
        .descriptors()
        .chain([memory.as_raw_fd()])
        .collect::<Vec<_>>();
    mark(&kept, FdFlag::empty());
    let error = Command::new(binary)
        .arg("--resume")
        .arg(memory.as_raw_fd().to_string())
        .exec();
    mark(&kept, FdFlag::FD_CLOEXEC);
    Err(UpgradeError::NotRun {
        binary: binary.into(),
        source: error,
    })
}

fn describe(keeper: &Keeper, asked: ConnectionId) -> Snapshot {
    let connections = keeper
        .connections
        .iter()
        .map(|(id, connection)| ConnectionRecord {
            socket: connection.socket.as_raw_fd(),
            subscribed: connection.subscribed,
            asked: id == asked,
        });
    let held = keeper.store.iter().map(|(name, descriptors)| {
        (
            name.clone(),
            descriptors.iter().map(AsRawFd::as_raw_fd).collect(),
        )
    });
    let instances = keeper.instances.table.values().map(|known| InstanceRecord {
        spec: known.spec.clone(),
        lifecycle: known.lifecycle.clone(),
        process: known.process.as_ref().map(|process| ProcessRecord {
            pid: process.pid.as_raw(),
            report: process.report.as_raw_fd(),
        }),
        log: known.log.as_ref().map(AsRawFd::as_raw_fd),
        forget: known.forget,
    });
    Snapshot {
        path: keeper.endpoint.path.clone(),
        socket: keeper.endpoint.socket.as_raw_fd(),
        lock: keeper.endpoint.lock.as_raw_fd(),
        shutting_down: keeper.shutting_down,
        connections: connections.collect(),
        held: held.collect(),
        instances: instances.collect(),
        echoes: keeper.echoes.as_ref().map(|echoes| EchoesRecord {
            socket: echoes.socket.as_raw_fd(),
            port: echoes.port,
            secret: echoes.secret.clone(),
        }),
    }
}

impl Snapshot {
    /// The numbers of all descriptors that it names.
    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let connections = self.connections.iter().map(|record| record.socket);
        let held = self.held.values().flatten().copied();
        let instances = self.instances.iter().flat_map(|record| {
            record
                .log
                .into_iter()
                .chain(record.process.as_ref().map(|p| p.report))
        });
        [self.socket, self.lock]
            .into_iter()
            .chain(connections)
            .chain(held)
            .chain(instances)
            .chain(self.echoes.as_ref().map(|echoes| echoes.socket))
    }
}

fn write_down(snapshot: &Snapshot) -> std::io::Result<File> {
    let mut memory = File::from(memfd_create(c"margay-keeper", MFdFlags::MFD_CLOEXEC)?);
    memory.write_all(&serde_json::to_vec(snapshot)?)?;
    memory.rewind()?;
    Ok(memory)
}

/// Asks `binary` whether it understands the snapshot.
fn ask(binary: &Path, memory: &File) -> Result<(), UpgradeError> {
    let mut successor = Command::new(binary)
        .arg("--check-snapshot")
        .stdin(Stdio::from(memory.try_clone()?))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| UpgradeError::NotRun {
            binary: binary.into(),
            source,
        })?;
    let mut answer = [0; READY.len()];
    let ready = successor.stdout.as_mut().is_some_and(|stdout| {
        let mut end = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        let timely = poll(&mut end, PollTimeout::from(CHECK_MS_MAX)).is_ok_and(|ready| ready > 0);
        timely && stdout.read_exact(&mut answer).is_ok() && answer == *READY.as_bytes()
    });
    let _ = successor.kill();
    let _ = successor.wait();
    // The position in the file is shared with the one who was asked.
    (&*memory).rewind()?;
    if ready {
        Ok(())
    } else {
        Err(UpgradeError::NoSuccessor(binary.into()))
    }
}

fn mark(descriptors: &[RawFd], flags: FdFlag) {
    for raw in descriptors {
        // SAFETY: the keeper owns this descriptor and outlives the borrow.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(*raw) };
        fcntl(fd, FcntlArg::F_SETFD(flags)).expect("a descriptor that we own takes flags");
    }
}

/// Says whether this version understands the snapshot in `from`.
pub fn check(from: impl Read) -> Result<(), ResumeError> {
    serde_json::from_reader::<_, Snapshot>(from)?;
    Ok(())
}

/// Goes on from the snapshot that a predecessor in this process has left.
pub(super) fn resume(
    snapshot: OwnedFd,
    signals: SignalFd,
    descriptor_limit: usize,
) -> Result<Keeper, ResumeError> {
    let mut text = Vec::new();
    File::from(snapshot).read_to_end(&mut text)?;
    let snapshot: Snapshot = serde_json::from_slice(&text)?;
    mark_inherited(&snapshot)?;

    let mut connections = Connections::default();
    let mut asked = None;
    for record in snapshot.connections {
        let socket = adopt(record.socket);
        let id = connections.insert(Connection {
            socket,
            subscribed: record.subscribed,
        });
        asked = if record.asked { Some(id) } else { asked };
    }
    let mut store = Store::new(descriptor_limit);
    for (name, descriptors) in snapshot.held {
        store.hold(name, descriptors.into_iter().map(adopt).collect())?;
    }
    let mut instances = Instances::new(descriptor_limit);
    for record in snapshot.instances {
        let process = match record.process {
            Some(process) => Some(process.resume()?),
            None => None,
        };
        let instance = Instance {
            spec: record.spec,
            lifecycle: record.lifecycle,
            process,
            log: record.log.map(adopt),
            forget: record.forget,
        };
        instances.table.insert(instance.spec.instance, instance);
    }
    let endpoint = Endpoint {
        path: snapshot.path,
        socket: adopt(snapshot.socket),
        lock: adopt(snapshot.lock),
    };
    if let Some(id) = asked {
        connections.answer(id, &Reply::Done {}, &[]);
    }
    let echoes = snapshot.echoes;
    let echoes = echoes.map(|it| Echoes::new(adopt(it.socket), it.port, it.secret));
    let shutting_down = snapshot.shutting_down;
    Ok(Keeper {
        endpoint,
        signals,
        connections,
        instances,
        store,
        echoes,
        shutting_down,
    })
}

impl ProcessRecord {
    fn resume(self) -> Result<Process, ResumeError> {
        let pid = Pid::from_raw(self.pid);
        let report = adopt(self.report);
        // Not reaped yet, so the number still means our child, even if that has ended.
        let pidfd = match system::pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            // Something reaped it on the way here. Its report has ended too and tells of it.
            Err(Errno::ESRCH) => report.try_clone()?,
            Err(error) => return Err(ResumeError::Missing(error)),
        };
        Ok(Process { pid, pidfd, report })
    }
}

/// Has no later program inherit what was inherited here; fails if anything is not there.
fn mark_inherited(snapshot: &Snapshot) -> Result<(), ResumeError> {
    for raw in snapshot.descriptors() {
        // SAFETY: F_SETFD of a number that is not open fails and changes nothing.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(raw) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(ResumeError::Missing)?;
    }
    Ok(())
}

fn adopt(raw: RawFd) -> OwnedFd {
    // SAFETY: the predecessor owned this descriptor alone, named it once in the snapshot and left
    // it open; `mark_inherited` found it so.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_a_newer_version_is_understood() {
        let newer = r#"{"path":"/k","socket":3,"lock":4,"shutting_down":false,"connections":[],
            "held":{"tap":[5]},"instances":[],"colour":"green"}"#;

        assert!(check(newer.as_bytes()).is_ok());
        assert!(check(&b"{}"[..]).is_err());
    }
}

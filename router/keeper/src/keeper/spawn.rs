//! Makes the first process of an instance, with its pipes, cgroup and namespaces.

use super::init::{self, Inheritance};
use crate::message::ProcessSpec;
use crate::program::Ended;
use crate::system::{self, Cloned};
use margay_core::id::InstanceId;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use thiserror::Error;

/// The capacity of a log pipe: what an instance may say while no daemon listens.
///
/// A program that says more waits in its `write`, as it would on a slow terminal, until a daemon
/// reads again: a line once written is never lost. The kernel's default bound for unprivileged
/// users, and seconds of a chatty server.
const LOG_PIPE_BYTES: libc::c_int = 1 << 20;

/// The most that is read of an init's report, which is one or two short lines.
const REPORT_BYTES_READ: u64 = 4096;

/// What is set in each new network namespace: programs without capabilities may bind every port
/// and ask for ICMP echo.
const NAMESPACE_SETTINGS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// The namespaces of an instance that are new for each run of its program. The network namespace
/// outlives the program; the cgroup namespace is made by the init itself.
const FRESH_NAMESPACES: libc::c_int =
    libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// Why a process or namespace could not be made.
#[derive(Debug, Error)]
#[error("cannot {step}: {source}; {hint}")]
pub(super) struct SpawnError {
    step: String,
    source: std::io::Error,
    hint: &'static str,
}

fn failed(step: String, hint: &'static str) -> impl FnOnce(std::io::Error) -> SpawnError {
    move |source| SpawnError { step, source, hint }
}

/// A running init.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    /// Readable once the process has ended.
    pub(super) pidfd: OwnedFd,
    /// Where it reports the end of its program.
    pub(super) report: OwnedFd,
}

/// Makes a log pipe: its read end (non-blocking) and its write end.
pub(super) fn log_pipe() -> Result<(OwnedFd, OwnedFd), SpawnError> {
    let make = || -> Result<_, Errno> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&write, FcntlArg::F_SETPIPE_SZ(LOG_PIPE_BYTES))?;
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((read, write))
    };
    make().map_err(|error| {
        failed(
            "make a log pipe".into(),
            "the keeper needs free memory and descriptors",
        )(error.into())
    })
}

/// Makes a network namespace in which nothing runs yet.
pub(super) fn network_namespace(instance: InstanceId) -> Result<OwnedFd, SpawnError> {
    let hint = "the keeper needs root and a kernel with network namespaces";
    let step = || format!("make a network namespace for instance {instance}");
    let home = File::open("/proc/self/ns/net").map_err(failed(step(), hint))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| failed(step(), hint)(error.into()))?;
    let made = NAMESPACE_SETTINGS
        .iter()
        .try_for_each(|(setting, value)| fs::write(setting, value))
        .and_then(|()| File::open("/proc/self/ns/net"));
    // Nothing of the keeper may go on in a namespace of an instance.
    setns(&home, CloneFlags::CLONE_NEWNET).expect("the way back to one's own namespace is open");
    Ok(made.map_err(failed(step(), hint))?.into())
}

/// Starts the init of `spec`, which starts its program.
pub(super) fn start(
    spec: &ProcessSpec,
    namespace: BorrowedFd<'_>,
    log: BorrowedFd<'_>,
) -> Result<Process, SpawnError> {
    fs::create_dir_all(&spec.cgroup).map_err(failed(
        format!("create the cgroup {}", spec.cgroup.display()),
        "is its parent a cgroup of version 2?",
    ))?;
    let step = || format!("start instance {}", spec.instance);
    let hint = "the keeper needs root, free memory and free process ids";
    let os = |error: Errno| failed(step(), hint)(error.into());
    // An earlier program may have left its mark on the pipe that they share.
    fcntl(log, FcntlArg::F_SETFL(OFlag::empty())).map_err(os)?;
    let (report, report_writer) = pipe2(OFlag::O_CLOEXEC).map_err(os)?;
    fcntl(&report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(os)?;
    match system::clone_process(FRESH_NAMESPACES).map_err(os)? {
        Cloned::Child => {
            drop(report);
            init::run(
                spec,
                Inheritance {
                    namespace,
                    log,
                    report: report_writer,
                },
            )
        }
        Cloned::Parent { child, pidfd } => Ok(Process {
            pid: child,
            pidfd,
            report,
        }),
    }
}

impl Process {
    /// Reaps the ended process; says how its program ended.
    pub(super) fn reap(self) -> String {
        let status = waitpid(self.pid, None).ok().and_then(Ended::from_status);
        let mut report = Vec::new();
        // It is non-blocking and its writers are dead: what can be read is all there is.
        let _ = File::from(self.report)
            .take(REPORT_BYTES_READ)
            .read_to_end(&mut report);
        match String::from_utf8_lossy(&report).lines().next() {
            Some(line) => line.to_owned(),
            None => status.map_or_else(|| "ended in an unknown way".into(), |s| s.to_string()),
        }
    }
}

//! Runs a command inside an instance, confined like its program.
//!
//! ```text
//!   caller ── fork ──► joiner ── setns, fork ──► command
//!   waits              minds it, outside the     inside: cgroup, namespaces, user, no privileges
//!                      pid namespace
//! ```

pub use crate::confinement::DEFAULT_USER_BASE;

use crate::confinement::{
    ConfinementError, STATE_DIRECTORY, Step, User, lower_limits, renounce_privileges,
};
use crate::program::{CANNOT_RUN, Ended, become_program, mind};
use crate::system;
use margay_core::id::InstanceId;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fchown, fork, getpid, getppid, pipe2, setsid};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use thiserror::Error;

/// The most that is read of why a command cannot run.
const REPORT_BYTES_MAX: u64 = 4096;

/// The instance that a command joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceTarget {
    /// The instance.
    pub instance: InstanceId,
    /// The process id of its init, see [`crate::InstanceStatus`].
    pub init_pid: i32,
    /// Its cgroup, as in its [`crate::ProcessSpec`].
    pub cgroup: PathBuf,
    /// Its user, as in its [`crate::ProcessSpec`].
    pub user: Option<String>,
    /// Environment beyond `PATH`, `HOME` and `STATE_DIRECTORY`, or instead of them.
    pub environment: BTreeMap<String, String>,
}

/// Why a command did not run in an instance.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The instance has no such init.
    #[error("instance {0} does not run; see `margay ps` for those that do")]
    NotRunning(InstanceId),
    /// The instance could not be joined, or the command not be run.
    #[error("instance {instance}: {reason}")]
    Failed {
        /// The instance.
        instance: InstanceId,
        /// What failed, and what to do.
        reason: String,
    },
    /// The kernel refused; joining an instance needs root.
    #[error("cannot {step} to join an instance: {}; are you root?", source.desc())]
    Kernel {
        /// What it refused.
        step: &'static str,
        /// Its answer.
        source: Errno,
    },
}

fn kernel(step: &'static str) -> impl FnOnce(Errno) -> ExecError {
    move |source| ExecError::Kernel { step, source }
}

/// What the joiner needs.
struct Joining {
    init: OwnedFd,
    members: File,
    user: User,
    report: File,
}

/// Runs `command` in the instance with this process's stdin, stdout and stderr, passes SIGINT,
/// SIGTERM and alike on to it, and returns its exit code (128 and more: ended by a signal).
///
/// The command has no controlling terminal, so that it cannot type into the caller's. Best called
/// while the process has one thread.
pub fn exec_in_instance(
    target: &InstanceTarget,
    command: &[String],
) -> Result<ExitCode, ExecError> {
    let failed = |error: ConfinementError| ExecError::Failed {
        instance: target.instance,
        reason: error.to_string(),
    };
    let user = User::find(target.user.as_deref(), target.instance).map_err(failed)?;
    let init = open_init(target)?;
    let members = OpenOptions::new()
        .write(true)
        .open(target.cgroup.join("cgroup.procs"))
        .step(|| format!("open the cgroup {}", target.cgroup.display()))
        .map_err(failed)?;
    let (report_reader, report) = pipe2(OFlag::O_CLOEXEC).map_err(kernel("make a pipe"))?;
    let joining = Joining {
        init,
        members,
        user,
        report: report.into(),
    };

    let _stdio = LentStdio::to(user);
    let _interrupts = SparedFromInterrupts::new().map_err(kernel("ignore signals"))?;
    let caller = getpid();
    // The joiner must not lose a signal before it minds them.
    let mask = SigSet::thread_get_mask().map_err(kernel("block signals"))?;
    SigSet::all()
        .thread_block()
        .map_err(kernel("block signals"))?;
    // SAFETY: the child uses locks of the C library's allocator only, which `fork` keeps usable.
    let forked = unsafe { fork() };
    if !matches!(forked, Ok(ForkResult::Child)) {
        let _ = mask.thread_set_mask();
    }
    let joiner = match forked.map_err(kernel("fork"))? {
        ForkResult::Child => {
            let life = AssertUnwindSafe(|| join_and_mind(joining, caller, target, command));
            let code = catch_unwind(life).unwrap_or(CANNOT_RUN);
            // SAFETY: ends this process without running the caller's exit handlers.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => child,
    };
    drop(joining);
    conclude(target.instance, joiner, report_reader)
}

/// Opens the init and makes sure that it still is that of the instance.
fn open_init(target: &InstanceTarget) -> Result<OwnedFd, ExecError> {
    let gone = || ExecError::NotRunning(target.instance);
    let init = system::pidfd_open(Pid::from_raw(target.init_pid)).map_err(|_| gone())?;
    let members = fs::read_to_string(target.cgroup.join("cgroup.procs")).map_err(|_| gone())?;
    let number = target.init_pid.to_string();
    if members.lines().any(|member| member == number) {
        Ok(init)
    } else {
        Err(gone())
    }
}

/// Waits for the end of the joiner, which ends as the command did.
fn conclude(instance: InstanceId, joiner: Pid, report: OwnedFd) -> Result<ExitCode, ExecError> {
    let mut reason = String::new();
    // Ends when the command runs, or when it never will.
    let _ = File::from(report)
        .take(REPORT_BYTES_MAX)
        .read_to_string(&mut reason);
    let ended = loop {
        match waitpid(joiner, None) {
            Ok(status) => break Ended::from_status(status),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(kernel("wait for the command")(error)),
        }
    };
    if !reason.is_empty() {
        return Err(ExecError::Failed { instance, reason });
    }
    let code = ended.map_or(CANNOT_RUN, Ended::code);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn join_and_mind(
    joining: Joining,
    caller: Pid,
    target: &InstanceTarget,
    command: &[String],
) -> i32 {
    let Joining {
        init,
        members,
        user,
        mut report,
    } = joining;
    if let Err(error) = join(&init, caller) {
        let _ = write!(report, "{error}");
        return CANNOT_RUN;
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let reason = run(members, user, report, target, command);
            // SAFETY: as in the caller.
            unsafe { libc::_exit(reason) }
        }
        Ok(ForkResult::Parent { child }) => {
            // Not the report either: its end tells the caller that the command runs.
            let _ = system::close_from(3);
            std::mem::forget((init, members, report));
            // The command leads a session of its own: what it started is told and ends with it.
            let group = Pid::from_raw(-child.as_raw());
            mind(child, group).map_or(CANNOT_RUN, Ended::code)
        }
        Err(error) => {
            let _ = write!(
                report,
                "cannot fork in the instance: {}; did it end?",
                error.desc()
            );
            CANNOT_RUN
        }
    }
}

/// Enters the instance's namespaces; the pid namespace is that of children only.
fn join(init: &OwnedFd, caller: Pid) -> Result<(), ConfinementError> {
    set_pdeathsig(Signal::SIGTERM).step(|| "tie it to its caller".into())?;
    if getppid() != caller {
        return Err(Errno::ESRCH).step(|| "tie it to its caller".into());
    }
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    setns(init, namespaces).step(|| "enter its namespaces".into())?;
    std::env::set_current_dir(STATE_DIRECTORY).step(|| format!("enter {STATE_DIRECTORY}"))
}

/// Becomes the command; returns an exit code only if it cannot.
fn run(
    mut members: File,
    user: User,
    report: File,
    target: &InstanceTarget,
    command: &[String],
) -> i32 {
    let mut confine = || -> Result<(), ConfinementError> {
        // Zero means the writer itself, whatever its number in which namespace.
        members.write_all(b"0").step(|| "enter its cgroup".into())?;
        setsid().step(|| "open a session".into())?;
        lower_limits()?;
        renounce_privileges(user)?;
        set_pdeathsig(Signal::SIGKILL).step(|| "tie it to its caller".into())
    };
    let mut report = report;
    if let Err(error) = confine() {
        let _ = write!(report, "{error}");
        return CANNOT_RUN;
    }
    std::mem::forget(members);
    if let Ok(report) = system::keep_only_stdio_and(report.into()) {
        let reason = become_program(command, &target.environment);
        let _ = write!(File::from(report), "{reason}");
    }
    CANNOT_RUN
}

/// While it lives, pipes and terminals of this process's stdio belong to the instance's user, so
/// that the command can open /dev/stdout by its name.
struct LentStdio(Vec<(BorrowedFd<'static>, Uid, Gid)>);

impl LentStdio {
    fn to(user: User) -> LentStdio {
        let mut owners = Vec::new();
        for raw in 0..=2 {
            // SAFETY: nobody closes the standard descriptors of this process.
            let fd = unsafe { BorrowedFd::borrow_raw(raw) };
            let Ok(status) = fstat(fd) else { continue };
            let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
            let lendable = kind == SFlag::S_IFIFO || fd.is_terminal();
            if lendable && fchown(fd, Some(user.uid), Some(user.gid)).is_ok() {
                owners.push((
                    fd,
                    Uid::from_raw(status.st_uid),
                    Gid::from_raw(status.st_gid),
                ));
            }
        }
        LentStdio(owners)
    }
}

impl Drop for LentStdio {
    fn drop(&mut self) {
        // Backwards: one terminal may be all three, and the first look saw its true owner.
        for (fd, uid, gid) in self.0.iter().rev() {
            let _ = fchown(fd.as_fd(), Some(*uid), Some(*gid));
        }
    }
}

/// While it lives, this process lets SIGINT and SIGQUIT pass, which are meant for the command.
struct SparedFromInterrupts([(Signal, SigAction); 2]);

impl SparedFromInterrupts {
    fn new() -> Result<Self, Errno> {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: SIG_IGN installs no code.
        let interrupt = unsafe { sigaction(Signal::SIGINT, &ignore) }?;
        // SAFETY: as above.
        let quit = unsafe { sigaction(Signal::SIGQUIT, &ignore) }?;
        Ok(Self([(Signal::SIGINT, interrupt), (Signal::SIGQUIT, quit)]))
    }
}

impl Drop for SparedFromInterrupts {
    fn drop(&mut self) {
        for (signal, action) in &self.0 {
            // SAFETY: this was in force before.
            let _ = unsafe { sigaction(*signal, action) };
        }
    }
}

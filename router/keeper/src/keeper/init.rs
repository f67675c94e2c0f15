//! The first process of an instance: confines itself, forks the program, minds it to its end.

use crate::confinement::{
    STATE_DIRECTORY, Step, User, build_filesystem, lower_limits, renounce_privileges,
};
use crate::message::ProcessSpec;
use crate::program::{CANNOT_RUN, become_program, mind};
use crate::system;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fchown, fork, setsid};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::chown;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The most that an init reports: one atomic write into a pipe, far below its capacity.
const REPORT_BYTES_MAX: usize = 1024;

/// The descriptors that an init starts with.
pub(super) struct Inheritance<'a> {
    /// The network namespace to join.
    pub(super) namespace: BorrowedFd<'a>,
    /// The write end of the log pipe.
    pub(super) log: BorrowedFd<'a>,
    /// Where the end of the program is reported; the first line counts.
    pub(super) report: OwnedFd,
}

/// Lives the life of an init in this freshly cloned process.
pub(super) fn run(spec: &ProcessSpec, inheritance: Inheritance<'_>) -> ! {
    // A panic must not unwind into the code of the keeper, of which this process is a copy.
    let outcome = catch_unwind(AssertUnwindSafe(|| confine_and_mind(spec, inheritance)));
    let code = outcome.unwrap_or(CANNOT_RUN);
    // SAFETY: ends this process without running the keeper's own exit handlers.
    unsafe { libc::_exit(code) }
}

fn confine_and_mind(spec: &ProcessSpec, inheritance: Inheritance<'_>) -> i32 {
    let Inheritance {
        namespace,
        log,
        report,
    } = inheritance;
    let mut report = File::from(report);
    if let Err(error) = confine(spec, namespace, log, &report) {
        tell(
            &mut report,
            &format!("cannot confine `{}`: {error}", spec.name),
        );
        return CANNOT_RUN;
    }
    let mut report = match system::keep_only_stdio_and(report.into()) {
        Ok(report) => File::from(report),
        Err(_) => return CANNOT_RUN,
    };
    match start_and_mind(spec, &mut report) {
        Ok(code) => code,
        Err(error) => {
            tell(
                &mut report,
                &format!("cannot start `{}`: {}", spec.name, error.desc()),
            );
            CANNOT_RUN
        }
    }
}

fn start_and_mind(spec: &ProcessSpec, report: &mut File) -> Result<i32, Errno> {
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => {
            // Its own session, so that it can lead process groups like under a shell.
            let _ = setsid();
            tell(report, &become_program(&spec.command, &spec.environment));
            // SAFETY: as in `run`.
            unsafe { libc::_exit(CANNOT_RUN) }
        }
        ForkResult::Parent { child } => {
            let ended = mind(child, child)?;
            tell(report, &ended.to_string());
            Ok(ended.code())
        }
    }
}

/// Confines this process, and with it the program to come.
fn confine(
    spec: &ProcessSpec,
    namespace: BorrowedFd<'_>,
    log: BorrowedFd<'_>,
    report: &File,
) -> Result<(), crate::confinement::ConfinementError> {
    die_with_the_keeper(report).step(|| "tie it to the keeper".into())?;
    setsid().step(|| "open a session".into())?;
    let _ = prctl::set_name(c"margay-init");
    // If the keeper could not lower its own, there is nothing to undo.
    let _ = fs::write(super::KILL_PRIORITY_FILE, super::INSTANCE_KILL_PRIORITY);
    // Not by CLONE_INTO_CGROUP: some kernels (6.18 among them) kill what is cloned into a cgroup
    // that was ever killed, and an instance starts again in the cgroup that it was stopped in.
    fs::write(spec.cgroup.join("cgroup.procs"), "0").step(|| "enter its cgroup".into())?;
    setns(namespace, CloneFlags::CLONE_NEWNET).step(|| "enter its network namespace".into())?;
    // Only now: the root of the new namespace is the cgroup that this process is in.
    unshare(CloneFlags::CLONE_NEWCGROUP).step(|| "hide the host's cgroups".into())?;
    nix::unistd::sethostname(&spec.name).step(|| format!("be called {}", spec.name))?;

    let user = User::find(spec.user.as_deref(), spec.instance)?;
    fs::create_dir_all(&spec.state_dir).step(|| format!("create {}", spec.state_dir.display()))?;
    chown(
        &spec.state_dir,
        Some(user.uid.as_raw()),
        Some(user.gid.as_raw()),
    )
    .step(|| format!("give {} to user {}", spec.state_dir.display(), user.uid))?;
    // So that the program can open /dev/stdout by its name.
    fchown(log, Some(user.uid), Some(user.gid)).step(|| "give the log to its user".into())?;

    build_filesystem(&spec.etc_dir, &spec.state_dir)?;
    std::env::set_current_dir(STATE_DIRECTORY).step(|| format!("enter {STATE_DIRECTORY}"))?;
    let nothing = File::open("/dev/null").step(|| "open /dev/null".into())?;
    dup2_stdin(nothing.as_fd()).step(|| "redirect stdin".into())?;
    dup2_stdout(log).step(|| "redirect stdout".into())?;
    dup2_stderr(log).step(|| "redirect stderr".into())?;

    lower_limits()?;
    renounce_privileges(user)?;
    // The kernel forgot it when the user changed.
    die_with_the_keeper(report).step(|| "tie it to the keeper".into())
}

/// Has the kernel kill this process, and so the whole instance, when the keeper dies.
fn die_with_the_keeper(report: &File) -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // If it died before that, nobody holds the other end of the report any more.
    let mut end = [PollFd::new(report.as_fd(), PollFlags::empty())];
    poll(&mut end, PollTimeout::ZERO)?;
    match end[0].revents() {
        Some(events) if events.contains(PollFlags::POLLERR) => Err(Errno::EPIPE),
        _ => Ok(()),
    }
}

/// Writes one line into the report; if nobody reads it, nobody misses it.
fn tell(report: &mut File, text: &str) {
    let line: String = text.chars().filter(|letter| *letter != '\n').collect();
    let bytes = &line.as_bytes()[..line.len().min(REPORT_BYTES_MAX)];
    let _ = report.write_all(&[bytes, b"\n"].concat());
}

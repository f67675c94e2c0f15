//! Becoming a program, and minding it: what the init of an instance and a joining command share.

use crate::confinement::STATE_DIRECTORY;
use crate::system;
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where programs are searched unless the environment says otherwise.
const STANDARD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The exit code of a process that could not become its program (as shells have it).
pub(crate) const CANNOT_RUN: i32 = 127;

/// What a minder passes on; all others concern itself.
const FORWARDED: [libc::c_int; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGWINCH,
];

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(nix::sys::signal::Signal),
}

impl Ended {
    /// The exit code that stands for it, as shells have it.
    pub(crate) fn code(self) -> i32 {
        match self {
            Ended::Code(code) => code,
            Ended::Signal(signal) => 128 + signal as i32,
        }
    }

    /// Reads the status of a process that has ended.
    pub(crate) fn from_status(status: WaitStatus) -> Option<Ended> {
        match status {
            WaitStatus::Exited(_, code) => Some(Ended::Code(code)),
            WaitStatus::Signaled(_, signal, _) => Some(Ended::Signal(signal)),
            _ => None,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Code(code) => write!(f, "exited with code {code}"),
            Ended::Signal(signal) => write!(f, "killed by {signal}"),
        }
    }
}

/// Replaces this process by the program; returns only to say why it cannot.
///
/// `extra` is environment beyond the standard one, or instead of it.
pub(crate) fn become_program(command: &[String], extra: &BTreeMap<String, String>) -> String {
    let Some((program, arguments)) = command.split_first() else {
        return "cannot run nothing; give `command` a program".into();
    };
    if let Err(error) = system::reset_signals() {
        return format!(
            "cannot run `{program}`: resetting its signals: {}",
            error.desc()
        );
    }
    let mut environment = BTreeMap::from([
        ("PATH", STANDARD_PATH),
        ("HOME", STATE_DIRECTORY),
        ("STATE_DIRECTORY", STATE_DIRECTORY),
    ]);
    environment.extend(
        extra
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str())),
    );
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&environment)
        .exec();
    let path = environment.get("PATH").copied().unwrap_or_default();
    let reason = error.raw_os_error().map_or_else(
        || error.to_string(),
        |code| Errno::from_raw(code).desc().to_owned(),
    );
    format!(
        "cannot run `{program}`: {reason}; check `command` (a program of this host, by its path \
         or in {path}; of a script also its first line)"
    )
}

/// Passes signals on to `told` and reaps whatever ends, until `program` has ended.
///
/// `told` is the program, or its process group as a negative number.
/// All signals must be blocked in the caller since before `program` was forked.
pub(crate) fn mind(program: Pid, told: Pid) -> Result<Ended, Errno> {
    loop {
        match system::take_signal()? {
            libc::SIGCHLD => {
                if let Some(ended) = reap(program)? {
                    return Ok(ended);
                }
            }
            // A program that has just ended needs no signal.
            signal if FORWARDED.contains(&signal) => drop(system::send_signal(told, signal)),
            _ => {}
        }
    }
}

/// Reaps every child that has ended; says so if `program` is one of them.
fn reap(program: Pid) -> Result<Option<Ended>, Errno> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
            Ok(status) if status.pid() == Some(program) => ended = Ended::from_status(status),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
}

//! The keeper's binary: reads its arguments, then hands over to the library.

use margay_keeper::keeper::{Keeper, READY, check_snapshot};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
use std::error::Error;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: margay-keeper --socket PATH [--log FILE] [--detach]
       margay-keeper --version

Parents Margay's instances and holds their descriptors, so that the daemon may die.
  --socket PATH  listen here (beside it, PATH.lock is held)
  --log FILE     append what happens to FILE instead of stderr
  --detach       return once it listens, and go on in the background";

/// What the arguments ask for.
enum Task {
    Serve {
        socket: PathBuf,
        log: Option<PathBuf>,
        detach: bool,
    },
    Resume(RawFd),
    CheckSnapshot,
    Version,
    Help,
}

fn main() -> ExitCode {
    let outcome = parse(std::env::args_os().skip(1)).and_then(perform);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("margay-keeper: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Task, Box<dyn Error>> {
    let (mut socket, mut log, mut detach) = (None, None, false);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| format!("{} needs a value", argument.display()))
        };
        match argument.to_str() {
            Some("--socket") => socket = Some(PathBuf::from(value()?)),
            Some("--log") => log = Some(PathBuf::from(value()?)),
            Some("--detach") => detach = true,
            Some("--resume") => {
                let number = value()?;
                return Ok(Task::Resume(number.to_string_lossy().parse()?));
            }
            Some("--check-snapshot") => return Ok(Task::CheckSnapshot),
            Some("--version") => return Ok(Task::Version),
            Some("--help") => return Ok(Task::Help),
            _ => return Err(format!("unknown argument {}\n{USAGE}", argument.display()).into()),
        }
    }
    let socket = socket.ok_or_else(|| format!("--socket is missing\n{USAGE}"))?;
    Ok(Task::Serve {
        socket,
        log,
        detach,
    })
}

fn perform(task: Task) -> Result<(), Box<dyn Error>> {
    match task {
        Task::Serve {
            socket,
            log,
            detach,
        } => serve(&socket, log.as_deref(), detach),
        Task::Resume(snapshot) => {
            // SAFETY: the predecessor left this descriptor open for us alone.
            let snapshot = unsafe { OwnedFd::from_raw_fd(snapshot) };
            Ok(Keeper::resume(snapshot)?.run()?)
        }
        Task::CheckSnapshot => {
            check_snapshot(std::io::stdin().lock())?;
            println!("{READY} {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Task::Version => {
            println!("margay-keeper {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Task::Help => {
            println!("{USAGE}");
            Ok(())
        }
    }
}

fn serve(socket: &Path, log: Option<&Path>, detach: bool) -> Result<(), Box<dyn Error>> {
    let socket = std::path::absolute(socket)?;
    let log = match log {
        Some(path) => Some(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| format!("cannot open the log {}: {error}", path.display()))?,
        ),
        None => None,
    };
    let mut keeper = Keeper::bind(&socket)?;
    if detach {
        // SAFETY: this process has one thread.
        if let ForkResult::Parent { .. } = unsafe { fork() }? {
            // It listens already: whoever started us may connect now.
            return Ok(());
        }
        setsid()?;
        let nothing = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        dup2_stdin(&nothing)?;
        dup2_stdout(&nothing)?;
        if log.is_none() {
            dup2_stderr(&nothing)?;
        }
    }
    if let Some(log) = log {
        dup2_stderr(&log)?;
    }
    std::env::set_current_dir("/")?;
    keeper.begin();
    Ok(keeper.run()?)
}

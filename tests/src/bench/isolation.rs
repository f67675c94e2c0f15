//! Runs a whole benchmark in namespaces of its own, so that it leaves nothing behind.
//!
//! The outer process starts the program again inside. The inner process is the first of its PID
//! namespace: when it ends, or is ended, the kernel kills all that it started, and every network
//! namespace, mount and map that only they held goes too. The outer process then removes the two
//! directories that no namespace takes along: scratch and cgroup.

use crate::bench::config::search_path;
use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::geteuid;
use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::{fs, io};

/// The option by which the program, started again, learns that it is inside, and its directory.
pub const SCRATCH_OPTION: &str = "--scratch";

/// How the names of both directories begin; the outer process's id follows.
const PREFIX: &str = "margay-bench-";

/// The niceness of everything inside: a neighbour's work is not part of the figures.
const NICENESS: i32 = -15;

/// Starts this program again with `arguments`, isolated, and waits for its end.
pub fn run_isolated(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    if !geteuid().is_root() {
        bail!("the benchmark makes namespaces and loads packet filters: run it as root");
    }
    let program = std::env::current_exe().context("find this program's own file")?;
    let name = format!("{PREFIX}{}-", std::process::id());
    let scratch = tempfile::Builder::new().prefix(&name).tempdir()?;
    let _cgroup = Cgroup::of(scratch.path())?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID)
        .context("make namespaces for the benchmark")?;
    let mut inner = Command::new(program);
    inner
        .args(arguments)
        .arg(SCRATCH_OPTION)
        .arg(scratch.path());
    inner.env("PATH", search_path()?);
    // A group of its own: Ctrl-C reaches only this process, which then ends the inner one.
    let mut inner = inner
        .process_group(0)
        .spawn()
        .context("start the benchmark inside")?;
    wait_or_end(&mut inner)
}

/// Waits for the inner process; a signal to this one ends it.
fn wait_or_end(inner: &mut Child) -> Result<ExitCode> {
    let mut awaited = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
    ] {
        awaited.add(signal);
    }
    awaited.thread_block()?;
    loop {
        if let Some(status) = inner.try_wait()? {
            return Ok(exit_code(status));
        }
        match awaited.wait() {
            Ok(Signal::SIGCHLD) | Err(Errno::EINTR) => {}
            Ok(signal) => {
                inner.kill()?;
                inner.wait()?;
                eprintln!("ended by {signal}; nothing is left behind");
                return Ok(ExitCode::from(128 + signal as u8));
            }
            Err(error) => return Err(error).context("wait for a signal"),
        }
    }
}

/// Finishes the isolation from inside; `scratch` was given by the outer process.
pub fn settle_inside(scratch: &Path) -> Result<()> {
    if std::process::id() != 1 || !scratch.is_dir() {
        bail!("{SCRATCH_OPTION} is set by the benchmark itself: leave it out");
    }
    prctl::set_pdeathsig(Signal::SIGKILL).context("tie this process to the outer one")?;
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("keep mounts to ourselves")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
        .context("mount /proc for the new PID namespace")?;
    // In memory: no disk is part of the figures.
    mount(
        Some("scratch"),
        scratch,
        Some("tmpfs"),
        flags,
        Some("mode=755"),
    )
    .with_context(|| format!("mount a tmpfs at {}", scratch.display()))?;
    if let Some((root, ours)) = cgroup_places(scratch)? {
        mount(
            Some(&ours),
            &root,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .with_context(|| format!("confine cgroups to {}", ours.display()))?;
    }
    // SAFETY: setpriority takes three integers and touches no memory of this process.
    let outcome = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, NICENESS) };
    Errno::result(outcome).context("raise this process's priority")?;
    Ok(())
}

/// The cgroup below which everything inside makes its own; removed when this value goes.
struct Cgroup(Option<PathBuf>);

impl Cgroup {
    fn of(scratch: &Path) -> Result<Cgroup> {
        let Some((root, ours)) = cgroup_places(scratch)? else {
            return Ok(Cgroup(None));
        };
        sweep(&root)?;
        fs::create_dir(&ours).with_context(|| format!("make the cgroup {}", ours.display()))?;
        Ok(Cgroup(Some(ours)))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_deref().map(remove_cgroup) {
            eprintln!("a cgroup is left behind: {error}");
        }
    }
}

/// Where the machine's cgroups (version 2) begin, and where those of this benchmark do.
fn cgroup_places(scratch: &Path) -> Result<Option<(PathBuf, PathBuf)>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let root = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    });
    Ok(root
        .zip(scratch.file_name())
        .map(|(root, name)| (root.clone(), root.join(name))))
}

/// Removes the cgroups of benchmarks whose outer process was killed before it could.
fn sweep(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).context("list the cgroups")? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Another benchmark that starts now may be the one that removes it.
            let _ = remove_cgroup(&entry.path());
        }
    }
    Ok(())
}

/// Removes a cgroup and those below it, which are its only directories.
fn remove_cgroup(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

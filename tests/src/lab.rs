//! A whole Margay host on this machine, in namespaces of its own that end with their owner.

mod cgroup;
mod disk;
mod namespaces;
pub mod network;
pub mod programs;
mod reading;
mod signals;
pub mod topology;
mod wait;

pub use namespaces::PLACE;
pub use network::Lab;
pub use reading::{Flow, Instance, Status};
pub use signals::{end_on_signal, on_signal};
pub use topology::Topology;
pub use wait::until;

use anyhow::{Context, Result, bail, ensure};
use disk::Disk;
use namespaces::Namespaces;
use nix::sched::{CloneFlags, setns};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// How long a daemon may take to answer after its start, on a busy machine.
const START_MAX: Duration = Duration::from_secs(20);

/// How long `margay down` may take before the kernel is asked to end everything.
const DOWN_SECONDS_MAX: &str = "15";

/// How long a killed process may take to be gone.
const GONE_SECONDS_MAX: &str = "10";

/// The first process of a pid namespace is gone when all others in it are.
const KILL: &str = r#"kill -9 "$1" && while kill -0 "$1" 2>/dev/null; do :; done"#;

/// How much of the daemon's log a failure shows.
const LOG_BYTES_SHOWN: usize = 8 * 1024;

/// A host: namespaces, a daemon in them, and the command line to talk to it.
pub struct Host {
    namespaces: Namespaces,
    binaries: PathBuf,
    daemon: Mutex<Option<Child>>,
    /// How far the daemon's time of day is off, as libfaketime reads it.
    clock: Mutex<Option<String>>,
    log: NamedTempFile,
    /// Held by whoever ends the host; the others wait until it is gone.
    ending: Mutex<()>,
}

impl Host {
    /// Makes a host and waits until its daemon answers.
    pub fn start() -> Result<Host> {
        let host = Host::without_daemon()?;
        host.start_daemon().with_context(|| host.log_tail())?;
        Ok(host)
    }

    /// Makes a host with no daemon in it yet.
    pub fn without_daemon() -> Result<Host> {
        Host::boot(None)
    }

    /// Makes a host that has a name of its own, if there is one.
    fn boot(name: Option<&str>) -> Result<Host> {
        Ok(Host {
            namespaces: Namespaces::new(name)?,
            binaries: binaries()?,
            daemon: Mutex::new(None),
            clock: Mutex::new(None),
            log: tempfile::Builder::new()
                .append(true)
                .tempfile()
                .context("cannot make a file for the daemon's log")?,
            ending: Mutex::new(()),
        })
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&self) -> Result<()> {
        self.start_daemon_with(&[])
    }

    /// Starts the daemon with further options of `margay up`, and waits until it answers.
    pub fn start_daemon_with(&self, options: &[&str]) -> Result<()> {
        self.spawn_daemon(options)?;
        until("the daemon answers", START_MAX, || {
            if let Some(child) = self.daemon().as_mut()
                && let Some(status) = child.try_wait()?
            {
                bail!("the daemon ended at once ({status})");
            }
            Ok(self.status().ok())
        })?;
        Ok(())
    }

    /// Starts the daemon and does not wait for it.
    pub fn spawn_daemon(&self, options: &[&str]) -> Result<()> {
        for name in ["margay", "margay-keeper"] {
            let path = self.binary(name);
            ensure!(
                path.is_file(),
                "no {}; build it: cargo build -p {name}",
                path.display()
            );
        }
        let mut command = self.daemon_command()?;
        command.args(["up", "--state"]).arg(state_directory());
        command.arg("--run").arg(run_directory()).args(options);
        let log = || {
            self.log
                .as_file()
                .try_clone()
                .context("cannot share the log")
        };
        command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        let child = command.spawn().context("cannot start the daemon")?;
        *self.daemon() = Some(child);
        Ok(())
    }

    /// Lets the daemon's time of day be off by `off`, such as `+1h`, from its next start on. Its
    /// monotonic clock goes as all others do.
    pub fn shift_clock(&self, off: &str) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        *clock = Some(off.to_owned());
    }

    /// Nobody has a namespace for the time of day (time_namespaces(7)): a daemon whose clock is off
    /// reads it through libfaketime.
    fn daemon_command(&self) -> Result<Command> {
        let margay = self.binary("margay");
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(off) = clock.as_ref() else {
            return Ok(self.namespaces.command(margay));
        };
        let mut command = self.namespaces.command("env");
        command.arg(format!("LD_PRELOAD={}", libfaketime()?.display()));
        command.arg(format!("FAKETIME={off}"));
        command.arg("FAKETIME_DONT_FAKE_MONOTONIC=1").arg(margay);
        Ok(command)
    }

    /// Waits until the daemon has ended by itself.
    pub fn wait_for_daemon(&self) -> Result<()> {
        if let Some(mut child) = self.daemon().take() {
            child.wait().context("cannot wait for the daemon")?;
        }
        Ok(())
    }

    /// Kills the daemon with SIGKILL, waits until it is gone, and says when the signal was sent.
    pub fn kill_daemon(&self) -> Result<Instant> {
        self.kill_daemon_at(self.status()?.pid)
    }

    /// Kills the daemon, whose process is known already: at once, whatever it is busy with.
    pub fn kill_daemon_at(&self, pid: u32) -> Result<Instant> {
        let sent = self.kill(pid)?;
        if let Some(mut child) = self.daemon().take() {
            child.wait().context("cannot wait for the daemon")?;
        }
        Ok(sent)
    }

    /// Kills the daemon with SIGKILL wherever it is in its life, also before it answers.
    pub fn kill_daemon_unasked(&self) -> Result<()> {
        self.signal_daemon("KILL")
    }

    /// Ends the daemon as an upgrade does, by SIGTERM, and waits until it is gone.
    pub fn stop_daemon(&self) -> Result<()> {
        self.signal_daemon("TERM")
    }

    fn signal_daemon(&self, signal: &str) -> Result<()> {
        let mut command = self.command("pkill");
        // `margay up`, not what it was entered by, nor `margay apply`.
        let pattern = format!("^{} up ", self.binary("margay").display());
        let output = command
            .args(["-f", "--signal", signal, &pattern])
            .output()?;
        // One that is not there any more needs no signal.
        ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "cannot signal the daemon: {}",
            stderr(&output)
        );
        if let Some(mut child) = self.daemon().take() {
            child.wait().context("cannot wait for the daemon")?;
        }
        Ok(())
    }

    /// Lets the whole host stand still, as a machine that is suspended; [`Host::thaw`] lets it go on.
    pub fn freeze(&self) -> Result<()> {
        self.namespaces.freeze(true)
    }

    /// Lets a host go on that stood still.
    pub fn thaw(&self) -> Result<()> {
        self.namespaces.freeze(false)
    }

    /// Kills a process of the host with SIGKILL, waits until nothing is left of it, and says when
    /// the signal was sent.
    pub fn kill(&self, pid: u32) -> Result<Instant> {
        let sent = Instant::now();
        let mut command = self.command("timeout");
        command.args([GONE_SECONDS_MAX, "sh", "-c", KILL, "sh", &pid.to_string()]);
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "cannot kill {pid}: {}",
            stderr(&output)
        );
        Ok(sent)
    }

    /// Where we find what the host has at `path`.
    pub fn inside(&self, path: impl AsRef<Path>) -> PathBuf {
        self.namespaces.inside(path.as_ref())
    }

    /// A command that will run in the host's namespaces.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        self.namespaces.command(program)
    }

    /// A command that will run inside an instance.
    pub fn exec(&self, instance: &str, words: &[&str]) -> Command {
        let mut command = self.margay(&["exec", instance, "--"]);
        command.args(words);
        command
    }

    /// Runs a command inside an instance and returns what it printed, or why it failed.
    pub fn run(&self, instance: &str, words: &[&str]) -> Result<String> {
        let output = self.exec(instance, words).stdin(Stdio::null()).output()?;
        let said = || format!("{}{}", stdout(&output), stderr(&output));
        ensure!(
            output.status.success(),
            "`{}` in {instance} failed ({}): {}",
            words.join(" "),
            output.status,
            said()
        );
        Ok(stdout(&output))
    }

    /// A `margay` command to this host's daemon.
    pub fn margay(&self, words: &[&str]) -> Command {
        let mut command = self.namespaces.command(self.binary("margay"));
        command.arg("--run").arg(run_directory()).args(words);
        command
    }

    /// Applies a composition.
    pub fn apply(&self, composition: &str) -> Result<()> {
        let path = self.write("composition.toml", composition)?;
        self.answer(&["apply", &path.display().to_string()])?;
        Ok(())
    }

    /// The instances, by `margay ps`.
    pub fn instances(&self) -> Result<Vec<Instance>> {
        self.read(&["ps", "--json"])
    }

    /// The flows, by `margay flows`.
    pub fn flows(&self) -> Result<Vec<Flow>> {
        self.read(&["flows", "--json"])
    }

    /// The drops by reason, by `margay drops`.
    pub fn drops(&self) -> Result<BTreeMap<String, u64>> {
        self.read(&["drops", "--json"])
    }

    /// The daemon, by `margay status`.
    pub fn status(&self) -> Result<Status> {
        self.read(&["status", "--json"])
    }

    /// Waits until every instance of the host is ready and returns them.
    pub fn until_ready(&self, limit: Duration) -> Result<Vec<Instance>> {
        let ready = until("every instance is ready", limit, || {
            let instances = self.instances()?;
            let all = !instances.is_empty() && instances.iter().all(|it| it.ready);
            Ok(all.then_some(instances))
        });
        ready.with_context(|| format!("instances: {:#?}", self.instances()))
    }

    /// Writes a file that instances can read and returns its path inside the host.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<PathBuf> {
        self.namespaces.write(name, bytes.as_ref())
    }

    /// Ends every process at once, as if the power failed, and keeps what was on the disk.
    fn power_off(&self) -> Result<Disk> {
        let _ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = Disk::hold(&self.namespaces)?;
        let daemon = self.daemon().take();
        self.namespaces.end();
        if let Some(mut child) = daemon {
            child.wait().context("cannot wait for the daemon")?;
        }
        Ok(disk)
    }

    /// Ends everything: the instances, the keeper, the daemon, the namespaces. May be called twice.
    pub fn end(&self) {
        let _ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        self.end_now();
    }

    /// Ends everything, then this program; nobody who ends the host meanwhile goes on.
    fn end_and_exit(&self, status: i32) -> ! {
        let _ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        self.end_now();
        std::process::exit(status)
    }

    fn end_now(&self) {
        // Who stands still ends nothing; a host that is gone needs no thaw.
        self.thaw().ok();
        let daemon = self.daemon().take();
        if self.namespaces.living() && daemon.is_some() {
            // `down` is polite; what it leaves, the kernel ends with the pid namespace.
            let mut command = self.namespaces.command("timeout");
            command.arg(DOWN_SECONDS_MAX).arg(self.binary("margay"));
            command.arg("--run").arg(run_directory()).arg("down");
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().ok();
        }
        self.namespaces.end();
        if let Some(mut child) = daemon {
            child.wait().ok();
        }
    }

    /// The file of all that the daemon and the keeper wrote.
    pub fn log(&self) -> &Path {
        self.log.path()
    }

    /// The end of what the daemon and the keeper wrote.
    pub fn log_tail(&self) -> String {
        match std::fs::read(self.log.path()) {
            Ok(bytes) => {
                let shown = bytes.len().saturating_sub(LOG_BYTES_SHOWN);
                let text = String::from_utf8_lossy(&bytes[shown..]);
                format!("the daemon's log ends with:\n{text}")
            }
            Err(error) => format!("the daemon's log is unreadable: {error}"),
        }
    }

    /// The host's network namespace, for `setns`.
    pub fn network_namespace(&self) -> PathBuf {
        let first_process = self.namespaces.first_process();
        Path::new("/proc").join(first_process).join("ns/net")
    }

    /// A process of the host, which numbers it `pid`, as we number it.
    pub fn process(&self, pid: u32) -> Result<u32> {
        self.namespaces.process(pid)
    }

    fn answer(&self, words: &[&str]) -> Result<String> {
        let output = self.margay(words).stdin(Stdio::null()).output()?;
        let command = words.join(" ");
        ensure!(
            output.status.success(),
            "`margay {command}` failed: {}",
            stderr(&output)
        );
        Ok(stdout(&output))
    }

    fn read<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T> {
        let text = self.answer(words)?;
        let command = words.join(" ");
        serde_json::from_str(&text)
            .with_context(|| format!("`margay {command}` printed what is not expected: {text}"))
    }

    fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Child>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where Debian puts libfaketime, on whatever machine.
fn libfaketime() -> Result<PathBuf> {
    let libraries = Path::new("/usr/lib").read_dir()?.flatten();
    let mut paths = libraries.map(|it| it.path().join("faketime/libfaketime.so.1"));
    let found = paths.find(|path| path.is_file());
    found.context("no libfaketime is installed; `./x setup` installs it")
}

/// Moves the calling thread into a network namespace, for good.
pub fn in_network(namespace: &Path) -> Result<()> {
    let namespace = File::open(namespace).context("the host is gone")?;
    setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the host's network")
}

/// Where the daemon keeps its state, inside the host.
pub fn state_directory() -> PathBuf {
    Path::new(PLACE).join("state")
}

/// Where the daemon's sockets are, inside the host.
pub fn run_directory() -> PathBuf {
    Path::new(PLACE).join("run")
}

/// Where cargo puts programs: this program's directory, or for a test the one above it.
fn binaries() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    let test = own.parent().is_some_and(|it| it.ends_with("deps"));
    let directory = own.ancestors().nth(if test { 2 } else { 1 });
    Ok(directory
        .context("a program lies in a directory")?
        .to_path_buf())
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned()
}

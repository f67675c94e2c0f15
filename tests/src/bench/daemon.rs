//! The daemon under measurement, and how to talk to it.

use crate::bench::config::beside_us;
use crate::bench::namespace::{Namespace, Running, succeeded};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the daemon may take until it answers, and the instances until they are ready.
pub const READY_MAX: Duration = Duration::from_secs(30);

/// Pause between two looks at the daemon.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How much of the daemon's log an error shows, in lines.
const LOG_LINES_SHOWN: usize = 20;

/// The daemon and how to talk to it; dropping it takes the host down.
pub struct Daemon {
    program: PathBuf,
    run: PathBuf,
    /// What it and its keeper write.
    pub log: PathBuf,
    /// Its process.
    pub process: Running,
}

impl Daemon {
    /// Starts a daemon with these options in a network namespace of its own.
    pub fn start(scratch: &Path, options: &[&str]) -> Result<Daemon> {
        let program = beside_us("margay")?;
        let host = Namespace::create()?;
        let (state, run) = (scratch.join("state"), scratch.join("run"));
        let log = scratch.join("margay.log");
        let output = File::create(&log).context("create margay's log")?;
        let mut command = Command::new(&program);
        command
            .arg("up")
            .arg("--state")
            .arg(&state)
            .arg("--run")
            .arg(&run)
            .args(options);
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let process = host.start(&mut command, 0)?;
        Ok(Daemon {
            program,
            run,
            log,
            process,
        })
    }

    /// Applies a composition, by a file in `scratch`.
    pub fn apply(&self, scratch: &Path, composition: &str) -> Result<()> {
        let file = scratch.join("bench.toml");
        fs::write(&file, composition).context("write the composition")?;
        self.ask(&["apply", &file.to_string_lossy()]).map(drop)
    }

    /// Runs one command of the CLI and returns what it writes.
    pub fn ask(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.program);
        command.arg("--run").arg(&self.run).args(arguments);
        let name = format!("margay {}", arguments.join(" "));
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| name.clone())?;
        Ok(succeeded(&name, output)?.stdout)
    }

    /// The instances, by `margay ps`.
    pub fn instances(&self) -> Result<Vec<Instance>> {
        serde_json::from_slice(&self.ask(&["ps", "--json"])?).context("read `margay ps --json`")
    }

    /// Where operators are answered.
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// The process of its keeper.
    pub fn keeper_process(&self) -> Result<u32> {
        let status: Status = serde_json::from_slice(&self.ask(&["status", "--json"])?)
            .context("read `margay status --json`")?;
        Ok(status.keeper_pid)
    }

    /// Looks every so often until there is something to see.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        look: impl Fn(&Daemon) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            self.process.check_alive()?;
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                // What the daemon last said is more use than that time is up.
                self.instances()?;
                bail!("margay did not {what} within {limit:?}");
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A daemon that has ended cannot be asked; the PID namespace ends what it left.
        if self.process.check_alive().is_ok()
            && let Err(error) = self.ask(&["down"])
        {
            eprintln!("take margay down: {error:#}");
        }
    }
}

/// What `margay status --json` says, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Status {
    keeper_pid: u32,
}

/// What `margay ps --json` says of an instance, as far as it is needed here.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    /// `2.web`.
    pub name: String,
    /// It is in answers and gets new flows.
    pub ready: bool,
    /// Its first process.
    pub pid: Option<u32>,
    /// The address that others call, IPv4.
    pub called_v4: Ipv4Addr,
    /// The address that others call, IPv6.
    pub called_v6: Ipv6Addr,
}

impl Instance {
    /// Whether it is the first instance of `automaton`.
    pub fn is(&self, automaton: &str) -> bool {
        self.name == format!("1.{automaton}")
    }
}

/// The end of a log, for an error.
pub fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

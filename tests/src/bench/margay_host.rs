//! A Margay host for the benchmark: the daemon with a server and a client instance.
//!
//! The instances only sleep. The measuring tool enters their network namespaces from outside, so
//! that it runs with the same privileges in every config: an instance itself may not choose every
//! congestion control.

use crate::bench::conditions::SERVER_PORT;
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
const READY_MAX: Duration = Duration::from_secs(30);

/// Pause between two looks at the daemon.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How much of the daemon's log an error shows, in lines.
const LOG_LINES_SHOWN: usize = 20;

/// A running host.
pub struct MargayHost {
    /// The client instance's network namespace.
    pub client: Namespace,
    /// The server instance's network namespace.
    pub server: Namespace,
    /// The server's address that others call, IPv4.
    pub server_v4: Ipv4Addr,
    /// The server's address that others call, IPv6.
    pub server_v6: Ipv6Addr,
    daemon: Daemon,
}

impl MargayHost {
    /// Starts a host in a namespace of its own and waits until both instances are ready.
    pub fn start(scratch: &Path) -> Result<MargayHost> {
        let daemon = Daemon::start(scratch)?;
        let log = daemon.log.clone();
        Self::compose(daemon, scratch)
            .with_context(|| format!("margay's log ends:\n{}", tail(&log)))
    }

    fn compose(mut daemon: Daemon, scratch: &Path) -> Result<MargayHost> {
        daemon.wait_until("answer", |daemon| daemon.instances().ok())?;
        let file = scratch.join("bench.toml");
        fs::write(&file, composition()).context("write the composition")?;
        daemon.ask(&["apply", &file.to_string_lossy()])?;
        let (client, server) = daemon.wait_until("have both instances ready", |daemon| {
            let instances = daemon.instances().ok()?;
            let ready = |name: &str| {
                instances
                    .iter()
                    .find(|instance| instance.is(name) && instance.ready)
                    .cloned()
            };
            Some((ready("client")?, ready("server")?))
        })?;
        Ok(MargayHost {
            client: Namespace::of_process(client.pid.context("the client has no process")?)?,
            server: Namespace::of_process(server.pid.context("the server has no process")?)?,
            server_v4: server.called_v4,
            server_v6: server.called_v6,
            daemon,
        })
    }

    /// The daemon's process id.
    pub fn daemon_process(&self) -> u32 {
        self.daemon.process.id()
    }
}

/// The composition under test: a client that may call a server by TCP and UDP.
fn composition() -> String {
    format!(
        r#"[composition]
name = "bench"
version = 1

[automaton.server]
command = ["sleep", "infinity"]
ports = {{ tcp = {{ port = {SERVER_PORT}, protocol = "tcp" }}, udp = {{ port = {SERVER_PORT}, protocol = "udp" }} }}

[automaton.client]
command = ["sleep", "infinity"]
needs = ["server"]
"#
    )
}

/// The daemon and how to talk to it; dropping it takes the host down.
struct Daemon {
    program: PathBuf,
    run: PathBuf,
    log: PathBuf,
    process: Running,
}

impl Daemon {
    fn start(scratch: &Path) -> Result<Daemon> {
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
            .arg(&run);
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

    /// Runs one command of the CLI and returns what it writes.
    fn ask(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.program);
        command.arg("--run").arg(&self.run).args(arguments);
        let name = format!("margay {}", arguments.join(" "));
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| name.clone())?;
        Ok(succeeded(&name, output)?.stdout)
    }

    fn instances(&self) -> Result<Vec<Instance>> {
        serde_json::from_slice(&self.ask(&["ps", "--json"])?).context("read `margay ps --json`")
    }

    fn wait_until<T>(&mut self, what: &str, look: impl Fn(&Daemon) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            self.process.check_alive()?;
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                // What the daemon last said is more use than that time is up.
                self.instances()?;
                bail!("margay did not {what} within {READY_MAX:?}");
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

/// What `margay ps --json` says of an instance, as far as it is needed here.
#[derive(Clone, Debug, Deserialize)]
struct Instance {
    name: String,
    ready: bool,
    pid: Option<u32>,
    called_v4: Ipv4Addr,
    called_v6: Ipv6Addr,
}

impl Instance {
    /// Whether it is the first instance of `automaton`.
    fn is(&self, automaton: &str) -> bool {
        self.name == format!("1.{automaton}")
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

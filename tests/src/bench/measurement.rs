//! Takes one sample: a fresh server, a fresh client, placed and pinned as the job demands.

use crate::bench::conditions::{Conditions, Pinning, SERVER_PORT};
use crate::bench::config::beside_us;
use crate::bench::metric::Job;
use crate::bench::namespace::{Namespace, Running, succeeded};
use crate::bench::path::Path;
use crate::bench::wire::{READY, Sample};
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Connections are opened for this long before those that count, where user space tidies up behind
/// connections that are over: what it does for the earlier ones then falls into the sample. Margay
/// does so within two seconds.
const LEAD_IN: Duration = Duration::from_millis(1_750);

/// After the sample, so that tidying up falls into nobody else's.
const REST: Duration = Duration::from_millis(2_000);

/// The measuring tool under the conditions of a run.
pub struct Meter {
    wire: PathBuf,
    conditions: Conditions,
}

impl Meter {
    /// Finds the measuring tool.
    pub fn new(conditions: Conditions) -> Result<Meter> {
        Ok(Meter {
            wire: beside_us("wire")?,
            conditions,
        })
    }

    /// Runs `job` once over `path`; flows of the latency job start at `first_source_port`.
    pub fn take(&self, path: &Path, job: Job, first_source_port: u16) -> Result<Vec<Sample>> {
        let pinning = Pinning::of(job);
        for process_id in path.forwarder_processes() {
            pinning.place_forwarder(process_id)?;
        }
        let _server = self.start_server(&path.server, job, path.target, pinning.server())?;
        let mut client = Command::new(&self.wire);
        client.args(["run", job.name(), "--to", &path.target.to_string()]);
        client.args([
            "--congestion-control",
            self.conditions.congestion_control.name(),
        ]);
        client.args([
            "--seconds",
            &self.conditions.sample.as_secs_f64().to_string(),
        ]);
        client.args(["--first-source-port", &first_source_port.to_string()]);
        let is_tidied_up = job == Job::Crr && path.is_tidied_up();
        if is_tidied_up {
            client.args(["--lead-in-seconds", &LEAD_IN.as_secs_f64().to_string()]);
        }
        client
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut client = path.client.start(&mut client, pinning.client())?;
        let output = client.finish()?;
        if is_tidied_up {
            thread::sleep(REST);
        }
        let output = succeeded("the client (ended by SIGALRM: a packet was lost)", output)?;
        let samples: Vec<Sample> =
            serde_json::from_slice(&output.stdout).context("read the client's figures")?;
        let impossible = |sample: &&Sample| sample.value <= 0.0 || !sample.value.is_finite();
        if let Some(sample) = samples.iter().find(impossible) {
            bail!("a figure that cannot be: {sample:?}");
        }
        Ok(samples)
    }

    fn start_server(
        &self,
        namespace: &Namespace,
        job: Job,
        target: SocketAddr,
        cpu: usize,
    ) -> Result<Running> {
        let at = match target {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVER_PORT)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, SERVER_PORT)),
        };
        let mut command = Command::new(&self.wire);
        command.args(["serve", job.name(), "--at", &at.to_string()]);
        command.args([
            "--congestion-control",
            self.conditions.congestion_control.name(),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut server = namespace.start(&mut command, cpu)?;
        let output = server
            .child
            .stdout
            .take()
            .context("the server's piped output")?;
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .context("wait for the server")?;
        if line.trim() != READY {
            bail!("the server did not become ready at {at}");
        }
        Ok(server)
    }
}

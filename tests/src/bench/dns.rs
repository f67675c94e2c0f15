//! `bench dns`: our resolver and the name servers that people use, asked for 10,000 names.

mod load;
mod metric;
mod ours;
mod report;
mod server;
mod zone;

pub use metric::DnsMetric;
pub use ours::serve;
pub use report::{write_json, write_table};
pub use server::Server;

use crate::bench::conditions::{CLAIM_ROUNDS_MIN, require_two_cpus};
use crate::bench::config::{beside_us, require_program};
use crate::bench::report::Series;
use anyhow::{Context as _, Result, bail};
use load::Transport;
use server::Running;
use std::collections::BTreeMap;
use std::path::Path;

/// The most rounds: what a quarter of an hour measures.
const ROUNDS_MAX: usize = 100;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers; knot is always measured too, as ratios refer to it.
    pub servers: Vec<Server>,
    /// How many rounds.
    pub rounds: usize,
    /// How long one sample lasts, in seconds.
    pub seconds: u32,
    /// Whether the figures shall be a claim.
    pub claim: bool,
}

/// The series of each server and metric.
pub type AllSeries = BTreeMap<(Server, DnsMetric), Series>;

impl Plan {
    /// Fails for a plan that cannot be carried out, before anything is started.
    pub fn check(&self) -> Result<()> {
        if self.rounds == 0 || self.rounds > ROUNDS_MAX {
            bail!("--rounds {}: give 1 to {ROUNDS_MAX}", self.rounds);
        }
        if self.claim && self.rounds < CLAIM_ROUNDS_MIN {
            bail!("--json makes claims: give --rounds {CLAIM_ROUNDS_MIN} or more, or leave it out");
        }
        if self.seconds == 0 {
            bail!("--seconds 0 measures nothing: give 1 or more");
        }
        require_two_cpus()?;
        require_program("ip", "iproute2", "every server")?;
        require_program("dnsperf", "dnsperf", "every server")?;
        for server in self.ordered_servers() {
            match server.program() {
                Some((program, package)) => require_program(program, package, server.name())?,
                None => drop(beside_us(ours::PROGRAM)?),
            }
        }
        Ok(())
    }

    fn ordered_servers(&self) -> impl Iterator<Item = Server> {
        let wanted = |server: &Server| *server == Server::Knot || self.servers.contains(server);
        Server::ALL.into_iter().filter(wanted)
    }
}

/// Starts every server, asks each in turn in every round, and returns what was measured.
pub fn run(plan: &Plan, scratch: &Path) -> Result<AllSeries> {
    let questions = scratch.join("questions");
    std::fs::write(&questions, zone::questions()).context("write the questions")?;
    let mut servers = Vec::new();
    for server in plan.ordered_servers() {
        eprintln!("start {server}");
        let running = Running::start(server, scratch);
        servers.push(running.with_context(|| format!("start {server}"))?);
    }
    let mut all_series = AllSeries::new();
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        for transport in Transport::ALL {
            for running in &mut servers {
                let server = running.server;
                let sample = load::ask(running, transport, &questions, plan.seconds);
                let sample = sample.with_context(|| format!("ask {server}, round {round}"))?;
                for (metric, value) in sample {
                    let series = all_series.entry((server, metric)).or_default();
                    series.values.push(value);
                }
            }
        }
    }
    Ok(all_series)
}

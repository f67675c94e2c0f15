//! `bench idle`: what a host costs that only waits, and how fast a thousand instances come and go.

mod crowd;
mod metric;
mod report;

pub use metric::IdleMetric;
pub use report::{write_json, write_table};

use crate::bench::conditions::CLAIM_ROUNDS_MIN;
use crate::bench::config::{beside_us, require_program};
use crate::bench::daemon::{Daemon, READY_MAX, tail};
use crate::bench::report::Series;
use crate::bench::usage::Usage;
use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where instances find the programs of the bench: their `/tmp` is their own, their root the host's.
const PROGRAMS: &str = "/media";

/// The most rounds: what a quarter of an hour measures.
const ROUNDS_MAX: usize = 300;

/// How many instances wait.
const IDLE_AUTOMATONS: u32 = 10;

/// How many instances each automaton has.
const IDLE_REPLICAS: u32 = 10;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
pub enum Config {
    /// A hundred instances without readiness probes, which do nothing.
    #[value(name = "margay-100")]
    Hundred,
    /// A thousand instances, started, called and stopped.
    #[value(name = "margay-1000")]
    Thousand,
}

impl Config {
    /// Both.
    pub const ALL: [Config; 2] = [Config::Hundred, Config::Thousand];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Config::Hundred => "margay-100",
            Config::Thousand => "margay-1000",
        }
    }
}

impl std::fmt::Display for Config {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

/// The series of each config and metric.
pub type AllSeries = BTreeMap<(Config, IdleMetric), Series>;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configs.
    pub configs: Vec<Config>,
    /// How many samples of the waiting host.
    pub rounds: usize,
    /// How long one sample lasts.
    pub sample: Duration,
    /// Whether the figures shall be a claim.
    pub claim: bool,
}

impl Plan {
    /// Fails for a plan that cannot be carried out, before anything is started.
    pub fn check(&self) -> Result<()> {
        if self.rounds == 0 || self.rounds > ROUNDS_MAX {
            bail!("--rounds {}: give 1 to {ROUNDS_MAX}", self.rounds);
        }
        if self.claim && self.rounds < CLAIM_ROUNDS_MIN {
            bail!("--json makes claims: give --rounds {CLAIM_ROUNDS_MIN} or more, or leave it out");
        }
        if self.sample.is_zero() {
            bail!("--seconds 0 measures nothing: give 1 or more");
        }
        require_program("ip", "iproute2", "every config")?;
        beside_us("wire")?;
        beside_us("margay")?;
        Ok(())
    }
}

/// Measures each config on a host of its own.
pub fn run(plan: &Plan, scratch: &Path) -> Result<AllSeries> {
    let wire = expose_wire()?;
    let mut all_series = AllSeries::new();
    for config in Config::ALL
        .into_iter()
        .filter(|it| plan.configs.contains(it))
    {
        eprintln!("measure {config}");
        let place = scratch.join(config.name());
        fs::create_dir(&place).context("make a directory for the host")?;
        let mut daemon = Daemon::start(&place, &[])?;
        let log = daemon.log.clone();
        let mut take = |metric, value| {
            let series: &mut Series = all_series.entry((config, metric)).or_default();
            series.values.push(value);
        };
        let measured = match config {
            Config::Hundred => wait(plan, &mut daemon, &place, &mut take),
            Config::Thousand => crowd::measure(daemon, &place, &wire, &mut take),
        };
        measured
            .with_context(|| format!("measure {config}; margay's log ends:\n{}", tail(&log)))?;
    }
    Ok(all_series)
}

/// Puts the wire tool where every instance can run it.
fn expose_wire() -> Result<PathBuf> {
    let (none, flags) = (None::<&str>, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    mount(none, PROGRAMS, Some("tmpfs"), flags, Some("mode=755"))
        .with_context(|| format!("mount a tmpfs at {PROGRAMS}"))?;
    let exposed = Path::new(PROGRAMS).join("wire");
    fs::copy(beside_us("wire")?, &exposed).context("copy the wire tool")?;
    Ok(exposed)
}

/// Samples a host whose hundred instances do nothing.
fn wait(
    plan: &Plan,
    daemon: &mut Daemon,
    place: &Path,
    take: &mut impl FnMut(IdleMetric, f64),
) -> Result<()> {
    daemon.wait_until("answer", READY_MAX, |daemon| daemon.instances().ok())?;
    daemon.apply(place, &idle_composition())?;
    let all = (IDLE_AUTOMATONS * IDLE_REPLICAS) as usize;
    daemon.wait_until("have every instance ready", READY_MAX, |daemon| {
        let instances = daemon.instances().ok()?;
        let ready = instances.iter().filter(|instance| instance.ready);
        (ready.count() == all).then_some(())
    })?;
    let (margay, keeper) = (daemon.process.id(), daemon.keeper_process()?);
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        let before = (Usage::of(margay)?, Usage::of(keeper)?);
        std::thread::sleep(plan.sample);
        let after = (Usage::of(margay)?, Usage::of(keeper)?);
        take(IdleMetric::DaemonCpu, before.0.core_percent(&after.0));
        take(IdleMetric::DaemonPss, after.0.pss_mb);
        take(IdleMetric::DaemonRss, after.0.rss_mb);
        take(IdleMetric::KeeperCpu, before.1.core_percent(&after.1));
        take(IdleMetric::KeeperPss, after.1.pss_mb);
        take(IdleMetric::KeeperRss, after.1.rss_mb);
    }
    Ok(())
}

fn idle_composition() -> String {
    let mut text = String::from("[composition]\nname = \"idle\"\nversion = 1\n");
    for number in 0..IDLE_AUTOMATONS {
        text.push_str(&format!(
            "\n[automaton.idle-{number}]\ncommand = [\"sleep\", \"infinity\"]\n\
             replicas = {IDLE_REPLICAS}\nports = {{ tcp = {{ port = 7000, protocol = \"tcp\" }} }}\n\
             needs = [\"idle-{}\"]\n",
            (number + 1) % IDLE_AUTOMATONS
        ));
    }
    text
}

//! `bench hosts`: many hosts of one site on this machine. What each costs while all wait, how soon all
//! know of a new instance, and how soon they miss a host that is gone.

mod metric;
mod report;
mod site;

pub use metric::HostsMetric;
pub use report::{write_json, write_table};

use crate::bench::config::{beside_us, require_program};
use crate::bench::report::Series;
use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use site::Site;
use std::collections::BTreeMap;
use std::time::Duration;

/// Rounds below which figures are no claim: each starts, or ends, a whole host.
const CLAIM_ROUNDS_MIN: usize = 5;

/// The most rounds: what half an hour measures.
const ROUNDS_MAX: usize = 100;

/// How many hosts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
pub enum Config {
    /// Five.
    #[value(name = "n5")]
    Five,
    /// Twenty.
    #[value(name = "n20")]
    Twenty,
    /// Sixty.
    #[value(name = "n60")]
    Sixty,
}

impl Config {
    /// All of them.
    pub const ALL: [Config; 3] = [Config::Five, Config::Twenty, Config::Sixty];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Config::Five => "n5",
            Config::Twenty => "n20",
            Config::Sixty => "n60",
        }
    }

    /// How many hosts there are.
    pub fn hosts(self) -> usize {
        match self {
            Config::Five => 5,
            Config::Twenty => 20,
            Config::Sixty => 60,
        }
    }
}

impl std::fmt::Display for Config {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

/// The series of each config and metric: over the hosts where each has its figure, else over rounds.
pub type AllSeries = BTreeMap<(Config, HostsMetric), Series>;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configs.
    pub configs: Vec<Config>,
    /// How often something new is applied.
    pub rounds: usize,
    /// How often a host is killed.
    pub deaths: usize,
    /// How long the waiting hosts are watched.
    pub window: Duration,
    /// Whether the figures shall be a claim.
    pub claim: bool,
}

impl Plan {
    /// Fails for a plan that cannot be carried out, before anything is started.
    pub fn check(&self) -> Result<()> {
        for (option, count) in [("rounds", self.rounds), ("deaths", self.deaths)] {
            if count == 0 || count > ROUNDS_MAX {
                bail!("--{option} {count}: give 1 to {ROUNDS_MAX}");
            }
        }
        if self.claim && self.rounds < CLAIM_ROUNDS_MIN {
            bail!("--json makes claims: give --rounds {CLAIM_ROUNDS_MIN} or more, or leave it out");
        }
        if self.window.is_zero() {
            bail!("--seconds 0 measures nothing: give 1 or more");
        }
        require_program("ip", "iproute2", "every config")?;
        require_program("nft", "nftables", "every config")?;
        beside_us("margay")?;
        Ok(())
    }
}

/// Measures each config on hosts of its own, which are gone before the next one's start.
pub fn run(plan: &Plan) -> Result<AllSeries> {
    let mut all = AllSeries::new();
    let wanted = |config: &Config| plan.configs.contains(config);
    for config in Config::ALL.into_iter().filter(wanted) {
        eprintln!("start {config}");
        let mut site = Site::start(config.hosts()).with_context(|| format!("start {config}"))?;
        let mut take = |metric, value| {
            let series: &mut Series = all.entry((config, metric)).or_default();
            series.values.push(value);
        };
        let measured = measure(plan, &mut site, &mut take);
        measured.with_context(|| format!("measure {config}; {}", site.say()))?;
    }
    Ok(all)
}

fn measure(plan: &Plan, site: &mut Site, take: &mut impl FnMut(HostsMetric, f64)) -> Result<()> {
    eprintln!("wait for {:?}", plan.window);
    site.wait(plan.window, take)?;
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        take(HostsMetric::Converge, site.apply()?.as_secs_f64() * 1e3);
    }
    for death in 1..=plan.deaths {
        eprintln!("death {death} of {}", plan.deaths);
        take(HostsMetric::Detect, site.lose_host()?.as_secs_f64() * 1e3);
    }
    Ok(())
}

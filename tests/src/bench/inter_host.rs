//! `bench inter-host`: two programs on two hosts of one link, over Margay and over what people use today.

mod config;
mod margay;
mod report;
mod segment;

pub use config::Config;
pub use report::{write_json, write_table};

use crate::bench::conditions::{CLAIM_ROUNDS_MIN, Conditions, require_two_cpus};
use crate::bench::config::{beside_us, require_program};
use crate::bench::measurement::Meter;
use crate::bench::metric::{Job, Metric};
use crate::bench::path::Path;
use crate::bench::report::Series;
use anyhow::{Context as _, Result, bail};
use segment::Segment;
use std::collections::BTreeMap;

/// The most rounds: what half an hour measures.
const ROUNDS_MAX: usize = 100;

/// What a round measures, in this order.
const JOBS: [Job; 4] = [Job::Rr, Job::Crr, Job::Bulk, Job::UdpPps];

/// What is measured, in the order of the report.
pub const METRICS: [Metric; 4] = [Metric::Rr, Metric::Crr, Metric::Bulk, Metric::UdpPps];

/// No job of these chooses its source ports.
const NO_SOURCE_PORT: u16 = 0;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configs; plain routing is always measured too, as ratios refer to it.
    pub configs: Vec<Config>,
    /// How many rounds.
    pub rounds: usize,
    /// What is equal in all configs.
    pub conditions: Conditions,
    /// Whether the figures shall be a claim.
    pub claim: bool,
}

impl Plan {
    /// Fails for a plan that cannot be carried out, before anything is built.
    pub fn check(&self) -> Result<()> {
        if self.rounds == 0 || self.rounds > ROUNDS_MAX {
            bail!("--rounds {}: give 1 to {ROUNDS_MAX}", self.rounds);
        }
        if self.claim && self.rounds < CLAIM_ROUNDS_MIN {
            bail!("--json makes claims: give --rounds {CLAIM_ROUNDS_MIN} or more, or leave it out");
        }
        require_two_cpus()?;
        require_program("ip", "iproute2", "every config")?;
        require_program("nft", "nftables", "every config")?;
        beside_us("wire")?;
        beside_us("margay")?;
        Ok(())
    }

    fn ordered_configs(&self) -> impl Iterator<Item = Config> {
        let wanted = |it: &Config| *it == Config::Routed || self.configs.contains(it);
        Config::ALL.into_iter().filter(wanted)
    }
}

/// The series of each config and metric.
pub type AllSeries = BTreeMap<(Config, Metric), Series>;

/// Builds every path on one segment and measures all rounds; everything built is gone afterwards.
pub fn run(plan: &Plan) -> Result<AllSeries> {
    let segment = Segment::new()?;
    let mut paths = Vec::new();
    for config in plan.ordered_configs() {
        eprintln!("build {config}");
        let path = segment.build(config);
        paths.push((config, path.with_context(|| format!("build {config}"))?));
    }
    measure(plan, &paths).with_context(|| segment.say())
}

/// Within a round, configs follow each other job by job, so that all meet the same neighbours.
fn measure(plan: &Plan, paths: &[(Config, Path)]) -> Result<AllSeries> {
    let meter = Meter::new(plan.conditions)?;
    let mut all = AllSeries::new();
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        for job in JOBS {
            for (config, path) in paths {
                let samples = meter.take(path, job, NO_SOURCE_PORT).with_context(|| {
                    format!("measure {} of {config}, round {round}", job.name())
                })?;
                for sample in samples {
                    let series = all.entry((*config, sample.metric)).or_default();
                    series.values.push(sample.value);
                }
            }
        }
    }
    Ok(all)
}

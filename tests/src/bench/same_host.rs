//! `bench same-host`: two programs on one host, over Margay and over what people use today.

use crate::bench::conditions::{Conditions, require_two_cpus};
use crate::bench::config::{Config, require_programs};
use crate::bench::margay_host::MargayHost;
use crate::bench::measurement::Meter;
use crate::bench::metric::{Job, Metric};
use crate::bench::path::{Builder, Path};
use crate::bench::report::{Figure, Series};
use crate::bench::wire::client::LATENCY_FLOWS;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::path::Path as FilePath;

/// Rounds where nothing is said: more than a claim needs, because short ones side by side beat long
/// ones on a machine that others use too.
pub const ROUNDS_USUAL: usize = 15;

/// First source port of the latency job. Each round takes fresh ones, below the kernel's own range,
/// because a flow that a table still knows has no first packet.
const FIRST_SOURCE_PORT: u16 = 10_000;

/// End of those ports: where the kernel's own range begins.
const SOURCE_PORTS_END: u16 = 32_768;

/// Rounds for which there are fresh source ports.
pub const ROUNDS_MAX: usize = ((SOURCE_PORTS_END - FIRST_SOURCE_PORT) / LATENCY_FLOWS) as usize;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configs; the direct veth pair is always measured too, as ratios refer to it.
    pub configs: Vec<Config>,
    /// How many rounds.
    pub rounds: usize,
    /// What is equal in all configs.
    pub conditions: Conditions,
}

impl Plan {
    /// Fails for a plan that cannot be carried out, before anything is built.
    pub fn check(&self) -> Result<()> {
        if self.rounds == 0 || self.rounds > ROUNDS_MAX {
            bail!("--rounds {}: give 1 to {ROUNDS_MAX}", self.rounds);
        }
        require_two_cpus()?;
        require_programs(&self.configs)
    }

    /// The configs in the order of the report, each once, with the direct veth pair first.
    fn ordered_configs(&self) -> Vec<Config> {
        let wanted =
            |config: &Config| *config == Config::DirectVeth || self.configs.contains(config);
        Config::ALL.into_iter().filter(wanted).collect()
    }
}

/// What a run yielded.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The figures of packets.
    pub figures: Vec<Figure>,
    /// How soon applied services were found, on each host of Margay.
    pub applies: BTreeMap<Config, Applies>,
}

/// How soon applied services were found.
#[derive(Debug, Default)]
pub struct Applies {
    /// By name, in milliseconds.
    pub name_ms: Series,
    /// With an address, in milliseconds.
    pub address_ms: Series,
}

type AllSeries = BTreeMap<(Config, Metric), Series>;

/// Builds every path, measures all rounds, and summarizes; everything built is gone afterwards.
pub fn run(plan: &Plan, scratch: &FilePath) -> Result<Outcome> {
    let mut builder = Builder::new(scratch, plan.conditions.congestion_control);
    let mut paths = Vec::new();
    for config in plan.ordered_configs() {
        eprintln!("build {config}");
        paths.push((config, builder.build(config)?));
    }
    let mut applies = BTreeMap::new();
    let all_series = measure(plan, &paths, &mut applies)?;
    Ok(Outcome {
        figures: summarize(plan, &paths, &all_series)?,
        applies,
    })
}

/// Within a round, configs follow each other job by job, so that all meet the same neighbours.
fn measure(
    plan: &Plan,
    paths: &[(Config, Path)],
    applies: &mut BTreeMap<Config, Applies>,
) -> Result<AllSeries> {
    let meter = Meter::new(plan.conditions)?;
    let mut all_series = AllSeries::new();
    let ports = (FIRST_SOURCE_PORT..SOURCE_PORTS_END).step_by(usize::from(LATENCY_FLOWS));
    for (round, first_source_port) in (1..=plan.rounds).zip(ports) {
        eprintln!("round {round} of {}", plan.rounds);
        for job in Job::ALL {
            let carried = |(config, _): &&(Config, Path)| config.carries_udp() || !job.is_udp();
            for (config, path) in paths.iter().filter(carried) {
                let samples = meter.take(path, job, first_source_port).with_context(|| {
                    format!("measure {} of {config}, round {round}", job.name())
                })?;
                for sample in samples {
                    let series = all_series.entry((*config, sample.metric)).or_default();
                    series.values.push(sample.value);
                    series.round_trip_p99_us.extend(sample.round_trip_p99_us);
                }
            }
        }
        for (config, host) in paths.iter().filter_map(host_of_its_own) {
            let found = host
                .apply()
                .with_context(|| format!("apply a service on {config}, round {round}"))?;
            let series = applies.entry(config).or_default();
            series.name_ms.values.push(found.name.as_secs_f64() * 1e3);
            series
                .address_ms
                .values
                .push(found.address.as_secs_f64() * 1e3);
        }
    }
    Ok(all_series)
}

/// Margay's host, for the one config that stands for it.
fn host_of_its_own((config, path): &(Config, Path)) -> Option<(Config, &MargayHost)> {
    let stands = matches!(config, Config::Margay | Config::Margay30000);
    Some((*config, path.margay().filter(|_| stands)?))
}

fn summarize(plan: &Plan, paths: &[(Config, Path)], all: &AllSeries) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (config, path) in paths {
        for metric in Metric::ALL {
            let Some(series) = all.get(&(*config, metric)) else {
                continue;
            };
            let direct = all
                .get(&(Config::DirectVeth, metric))
                .with_context(|| format!("direct-veth has no {metric}"))?;
            let forwarder = path.statement.clone();
            let key = (*config, metric);
            figures.extend(Figure::new(key, series, direct, plan.conditions, forwarder));
        }
    }
    Ok(figures)
}

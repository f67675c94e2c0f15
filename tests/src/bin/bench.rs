//! `bench`: measures Margay against what people use today, in namespaces of its own.

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use margay_tests::bench::conditions::{CLAIM_ROUNDS_MIN, Conditions, CongestionControl};
use margay_tests::bench::config::Config;
use margay_tests::bench::dns::{self, Server};
use margay_tests::bench::same_host::{Plan, ROUNDS_USUAL, run};
use margay_tests::bench::{hosts, idle, inter_host, isolation, look_ups, report};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measures Margay against what people use today.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Two programs on one host.
    SameHost(SameHost),
    /// Two programs on two hosts of one link.
    InterHost(InterHost),
    /// Our resolver and the name servers that people use.
    Dns(Dns),
    /// A host that waits, and a thousand instances that come and go.
    Idle(Idle),
    /// Many hosts of one site.
    Hosts(Hosts),
    /// Names of other sites that only Kademlia can find.
    LookUps(LookUps),
}

#[derive(clap::Args)]
struct SameHost {
    /// Writes one line of JSON a figure instead of a table.
    #[arg(long)]
    json: bool,
    /// How many interleaved rounds; with --json at least 9.
    #[arg(long, default_value_t = ROUNDS_USUAL)]
    rounds: usize,
    /// Which configs, separated by commas; direct-veth is always measured too.
    #[arg(long, value_delimiter = ',', default_values_t = Config::ALL)]
    config: Vec<Config>,
    /// How long one sample lasts.
    #[arg(long, default_value_t = 0.2)]
    seconds: f64,
    /// The congestion control of every TCP socket.
    #[arg(long, default_value_t = CongestionControl::Cubic)]
    congestion_control: CongestionControl,
    /// Set by this program itself when it starts again inside.
    #[arg(long, hide = true)]
    scratch: Option<PathBuf>,
}

impl SameHost {
    fn plan(&self) -> Result<Plan> {
        if self.json && self.rounds < CLAIM_ROUNDS_MIN {
            bail!("--json makes claims: give --rounds {CLAIM_ROUNDS_MIN} or more, or leave it out");
        }
        Ok(Plan {
            configs: self.config.clone(),
            rounds: self.rounds,
            conditions: conditions(self.congestion_control, self.seconds)?,
        })
    }

    fn run(&self) -> Result<ExitCode> {
        let plan = self.plan()?;
        let Some(scratch) = &self.scratch else {
            plan.check()?;
            return isolation::run_isolated(std::env::args_os().skip(1));
        };
        isolation::settle_inside(scratch)?;
        let outcome = run(&plan, scratch)?;
        let mut output = std::io::stdout().lock();
        if self.json {
            report::write_json(&outcome, &mut output)?;
        } else {
            report::write_table(&outcome, &mut output)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(clap::Args)]
struct InterHost {
    /// Writes one line of JSON a figure instead of a table.
    #[arg(long)]
    json: bool,
    /// How many interleaved rounds; with --json at least 9.
    #[arg(long, default_value_t = CLAIM_ROUNDS_MIN)]
    rounds: usize,
    /// Which configs, separated by commas; routed is always measured too.
    #[arg(long, value_delimiter = ',', default_values_t = inter_host::Config::ALL)]
    config: Vec<inter_host::Config>,
    /// How long one sample lasts.
    #[arg(long, default_value_t = 0.2)]
    seconds: f64,
    /// The congestion control of every TCP socket.
    #[arg(long, default_value_t = CongestionControl::Cubic)]
    congestion_control: CongestionControl,
    /// Set by this program itself when it starts again inside.
    #[arg(long, hide = true)]
    scratch: Option<PathBuf>,
}

impl InterHost {
    fn run(&self) -> Result<ExitCode> {
        let conditions = conditions(self.congestion_control, self.seconds)?;
        let plan = inter_host::Plan {
            configs: self.config.clone(),
            rounds: self.rounds,
            conditions,
            claim: self.json,
        };
        let Some(scratch) = &self.scratch else {
            plan.check()?;
            return isolation::run_isolated(std::env::args_os().skip(1));
        };
        isolation::settle_inside(scratch)?;
        let all = inter_host::run(&plan)?;
        let mut output = std::io::stdout().lock();
        if self.json {
            inter_host::write_json(&all, conditions, &mut output)?;
        } else {
            inter_host::write_table(&all, conditions, &mut output)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a run holds equal, and how long it measures.
fn conditions(congestion_control: CongestionControl, seconds: f64) -> Result<Conditions> {
    let sample = Duration::try_from_secs_f64(seconds).context("--seconds")?;
    if sample.is_zero() {
        bail!("--seconds 0 measures nothing: give 0.05 or more");
    }
    Ok(Conditions {
        congestion_control,
        sample,
    })
}

#[derive(clap::Args)]
struct Dns {
    /// Writes one line of JSON a figure instead of a table.
    #[arg(long)]
    json: bool,
    /// How many interleaved rounds; with --json at least 9.
    #[arg(long, default_value_t = CLAIM_ROUNDS_MIN)]
    rounds: usize,
    /// Which servers, separated by commas; knot is always measured too.
    #[arg(long, value_delimiter = ',', default_values_t = Server::ALL)]
    server: Vec<Server>,
    /// How long one sample lasts.
    #[arg(long, default_value_t = 1)]
    seconds: u32,
    /// Set by this program itself when it starts again inside.
    #[arg(long, hide = true)]
    scratch: Option<PathBuf>,
}

impl Dns {
    fn run(&self) -> Result<ExitCode> {
        let plan = dns::Plan {
            servers: self.server.clone(),
            rounds: self.rounds,
            seconds: self.seconds,
            claim: self.json,
        };
        let Some(scratch) = &self.scratch else {
            plan.check()?;
            return isolation::run_isolated(std::env::args_os().skip(1));
        };
        isolation::settle_inside(scratch)?;
        let all = dns::run(&plan, scratch)?;
        let mut output = std::io::stdout().lock();
        if self.json {
            dns::write_json(&all, &mut output)?;
        } else {
            dns::write_table(&all, &mut output)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(clap::Args)]
struct Idle {
    /// Writes one line of JSON a figure instead of a table.
    #[arg(long)]
    json: bool,
    /// How many samples of the waiting host; with --json at least 9.
    #[arg(long, default_value_t = CLAIM_ROUNDS_MIN)]
    rounds: usize,
    /// Which configs, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = idle::Config::ALL)]
    config: Vec<idle::Config>,
    /// How long one sample of the waiting host lasts.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Set by this program itself when it starts again inside.
    #[arg(long, hide = true)]
    scratch: Option<PathBuf>,
}

impl Idle {
    fn run(&self) -> Result<ExitCode> {
        let plan = idle::Plan {
            configs: self.config.clone(),
            rounds: self.rounds,
            sample: Duration::try_from_secs_f64(self.seconds).context("--seconds")?,
            claim: self.json,
        };
        let Some(scratch) = &self.scratch else {
            plan.check()?;
            return isolation::run_isolated(std::env::args_os().skip(1));
        };
        isolation::settle_inside(scratch)?;
        let all = idle::run(&plan, scratch)?;
        let mut output = std::io::stdout().lock();
        if self.json {
            idle::write_json(&all, &mut output)?;
        } else {
            idle::write_table(&all, &mut output)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(clap::Args)]
struct Hosts {
    /// Writes one line of JSON a figure instead of a table.
    #[arg(long)]
    json: bool,
    /// How often a service is applied; with --json at least 5.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How often a host is killed.
    #[arg(long, default_value_t = 3)]
    deaths: usize,
    /// Which configs, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = hosts::Config::ALL)]
    config: Vec<hosts::Config>,
    /// How long the waiting hosts are watched.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Set by this program itself when it starts again inside.
    #[arg(long, hide = true)]
    scratch: Option<PathBuf>,
}

impl Hosts {
    fn run(&self) -> Result<ExitCode> {
        let plan = hosts::Plan {
            configs: self.config.clone(),
            rounds: self.rounds,
            deaths: self.deaths,
            window: Duration::try_from_secs_f64(self.seconds).context("--seconds")?,
            claim: self.json,
        };
        let Some(scratch) = &self.scratch else {
            plan.check()?;
            return isolation::run_isolated(std::env::args_os().skip(1));
        };
        isolation::settle_inside(scratch)?;
        let all = hosts::run(&plan)?;
        let mut output = std::io::stdout().lock();
        if self.json {
            hosts::write_json(&all, &mut output)?;
        } else {
            hosts::write_table(&all, &mut output)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(clap::Args)]
struct LookUps {
    /// Writes one line of JSON a figure instead of a table.
    #[arg(long)]
    json: bool,
    /// How many sites, each with one host.
    #[arg(long, default_value_t = 12)]
    sites: usize,
    /// How many names, spread over all sites but one.
    #[arg(long, default_value_t = 100)]
    names: usize,
    /// Set by this program itself when it starts again inside.
    #[arg(long, hide = true)]
    scratch: Option<PathBuf>,
}

impl LookUps {
    fn run(&self) -> Result<ExitCode> {
        let plan = look_ups::Plan {
            sites: self.sites,
            names: self.names,
        };
        let Some(scratch) = &self.scratch else {
            plan.check()?;
            return isolation::run_isolated(std::env::args_os().skip(1));
        };
        isolation::settle_inside(scratch)?;
        let measured = look_ups::run(&plan)?;
        let mut output = std::io::stdout().lock();
        if self.json {
            look_ups::write_json(&plan, &measured, &mut output)?;
        } else {
            look_ups::write_table(&plan, &measured, &mut output)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().bench {
        Bench::SameHost(arguments) => arguments.run(),
        Bench::InterHost(arguments) => arguments.run(),
        Bench::Dns(arguments) => arguments.run(),
        Bench::Idle(arguments) => arguments.run(),
        Bench::Hosts(arguments) => arguments.run(),
        Bench::LookUps(arguments) => arguments.run(),
    }
}

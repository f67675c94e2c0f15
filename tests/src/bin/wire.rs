//! `wire`: the measuring tool that the benchmarks run inside the namespaces of every config.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use margay_tests::bench::conditions::CongestionControl;
use margay_tests::bench::metric::Job;
use margay_tests::bench::wire::{client, crowd, server};
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// How long beyond its measuring time a client may take before the kernel ends it, in seconds.
const OVERTIME_S: u32 = 10;

/// Measures one kind of traffic between two places.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    half: Half,
}

#[derive(Subcommand)]
enum Half {
    /// Serves a job until killed; writes `ready` once it can be reached.
    Serve {
        job: Job,
        /// The address to serve at.
        #[arg(long)]
        at: SocketAddr,
        #[arg(long, default_value = "cubic")]
        congestion_control: CongestionControl,
    },
    /// Runs a job against a server and writes its figures as one line of JSON.
    Run {
        job: Job,
        /// The server's address.
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value = "cubic")]
        congestion_control: CongestionControl,
        /// How long to open connections before those that count, in the job of short ones.
        #[arg(long, default_value_t = 0.0)]
        lead_in_seconds: f64,
        /// How long to measure.
        #[arg(long, default_value_t = 0.25)]
        seconds: f64,
        /// The first source port of the latency job's flows.
        #[arg(long, default_value_t = 10_000)]
        first_source_port: u16,
    },
    /// Sends one byte to each TCP caller until killed.
    Answer {
        #[arg(long)]
        port: u16,
    },
    /// Looks up names and takes a byte from every address.
    Call {
        #[arg(long)]
        port: u16,
        /// How many addresses of each family a name must have.
        #[arg(long)]
        each: usize,
        names: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().half {
        Half::Serve {
            job,
            at,
            congestion_control,
        } => server::serve(job, at, congestion_control),
        Half::Run {
            job,
            to,
            congestion_control,
            lead_in_seconds,
            seconds,
            first_source_port,
        } => {
            let time = Duration::try_from_secs_f64(seconds).context("--seconds")?;
            let lead_in = Duration::try_from_secs_f64(lead_in_seconds);
            let lead_in = lead_in.context("--lead-in-seconds")?;
            // A lost packet must end the run, and a timeout on each receive would cost time.
            let whole_s = (lead_in + time).as_secs() as u32;
            nix::unistd::alarm::set(OVERTIME_S.saturating_add(whole_s));
            let order = client::Order {
                job,
                to,
                congestion_control,
                lead_in,
                time,
                first_source_port,
            };
            let samples = client::run(order)?;
            let mut output = std::io::stdout();
            serde_json::to_writer(&output, &samples)?;
            writeln!(output)?;
            Ok(())
        }
        Half::Answer { port } => crowd::answer(port),
        Half::Call { port, each, names } => crowd::call(port, each, &names),
    }
}

//! `./x demo`: shows one host end to end, on real programs, with figures read from the system.

use anyhow::{Result, bail};
use clap::Parser;
use margay_tests::{demo, lab};
use std::process::ExitCode;
use std::sync::Arc;

/// Shows one host end to end.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Print the figures as the last line, one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let host = Arc::new(lab::Host::without_daemon()?);
    lab::end_on_signal(&host)?;
    let told = demo::run(&host);
    host.end();
    if told.is_err() {
        eprintln!("{}", host.log_tail());
    }
    let report = told?;
    let faults = report.faults();
    println!("\n   all of it is gone again, after {} s", report.seconds);
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    if !faults.is_empty() {
        bail!("not as it should be: {}", faults.join("; "));
    }
    Ok(())
}

//! `./x demo`: shows one host end to end, then five in two sites, on real programs, with figures read
//! from the system.

use anyhow::{Result, bail};
use clap::Parser;
use margay_tests::{demo, lab};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

/// Shows one host end to end, then five hosts in two sites.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Print the figures alone, as one JSON object; the story goes to standard error.
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
    let figures = arguments.json.then(keep_stdout_for_figures).transpose()?;
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
    if let Some(mut figures) = figures {
        writeln!(figures, "{}", serde_json::to_string(&report)?)?;
    }
    if !faults.is_empty() {
        bail!("not as it should be: {}", faults.join("; "));
    }
    Ok(())
}

/// Has everything else that is printed go to standard error.
fn keep_stdout_for_figures() -> Result<File> {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdout(std::io::stderr())?;
    Ok(File::from(stdout))
}

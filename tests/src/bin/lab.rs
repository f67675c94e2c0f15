//! `./x lab`: brings many hosts up on this machine, to play with.

use anyhow::{Context, Result};
use clap::Parser;
use margay_tests::lab::network::console;
use margay_tests::lab::{Lab, Topology, on_signal};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

/// Brings up the hosts that a file describes, says how to enter them, and does what its input says
/// until that ends.
#[derive(Parser)]
#[command(name = "lab")]
struct Arguments {
    /// The topology; tests/topologies has examples.
    file: PathBuf,
    /// Print what there is as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Start no daemon.
    #[arg(long)]
    no_daemons: bool,
}

/// What ends the wait of a lab that stands.
enum Event {
    Line(String),
    End,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let topology = Topology::read(&arguments.file)?;
    let (sender, events) = mpsc::channel();
    let interrupted = sender.clone();
    on_signal(move |_| {
        interrupted.send(Event::End).ok();
    })?;
    let start = Instant::now();
    let mut lab = Lab::without_daemons(&topology)?;
    if !arguments.no_daemons {
        lab.start_daemons(|_, _| Ok(()))?;
    }
    show(arguments, &lab, start)?;
    thread::spawn(move || read_lines(&sender));
    play(&mut lab, &events);
    Ok(())
}

fn show(arguments: &Arguments, lab: &Lab, start: Instant) -> Result<()> {
    let description = lab.describe()?;
    let mut output = std::io::stdout().lock();
    if arguments.json {
        writeln!(output, "{}", serde_json::to_string(&description)?)?;
    } else {
        let seconds = start.elapsed().as_secs_f64();
        let count = description.hosts.len();
        writeln!(
            output,
            "{description}{count} hosts stand after {seconds:.1} s."
        )?;
        let margay = std::env::current_exe()?.with_file_name("margay");
        let run = margay_tests::lab::run_directory();
        let (margay, run) = (margay.display(), run.display());
        writeln!(output, "Inside a host: {margay} --run {run} status")?;
        writeln!(
            output,
            "Here: `help` shows the verbs, `network HOST` makes all hosts one network; `quit` ends it."
        )?;
    }
    output.flush().context("cannot write to the output")
}

fn read_lines(events: &Sender<Event>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if events.send(Event::Line(line)).is_err() {
            return;
        }
    }
    events.send(Event::End).ok();
}

/// Does what comes in until the end comes.
fn play(lab: &mut Lab, events: &Receiver<Event>) {
    while let Ok(Event::Line(line)) = events.recv() {
        match line.trim() {
            "" => continue,
            "quit" => return,
            _ => {}
        }
        match console::command(lab, &line) {
            Ok(told) => eprint!("{told}"),
            Err(error) => eprintln!("lab: {error:#}"),
        }
    }
}

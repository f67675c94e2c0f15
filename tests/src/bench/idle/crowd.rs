//! A thousand instances on one host: started, found by name, called, stopped.

use super::IdleMetric;
use crate::bench::conditions::SERVER_PORT;
use crate::bench::daemon::{Daemon, READY_MAX};
use crate::bench::usage::Usage;
use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many automatons there are beside the one that calls them.
const AUTOMATONS: u32 = 125;

/// How many instances each has: as many as one DNS answer names, so that all are called.
const REPLICAS: u32 = 8;

/// How long a stage may take.
const STAGE_MAX: Duration = Duration::from_secs(180);

/// Takes `daemon`'s host through all stages; it is gone afterwards.
pub(super) fn measure(
    mut daemon: Daemon,
    place: &Path,
    wire: &Path,
    take: &mut impl FnMut(IdleMetric, f64),
) -> Result<()> {
    daemon.wait_until("answer", READY_MAX, |daemon| daemon.instances().ok())?;
    let begun = Instant::now();
    daemon.apply(place, &composition(wire))?;
    let all = (AUTOMATONS * REPLICAS + 1) as usize;
    daemon.wait_until("have every instance ready", STAGE_MAX, |daemon| {
        let instances = daemon.instances().ok()?;
        let ready = instances.iter().filter(|instance| instance.ready);
        (ready.count() == all).then_some(())
    })?;
    take(IdleMetric::Start, begun.elapsed().as_secs_f64());

    let begun = Instant::now();
    let (wire, port) = (wire.to_string_lossy(), SERVER_PORT.to_string());
    let names: Vec<String> = (0..AUTOMATONS).map(name).collect();
    let each = REPLICAS.to_string();
    let mut words = vec!["exec", "1.caller", "--", &wire, "call"];
    words.extend(["--port", &port, "--each", &each]);
    words.extend(names.iter().map(String::as_str));
    daemon.ask(&words)?;
    take(IdleMetric::Answer, begun.elapsed().as_secs_f64());

    let (margay, keeper) = (daemon.process.id(), daemon.keeper_process()?);
    let (margay, keeper) = (Usage::of(margay)?, Usage::of(keeper)?);
    take(IdleMetric::DaemonPss, margay.pss_mb);
    take(IdleMetric::DaemonRss, margay.rss_mb);
    take(IdleMetric::KeeperPss, keeper.pss_mb);
    take(IdleMetric::KeeperRss, keeper.rss_mb);

    let begun = Instant::now();
    daemon.ask(&["down"])?;
    take(IdleMetric::Stop, begun.elapsed().as_secs_f64());
    Ok(())
}

fn name(number: u32) -> String {
    format!("crowd-{number}")
}

fn composition(wire: &Path) -> String {
    let mut text = String::from("[composition]\nname = \"crowd\"\nversion = 1\n");
    let names: Vec<String> = (0..AUTOMATONS)
        .map(|it| format!("\"{}\"", name(it)))
        .collect();
    let _ = write!(
        text,
        "\n[automaton.caller]\ncommand = [\"sleep\", \"infinity\"]\nneeds = [{}]\n",
        names.join(", ")
    );
    for number in 0..AUTOMATONS {
        let _ = write!(
            text,
            "\n[automaton.{}]\ncommand = [\"{}\", \"answer\", \"--port\", \"{SERVER_PORT}\"]\n\
             replicas = {REPLICAS}\n\
             ports = {{ tcp = {{ port = {SERVER_PORT}, protocol = \"tcp\" }} }}\n\
             ready = {{ tcp = true, port = \"tcp\" }}\n",
            name(number),
            wire.display()
        );
    }
    text
}

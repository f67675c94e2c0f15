//! `bench look-ups`: names of other sites that neither a catalog nor a summary has.
//!
//! Sites directly below the root exchange no summaries, so that only Kademlia can tell one of them
//! who serves a name in another. One program asks libc for each name once.

use crate::bench::line::Line;
use crate::bench::report::Series;
use crate::bench::statistics::percentile;
use crate::lab::{Host, Lab, PLACE, Topology, until};
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

/// How long all compositions and instances may take to be where they belong, on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// How long look-ups may take to find any name at all.
const FOUND_WITHIN: Duration = Duration::from_secs(60);

/// The instance that asks, and its host.
const ASKER: (&str, &str) = ("1.asker", "s0-1");

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many sites, each with one host.
    pub sites: usize,
    /// How many names, spread over all sites but the asker's.
    pub names: usize,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct LookUps {
    /// The milliseconds of each answer.
    pub answered: Vec<f64>,
    /// How many names got none.
    pub failures: usize,
    /// For how many answers the asker's host says that Kademlia led there.
    pub looked_up: usize,
}

impl Plan {
    /// Fails for a plan that cannot be carried out.
    pub fn check(&self) -> Result<()> {
        if !(2..=60).contains(&self.sites) || !(1..=500).contains(&self.names) {
            bail!("--sites takes 2 to 60, --names 1 to 500");
        }
        Ok(())
    }
}

/// Brings the sites up, asks for every name once, and asks the asker's host how it knew.
pub fn run(plan: &Plan) -> Result<LookUps> {
    let lab = start(plan)?;
    let (asker, host) = ASKER;
    let host = lab.find_host(host)?;
    host.apply(&composition(plan))?;
    until_settled(&lab, plan)?;
    // The first name shows that providers are known at all; it does not count.
    until("a name of another site is found", FOUND_WITHIN, || {
        Ok(host
            .run(asker, &["getent", "ahostsv4", "probe.matrix"])
            .ok())
    })
    .with_context(|| host.log_tail())?;
    let names: Vec<String> = (0..plan.names)
        .map(|number| format!("name{number}.matrix"))
        .collect();
    let program = format!("{PLACE}/ask.py");
    let mut words = vec!["/usr/bin/python3", &program];
    words.extend(names.iter().map(String::as_str));
    let told = host.run(asker, &words)?;
    let answered: Vec<f64> = told.lines().filter_map(|it| it.parse().ok()).collect();
    ensure!(
        told.lines().count() == plan.names,
        "not every name was asked"
    );
    let looked_up = names.iter().map(|name| was_looked_up(host, name));
    let looked_up = looked_up.collect::<Result<Vec<_>>>()?;
    Ok(LookUps {
        failures: plan.names - answered.len(),
        answered,
        looked_up: looked_up.into_iter().filter(|it| *it).count(),
    })
}

/// One host a site, each its site's gateway.
fn start(plan: &Plan) -> Result<Lab> {
    let mut text = String::new();
    for site in 0..plan.sites {
        writeln!(text, "[site.s{site}]\nhosts = 1")?;
    }
    let topology = match Topology::parse(&text) {
        Ok(topology) => topology,
        Err(mistakes) => bail!("the bench's topology: {mistakes}"),
    };
    let lab = Lab::without_daemons(&topology)?;
    lab.found_network(ASKER.1, |_| &[])?;
    let host = lab.find_host(ASKER.1)?;
    host.write("ask.py", include_str!("look_ups/ask.py"))?;
    Ok(lab)
}

/// A service for each name on one of the other hosts, and one that asks for all of them.
fn composition(plan: &Plan) -> String {
    let mut text = "[composition]\nname = \"names\"\nversion = 1\n".to_owned();
    let mut needs = Vec::new();
    let names = (0..plan.names).map(|number| format!("name{number}"));
    for (number, name) in names.chain(["probe".to_owned()]).enumerate() {
        let site = 1 + number % (plan.sites - 1);
        text += &format!(
            "[automaton.{name}]\ncommand = [\"sleep\", \"infinity\"]\non = [\"s{site}-1\"]\n\
             ports = {{ any = {{ port = 9, protocol = \"tcp\" }} }}\n"
        );
        needs.push(format!("\"{name}\""));
    }
    text + &format!(
        "[automaton.asker]\ncommand = [\"sleep\", \"infinity\"]\non = [\"{}\"]\nneeds = [{}]\n",
        ASKER.1,
        needs.join(", ")
    )
}

/// Waits until every instance is ready on its host.
fn until_settled(lab: &Lab, plan: &Plan) -> Result<()> {
    until("every instance is ready", SETTLED_WITHIN, || {
        let mut ready = 0;
        for node in lab.topology().hosts() {
            let instances = lab.find_host(&node.name)?.instances()?;
            ready += instances.iter().filter(|instance| instance.ready).count();
        }
        Ok((ready == plan.names + 2).then_some(()))
    })
}

/// Whether the asker's host came to know of a name's instance by Kademlia.
fn was_looked_up(host: &Host, name: &str) -> Result<bool> {
    let words = ["explain", name, "--as", ASKER.0, "--json"];
    let output = host.margay(&words).output()?;
    Ok(String::from_utf8(output.stdout)?.contains("looked up: "))
}

/// Writes one JSON object a figure.
pub fn write_json(plan: &Plan, measured: &LookUps, output: &mut impl Write) -> Result<()> {
    for line in lines(plan, measured) {
        serde_json::to_writer(&mut *output, &line)?;
        writeln!(output)?;
    }
    Ok(())
}

/// Writes a table.
pub fn write_table(plan: &Plan, measured: &LookUps, output: &mut impl Write) -> Result<()> {
    writeln!(
        output,
        "{} names of {} sites, each asked once by one program of another site",
        plan.names,
        plan.sites - 1
    )?;
    for line in lines(plan, measured) {
        writeln!(
            output,
            "  {:<10} {:>10.2} {}",
            line.metric, line.value, line.unit
        )?;
    }
    Ok(())
}

fn lines(plan: &Plan, measured: &LookUps) -> Vec<Line> {
    let mut answered = measured.answered.clone();
    answered.sort_by(f64::total_cmp);
    let of = |percent| percentile(&answered, percent).unwrap_or(f64::NAN);
    let figures = [
        ("p50_ms", "ms", of(50)),
        ("p99_ms", "ms", of(99)),
        ("failures", "names", measured.failures as f64),
        ("looked_up", "names", measured.looked_up as f64),
    ];
    let line = |(metric, unit, value)| {
        let series = Series {
            values: vec![value],
            ..Series::default()
        };
        let line = Line::new(("look-ups", "margay", metric), unit, &series)?;
        Some(Line {
            rounds: plan.names,
            ..line
        })
    };
    figures.into_iter().filter_map(line).collect()
}

//! An explanation as text, a line for each step.

use super::{Explanation, OpenFlow, Route, Verdict};
use std::fmt;

/// The width of the first column: the longest label below.
const LABEL: usize = 8;

/// The width of a step's name: the longest.
const NAME: usize = 12;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} to {}", self.caller, self.target)?;
        for step in &self.steps {
            let mark = if step.passed { "ok" } else { "no" };
            writeln!(f, "  {mark}  {:NAME$}  {}", step.name, step.detail)?;
        }
        match &self.verdict {
            Verdict::Open(flow) => open(f, flow)?,
            Verdict::WouldOpen(route) => {
                line(f, "verdict", &format!("goes to {}", route.server))?;
                rewrite(f, route)?;
            }
            Verdict::Leaves => line(f, "verdict", "leaves by the host's own routing")?,
            Verdict::Refused {
                reason,
                explanation,
                told,
            } => {
                line(f, "verdict", &format!("refused: {reason}. {explanation}"))?;
                line(f, "told", told)?;
            }
            Verdict::NoSuchName { told } => {
                line(f, "verdict", "the name leads nowhere")?;
                line(f, "told", told)?;
            }
        }
        line(f, "next", &self.next)
    }
}

fn open(f: &mut fmt::Formatter<'_>, flow: &OpenFlow) -> fmt::Result {
    let server = &flow.route.server;
    line(f, "verdict", &format!("open to {server}, {}", flow.state))?;
    rewrite(f, &flow.route)?;
    let packets = format!(
        "{} there ({} bytes), {} back ({} bytes)",
        flow.packets, flow.bytes, flow.reply_packets, flow.reply_bytes
    );
    line(f, "packets", &packets)?;
    let age = format!(
        "{}, silent for {}",
        seconds(flow.age_ms),
        seconds(flow.silent_ms)
    );
    line(f, "age", &age)
}

fn rewrite(f: &mut fmt::Formatter<'_>, route: &Route) -> fmt::Result {
    let change = |what: &str, from: &str, to: &str| {
        let changed = from != to;
        changed.then(|| format!("{what} {from} becomes {to}"))
    };
    let changes = [
        change("destination", &route.to, &route.delivered_to),
        change("source", &route.from, &route.delivered_from),
    ];
    let changes: Vec<String> = changes.into_iter().flatten().collect();
    match changes.is_empty() {
        true => line(f, "rewrite", "none"),
        false => line(f, "rewrite", &changes.join(", ")),
    }
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "{label:LABEL$}  {text}")
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

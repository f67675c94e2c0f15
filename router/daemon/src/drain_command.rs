//! `margay drain`: takes an instance out and waits until the flows that it serves have ended.

use crate::client::ask_for;
use crate::protocol::{DrainRow, Request};
use anyhow::Result;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How often the daemon is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Drains `instance` or undoes that, and says what it waits for; true once nothing is left to wait
/// for, false if that took longer than `wait`.
pub fn run(run: &Path, instance: String, cancel: bool, wait: Duration, json: bool) -> Result<bool> {
    let asked = Instant::now();
    let mut row: DrainRow = ask_for(run, &Request::Drain { instance, cancel })?;
    // By its number: while one version replaces another, two bear one name.
    let instance = row.instance.to_string();
    let mut said = String::new();
    while !cancel && row.flows > 0 && asked.elapsed() < wait {
        let now = waits_for(&row);
        if !json && now != said {
            println!("{now}");
            said = now;
        }
        thread::sleep(ASK_EVERY);
        let instance = instance.clone();
        row = ask_for(run, &Request::Drain { instance, cancel })?;
    }
    if json {
        println!("{}", serde_json::to_string(&row)?);
    } else {
        println!("{}", outcome(&row, cancel, wait));
    }
    Ok(cancel || row.flows == 0)
}

fn waits_for(row: &DrainRow) -> String {
    let callers = row.callers.iter();
    let callers: Vec<String> = callers
        .map(|(name, flows)| format!("{flows} of {name}"))
        .collect();
    let name = &row.name;
    format!(
        "{name} takes no new flow; waiting for those it serves: {}",
        callers.join(", ")
    )
}

fn outcome(row: &DrainRow, cancel: bool, wait: Duration) -> String {
    let (name, flows) = (&row.name, row.flows);
    if cancel {
        return format!("{name} takes new flows again");
    }
    match flows {
        0 => format!("{name} is drained: it takes no new flow and serves none (undo: --cancel)"),
        _ => format!(
            "{name} takes no new flow, and serves {flows} after {} s; `margay flows` shows them",
            wait.as_secs()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(flows: u32) -> DrainRow {
        DrainRow {
            name: "2.web".into(),
            instance: 9,
            drained: true,
            flows,
            callers: [("1.shopper".into(), flows)].into(),
        }
    }

    #[test]
    fn what_it_waits_for_and_how_it_ends_is_said() {
        assert_eq!(
            waits_for(&row(3)),
            "2.web takes no new flow; waiting for those it serves: 3 of 1.shopper"
        );
        let second = Duration::from_secs(1);
        assert!(outcome(&row(0), false, second).contains("is drained"));
        assert!(outcome(&row(3), false, second).contains("serves 3 after 1 s"));
        assert!(outcome(&row(3), true, second).contains("new flows again"));
    }
}

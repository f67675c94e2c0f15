//! Step: a host dies; the others of its site find out together, and the other site takes over.

use super::super::{Report, chapter, tell};
use super::travel::{CLIENT, FOUNDER, GATEWAYS, SHOPPER, Travel};
use crate::lab::until;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// How long the death may stay unknown, on a busy machine.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

/// How long the other site may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Kills the host of the near web server.
pub(super) fn show(travel: &mut Travel, report: &mut Report) -> Result<()> {
    chapter("A host killed");
    fetch(travel).context("before the death")?;
    let killed = Instant::now();
    travel.lab.kill_host(FOUNDER)?;
    for survivor in [CLIENT, GATEWAYS[0]] {
        let host = travel.lab.find_host(survivor)?;
        until("the death is known", KNOWN_WITHIN, || {
            let members = host.members()?;
            let dead = members.iter().find(|member| member.name == FOUNDER);
            Ok(dead.filter(|it| it.state == "down").map(drop))
        })
        .with_context(|| host.log_tail())?;
        tell(format!(
            "{survivor} knows of it after {} ms",
            killed.elapsed().as_millis()
        ));
    }
    report.detect_ms = killed.elapsed().as_secs_f64() * 1e3;
    until(
        "the other site's web server answers",
        ANSWERED_WITHIN,
        || Ok(fetch(travel).ok()),
    )?;
    tell(format!(
        "web.matrix is answered from the other site after {} ms",
        killed.elapsed().as_millis()
    ));
    Ok(())
}

/// Fetches the page.
fn fetch(travel: &Travel) -> Result<()> {
    let url = "http://web.matrix:8000/";
    let words = ["curl", "-sS", "--max-time", "2", url];
    travel.client()?.run(SHOPPER, &words).map(drop)
}

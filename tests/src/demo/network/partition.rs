//! Step: a site is cut off; each goes on by itself, and both are one again soon after it is healed.

use super::super::{Report, chapter, tell};
use super::convergence::{Asker, service};
use super::travel::{FOUNDER, GATEWAYS, SERVER, SHOPPER, Travel};
use crate::lab::until;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// The link that is cut.
const LINK: &str = "backbone-rome";

/// How long hosts may take to miss each other, or to find each other again.
const NOTICED_WITHIN: Duration = Duration::from_secs(90);

/// Cuts Rome off until both gateways miss each other, writes on one side, and heals the cut.
pub(super) fn survive(travel: &Travel, report: &mut Report) -> Result<()> {
    chapter("A site cut off, and healed");
    let link = travel.lab.find_link(LINK)?;
    link.cut()?;
    let [paris, rome] = GATEWAYS;
    let gateway = travel.lab.find_host(paris)?;
    until("the gateways miss each other", NOTICED_WITHIN, || {
        let members = gateway.members()?;
        let other = members.iter().find(|member| member.name == rome);
        Ok(other.filter(|it| it.link != "up").map(drop))
    })?;
    travel.lab.find_host(FOUNDER)?.apply(&service("weather"))?;
    let page = ["curl", "-sS", "--max-time", "5", "http://web.matrix:8000/"];
    travel.client()?.run(SHOPPER, &page)?;
    ensure!(ping(travel).is_err(), "the cut site answers");
    tell("Paris goes on by itself; nobody in Rome is reached");
    let asker = Asker::start(travel.lab.find_host(SERVER)?, "weather.matrix")?;

    let healed = Instant::now();
    link.heal()?;
    until("Rome is reached again", NOTICED_WITHIN, || {
        Ok(ping(travel).ok())
    })
    .with_context(|| gateway.log_tail())?;
    tell(format!(
        "Rome is reached again after {} ms",
        healed.elapsed().as_millis()
    ));
    asker.answered()?;
    report.heal_ms = healed.elapsed().as_secs_f64() * 1e3;
    tell(format!(
        "and knows what was applied meanwhile after {:.0} ms",
        report.heal_ms
    ));
    Ok(())
}

/// Asks the store in the other site.
fn ping(travel: &Travel) -> Result<String> {
    let words = ["timeout", "3", "redis-cli", "-h", "store.matrix", "PING"];
    let answer = travel.client()?.run(SHOPPER, &words)?;
    ensure!(answer.trim() == "PONG", "redis answered {answer:?}");
    Ok(answer)
}

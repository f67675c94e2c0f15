//! Step: all three replicas are replaced by a new version under load, and nobody notices.

use super::load::{Load, Request};
use super::shop::Shop;
use super::{Report, chapter, tell};
use crate::lab::{Instance, until};
use anyhow::{Context, Result};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The file that stops the load when it appears.
const STOP: &str = "rolling-stop";

/// Requests that must be done before the replacement and again after it.
const REQUESTS_AROUND: usize = 60;

/// How long the replacement may take, on a busy machine.
const REPLACED_MAX: Duration = Duration::from_secs(60);

/// Raises the version of the web servers under load, and counts what failed.
pub(super) fn replace(shop: &Shop, report: &mut Report) -> Result<()> {
    chapter("A new version of all three replicas, under load");
    let load = Load::start(shop, STOP)?;
    load.go_on(REQUESTS_AROUND)?;

    let began = Instant::now();
    shop.host.apply(&second_version())?;
    let new = until("the new version alone serves", REPLACED_MAX, || {
        replaced(shop)
    });
    let new = new.with_context(|| format!("instances: {:#?}", shop.host.instances()))?;
    let took = began.elapsed();
    load.go_on(REQUESTS_AROUND)?;

    let requests = load.stop()?;
    let answered_by = |it: &Request, web: &[Instance]| {
        let body = it.body.parse::<IpAddr>();
        it.succeeded && body.is_ok_and(|addr| web.iter().any(|web| web.is_called(addr)))
    };
    let of_old = requests.iter().filter(|it| answered_by(it, &shop.web));
    let (of_old, of_new) = (
        of_old.count(),
        requests.iter().filter(|it| answered_by(it, &new)),
    );
    let of_new = of_new.count();
    let well = |it: &Request| answered_by(it, &shop.web) || answered_by(it, &new);
    let failed: Vec<&Request> = requests.iter().filter(|it| !well(it)).collect();
    report.rolling_ms = u64::try_from(took.as_millis())?;
    report.rolling_requests = u64::try_from(requests.len())?;
    report.rolling_failed = u64::try_from(failed.len())?;
    tell(format!(
        "three replicas replaced in {} ms",
        report.rolling_ms
    ));
    tell(format!(
        "{} requests, each by a new process; {of_old} answered by the old, {of_new} by the new; {} failed",
        requests.len(),
        failed.len()
    ));
    for request in failed.iter().take(5) {
        tell(format!("failed: {}", request.line));
    }
    Ok(())
}

/// The shop whose web servers are of another release.
fn second_version() -> String {
    let shop = include_str!("shop.toml").replacen("version = 1", "version = 2", 1);
    let web = "[automaton.web]\n";
    shop.replacen(web, &format!("{web}env = {{ RELEASE = \"2\" }}\n"), 1)
}

/// The new replicas, once all of them are ready and none of the old is left.
fn replaced(shop: &Shop) -> Result<Option<Vec<Instance>>> {
    let mut web = shop.host.instances()?;
    web.retain(|it| it.is_of("web"));
    let old = |it: &Instance| shop.web.iter().any(|old| old.called_v4 == it.called_v4);
    let done = web.len() == shop.web.len() && web.iter().all(|it| it.ready && !old(it));
    Ok(done.then_some(web))
}

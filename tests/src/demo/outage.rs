//! Step: the daemon is killed with -9 under load, stays dead for more than a second, and nobody notices.

use super::load::{Load, Request};
use super::shop::{SHOPPER, Shop, inside};
use super::{Report, chapter, tell};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long no daemon runs; the next one needs its own time on top.
const DEAD: Duration = Duration::from_millis(1050);

/// The file that stops the load when it appears.
const STOP: &str = "load-stop";

/// Requests that must be done before the kill and again after the recovery.
const REQUESTS_AROUND: usize = 60;

/// Pings over one connection until the load stops.
const PING: &str = r#"
redis-cli -h store.matrix -r -1 -i 0.02 PING &
until test -e "$1"; do sleep 0.05; done
kill $!
"#;

/// Kills the daemon under load, and counts what failed.
pub(super) fn survive(shop: &Shop, report: &mut Report) -> Result<()> {
    chapter("The daemon killed with -9, under load");
    let load = Load::start(shop, STOP)?;
    let pings = ping(shop)?;
    load.go_on(REQUESTS_AROUND)?;

    let killed_at = unix_now();
    let killed = shop.host.kill_daemon()?;
    // A measured outage: this time is the point, no condition stands behind it.
    thread::sleep(DEAD.saturating_sub(killed.elapsed()));
    shop.host.start_daemon()?;
    let down = killed.elapsed();
    let back_at = unix_now();
    load.go_on(REQUESTS_AROUND)?;

    let requests = load.stop()?;
    // New flows need a daemon: what was answered in this time was answered over an open one.
    let pongs = pings.between(killed_at, killed_at + DEAD.as_secs_f64())?;
    let during = requests
        .iter()
        .filter(|it| it.began < back_at && it.ended > killed_at)
        .count();
    let well = |it: &Request| it.succeeded && shop.replica(&it.body).is_ok();
    let failed: Vec<&Request> = requests.iter().filter(|it| !well(it)).collect();
    let longest = requests
        .iter()
        .map(|it| it.ended - it.began)
        .fold(0.0, f64::max);
    report.daemon_down_ms = u64::try_from(down.as_millis())?;
    report.requests_during_kill9 = u64::try_from(during)?;
    report.failed_during_kill9 = u64::try_from(failed.len())?;
    tell(format!("no daemon for {} ms", report.daemon_down_ms));
    tell(format!(
        "{} requests, each by a new process; {during} while it was dead; {} failed; longest {longest:.2} s",
        requests.len(),
        failed.len()
    ));
    for request in failed.iter().take(5) {
        tell(format!("failed: {}", request.line));
    }
    tell(format!(
        "a connection that was open answered {pongs} pings meanwhile"
    ));
    Ok(())
}

/// One redis connection that pings on and on, and when each answer came.
struct Pings {
    child: Child,
    reader: thread::JoinHandle<Vec<f64>>,
}

fn ping(shop: &Shop) -> Result<Pings> {
    let mut command = shop
        .host
        .exec(SHOPPER, &["sh", "-c", PING, "sh", &inside(STOP)]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(child.stdout.take().context("its output is a pipe")?);
    let reader = thread::spawn(move || {
        let pongs = output
            .lines()
            .map_while(Result::ok)
            .filter(|line| line == "PONG");
        pongs.map(|_| unix_now()).collect()
    });
    Ok(Pings { child, reader })
}

impl Pings {
    /// Waits until the pings have stopped, and counts the answers between two times.
    fn between(mut self, from: f64, to: f64) -> Result<usize> {
        self.child.wait()?;
        let Ok(pongs) = self.reader.join() else {
            bail!("the reader of pings panicked")
        };
        Ok(pongs
            .into_iter()
            .filter(|at| (from..to).contains(at))
            .count())
    }
}

/// The time of day, in seconds since 1970.
pub(super) fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

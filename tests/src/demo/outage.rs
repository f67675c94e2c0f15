//! Step: the daemon is killed with -9 under load, stays dead for more than a second, and nobody notices.

use super::shop::{SHOPPER, Shop, inside};
use super::{Report, chapter, tell};
use crate::lab::programs::Libc;
use crate::lab::until;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::NamedTempFile;

/// How long no daemon runs; the next one needs its own time on top.
const DEAD: Duration = Duration::from_millis(1050);

/// The file that stops the load when it appears.
const STOP: &str = "load-stop";

/// Requests that must be done before the kill and again after the recovery.
const REQUESTS_AROUND: usize = 60;

/// How long those may take, on a busy machine.
const REQUESTS_MAX: Duration = Duration::from_secs(30);

/// Pings over one connection until the load stops.
const PING: &str = r#"
redis-cli -h store.matrix -r -1 -i 0.02 PING &
until test -e "$1"; do sleep 0.05; done
kill $!
"#;

/// One request of the load.
struct Request {
    began: f64,
    ended: f64,
    well: bool,
    line: String,
}

/// One shell that requests without pause, inside the shopper.
struct Worker {
    child: Child,
    output: NamedTempFile,
}

/// Kills the daemon under load, and counts what failed.
pub(super) fn survive(shop: &Shop, report: &mut Report) -> Result<()> {
    chapter("The daemon killed with -9, under load");
    let workers = load(shop)?;
    let pings = ping(shop)?;
    let done = || Ok::<_, anyhow::Error>(requests(shop, &workers)?.len());
    let some = |more: usize| {
        let from = done()?;
        until("requests are answered", REQUESTS_MAX, || {
            Ok((done()? >= from + more).then_some(()))
        })
    };
    some(REQUESTS_AROUND)?;

    let killed_at = unix_now();
    let killed = shop.host.kill_daemon()?;
    // A measured outage: this time is the point, no condition stands behind it.
    thread::sleep(DEAD.saturating_sub(killed.elapsed()));
    shop.host.start_daemon()?;
    let down = killed.elapsed();
    let back_at = unix_now();
    some(REQUESTS_AROUND)?;

    shop.host.write(STOP, "")?;
    let requests = stop(shop, workers)?;
    // New flows need a daemon: what was answered in this time was answered over an open one.
    let pongs = pings.between(killed_at, killed_at + DEAD.as_secs_f64())?;
    let during = requests
        .iter()
        .filter(|it| it.began < back_at && it.ended > killed_at)
        .count();
    let failed: Vec<&Request> = requests.iter().filter(|it| !it.well).collect();
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

/// Starts the load: curl over either family as it likes, and the small client of either libc.
fn load(shop: &Shop) -> Result<Vec<Worker>> {
    let glibc = Shop::fetch(Libc::Glibc);
    let musl = Shop::fetch(Libc::Musl);
    let curl = ["curl", "-sS", "--max-time", "20", "http://web.matrix/"];
    let clients: [&[&str]; 4] = [
        &curl,
        &curl,
        &[&glibc, "web.matrix", "80"],
        &[&musl, "web.matrix", "80"],
    ];
    let (script, stop) = (inside("load.sh"), inside(STOP));
    let start = |client: &&[&str]| {
        let words = [&["bash", &script, &stop], *client].concat();
        let output = NamedTempFile::new().context("cannot make a file for the load's lines")?;
        let mut command = shop.host.exec(SHOPPER, &words);
        command.stdin(Stdio::null()).stdout(output.reopen()?);
        Ok(Worker {
            child: command.spawn()?,
            output,
        })
    };
    clients.iter().map(start).collect()
}

/// What the workers have written so far.
fn requests(shop: &Shop, workers: &[Worker]) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for worker in workers {
        let text = fs::read_to_string(worker.output.path())?;
        // The last line may not be whole yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            requests.push(parse(shop, line).with_context(|| format!("the load wrote `{line}`"))?);
        }
    }
    Ok(requests)
}

fn parse(shop: &Shop, line: &str) -> Result<Request> {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().context("a line has four words");
    let (began, ended, status, body) = (word()?, word()?, word()?, word()?);
    Ok(Request {
        began: began.parse()?,
        ended: ended.parse()?,
        well: status == "0" && shop.replica(body).is_ok(),
        line: line.to_owned(),
    })
}

fn stop(shop: &Shop, mut workers: Vec<Worker>) -> Result<Vec<Request>> {
    for worker in &mut workers {
        ensure!(
            worker.child.wait()?.success(),
            "a worker of the load failed"
        );
    }
    requests(shop, &workers)
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

fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

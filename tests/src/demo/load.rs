//! Load on the web servers: requests without pause, each by a new process, and what became of each.

use super::shop::{SHOPPER, Shop, inside};
use crate::lab::programs::Libc;
use crate::lab::until;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;
use tempfile::NamedTempFile;

/// How long a number of requests may take, on a busy machine.
const REQUESTS_MAX: Duration = Duration::from_secs(30);

/// One request of the load.
pub(super) struct Request {
    /// When it began, in seconds since 1970.
    pub(super) began: f64,
    /// When it ended.
    pub(super) ended: f64,
    /// Whether its program ended well.
    pub(super) succeeded: bool,
    /// What it printed: the address of who answered.
    pub(super) body: String,
    /// All of it.
    pub(super) line: String,
}

/// Workers that request until they are told to stop.
pub(super) struct Load<'a> {
    shop: &'a Shop<'a>,
    /// The file that stops them when it appears.
    stop: &'static str,
    workers: Vec<Worker>,
}

/// One shell that requests without pause, inside the shopper.
struct Worker {
    child: Child,
    output: NamedTempFile,
}

impl<'a> Load<'a> {
    /// Starts the load: curl over either family as it likes, and the small client of either libc.
    pub(super) fn start(shop: &'a Shop<'a>, stop: &'static str) -> Result<Load<'a>> {
        let glibc = Shop::fetch(Libc::Glibc);
        let musl = Shop::fetch(Libc::Musl);
        let curl = ["curl", "-sS", "--max-time", "20", "http://web.matrix/"];
        let clients: [&[&str]; 4] = [
            &curl,
            &curl,
            &[&glibc, "web.matrix", "80"],
            &[&musl, "web.matrix", "80"],
        ];
        let (script, stop_path) = (inside("load.sh"), inside(stop));
        let start = |client: &&[&str]| {
            let words = [&["bash", &script, &stop_path], *client].concat();
            let output = NamedTempFile::new().context("cannot make a file for the load's lines")?;
            let mut command = shop.host.exec(SHOPPER, &words);
            command.stdin(Stdio::null()).stdout(output.reopen()?);
            Ok(Worker {
                child: command.spawn()?,
                output,
            })
        };
        let workers = clients.iter().map(start).collect::<Result<_>>()?;
        Ok(Load {
            shop,
            stop,
            workers,
        })
    }

    /// Waits until so many more requests are done.
    pub(super) fn go_on(&self, requests: usize) -> Result<()> {
        let from = self.requests()?.len();
        until("requests are answered", REQUESTS_MAX, || {
            Ok((self.requests()?.len() >= from + requests).then_some(()))
        })
    }

    /// Ends the load; all of its requests.
    pub(super) fn stop(mut self) -> Result<Vec<Request>> {
        self.shop.host.write(self.stop, "")?;
        for worker in &mut self.workers {
            ensure!(
                worker.child.wait()?.success(),
                "a worker of the load failed"
            );
        }
        self.requests()
    }

    /// What the workers have written so far.
    fn requests(&self) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        for worker in &self.workers {
            let text = fs::read_to_string(worker.output.path())?;
            // The last line may not be whole yet.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for line in whole.lines() {
                let request = parse(line).with_context(|| format!("the load wrote `{line}`"))?;
                requests.push(request);
            }
        }
        Ok(requests)
    }
}

fn parse(line: &str) -> Result<Request> {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().context("a line has four words");
    let (began, ended, status, body) = (word()?, word()?, word()?, word()?);
    Ok(Request {
        began: began.parse()?,
        ended: ended.parse()?,
        succeeded: status == "0",
        body: body.trim().to_owned(),
        line: line.to_owned(),
    })
}

//! Step: a service is applied in one site, and every host of both learns of it.

use super::super::outage::unix_now;
use super::super::{Report, chapter, tell};
use super::travel::{FOUNDER, Travel};
use crate::lab::{Host, PLACE};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

/// A service on the founder's host that every host's own programs may ask for.
pub(super) fn service(name: &str) -> String {
    format!(
        "[composition]\nname = \"{name}\"\nversion = 1\n\
         [host]\nneeds = [\"{name}\"]\n\
         [automaton.{name}]\ncommand = [\"sleep\", \"infinity\"]\non = [\"{FOUNDER}\"]\n"
    )
}

/// Applies the service while every host asks for it, and takes the time of the last first answer.
pub(super) fn measure(travel: &Travel, report: &mut Report) -> Result<()> {
    chapter("A new service becomes known to every host");
    let hosts = travel.lab.topology().hosts();
    let askers = hosts.map(|node| {
        let host = travel.lab.find_host(&node.name)?;
        Ok((node.name.as_str(), Asker::start(host, "news.matrix")?))
    });
    let askers = askers.collect::<Result<Vec<_>>>()?;
    let applied = unix_now();
    travel.lab.find_host(FOUNDER)?.apply(&service("news"))?;
    let mut last: f64 = 0.0;
    for (name, asker) in askers {
        let known = asker.answered().with_context(|| name.to_owned())? - applied;
        tell(format!("{name} answers after {:.0} ms", known * 1e3));
        last = last.max(known);
    }
    report.converge_ms = last * 1e3;
    Ok(())
}

/// A program of a host that asks the host's own resolver until it has an answer.
pub(super) struct Asker {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Asker {
    /// Starts it and waits until it has asked in vain.
    pub(super) fn start(host: &Host, name: &str) -> Result<Asker> {
        let mut command = host.command("python3");
        command.arg(format!("{PLACE}/ask.py")).arg(name);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let mut lines = BufReader::new(output).lines();
        let first = lines.next().context("the asker ended at once")??;
        ensure!(first == "asking", "{name} is known already");
        Ok(Asker { child, lines })
    }

    /// Waits for the answer; its time, in seconds since 1970.
    pub(super) fn answered(mut self) -> Result<f64> {
        let answered = self.lines.next().context("the asker gave up")??;
        ensure!(self.child.wait()?.success(), "the asker failed");
        Ok(answered.parse()?)
    }
}

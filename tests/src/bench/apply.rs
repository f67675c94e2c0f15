//! How soon a service that is applied can be found: from the control socket to its name, and to the
//! first address, once its program runs.

use crate::bench::asker::{Answer, Asker, question};
use crate::bench::control::Application;
use crate::bench::daemon::{Daemon, READY_MAX};
use crate::bench::namespace::Namespace;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two questions: short beside what is measured, long beside an answer.
const ASK_EVERY: Duration = Duration::from_micros(100);

/// The port that the services declare.
const PORT: u16 = 7000;

/// How long after it was applied a service was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Until its name existed for who may call it: the first answer that is right.
    pub name: Duration,
    /// Until its name had an address: its instance has a network and its program runs.
    pub address: Duration,
}

/// An instance that asks for what its composition has just declared.
pub struct Applicant {
    control: PathBuf,
    asker: Asker,
    version: u64,
}

impl Applicant {
    /// Applies a composition whose one instance will ask, and waits until it runs.
    pub fn start(daemon: &mut Daemon, scratch: &Path) -> Result<Applicant> {
        daemon.apply(scratch, &composition(1))?;
        let asker = daemon.wait_until("have the asker ready", READY_MAX, |daemon| {
            let instances = daemon.instances().ok()?;
            instances.into_iter().find(|it| it.is("asker") && it.ready)
        })?;
        let process = asker.pid.context("the asker has no process")?;
        // Its first process is told of before it has entered its namespace.
        let asker = daemon.wait_until("have the asker inside", READY_MAX, |_| {
            Asker::inside(&Namespace::of_process(process).ok()?).ok()
        })?;
        Ok(Applicant {
            control: daemon.control_socket(),
            asker,
            version: 1,
        })
    }

    /// Applies one service more, in place of the last, and asks for it until it has an address.
    pub fn apply(&mut self) -> Result<Found> {
        self.version += 1;
        let name = format!("{}.matrix", service(self.version));
        let question = question(self.version as u16, &name);
        let known_before = self.asker.ask(&question)? != Answer::NoSuchName;
        ensure!(!known_before, "its name exists before it is applied");
        let composition = composition(self.version);
        let begun = Instant::now();
        let application = Application::send(&self.control, &composition)?;
        let mut name = None;
        let address = loop {
            match self.asker.ask(&question)? {
                Answer::NoSuchName => {}
                Answer::NoAddress => drop(name.get_or_insert_with(|| begun.elapsed())),
                Answer::Address => break begun.elapsed(),
            }
            if begun.elapsed() > READY_MAX {
                bail!("a service that was applied has no address after {READY_MAX:?}");
            }
            thread::sleep(ASK_EVERY);
        };
        application.finish()?;
        Ok(Found {
            name: name.unwrap_or(address),
            address,
        })
    }
}

fn service(version: u64) -> String {
    format!("fresh-{version}")
}

/// An asker, and one service that only this version has.
fn composition(version: u64) -> String {
    let service = service(version);
    format!(
        r#"[composition]
name = "fresh"
version = {version}

[automaton.asker]
command = ["sleep", "infinity"]
needs = ["{service}"]

[automaton.{service}]
command = ["sleep", "infinity"]
ports = {{ tcp = {{ port = {PORT}, protocol = "tcp" }} }}
"#
    )
}

/// Compositions that together declare `services`, none of which runs.
pub fn declarations(services: u32) -> impl Iterator<Item = String> {
    /// Automatons of one composition: about as many as it may have.
    const EACH: u32 = 1_000;
    (0..services).step_by(EACH as usize).map(move |first| {
        let mut text = format!("[composition]\nname = \"declared-{first}\"\nversion = 1\n");
        for number in first..services.min(first + EACH) {
            text.push_str(&format!(
                "[automaton.declared-{number}]\ncommand = [\"true\"]\nreplicas = 0\n\
                 ports = {{ tcp = {{ port = {PORT}, protocol = \"tcp\" }} }}\n"
            ));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_declared_once() {
        let texts: Vec<String> = declarations(2_500).collect();
        let declared = texts.iter().flat_map(|text| text.lines());
        let declared = declared.filter(|line| line.starts_with("[automaton."));
        let different: std::collections::BTreeSet<_> = declared.collect();
        assert_eq!((texts.len(), different.len()), (3, 2_500));
    }
}

//! How soon a service that is applied can be found: from the control socket to its name, and to the
//! first address, once its program runs.

use crate::bench::daemon::{Daemon, READY_MAX};
use crate::bench::namespace::Namespace;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where an instance's resolver listens.
const RESOLVER: &str = "169.254.53.53:53";

/// Pause between two questions: short beside what is measured, long beside an answer.
const ASK_EVERY: Duration = Duration::from_micros(100);

/// How long one question waits for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);

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

/// What the resolver says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    NoSuchName,
    NoAddress,
    Address,
}

/// An instance that asks for what its composition has just declared.
pub struct Applicant {
    control: PathBuf,
    resolver: UdpSocket,
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
        let resolver = daemon.wait_until("have the asker inside", READY_MAX, |_| {
            Namespace::of_process(process)
                .ok()?
                .enter(ask_resolver)
                .ok()
        })?;
        Ok(Applicant {
            control: daemon.control_socket(),
            resolver,
            version: 1,
        })
    }

    /// Applies one service more, in place of the last, and asks for it until it has an address.
    pub fn apply(&mut self) -> Result<Found> {
        self.version += 1;
        let question = question(self.version);
        let known_before = self.ask(&question)? != Answer::NoSuchName;
        ensure!(!known_before, "its name exists before it is applied");
        let request = json!({"apply": {"file": "fresh.toml", "text": composition(self.version)}});
        let line = format!("{request}\n");
        let begun = Instant::now();
        let mut control = UnixStream::connect(&self.control).context("reach the control socket")?;
        control.write_all(line.as_bytes())?;
        let mut name = None;
        let address = loop {
            match self.ask(&question)? {
                Answer::NoSuchName => {}
                Answer::NoAddress => drop(name.get_or_insert_with(|| begun.elapsed())),
                Answer::Address => break begun.elapsed(),
            }
            if begun.elapsed() > READY_MAX {
                bail!("a service that was applied has no address after {READY_MAX:?}");
            }
            thread::sleep(ASK_EVERY);
        };
        let mut answer = String::new();
        BufReader::new(control).read_line(&mut answer)?;
        ensure!(
            answer.starts_with("{\"ok\""),
            "it was not applied: {answer}"
        );
        Ok(Found {
            name: name.unwrap_or(address),
            address,
        })
    }

    fn ask(&self, question: &[u8]) -> Result<Answer> {
        let mut answer = [0; 512];
        self.resolver.send(question)?;
        let length = self
            .resolver
            .recv(&mut answer)
            .context("wait for an answer")?;
        ensure!(
            length > 12 && answer[..2] == question[..2],
            "a strange answer"
        );
        let (code, addresses) = (answer[3] & 0x0f, u16::from_be_bytes([answer[6], answer[7]]));
        match (code, addresses) {
            (0, 0) => Ok(Answer::NoAddress),
            (0, _) => Ok(Answer::Address),
            (3, _) => Ok(Answer::NoSuchName),
            (code, _) => bail!("the resolver answers with code {code}"),
        }
    }
}

/// A socket from which an instance's resolver is asked.
fn ask_resolver() -> Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("open a socket for questions")?;
    socket.connect(RESOLVER)?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    Ok(socket)
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

/// A question for the address of a version's service (RFC 1035 section 4).
fn question(version: u64) -> Vec<u8> {
    let mut bytes = (version as u16).to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in [service(version).as_str(), "matrix"] {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
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

    #[test]
    fn a_question_names_its_version() {
        let question = question(300);
        assert_eq!(question[..2], [1, 44]);
        assert_eq!(&question[12..], b"\x09fresh-300\x06matrix\0\0\x01\0\x01");
    }
}

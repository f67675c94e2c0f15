//! Datagrams between hosts, by a small program in each.

use margay_tests::lab::{Lab, Topology};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// How long an answer may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long is waited for answers that must not come: a hundred times what one takes.
pub const SILENCE: Duration = Duration::from_millis(300);

const PROGRAM: &str = include_str!("programs/datagrams.py");

/// Three hosts on one segment, each at the address that ends with its number.
///
/// ```text
///   a ── .1 ┐
///   b ── .2 ┼─ paris 10.1.0.0/24, fd00:1::/64
///   c ── .3 ┘
/// ```
pub fn paris() -> Lab {
    let mut text = "[segment.paris]\nv4 = \"10.1.0.0/24\"\nv6 = \"fd00:1::/64\"\n".to_owned();
    text += "[site.paris]\n";
    for (number, name) in (1..).zip(["a", "b", "c"]) {
        let addresses = format!("[\"10.1.0.{number}\", \"fd00:1::{number}\"]");
        text += &format!("[host.{name}]\nsite = \"paris\"\naddresses = {addresses}\n");
    }
    lab(&text)
}

pub fn lab(text: &str) -> Lab {
    let topology = Topology::parse(text).unwrap_or_else(|error| panic!("{error}"));
    Lab::without_daemons(&topology).unwrap()
}

/// A program that answers datagrams at one address, until dropped.
pub struct Echo {
    child: Child,
    heard: Receiver<String>,
}

impl Echo {
    pub fn start(lab: &Lab, host: &str, addr: &str) -> Echo {
        let mut command = lab.host(host).command("/usr/bin/python3");
        Echo::spawn(command.args(["-c", PROGRAM, "echo", addr]))
    }

    fn spawn(command: &mut Command) -> Echo {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, heard) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "ready");
        Echo { child, heard }
    }

    /// How many datagrams came since the last look; waits for as many as expected, and then a
    /// while for more.
    pub fn heard(&self, expected: usize) -> usize {
        let mut count = 0;
        loop {
            let patience = if count < expected { PATIENCE } else { SILENCE };
            match self.heard.recv_timeout(patience) {
                Ok(_) => count += 1,
                Err(_) => return count,
            }
        }
    }

    /// Waits for the end of the program, which others bring about.
    pub fn ended(mut self) -> bool {
        !self.child.wait().unwrap().success()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What became of datagrams that were sent.
#[derive(Debug, Deserialize)]
pub struct Fate {
    /// The numbers that were answered, as the answers came.
    pub answered: Vec<u32>,
    /// The sender's address as the other saw it.
    pub seen_as: String,
    /// The shortest time until an answer.
    pub shortest_s: Option<f64>,
}

impl Fate {
    /// How many answers came after one to a later datagram.
    pub fn overtaken(&self) -> usize {
        let mut last = 0;
        let late = |number: &&u32| {
            let late = **number < last;
            last = last.max(**number);
            late
        };
        self.answered.iter().filter(late).count()
    }
}

/// Sends datagrams, one each `pause`, and waits for their answers no longer than `patience`.
pub fn send(
    lab: &Lab,
    from: &str,
    to: &str,
    count: u32,
    pause: Duration,
    patience: Duration,
) -> Fate {
    let (count, pause) = (count.to_string(), pause.as_micros().to_string());
    let patience = patience.as_secs_f64().to_string();
    let mut command = lab.host(from).command("/usr/bin/python3");
    command.args(["-c", PROGRAM, "send", to, &count, &pause, &patience]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether an echo answers three datagrams.
pub fn answers(lab: &Lab, from: &str, to: &str) -> bool {
    let fate = send(lab, from, to, 3, Duration::ZERO, PATIENCE);
    fate.answered.len() == 3
}

/// Whether an echo answers none of three datagrams.
pub fn is_silent(lab: &Lab, from: &str, to: &str) -> bool {
    let fate = send(lab, from, to, 3, Duration::ZERO, SILENCE);
    fate.answered.is_empty()
}

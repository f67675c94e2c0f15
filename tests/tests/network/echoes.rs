//! Live flows to a host whose daemon falls silent: they end with its keeper, and not before.

use crate::flows::apply;
use crate::site::{Family, SOON, network, said};
use margay_tests::lab::{Host, Lab, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

/// Longer than a host may leave its echo unanswered before its flows end (3 s), and longer than is
/// needed to miss it.
const LONG: Duration = Duration::from_secs(8);

/// Speaks with 1.echo by datagrams of one flow: says each line there and what comes back here.
const TALK: &str = r#"
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(3)
client.connect((socket.getaddrinfo("echo.matrix", 5000, socket.AF_INET)[0][4][0], 5000))
for line in sys.stdin:
    try:
        client.send(line.strip().encode())
        print(client.recv(100).decode(), flush=True)
    except OSError as error:
        print("failed:", error, flush=True)
"#;

/// A flow from 1.caller at a to 1.echo at b.
struct Talk {
    program: Child,
    says: ChildStdin,
    hears: BufReader<ChildStdout>,
}

impl Talk {
    fn begin(host: &Host) -> Talk {
        let mut command = host.exec("1.caller", &["/usr/bin/python3", "-c", TALK]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let says = program.stdin.take().unwrap();
        let hears = BufReader::new(program.stdout.take().unwrap());
        let mut talk = Talk {
            program,
            says,
            hears,
        };
        assert_eq!(talk.say("begin"), "begin");
        talk
    }

    fn say(&mut self, word: &str) -> String {
        writeln!(self.says, "{word}").unwrap();
        let mut heard = String::new();
        self.hears.read_line(&mut heard).unwrap();
        heard.trim_end().to_owned()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// What happens to a host's flows, as it is told.
struct Watch {
    program: Child,
    told: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn begin(host: &Host) -> Watch {
        let mut command = host.margay(&["flows", "--watch", "--json"]);
        let mut program = command.stdout(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(program.stdout.take().unwrap()).lines();
        Watch { program, told }
    }

    /// The next event of that name.
    fn next(&mut self, name: &str) -> Value {
        let events = self.told.by_ref().map(Result::unwrap);
        let mut events = events.map(|line| serde_json::from_str::<Value>(&line).unwrap());
        events.find(|event| event["event"] == name).unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Two hosts, a flow from one to the other, and what a is told of it from now on.
///
/// ```text
///   a: 1.caller ── a flow ──▶ b: 1.echo
/// ```
fn talking() -> (Lab, Talk, Watch) {
    let lab = network(&["a", "b"], &[Family::V4]);
    apply(&lab);
    let mut watch = Watch::begin(lab.host("a"));
    let talk = Talk::begin(lab.host("a"));
    watch.next("opened");
    (lab, talk, watch)
}

fn until_missed(lab: &Lab) {
    let waited = until("a misses b", SOON, || {
        let members = said(lab.host("a"), &["members", "--json"]);
        let members: Value = serde_json::from_str(&members)?;
        let rows = members.as_array().into_iter().flatten();
        let down = { rows }.any(|row| row["name"] == "b" && row["state"] == "down");
        Ok(down.then_some(()))
    });
    assert!(waited.is_ok(), "{}", lab.host("a").log_tail());
}

/// Waits until the flow ends for the reason that its host is gone, and whoever goes on is told at once.
fn ends_at_once(mut watch: Watch, mut talk: Talk) {
    assert_eq!(watch.next("closed")["end"], "network_gone");
    let told = talk.say("anybody");
    assert!(told.starts_with("failed: [Errno"), "{told}");
}

fn keeper(host: &Host) -> u32 {
    let found = host.command("pgrep").args(["-x", "margay-keeper"]).output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    found.lines().next().unwrap().trim().parse().unwrap()
}

#[test]
fn death_of_a_daemon_alone_ends_no_flow_between_hosts() {
    let (lab, mut talk, _watch) = talking();
    lab.host("b").kill_daemon().unwrap();
    until_missed(&lab);
    // Nothing tells that nothing happens but time.
    let since = Instant::now();
    for word in 0.. {
        assert_eq!(talk.say(&format!("word {word}")), format!("word {word}"));
        if since.elapsed() > LONG {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert_eq!(lab.host("a").flows().unwrap().len(), 1);
    lab.start_daemon("b").unwrap();
    assert_eq!(talk.say("after"), "after");
}

#[test]
fn death_of_a_keeper_ends_its_flows_though_its_kernel_lives() {
    let (lab, talk, watch) = talking();
    let b = lab.host("b");
    let keeper = keeper(b);
    b.kill_daemon().unwrap();
    b.kill(keeper).unwrap();
    ends_at_once(watch, talk);
}

#[test]
fn a_host_behind_a_cut_cable_is_given_up_as_one_that_died() {
    let (lab, talk, watch) = talking();
    lab.link("b-paris").cut().unwrap();
    ends_at_once(watch, talk);
}

//! A quarter of a million live flows: the daemon dies, and every one of them goes on.

use crate::world::{SEEN_MAX, Talk, instance, shell};
use margay_tests::lab::programs::{Libc, compile};
use margay_tests::lab::{Host, until};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Two who call two, so that nobody holds more than its half of the table, nor needs more ports than
/// there are.
const HERDS: &str = r#"
[composition]
name = "multitude"
version = 1

[automaton.server]
command = ["{PROGRAM}", "serve", "9"]
replicas = 2
ports = { echo = { port = 9, protocol = "udp" } }

[automaton.caller]
command = ["sleep", "infinity"]
replicas = 2
needs = ["server"]
"#;

/// Live flows between each caller and each server.
const FLOWS_EACH: u32 = 62_500;

/// The first of the ports that they come from.
const PORT_FIRST: u32 = 3_000;

/// Live flows in all.
const FLOWS: u32 = 4 * FLOWS_EACH;

/// Flows that the host may have.
const FLOWS_MAX: &str = "300000";

/// The longest that a new daemon, built for debugging and on a busy machine, may take to adopt them all:
/// an operator waits for it, flows do not.
const ADOPTED_MAX: Duration = Duration::from_secs(60);

/// What the daemon may need for so many flows: two KiB for each while it adopts them, the kernel's rows
/// that it maps among them.
const MEMORY_KIB_MAX: u64 = FLOWS as u64 * 2;

/// What telling all of them may need beside that: a few pages of them.
const LISTED_KIB_MAX: u64 = 16 * 1024;

/// Asks from every port of every caller; each is answered.
fn all_answer(herds: &mut [Talk]) -> Duration {
    let began = Instant::now();
    for herd in herds.iter_mut() {
        herd.tell(&format!("{PORT_FIRST} {FLOWS_EACH}"));
    }
    for herd in herds {
        assert_eq!(herd.hear(), FLOWS_EACH.to_string());
    }
    began.elapsed()
}

/// The most memory that the daemon had since that was asked last.
fn peak_kib(host: &Host) -> u64 {
    let pid = host.status().unwrap().pid;
    let script = format!(
        "awk '$1 == \"VmHWM:\" {{ print $2 }}' /proc/{pid}/status; echo 5 >/proc/{pid}/clear_refs"
    );
    shell(host, &script).trim().parse().unwrap()
}

/// How many flows `margay flows` tells.
fn listed(host: &Host) -> usize {
    let mut command = host.margay(&["flows", "--json"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let flows = lines.filter(|line| line.as_ref().unwrap().contains("\"client\""));
    let count = flows.count();
    assert!(child.wait().unwrap().success());
    count
}

#[test]
fn quarter_of_a_million_live_flows_outlive_the_daemon_and_each_goes_on() {
    let host = Host::without_daemon().unwrap();
    let program = compile(&host, "herd", include_str!("programs/herd.c"), Libc::Glibc).unwrap();
    let program = program.to_str().unwrap();
    host.start_daemon_with(&["--flows-max", FLOWS_MAX]).unwrap();
    host.apply(&HERDS.replace("{PROGRAM}", program)).unwrap();
    host.until_ready(SEEN_MAX).unwrap();
    let mut herds = Vec::new();
    for server in ["1.server", "2.server"] {
        let to = instance(&host, server).called_v4.to_string();
        for caller in ["1.caller", "2.caller"] {
            let words = [program, "call", &to, "9"];
            herds.push(Talk::start(host.exec(caller, &words)));
        }
    }
    let opened = all_answer(&mut herds);
    // A second datagram, later, makes each a flow that lasts.
    let again = all_answer(&mut herds);
    assert_eq!(host.status().unwrap().flows, FLOWS);

    host.kill_daemon().unwrap();
    let began = Instant::now();
    host.spawn_daemon(&["--flows-max", FLOWS_MAX]).unwrap();
    let adopted = until("the daemon answers", ADOPTED_MAX, || Ok(host.status().ok()));
    let adopted = adopted.unwrap_or_else(|error| panic!("{error}: {}", host.log_tail()));
    let took = began.elapsed();
    assert_eq!(adopted.flows, FLOWS, "those that stood in the kernel");

    let after = all_answer(&mut herds);
    let status = host.status().unwrap();
    assert_eq!(status.flows, FLOWS, "the same as before, and no other");
    assert_eq!(status.upcalls, adopted.upcalls, "none was decided anew");

    let adopting = peak_kib(&host);
    let before = peak_kib(&host);
    let began = Instant::now();
    assert_eq!(listed(&host), FLOWS as usize);
    let listing = began.elapsed();
    let peak = peak_kib(&host);
    println!(
        "opened in {opened:?}, asked again in {again:?}, adopted in {took:?}, answered in {after:?}, \
         told in {listing:?}; {adopting} KiB, then {before} KiB, {peak} KiB"
    );
    assert!(adopting < MEMORY_KIB_MAX, "{adopting} KiB");
    assert!(
        peak.saturating_sub(before) < LISTED_KIB_MAX,
        "{before} KiB, then {peak} KiB"
    );
}

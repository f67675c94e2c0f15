//! The demo as a test: its figures, and that it leaves nothing behind however it ends. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use margay_tests::lab::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long the kernel may take to end a host's processes.
const GONE_MAX: Duration = Duration::from_secs(20);

const FIELDS: [&str; 22] = [
    "names_glibc",
    "names_musl",
    "spread",
    "first_packets_upcalled",
    "packets_direct",
    "denied",
    "rebound",
    "rebound_ms",
    "requests_during_kill9",
    "daemon_down_ms",
    "failed_during_kill9",
    "rolling_requests",
    "rolling_ms",
    "rolling_failed",
    "hosts",
    "sites",
    "first_packet_hops",
    "later_packet_hops",
    "detect_ms",
    "converge_ms",
    "heal_ms",
    "seconds",
];

#[test]
fn demo_ends_well_and_prints_its_figures_last() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .arg("--json")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{error}");
    let figures: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    let mut names: Vec<&str> = figures
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    let mut expected = FIELDS;
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn interrupted_demo_ends_its_host_first() {
    let (mut demo, pid) = demo_under_way();
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(
        demo.wait().unwrap().code(),
        Some(128 + Signal::SIGINT as i32)
    );
    assert_eq!(cgroups(pid), Vec::<PathBuf>::new());
}

#[test]
fn killed_demo_leaves_no_process() {
    let (mut demo, pid) = demo_under_way();
    assert!(
        cgroups(pid).iter().any(|it| populated(it)),
        "the host has no process to begin with"
    );
    kill(pid, Signal::SIGKILL).unwrap();
    let status: ExitStatus = demo.wait().unwrap();
    assert_eq!(status.code(), None);
    let gone = || Ok((!cgroups(pid).iter().any(|it| populated(it))).then_some(()));
    until("the host's processes are gone", GONE_MAX, gone).unwrap();
}

/// A demo whose instances run.
fn demo_under_way() -> (Child, Pid) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    let mut demo = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(demo.stdout.as_mut().unwrap()).lines();
    let reached = lines
        .map_while(Result::ok)
        .any(|line| line.starts_with("== Names"));
    assert!(reached, "the demo ended before its instances ran");
    let pid = Pid::from_raw(demo.id().try_into().unwrap());
    (demo, pid)
}

/// The cgroups of the hosts that process `owner` made.
fn cgroups(owner: Pid) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.contains(" cgroup2 "))
        .unwrap();
    let entries = fs::read_dir(line.split(' ').nth(1).unwrap()).unwrap();
    let prefix = format!("margay-lab-{owner}-");
    let ours = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(&prefix)
    };
    entries.map(|it| it.unwrap().path()).filter(ours).collect()
}

fn populated(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.events")).is_ok_and(|it| it.contains("populated 1"))
}

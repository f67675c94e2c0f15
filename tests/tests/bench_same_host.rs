//! The benchmark itself: every path really carries traffic, and nothing is left behind. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The configs that need nothing of Margay but the measuring tool.
const OTHERS: &str = "direct-veth,routed,bridge,nft-10000,iptables-1,iptables-10000,haproxy";

/// Longer than any clean-up takes.
const CLEAN_UP_MAX: Duration = Duration::from_secs(10);

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command
        .arg("same-host")
        .args(arguments)
        .env("RUST_BACKTRACE", "0");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str], scratch: &Path) -> Output {
    bench(arguments).env("TMPDIR", scratch).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_path_but_our_own_carries_every_job() {
    let scratch = tempfile::tempdir().unwrap();
    let output = run(
        &["--rounds", "1", "--seconds", "0.02", "--config", OTHERS],
        scratch.path(),
    );
    let (table, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    for config in OTHERS.split(',') {
        let rows = table
            .lines()
            .filter(|line| line.starts_with(&format!("  {config} ")))
            .count();
        let expected = if config == "haproxy" { 3 } else { 6 };
        assert_eq!(rows, expected, "rows of {config} in\n{table}");
    }
    assert_eq!(
        fs::read_dir(scratch.path()).unwrap().count(),
        0,
        "files are left behind"
    );
}

#[test]
fn a_claim_is_nine_rounds_of_json_lines() {
    let scratch = tempfile::tempdir().unwrap();
    let arguments = [
        "--json",
        "--rounds",
        "9",
        "--seconds",
        "0.01",
        "--config",
        "routed",
    ];
    let output = run(&arguments, scratch.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    let figures: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(figures.len(), 12, "two configs of six metrics each");
    for figure in &figures {
        assert_eq!(figure["bench"], "same-host");
        assert_eq!(figure["rounds"], 9);
        assert_eq!(figure["congestion_control"], "cubic");
        assert!(figure["value"].as_f64().unwrap() > 0.0, "{figure}");
        if figure["config"] == "direct-veth" {
            assert_eq!(figure["ratio"], 1.0);
        }
    }
}

#[test]
fn too_few_rounds_are_no_claim() {
    let output = run(&["--json", "--rounds", "8"], Path::new("/tmp"));
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("--rounds 9"),
        "{}",
        text(&output.stderr)
    );
}

/// Ctrl-C and even SIGKILL of the outer process end everything inside.
#[test]
fn nothing_survives_an_interrupt() {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let scratch = tempfile::tempdir().unwrap();
        let mut bench = bench(&["--rounds", "50", "--config", "haproxy"])
            .env("TMPDIR", scratch.path())
            .spawn()
            .unwrap();
        let mut progress = BufReader::new(bench.stderr.take().unwrap());
        wait_for_line(&mut progress, "round 1 ");
        let inside = descendants(bench.id());
        assert!(
            inside.len() >= 2,
            "the inner process and haproxy run: {inside:?}"
        );

        kill(Pid::from_raw(bench.id().try_into().unwrap()), signal).unwrap();
        let status = wait_for_end(&mut bench);

        let deadline = Instant::now() + CLEAN_UP_MAX;
        while inside.iter().any(|process_id| is_ours(*process_id)) {
            assert!(
                Instant::now() < deadline,
                "processes are left behind after {signal}"
            );
            std::thread::yield_now();
        }
        // What is started inside inherits the pipe: at its end nothing is left, known to us or not.
        progress.read_to_string(&mut String::new()).unwrap();
        if signal == Signal::SIGINT {
            assert_eq!(status.code(), Some(130));
            assert_eq!(
                fs::read_dir(scratch.path()).unwrap().count(),
                0,
                "files are left behind"
            );
        } else {
            assert_eq!(status.signal(), Some(9));
        }
    }
}

fn wait_for_line(lines: &mut impl std::io::BufRead, start: &str) {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        assert!(
            lines.read_line(&mut line).unwrap() > 0,
            "the benchmark ended:\n{seen}"
        );
        if line.starts_with(start) {
            return;
        }
        seen.push_str(&line);
    }
}

fn wait_for_end(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + CLEAN_UP_MAX;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the benchmark does not end");
        std::thread::yield_now();
    }
}

/// All processes below `ancestor`, by their ids out here.
fn descendants(ancestor: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([ancestor]);
    loop {
        let before = found.len();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(process_id) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            if parent(process_id).is_some_and(|parent| found.contains(&parent)) {
                found.insert(process_id);
            }
        }
        if found.len() == before {
            found.remove(&ancestor);
            return found;
        }
    }
}

fn parent(process_id: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process_id}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))?
        .trim()
        .parse()
        .ok()
}

/// Whether a process id still belongs to a program of the benchmark.
fn is_ours(process_id: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{process_id}/comm")).unwrap_or_default();
    ["bench", "wire", "haproxy"].contains(&name.trim())
}

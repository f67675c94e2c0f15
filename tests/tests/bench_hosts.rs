//! The benchmark of many hosts: every figure is there, and nothing is left behind. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

#[test]
fn five_hosts_are_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["hosts", "--config", "n5", "--seconds", "0.2"]);
    command.args(["--rounds", "1", "--deaths", "1"]);
    let output = command.env("TMPDIR", scratch.path()).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for metric in [
        "rss_mb, mb",
        "pss_mb, mb",
        "idle_cpu_pct, percent_of_core",
        "idle_bytes_per_s, bytes_per_s",
        "converge_ms, ms",
        "detect_ms, ms",
    ] {
        let mut lines = table.lines().skip_while(|line| *line != metric).skip(1);
        let row = lines
            .next()
            .unwrap_or_else(|| panic!("no {metric} in\n{table}"));
        assert!(row.starts_with("  n5 "), "{metric}: {row}");
    }
    let left = fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 0, "files are left behind");
}

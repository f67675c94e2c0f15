//! The benchmark of a host that waits: every figure is there, and nothing is left behind. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

#[test]
fn a_waiting_host_of_a_hundred_instances_is_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["idle", "--rounds", "2", "--seconds", "0.2"]);
    command.args(["--config", "margay-100"]);
    let output = command.env("TMPDIR", scratch.path()).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for metric in ["cpu", "pss", "rss"] {
        for process in ["daemon", "keeper"] {
            let start = format!("  {process}_{metric} ");
            assert!(
                table.lines().any(|line| line.starts_with(&start)),
                "{table}"
            );
        }
    }
    let left = fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 0, "files are left behind");
}

//! The benchmark between hosts: every path really carries traffic, and nothing is left behind. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

#[test]
fn every_path_carries_every_job() {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["inter-host", "--rounds", "1", "--seconds", "0.02"]);
    let output = command.env("TMPDIR", scratch.path()).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for config in ["routed", "vxlan", "margay", "margay-v6"] {
        let start = format!("  {config} ");
        let rows = table.lines().filter(|line| line.starts_with(&start));
        assert_eq!(rows.count(), 4, "rows of {config} in\n{table}");
    }
    let left = fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 0, "files are left behind");
}

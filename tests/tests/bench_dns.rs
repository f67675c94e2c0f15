//! The benchmark of name servers: every one of them really answers. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Output};

const SERVERS: [&str; 5] = ["unbound", "knot", "nsd", "dnsmasq", "margay"];

fn bench(arguments: &[&str], scratch: &std::path::Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.arg("dns").args(arguments).env("TMPDIR", scratch);
    command.output().unwrap()
}

#[test]
fn every_name_server_answers_over_both_transports() {
    let scratch = tempfile::tempdir().unwrap();
    let output = bench(&["--rounds", "1"], scratch.path());
    let table = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for server in SERVERS {
        let start = format!("  {server} ");
        let rows = table.lines().filter(|line| line.starts_with(&start));
        assert_eq!(rows.count(), 4, "rows of {server} in\n{table}");
    }
    let left = fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 0, "files are left behind");
}

#[test]
fn too_few_rounds_are_no_claim() {
    let scratch = tempfile::tempdir().unwrap();
    let output = bench(&["--json", "--rounds", "8"], scratch.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("--rounds 9"), "{said}");
}

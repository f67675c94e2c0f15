//! Clients of four runtimes resolve and connect over both families, all at once. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use margay_tests::lab::programs::{Libc, compile, compile_go};
use margay_tests::lab::{Host, PLACE};
use serde::Deserialize;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Look-ups by each of a client's eight threads.
const ROUNDS: u32 = 25;

/// Connections that a client opens over each family: two replicas a look-up.
const CONNECTIONS: u32 = 8 * ROUNDS * 2;

/// A look-up beyond this met a timeout of its libc: a lost question costs a second or more.
const SLOWEST_MS_MAX: f64 = 900.0;

/// What a client counted.
#[derive(Debug, Deserialize)]
struct Counts {
    v4: u32,
    v6: u32,
    failed: u32,
    slowest_ms: f64,
}

#[test]
fn clients_of_every_runtime_resolve_and_connect_over_both_families_under_load() {
    let host = Host::start().unwrap();
    let c = include_str!("clients/parallel.c");
    let glibc = compile(&host, "parallel", c, Libc::Glibc).unwrap();
    let musl = compile(&host, "parallel", c, Libc::Musl).unwrap();
    let go = compile_go(&host, "parallel", include_str!("clients/parallel.go")).unwrap();
    let python = host
        .write("bin/parallel.py", include_str!("clients/parallel.py"))
        .unwrap();
    host.write("nginx.conf", include_str!("../src/demo/nginx.conf"))
        .unwrap();
    host.apply(include_str!("clients/shop.toml")).unwrap();
    host.until_ready(Duration::from_secs(40)).unwrap();
    assert!(glibc.starts_with(PLACE));

    // All at once: each is the others' load.
    let clients: Vec<(&str, Child)> = [
        ("glibc", glibc),
        ("musl", musl),
        ("go", go),
        ("python", python),
    ]
    .into_iter()
    .map(|(name, path)| {
        let rounds = ROUNDS.to_string();
        let words = [path.to_str().unwrap(), "web.matrix", "80", &rounds];
        let mut command = host.exec("1.shopper", &words);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        (name, command.spawn().unwrap())
    })
    .collect();

    for (name, child) in clients {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{name}: {}", output.status);
        let counts: Counts = serde_json::from_slice(&output.stdout).unwrap();
        println!("{name}: {counts:?}");
        assert_eq!(counts.failed, 0, "{name}: {counts:?}");
        assert_eq!(
            (counts.v4, counts.v6),
            (CONNECTIONS, CONNECTIONS),
            "{name}: {counts:?}"
        );
        assert!(counts.slowest_ms < SLOWEST_MS_MAX, "{name}: {counts:?}");
    }
}

//! Flows that the kernel opens by itself: with nobody's help, and spread as the daemon would.

use crate::world::{ECHO_PORT, Talk, composition, furnish, host_with, instance, until_ready};
use margay_tests::lab::Host;
use std::collections::BTreeMap;

/// Connections of one look at the spread: with an even spread a hundred for each replica.
const CONNECTIONS: usize = 300;

/// How far the shares of two spreads may differ: five in a hundred of all connections.
const APART_MAX: usize = CONNECTIONS * 5 / 100;

/// Three replicas behind one address, and somebody who calls it.
const SERVICE: &str = r#"
[automaton.pool]
command = ["/usr/bin/python3", "{PLACE}/echo.py", "7779"]
replicas = 3
ports = { echo = { port = 7779, protocol = "tcp" } }
ready = { tcp = true, port = "echo", every_ms = 200 }
answer = "service"

[automaton.swimmer]
command = ["sleep", "infinity"]
needs = ["pool"]
"#;

/// How many connections each replica took, and how many of them were handed up.
fn spread(options: &[&str]) -> (BTreeMap<String, usize>, u64) {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon_with(options).unwrap();
    let service = SERVICE.replace("{PLACE}", margay_tests::lab::PLACE);
    host.apply(&composition(&service)).unwrap();
    until_ready(&host, &["1.pool", "2.pool", "3.pool", "1.swimmer"]);
    let mut swimmer = Talk::client(&host, "1.swimmer");
    let upcalls = || host.status().unwrap().upcalls;
    let before = upcalls();
    let held = swimmer.ask(&format!("hold pool.matrix 7779 {CONNECTIONS}"));
    assert!(held.starts_with(&format!("{CONNECTIONS} ")), "{held}");
    let mut taken = BTreeMap::new();
    for flow in host.flows().unwrap() {
        if flow.client == "1.swimmer" && flow.protocol == "tcp" {
            *taken.entry(flow.server).or_default() += 1;
        }
    }
    (taken, upcalls() - before)
}

#[test]
fn spread_of_the_kernel_is_the_daemons() {
    let (by_kernel, few) = spread(&[]);
    let (by_daemon, all) = spread(&["--decide-every-flow"]);
    println!("{by_kernel:?} with {few} upcalls, {by_daemon:?} with {all}");
    assert!(few < 10, "{few} packets went up");
    assert!(all >= CONNECTIONS as u64, "only {all} packets went up");
    assert_eq!(by_daemon.len(), 3);
    for (server, count) in &by_daemon {
        let apart = by_kernel[server].abs_diff(*count);
        assert!(apart <= APART_MAX, "{by_kernel:?} against {by_daemon:?}");
    }
}

#[test]
fn connections_of_an_outage_are_opened_by_the_kernel_and_adopted() {
    let host = host_with("");
    let called = instance(&host, "1.echo").called_v4;
    let mut client = Talk::client(&host, "1.caller");
    let open = format!("open {called} {ECHO_PORT}");
    assert_eq!(client.ask(&open), called.to_string());

    host.kill_daemon().unwrap();

    assert_eq!(client.ask(&open), called.to_string());
    client.echoes("nobody-decided");
    let held = client.ask(&format!("hold {called} {ECHO_PORT} 20"));
    assert!(held.starts_with("20 "), "{held}");
    host.start_daemon().unwrap();
    client.echoes("adopted");
    let flows = host.flows().unwrap();
    let held = flows.iter().filter(|flow| flow.client == "1.caller");
    assert!(held.count() >= 21, "{flows:?}");
    assert_eq!(client.ask(&open), called.to_string());
    client.echoes("decided-anew");
}

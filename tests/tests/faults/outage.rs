//! The daemon killed with -9: what goes on without it, what waits, and what is the same afterwards.

use crate::world::{ECHO_PORT, SEEN_MAX, Talk, host_with, instance, margay, text};
use margay_tests::lab::until;

/// Round trips over an open connection while there is no daemon.
const ROUNDS: u32 = 200;

/// Declares a port that its program never opens.
const SICK: &str = r#"
[automaton.sick]
command = ["sleep", "infinity"]
ports = { never = { port = 7778, protocol = "tcp" } }
ready = { tcp = true, port = "never", every_ms = 100 }
"#;

#[test]
fn instance_that_is_not_ready_is_not_ready_after_a_restart_either() {
    let host = host_with(SICK);
    assert!(!instance(&host, "1.sick").ready);

    host.kill_daemon().unwrap();
    host.start_daemon().unwrap();

    // What ran counts as ready until a probe has asked, so that a crash is not felt.
    until("a probe to find that it is not", SEEN_MAX, || {
        Ok((!instance(&host, "1.sick").ready).then_some(()))
    })
    .unwrap();
    assert!(instance(&host, "1.echo").ready);
    let told = text(&margay(&host, &["ps"]));
    assert!(
        told.contains("connect to port 7778: Connection refused"),
        "{told}"
    );
}

#[test]
fn killed_daemon_comes_back_to_the_same_instances_addresses_and_flows() {
    let host = host_with("");
    let mut open = Talk::connected(&host, "1.caller");
    let mut asking = Talk::client(&host, "1.caller");
    let mut opening = Talk::connected(&host, "1.caller");
    let names = asking.ask("names echo.matrix");
    let ps = ["ps", "--json"];
    let before = text(&margay(&host, &ps));
    let flows = flow_lines(&host);
    assert_eq!(flows.len(), 2, "{flows:?}");

    host.kill_daemon().unwrap();

    assert!(!margay(&host, &ps).status.success(), "it lives");
    asking.tell("names echo.matrix");
    opening.tell(&format!("open echo.matrix {ECHO_PORT}"));
    for round in 0..ROUNDS {
        open.echoes(&format!("{round}"));
    }
    assert!(!asking.has_answered(), "somebody else answers DNS");
    assert!(!opening.has_answered(), "somebody else decides");

    host.start_daemon().unwrap();

    assert_eq!(asking.hear(), names, "a question of the outage");
    let opened = opening.hear();
    assert!(names.split(' ').any(|it| it == opened), "{opened}");
    opening.echoes("of-the-outage");
    open.echoes("after");
    assert_eq!(text(&margay(&host, &ps)), before);
    let flows_after = flow_lines(&host);
    assert!(
        flows.iter().all(|it| flows_after.contains(it)),
        "{flows:?} became {flows_after:?}"
    );
    drop(Talk::connected(&host, "1.caller"));
}

/// Who speaks with whom.
fn flow_lines(host: &margay_tests::lab::Host) -> Vec<String> {
    let flows = host.flows().unwrap().into_iter();
    let echo = flows.filter(|it| it.to.port() == ECHO_PORT && it.client == "1.caller");
    echo.map(|it| format!("{} {} {} {}", it.protocol, it.client, it.from, it.to))
        .collect()
}

/// Connections that a daemon finds when it comes back: enough for it to be busy for a while.
const HELD: u32 = 600;

#[test]
fn questions_of_an_outage_are_answered_rightly_however_often_it_happens() {
    let host = host_with("");
    let mut open = Talk::connected(&host, "1.caller");
    let mut asking = Talk::client(&host, "1.caller");
    let held = open.ask(&format!("hold echo.matrix {ECHO_PORT} {HELD}"));
    assert!(held.starts_with(&format!("{HELD} ")), "{held}");
    let names = asking.ask("names echo.matrix");
    let before = text(&margay(&host, &["ps", "--json"]));
    for round in 0..5 {
        host.kill_daemon().unwrap();
        asking.tell("names echo.matrix");
        open.echoes(&format!("{round}-dead"));
        host.start_daemon().unwrap();
        open.echoes(&format!("{round}-back"));
        assert_eq!(asking.hear(), names, "round {round}");
    }
    assert_eq!(text(&margay(&host, &["ps", "--json"])), before);
    drop(Talk::connected(&host, "1.caller"));
}

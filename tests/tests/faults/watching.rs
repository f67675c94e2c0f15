//! What operators see of flows as it happens, and what the flow log keeps.

use crate::world::{
    ECHO_PORT, SEEN_MAX, Talk, furnish, host_with, instance, populate, said, until_ready,
};
use margay_tests::lab::{Host, PLACE, state_directory, until};
use serde_json::Value;

const STRANGER: &str = r#"
[automaton.stranger]
command = ["sleep", "infinity"]
"#;

/// The next line in which `event` happened to a flow of `client`.
fn heard(watch: &mut Talk, event: &str, client: &str) -> Value {
    loop {
        let line: Value = serde_json::from_str(&watch.hear()).unwrap();
        if line["event"] == event && line["client"] == client {
            return line;
        }
    }
}

/// Tries to reach the echo server as somebody who may not.
fn refused(host: &Host) {
    let path = format!("{PLACE}/client.py");
    let mut client = Talk::start(host.exec("1.stranger", &["/usr/bin/python3", &path]));
    let to = instance(host, "1.echo").called_v4;
    let answer = client.ask(&format!("open {to} {ECHO_PORT}"));
    assert!(answer.starts_with("failed"), "{answer}");
}

/// What the flow log holds.
fn logged(host: &Host) -> Vec<Value> {
    let path = state_directory().join("flows.log");
    let script = format!("test ! -e {0} || cat {0}", path.display());
    let text = said(host, &["sh", "-c", &script]);
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn watcher_sees_a_flow_open_and_close_and_another_refused() {
    let host = host_with(STRANGER);
    until_ready(&host, &["1.stranger"]);
    let mut watch = Talk::start(host.margay(&["flows", "--watch", "--json"]));
    until("somebody watches", SEEN_MAX, || {
        refused(&host);
        Ok(watch.has_answered().then_some(()))
    })
    .unwrap();

    let mut client = Talk::connected(&host, "1.caller");
    let opened = heard(&mut watch, "opened", "1.caller");
    assert_eq!(opened["server"], "1.echo", "{opened:#}");
    assert_eq!(opened["reason"], "called", "{opened:#}");
    client.echoes("again");
    drop(client);
    let closed = heard(&mut watch, "closed", "1.caller");
    assert_eq!(
        (&closed["from"], &closed["to"]),
        (&opened["from"], &opened["to"])
    );
    assert_eq!(closed["end"], "finished", "{closed:#}");
    assert!(closed["packets"].as_u64() >= Some(5), "{closed:#}");
    assert!(closed["reply_bytes"].as_u64() >= Some(300), "{closed:#}");
    refused(&host);
    let refusal = heard(&mut watch, "refused", "1.stranger");
    assert_eq!(refusal["reason"], "not_permitted", "{refusal:#}");

    watch.kill();
    let only_refusals = logged(&host);
    assert!(!only_refusals.is_empty());
    assert!(
        only_refusals.iter().all(|line| line["event"] == "refused"),
        "{only_refusals:#?}"
    );
}

#[test]
fn flow_log_keeps_who_spoke_to_whom_across_a_crash_of_the_daemon() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon_with(&["--flow-log", "all"]).unwrap();
    populate(&host, STRANGER);
    until_ready(&host, &["1.stranger"]);
    let mut client = Talk::connected(&host, "1.caller");
    client.echoes("before");
    host.kill_daemon().unwrap();
    host.start_daemon_with(&["--flow-log", "all"]).unwrap();
    client.echoes("after");
    drop(client);
    refused(&host);

    let accepted = until("the flow is in the log", SEEN_MAX, || {
        let lines = logged(&host).into_iter();
        let mut closed = lines.filter(|line| line["event"] == "closed");
        Ok(closed.find(|line| line["client"] == "1.caller"))
    })
    .unwrap();

    assert_eq!(accepted["server"], "1.echo", "{accepted:#}");
    assert_eq!(accepted["verdict"], "accepted");
    assert_eq!(
        accepted["reason"], "adopted",
        "its reason went with the daemon that chose"
    );
    assert!(accepted["bytes"].as_u64() > Some(0), "{accepted:#}");
    let lines = logged(&host);
    let refused = lines.iter().find(|line| line["verdict"] == "refused");
    assert_eq!(refused.unwrap()["reason"], "not_permitted", "{lines:#?}");
}

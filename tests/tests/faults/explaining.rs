//! What operators are told of flows that opened and of flows that were refused.

use crate::world::{
    ECHO_PORT, SEEN_MAX, Talk, dropped, host_with, instance, margay, text, until_ready,
};
use margay_tests::lab::{Host, PLACE, until};
use serde_json::Value;

const STRANGER: &str = r#"
[automaton.stranger]
command = ["sleep", "infinity"]
"#;

/// What `margay explain` finds.
fn explained(host: &Host, words: &[&str]) -> Value {
    let words = [&["explain", "--json"], words].concat();
    let output = margay(host, &words);
    assert!(output.status.success(), "{words:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn open_flow_is_explained_with_what_the_kernel_counted() {
    let host = host_with("");
    let foretold = explained(&host, &["echo.matrix", "--as", "1.caller"]);
    assert_eq!(foretold["verdict"], "would_open", "{foretold:#}");
    assert_eq!(foretold["server"], "1.echo", "{foretold:#}");

    let mut client = Talk::connected(&host, "1.caller");
    client.echoes("again");
    let flows = host.flows().unwrap();
    let flow = flows.iter().find(|flow| flow.client == "1.caller").unwrap();
    let found = explained(
        &host,
        &["tcp", &flow.from.to_string(), &flow.to.to_string()],
    );

    assert_eq!(found["verdict"], "open", "{found:#}");
    assert_eq!(found["server"], "1.echo");
    assert_eq!(found["choice"], "called");
    assert_eq!(found["state"], "established");
    assert!(found["packets"].as_u64() >= Some(4), "{found:#}");
    assert!(found["reply_bytes"].as_u64() >= Some(200), "{found:#}");
}

#[test]
fn flow_that_the_kernel_opened_is_explained_as_open_from_its_first_packet_on() {
    let host = host_with("");
    let (from, to) = (instance(&host, "1.caller"), instance(&host, "1.echo"));
    let mut client = Talk::client(&host, "1.caller");
    let open = format!("open {} {ECHO_PORT}", to.called_v4);
    assert_eq!(client.ask(&open), to.called_v4.to_string());
    // On a busy machine the next connection may overtake the decision that the kernel repeats.
    let found = until("the kernel opens a flow by itself", SEEN_MAX, || {
        assert_eq!(client.ask(&open), to.called_v4.to_string());
        let port = client.ask("port");
        let source = format!("{}:{port}", from.caller_v4);
        let destination = format!("{}:{ECHO_PORT}", to.called_v4);
        let found = explained(&host, &["tcp", &source, &destination]);
        assert_eq!(found["verdict"], "open", "{found:#}");
        Ok((found["choice"] == "aggregate").then_some(found))
    })
    .unwrap();
    let age_ms = found["age_ms"].as_u64();
    assert!(age_ms < Some(5_000), "{found:#}");
}

#[test]
fn refusal_is_explained_by_the_reason_that_was_counted() {
    let host = host_with(STRANGER);
    until_ready(&host, &["1.stranger"]);
    let to = format!("{}:{ECHO_PORT}", instance(&host, "1.echo").called_v4);
    let found = explained(&host, &[&to, "--as", "1.stranger"]);
    assert_eq!(found["verdict"], "refused", "{found:#}");
    let reason = found["reason"].as_str().unwrap();
    let before = dropped(&host, reason);

    let path = format!("{PLACE}/client.py");
    let mut client = Talk::start(host.exec("1.stranger", &["/usr/bin/python3", &path]));
    let (address, port) = to.split_once(':').unwrap();
    let answer = client.ask(&format!("open {address} {port}"));

    assert!(answer.starts_with("failed"), "{answer}");
    assert_eq!(reason, "not_permitted");
    assert!(dropped(&host, reason) > before);
    let unknown = margay(&host, &["explain", "echo.matrix", "--as", "9.caller"]);
    assert!(
        text(&unknown).contains("no instance is called"),
        "{unknown:?}"
    );
}

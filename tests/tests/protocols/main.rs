//! Every protocol that is carried, between unmodified programs, over both families. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod not_plain;

use margay_tests::lab::{Host, PLACE};
use std::time::Duration;

fn composition() -> String {
    format!(
        r#"
[composition]
name = "protocols"
version = 1

[automaton.echo]
command = ["/usr/bin/python3", "{PLACE}/echo.py"]
ports = {{ datagrams = {{ port = 5000, protocol = "udp" }}, streams = {{ port = 5000, protocol = "tcp" }} }}
ready = {{ tcp = true, port = "streams", every_ms = 100 }}

[automaton.caller]
command = ["sleep", "infinity"]
needs = ["echo"]
"#
    )
}

/// ```text
///   1.caller --- UDP, TCP, echo request ---> echo.matrix, bound to no address
///            <-- from the address called ---
/// ```
#[test]
fn datagrams_connections_and_pings_are_answered_from_the_address_that_was_called() {
    let host = Host::start().unwrap();
    host.write("echo.py", include_str!("echo.py")).unwrap();
    let call = host.write("call.py", include_str!("call.py")).unwrap();
    host.apply(&composition()).unwrap();
    host.until_ready(Duration::from_secs(40)).unwrap();

    for (family, echo_reply) in [("4", 0), ("6", 129)] {
        let words = ["/usr/bin/python3", call.to_str().unwrap(), family];
        let told = host.run("1.caller", &words).unwrap();
        let expected =
            format!("datagrams first second\nconnection stream\nping {echo_reply} 7 payload");
        assert_eq!(told.trim(), expected, "over IPv{family}");
    }
    let flows = host.flows().unwrap();
    let protocols: Vec<&str> = flows.iter().map(|flow| flow.protocol.as_str()).collect();
    for protocol in ["udp", "echo"] {
        assert_eq!(
            protocols.iter().filter(|it| **it == protocol).count(),
            2,
            "{protocols:?}"
        );
    }
}

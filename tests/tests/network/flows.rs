//! Flows between hosts: found by name, decided by two routers, carried by two kernels.

use crate::site::{Family, network};
use margay_tests::lab::{Flow, Host, Lab, PLACE, until};
use std::time::Duration;

/// How long hosts may take to tell each other of what runs on them.
const READY: Duration = Duration::from_secs(40);

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
on = ["b"]

[automaton.caller]
command = ["sleep", "infinity"]
needs = ["echo"]
on = ["a"]
"#
    )
}

/// Applies the composition at a; waits until a's names know of b's instance.
pub fn apply(lab: &Lab) {
    for host in ["a", "b"] {
        let host = lab.host(host);
        host.write("echo.py", include_str!("../protocols/echo.py"))
            .unwrap();
        host.write("call.py", include_str!("../protocols/call.py"))
            .unwrap();
    }
    let (a, b) = (lab.host("a"), lab.host("b"));
    a.apply(&composition()).unwrap();
    let ready = |host: &Host, name: &str| {
        let waited = until("an instance is ready", READY, || {
            let instances = host.instances()?;
            let is_ready = instances.len() == 1 && instances[0].ready;
            Ok((is_ready && instances[0].name == name).then_some(()))
        });
        assert!(waited.is_ok(), "{name}\n{}", host.log_tail());
    };
    ready(a, "1.caller");
    ready(b, "1.echo");
    let known = until("a knows echo.matrix", READY, || {
        let answer = a.run("1.caller", &["getent", "ahostsv6", "echo.matrix"]);
        Ok(answer.ok())
    });
    assert!(known.is_ok(), "{}\n{}", a.log_tail(), b.log_tail());
}

/// The kernel's counters of both directions, over all flows of a protocol that a host has.
fn packets(host: &Host, protocol: &str) -> (u64, u64) {
    let flows = host.flows().unwrap();
    let flows = flows.iter().filter(|flow| flow.protocol == protocol);
    let sum = |count: fn(&Flow) -> u64| flows.clone().map(count).sum();
    (sum(|flow| flow.packets), sum(|flow| flow.reply_packets))
}

/// ```text
///   a: 1.caller ── UDP, TCP, echo request ──▶ b: 1.echo, by name
/// ```
fn calls_are_answered(families: &[Family]) {
    let lab = network(&["a", "b"], families);
    apply(&lab);
    let (a, b) = (lab.host("a"), lab.host("b"));
    for (family, echo_reply) in [("4", 0), ("6", 129)] {
        let call = format!("{PLACE}/call.py");
        let told = a.run("1.caller", &["/usr/bin/python3", &call, family]);
        let told = told.unwrap_or_else(|error| {
            panic!(
                "IPv{family}: {error:#}\n{:?}\n{:?}\n{}\n{}",
                a.drops(),
                b.drops(),
                a.log_tail(),
                b.log_tail()
            )
        });
        let expected =
            format!("datagrams first second\nconnection stream\nping {echo_reply} 7 payload");
        let drops = || format!("{:?}\n{:?}", a.drops(), b.drops());
        assert_eq!(told.trim(), expected, "over IPv{family}\n{}", drops());
    }
    // What follows a flow's first packets the kernels carry and count. When that begins depends on
    // when the acknowledgement is heard: an answer before it came in a frame.
    for host in [a, b] {
        let counted = until("the kernels carry datagrams", READY, || {
            let (sent, answered) = packets(host, "udp");
            if sent >= 2 && answered >= 2 {
                return Ok(Some(()));
            }
            let call = format!("{PLACE}/call.py");
            a.run("1.caller", &["/usr/bin/python3", &call, "4"])?;
            Ok(None)
        });
        assert!(counted.is_ok(), "{:?}", packets(host, "udp"));
    }
}

#[test]
fn first_packets_go_in_frames_and_later_ones_to_an_ipv4_neighbour() {
    calls_are_answered(&[Family::V4]);
}

#[test]
fn first_packets_go_in_frames_and_later_ones_to_an_ipv6_neighbour() {
    calls_are_answered(&[Family::V6]);
}

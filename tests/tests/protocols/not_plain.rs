//! What is not plain: fragments, errors, options, super-packets, and what is too big.

use margay_tests::lab::{Host, Instance, PLACE, until};
use std::net::IpAddr;
use std::time::Duration;

/// How long the instances may take to start, on a busy machine.
const READY_MAX: Duration = Duration::from_secs(40);

/// Two echo servers, of which the second is never ready: calls to it go to the first.
fn composition() -> String {
    format!(
        r#"
[composition]
name = "protocols"
version = 1

[automaton.echo]
command = ["/usr/bin/python3", "{PLACE}/echo.py"]
replicas = 2
ports = {{ datagrams = {{ port = 5000, protocol = "udp" }}, streams = {{ port = 5000, protocol = "tcp" }}, closed = {{ port = 5001, protocol = "udp" }} }}
ready = {{ command = ["/bin/sh", "-c", "test $(hostname) = 1.echo && exec /usr/bin/python3 {PLACE}/listening.py"], every_ms = 200 }}
needs = ["echo"]

[automaton.caller]
command = ["sleep", "infinity"]
needs = ["echo"]
"#
    )
}

fn host() -> Host {
    let host = Host::start().unwrap();
    for (name, text) in [
        ("echo.py", include_str!("echo.py")),
        ("probe.py", include_str!("probe.py")),
        ("listening.py", include_str!("listening.py")),
    ] {
        host.write(name, text).unwrap();
    }
    host.apply(&composition()).unwrap();
    let ready = until(
        "the first server and the caller are ready",
        READY_MAX,
        || {
            let instances = host.instances()?;
            let ready = |name: &str| instances.iter().any(|it| it.name == name && it.ready);
            Ok((ready("1.echo") && ready("1.caller")).then_some(()))
        },
    );
    if let Err(error) = ready {
        panic!("{error}: {:#?}\n{}", host.instances(), host.log_tail());
    }
    host
}

fn instance(host: &Host, name: &str) -> Instance {
    let mut instances = host.instances().unwrap().into_iter();
    instances.find(|it| it.name == name).unwrap()
}

/// Every probe, and what it says when all is well.
const PROBES: [(&str, &str); 8] = [
    ("pieces", "same same same same"),
    ("long_ping", "same"),
    ("closed_port", "ECONNREFUSED ECONNREFUSED ECONNREFUSED"),
    ("one_hop", "same"),
    ("too_big", "EMSGSIZE 1400 same"),
    ("segment_size", "1400"),
    ("super_packet", "same"),
    ("no_checksum", "same"),
];

/// Asserts that probes print what they print when all is well.
#[track_caller]
fn assert_well(host: &Host, told: &str, probes: &[(&str, &str)], context: &str) {
    let expected = probes.iter().map(|(name, said)| format!("{name} {said}"));
    let expected: Vec<String> = expected.collect();
    let told: Vec<&str> = told.lines().collect();
    let (drops, log) = (host.drops(), host.log_tail());
    assert_eq!(told, expected, "{context}: {drops:?}\n{log}");
}

/// ```text
///   1.caller --> 1.echo                           as they are
///   1.caller --> 2.echo, not ready --> 1.echo     rewritten
///   1.echo   --> 2.echo, not ready --> 1.echo     rewritten, and to itself
/// ```
#[test]
fn what_is_not_plain_arrives_and_comes_back_whole() {
    let host = host();
    let (first, second) = (instance(&host, "1.echo"), instance(&host, "2.echo"));
    let probe = format!("{PLACE}/probe.py");
    for (caller, called) in [
        ("1.caller", &first),
        ("1.caller", &second),
        ("1.echo", &second),
    ] {
        for address in [IpAddr::from(called.called_v4), called.called_v6.into()] {
            let address = address.to_string();
            let names = PROBES.iter().map(|(name, _)| *name);
            let program = ["/usr/bin/python3", &probe, &address];
            let words: Vec<&str> = program.into_iter().chain(names).collect();
            let told = host.run(caller, &words).unwrap();
            assert_well(&host, &told, &PROBES, &format!("{caller} to {address}"));
        }
    }
    let served_itself = |client: &str, server: &str| client == "1.echo" && server == "1.echo";
    let flows = host.flows().unwrap();
    assert!(
        flows
            .iter()
            .any(|flow| served_itself(&flow.client, &flow.server))
    );
    assert!(flows.iter().all(|flow| flow.server == "1.echo"));
}

/// A program in an instance may not send such; root in its namespace may.
#[test]
fn extension_headers_are_carried() {
    let host = host();
    let caller = instance(&host, "1.caller").pid.unwrap().to_string();
    for called in ["1.echo", "2.echo"] {
        let called = instance(&host, called).called_v6.to_string();
        let mut command = host.command("nsenter");
        let probe = format!("{PLACE}/probe.py");
        command.args(["-t", &caller, "-n", "/usr/bin/python3", &probe, &called]);
        let output = command.arg("extension_headers").output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let probes = [("extension_headers", "same same")];
        assert_well(&host, &told, &probes, &format!("root to {called}"));
    }
}

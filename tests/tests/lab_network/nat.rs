//! A router that masquerades hides who is behind it.

use crate::packets::{Echo, answers, is_silent, send};
use margay_tests::lab::{Lab, Topology};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

const SERVER: &str = "198.51.100.80";

/// The example with two homes of the same addresses.
fn homes() -> Lab {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/behind-nat.toml");
    Lab::without_daemons(&Topology::read(&path).unwrap()).unwrap()
}

#[test]
fn server_sees_the_routers_address_and_not_the_hosts() {
    let lab = homes();
    let _server = Echo::start(&lab, "server", SERVER);
    for (host, router) in [("alice", "gate"), ("bob", "door")] {
        let fate = send(
            &lab,
            host,
            SERVER,
            3,
            Duration::ZERO,
            crate::packets::PATIENCE,
        );
        assert_eq!(fate.answered.len(), 3, "{host}");
        let seen_as: IpAddr = fate.seen_as.parse().unwrap();
        let outside = lab.addresses(router);
        assert!(outside.contains(&seen_as), "{host} is seen as {seen_as}");
        assert!(!lab.addresses(host).contains(&seen_as));
    }
}

#[test]
fn nobody_outside_reaches_who_is_hidden() {
    let lab = homes();
    let _alice = Echo::start(&lab, "alice", "192.168.1.7");
    assert!(is_silent(&lab, "server", "192.168.1.7"));

    // Not even one who guesses the way.
    let gate = lab.addresses("gate");
    let gate = gate
        .iter()
        .find(|it| it.to_string().starts_with("198.51.100."));
    let via = gate.unwrap().to_string();
    let mut command = lab.host("server").command("ip");
    let route = command.args(["route", "add", "192.168.1.0/24", "via", &via]);
    assert!(route.status().unwrap().success());
    assert!(is_silent(&lab, "server", "192.168.1.7"));

    // Who is let in on the inside only would be seen by this.
    let _server = Echo::start(&lab, "server", SERVER);
    assert!(answers(&lab, "alice", SERVER));
}

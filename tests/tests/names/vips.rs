//! A service that is answered by one address of its own.

use crate::world::{SEEN_MAX, dig, host_with, instance};
use margay_tests::lab::{Host, until};
use std::collections::BTreeSet;

const SHOP: &str = r#"
[composition]
name = "shop"
version = 1

[automaton.web]
command = ["/usr/bin/python3", "{PLACE}/whoami.py", "8000"]
replicas = 2
ports = { http = { port = 8000, protocol = "tcp" }, ask = { port = 8000, protocol = "udp" } }
ready = { tcp = true, port = "http", every_ms = 200 }
answer = "service"

[automaton.shopper]
command = ["sleep", "infinity"]
needs = ["web"]

[automaton.stranger]
command = ["sleep", "infinity"]
"#;

/// Asks over TCP and over UDP who serves an address, and sends it an echo request; the names and what
/// came back, or how each failed.
const ASK: &str = r#"
import socket, sys
addr = sys.argv[1]
family, echo, request = (
    (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128) if ":" in addr else (socket.AF_INET, socket.IPPROTO_ICMP, 8)
)
for kind, protocol, sent in (
    (socket.SOCK_STREAM, 0, b"who?"),
    (socket.SOCK_DGRAM, 0, b"who?"),
    (socket.SOCK_DGRAM, echo, bytes([request, 0, 0, 0, 0, 0, 0, 1]) + b"echo"),
):
    with socket.socket(family, kind, protocol) as asking:
        asking.settimeout(5)
        try:
            asking.connect((addr, 8000))
            asking.send(sent)
            print(asking.recv(100)[-5:].decode().strip("\1"))
        except OSError as error:
            print(type(error).__name__)
"#;

fn ask(host: &Host, caller: &str, addr: &str) -> Vec<String> {
    let said = host.run(caller, &["/usr/bin/python3", "-c", ASK, addr]);
    said.unwrap().lines().map(str::to_owned).collect()
}

/// Whether every protocol reached an instance.
fn is_served(host: &Host, addr: &str) -> bool {
    let told = ask(host, "1.shopper", addr);
    let [tcp, udp, echo] = told.as_slice() else {
        panic!("{told:?}")
    };
    tcp.ends_with(".web") && udp.ends_with(".web") && echo == "echo"
}

/// The one address that the shopper is answered, of either family.
fn vip(host: &Host, kind: &str) -> String {
    let told = dig(host, "1.shopper", "web.matrix", kind);
    let [_, answer] = told.as_slice() else {
        panic!("{told:?}")
    };
    answer.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn one_address_is_balanced_and_outlives_restarts_and_every_instance() {
    let host = host_with(SHOP);
    let vips = [vip(&host, "A"), vip(&host, "AAAA")];

    for vip in &vips {
        let taken = (0..4).flat_map(|_| ask(&host, "1.shopper", vip));
        let all = ["1.web", "2.web", "echo"].map(str::to_owned);
        assert_eq!(BTreeSet::from_iter(taken), BTreeSet::from(all), "{vip}");
        let named = host.run("1.shopper", &["getent", "hosts", vip]).unwrap();
        assert!(named.trim_end().ends_with(" web.matrix"), "{named}");
        let refused = ask(&host, "1.stranger", vip);
        assert!(
            refused.iter().all(|it| it.ends_with("Error")),
            "{refused:?}"
        );
    }

    host.kill_daemon().unwrap();
    host.start_daemon().unwrap();
    host.until_ready(SEEN_MAX).unwrap();
    assert_eq!([vip(&host, "A"), vip(&host, "AAAA")], vips);
    assert!(is_served(&host, &vips[0]));

    // Programs that end at once, until they may stay.
    host.write("gone", "").unwrap();
    for name in ["1.web", "2.web"] {
        host.kill(instance(&host, name).pid.unwrap()).unwrap();
    }
    let none = |ready: bool| {
        let instances = host.instances().unwrap();
        let mut web = instances.iter().filter(|it| it.is_of("web"));
        web.all(|it| it.ready == ready).then_some(())
    };
    until("no web is ready", SEEN_MAX, || Ok(none(false))).unwrap();
    assert_eq!(vip(&host, "A"), vips[0]);
    for vip in &vips {
        let refused = ask(&host, "1.shopper", vip);
        assert_eq!(refused, ["ConnectionRefusedError"; 3], "{vip}");
    }

    host.command("rm")
        .arg(margay_tests::lab::PLACE.to_owned() + "/gone")
        .status()
        .unwrap();
    until("every web is back", SEEN_MAX, || Ok(none(true))).unwrap();
    for vip in &vips {
        assert!(is_served(&host, vip));
    }
}

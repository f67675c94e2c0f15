//! Instances, ports, texts, addresses and zones by name.

use crate::world::{dig, host_with, instance};
use std::net::{Ipv4Addr, Ipv6Addr};

const SHOP: &str = r#"
[composition]
name = "shop"
version = 4

[automaton.web]
command = ["sleep", "infinity"]
replicas = 2
weights = [100, 30]
ports = { http = { port = 80, protocol = "tcp" } }

[automaton.shopper]
command = ["sleep", "infinity"]
needs = ["web"]

[automaton.stranger]
command = ["sleep", "infinity"]
"#;

/// The name under which the name of an IPv4 address is found.
fn reverse_v4(addr: Ipv4Addr) -> String {
    let [a, b, c, d] = addr.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}

#[test]
fn what_a_caller_may_reach_has_every_kind_of_name_and_for_others_none() {
    let host = host_with(SHOP);
    let second = instance(&host, "2.web");
    let (v4, v6) = (second.called_v4, second.called_v6);
    let shopper = |name: &str, kind: &str| dig(&host, "1.shopper", name, kind);

    let found = shopper("2.web.matrix", "A");
    assert_eq!(found, ["NOERROR", &format!("answer 2.web.matrix. A {v4}")]);
    let found = shopper("_http._tcp.web.matrix", "SRV");
    let owner = "_http._tcp.web.matrix.";
    for expected in [
        format!("answer {owner} SRV 0 100 80 1.web.matrix."),
        format!("answer {owner} SRV 0 30 80 2.web.matrix."),
        format!("additional 2.web.matrix. A {v4}"),
        format!("additional 2.web.matrix. AAAA {v6}"),
    ] {
        assert!(found.contains(&expected), "{expected}: {found:#?}");
    }
    let found = shopper("web.matrix", "TXT");
    let texts = "answer web.matrix. TXT composition=shop version=4";
    assert_eq!(found, ["NOERROR", texts]);
    let found = shopper("matrix", "SOA");
    assert_eq!(found, ["NOERROR", "answer matrix. SOA matrix."]);
    let found = shopper("3.web.matrix", "A");
    assert_eq!(found, ["NXDOMAIN", "authority matrix. SOA matrix."]);
    for (name, kind) in [
        ("2.web.matrix".to_owned(), "A"),
        (owner.to_owned(), "SRV"),
        ("web.matrix".to_owned(), "TXT"),
        (reverse_v4(v4), "PTR"),
        (reverse_v4(second.caller_v4), "PTR"),
    ] {
        let hidden = dig(&host, "1.stranger", &name, kind);
        assert_eq!(hidden[0], "NXDOMAIN", "{name}");
    }

    // What C libraries make of addresses.
    let named = |caller: &str, addr: &str| host.run(caller, &["getent", "hosts", addr]);
    for addr in [v4, second.caller_v4] {
        let said = named("1.shopper", &addr.to_string()).unwrap();
        assert!(said.trim_end().ends_with(" 2.web.matrix"), "{said}");
    }
    let v6_addresses: [Ipv6Addr; 2] = [v6, second.caller_v6];
    for addr in v6_addresses {
        let said = named("1.shopper", &addr.to_string()).unwrap();
        assert!(said.trim_end().ends_with(" 2.web.matrix"), "{said}");
        assert!(named("1.stranger", &addr.to_string()).is_err());
    }
}

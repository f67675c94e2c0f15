//! Instances that take no new flow: drained by an operator, or replaced by a newer version.

use crate::world::{
    ECHO_PORT, SEEN_MAX, Talk, composition, furnish, instance, margay, text, until_ready,
};
use margay_tests::lab::{Host, Instance, until};
use serde_json::Value;
use std::net::IpAddr;

/// New connections to a drained instance's address: enough to meet every sibling.
const CONNECTIONS: usize = 8;

/// A composition whose echo server has two instances, with `also` among its keys.
fn pair(version: u32, also: &str) -> String {
    let version = format!("version = {version}");
    let echo = format!("[automaton.echo]\nreplicas = 2\n{also}\n");
    composition("")
        .replace("version = 1", &version)
        .replace("[automaton.echo]\n", &echo)
}

fn host_with_pair(also: &str) -> Host {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon().unwrap();
    host.apply(&pair(1, also)).unwrap();
    until_ready(&host, &["1.echo", "2.echo", "1.caller"]);
    host
}

/// The instance that is called by `addr`.
fn called(host: &Host, addr: &str) -> Instance {
    let addr: IpAddr = addr.parse().unwrap();
    let instances = host.instances().unwrap();
    let found = instances.iter().find(|it| it.is_called(addr));
    found
        .unwrap_or_else(|| panic!("nobody is called by {addr}"))
        .clone()
}

/// Opens a connection to the echo server; whom it reached.
fn open(host: &Host, client: &mut Talk, to: &str) -> Instance {
    let opened = client.ask(&format!("open {to} {ECHO_PORT}"));
    assert!(!opened.starts_with("failed"), "{opened}");
    client.echoes("hello");
    called(host, &opened)
}

#[test]
fn drained_instance_serves_what_it_has_and_its_sibling_takes_what_is_new() {
    let host = host_with_pair("");
    let mut live = Talk::client(&host, "1.caller");
    let drained = open(&host, &mut live, "echo.matrix");
    let address = drained.called_v4.to_string();

    let waiting = margay(&host, &["drain", &drained.name, "--wait", "0", "--json"]);
    assert_eq!(waiting.status.code(), Some(1), "{}", text(&waiting));
    let row: Value = serde_json::from_slice(&waiting.stdout).unwrap();
    assert_eq!((&row["drained"], &row["flows"]), (&true.into(), &1.into()));
    assert_eq!(row["callers"]["1.caller"], 1);

    let mut new = Talk::client(&host, "1.caller");
    let names = new.ask("names echo.matrix");
    assert!(!names.contains(&address), "{names}");
    for _ in 0..CONNECTIONS {
        open(&host, &mut new, &address);
    }
    let flows = host.flows().unwrap();
    let (old, siblings): (Vec<_>, Vec<_>) = flows
        .iter()
        .filter(|it| it.to.port() == ECHO_PORT && it.client == "1.caller")
        .partition(|it| it.server == drained.name);
    assert_eq!((old.len(), siblings.len()), (1, CONNECTIONS), "{flows:#?}");
    live.echoes("still");
    assert_eq!(instance(&host, &drained.name).state, "draining");

    drop(live);
    let done = margay(&host, &["drain", &drained.name]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(text(&done).contains("is drained"), "{}", text(&done));
    host.kill_daemon().unwrap();
    host.start_daemon().unwrap();
    assert_eq!(instance(&host, &drained.name).state, "drained");

    let undone = margay(&host, &["drain", &drained.name, "--cancel"]);
    assert!(undone.status.success(), "{}", text(&undone));
    assert!(instance(&host, &drained.name).ready);
    assert!(new.ask("names echo.matrix").contains(&address));
    assert_eq!(instance(&host, &drained.name).restarts, 0);
}

#[test]
fn what_cannot_be_drained_is_told() {
    let host = host_with_pair("");
    for (name, expected) in [("3.echo", "no instance is called"), ("echo", "say which")] {
        let refused = margay(&host, &["drain", name]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused).contains(expected), "{}", text(&refused));
    }
}

/// ```text
///   caller ====== 1.echo v1 (drains) ======= caller hangs up -> 1.echo v1 is told to stop
///   caller ------------ 1.echo v2 ...
/// ```
#[test]
fn replaced_instance_serves_its_connection_to_the_end_and_only_then_stops() {
    let host = host_with_pair("drain_ms = 3600000");
    let mut live = Talk::client(&host, "1.caller");
    let old = open(&host, &mut live, "echo.matrix");

    let newer = pair(2, "drain_ms = 3600000\nenv = { RELEASE = \"2\" }");
    host.apply(&newer).unwrap();
    let of_old = |it: &Instance| it.called_v4 == old.called_v4;
    until(
        "the old instance drains and the new ones serve",
        SEEN_MAX,
        || {
            let instances = host.instances()?;
            let drains = instances
                .iter()
                .any(|it| of_old(it) && it.state == "draining");
            let echo = instances.iter().filter(|it| it.is_of("echo"));
            Ok((drains && echo.filter(|it| it.ready).count() == 2).then_some(()))
        },
    )
    .unwrap();

    let mut new = Talk::client(&host, "1.caller");
    for to in ["echo.matrix", &old.called_v4.to_string()] {
        open(&host, &mut new, to);
    }
    live.echoes("still");
    let served = host.flows().unwrap().into_iter();
    let served = served.filter(|it| old.is_called(it.delivered_to.ip()));
    assert_eq!(served.count(), 1, "nothing new reaches the old instance");

    drop(live);
    until("the old instance is gone", SEEN_MAX, || {
        Ok((!host.instances()?.iter().any(of_old)).then_some(()))
    })
    .unwrap();
    new.echoes("untouched");
}

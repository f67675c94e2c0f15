//! Hosts: another address, a lost power, a daemon that comes back.

use crate::packets::{Echo, answers, is_silent, paris};
use margay_tests::lab::{Lab, Topology};
use std::time::Duration;

const A: &str = "10.1.0.1";
const B: &str = "10.1.0.2";
const B_V6: &str = "fd00:1::2";

/// ```text
///   a ── c ── b   both reach c
///   a ──✕──── b   and not each other
/// ```
#[test]
fn parted_hosts_reach_all_others_but_not_each_other() {
    let lab = paris();
    let _b = Echo::start(&lab, "b", B);
    let _b_v6 = Echo::start(&lab, "b", B_V6);
    let _a = Echo::start(&lab, "a", A);
    assert!(answers(&lab, "a", B));

    lab.part("a", "b").unwrap();
    assert!(is_silent(&lab, "a", B) && is_silent(&lab, "a", B_V6));
    assert!(is_silent(&lab, "b", A));
    assert!(answers(&lab, "c", A) && answers(&lab, "c", B));

    lab.join("a", "b").unwrap();
    assert!(answers(&lab, "a", B) && answers(&lab, "a", B_V6));
}

#[test]
fn changed_address_takes_effect_at_once() {
    let mut lab = paris();
    let old = Echo::start(&lab, "b", B);
    assert!(answers(&lab, "a", B));

    lab.change_address("b", "10.1.0.77".parse().unwrap())
        .unwrap();
    assert!(is_silent(&lab, "a", B));
    drop(old);
    let _new = Echo::start(&lab, "b", "10.1.0.77");
    assert!(answers(&lab, "a", "10.1.0.77"));
    let _v6 = Echo::start(&lab, "b", B_V6);
    assert!(answers(&lab, "a", B_V6), "the other family stays");

    let taken = lab.change_address("b", A.parse().unwrap()).unwrap_err();
    assert_eq!(taken.to_string(), "10.1.0.1 is taken by link `a-paris`");
    let elsewhere = lab.change_address("b", "10.2.0.1".parse().unwrap());
    assert!(elsewhere.unwrap_err().to_string().contains("on no segment"));
}

#[test]
fn changed_address_keeps_its_routes() {
    let text = "[site.paris]\nhosts = 1\n[site.rome]\nhosts = 1\n";
    let mut lab = Lab::without_daemons(&Topology::parse(text).unwrap()).unwrap();
    let rome = lab.addresses("rome-1");
    for (new, rome) in ["10.0.1.99", "fd00:0:0:1::99"].into_iter().zip(&rome) {
        let rome = rome.to_string();
        let _echo = Echo::start(&lab, "rome-1", &rome);
        assert!(answers(&lab, "paris-1", &rome));
        lab.change_address("paris-1", new.parse().unwrap()).unwrap();
        assert!(answers(&lab, "paris-1", &rome), "from {new}");
    }
}

#[test]
fn killed_host_ends_at_once_and_leaves_the_others() {
    let mut lab = paris();
    let b = Echo::start(&lab, "b", B);
    let _a = Echo::start(&lab, "a", A);

    lab.kill_host("b").unwrap();

    assert!(b.ended());
    assert!(is_silent(&lab, "c", B));
    assert!(answers(&lab, "c", A));
    assert!(lab.kill_host("b").is_err(), "it is dead already");
}

#[test]
fn booted_host_has_its_state_its_addresses_and_its_wire() {
    let mut lab = paris();
    lab.link("b-paris").slow(Duration::from_millis(2)).unwrap();
    let state = lab.host("b").write("state/deep/note", "remember").unwrap();
    lab.kill_host("b").unwrap();
    assert!(lab.boot_host("a").is_err(), "it lives");

    lab.boot_host("b").unwrap();

    let note = lab.host("b").command("cat").arg(state).output().unwrap();
    assert_eq!(note.stdout, b"remember");
    let _echo = Echo::start(&lab, "b", B);
    let _echo_v6 = Echo::start(&lab, "b", B_V6);
    assert!(answers(&lab, "a", B) && answers(&lab, "a", B_V6));
    let tally = lab.link("b-paris").tally().unwrap();
    assert!(tally.outwards.carried >= 3, "the wire is back");
}

#[test]
fn every_host_has_a_daemon_of_its_own_with_its_options() {
    let text = "[site.paris]\nhosts = 1\n[site.rome]\nhosts = 1\n\
                daemon = [\"--metrics\", \"127.0.0.1:9000\"]\n";
    let mut lab = Lab::start(&Topology::parse(text).unwrap()).unwrap();
    let composition = |name: &str| {
        format!(
            "[composition]\nname = \"{name}\"\nversion = 1\n\
             [automaton.{name}]\ncommand = [\"sleep\", \"1000\"]\n"
        )
    };
    for (host, name) in [("paris-1", "one"), ("rome-1", "other")] {
        lab.host(host).apply(&composition(name)).unwrap();
        let instances = lab.host(host).until_ready(Duration::from_secs(20)).unwrap();
        assert_eq!(instances.len(), 1);
        assert!(instances[0].is_of(name));
    }
    let metrics = |host: &str| {
        let mut command = lab.host(host).command("curl");
        let command = command.args(["-s", "http://127.0.0.1:9000/metrics"]);
        command.output().unwrap().status.success()
    };
    assert!(metrics("rome-1") && !metrics("paris-1"));

    // The daemon goes and comes; then the keeper goes with its host.
    lab.host("paris-1").kill_daemon().unwrap();
    lab.start_daemon("paris-1").unwrap();
    let pid = lab.host("paris-1").instances().unwrap()[0].pid;
    assert!(pid.is_some(), "the keeper kept the instance");
    lab.kill_host("paris-1").unwrap();
    assert!(lab.host("paris-1").status().is_err());
    assert!(lab.host("rome-1").status().is_ok(), "another host lives on");

    lab.boot_host("paris-1").unwrap();
    lab.start_daemon("paris-1").unwrap();
    let instances = lab.host("paris-1").until_ready(Duration::from_secs(20));
    assert!(instances.unwrap()[0].is_of("one"), "its journal was kept");
}

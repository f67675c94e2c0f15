//! Hosts that come and go, sides that both change while they are parted, and a host that was put back
//! into an older state.

use crate::site::{said, until_held, until_logged};
use crate::sites::{CALLER, SOON, composition, fetch, until_fetched};
use margay_tests::lab::{Host, Lab, Topology, state_directory, until};
use std::process::Command;
use std::time::Duration;

/// Longer than a silent link stands, than SWIM needs for a death, and than both need to forget.
const PARTED: Duration = Duration::from_secs(45);

/// ```text
///   paris-1: founder, caller   paris-2, paris-3 …: servers
/// ```
fn paris(hosts: usize, servers: &[(&str, &str)]) -> Lab {
    let topology = Topology::parse(&format!("[site.paris]\nhosts = {hosts}\n")).unwrap();
    let lab = Lab::without_daemons(&topology).unwrap();
    lab.found_network("paris-1", |_| &[]).unwrap();
    let host = lab.host("paris-1");
    host.apply(&composition("paris-1", servers)).unwrap();
    for (name, _) in servers {
        until_fetched(&lab, "paris-1", name);
    }
    lab
}

/// Applies a later version of what serves.
fn apply(lab: &Lab, version: u32, servers: &[(&str, &str)]) {
    let text = composition("paris-1", servers);
    let text = text.replace("version = 1", &format!("version = {version}"));
    lab.host("paris-1").apply(&text).unwrap();
}

/// The addresses by which the caller knows a service; none of what does not exist.
fn addresses(host: &Host, name: &str) -> usize {
    let name = format!("{name}.matrix");
    let told = host.run(CALLER, &["getent", "ahostsv4", &name]);
    let told = told.unwrap_or_default();
    told.lines().filter(|line| line.contains("STREAM")).count()
}

/// ```text
///   paris-3 stands still, goes on, is killed, comes back: again and again
/// ```
#[test]
fn host_that_comes_and_goes_harms_nobody_and_is_found_at_last() {
    let lab = paris(3, &[("web", "paris-2"), ("other", "paris-3")]);
    let (caller, flapping) = (lab.host("paris-1"), lab.host("paris-3"));
    for _ in 0..3 {
        flapping.freeze().unwrap();
        until_held(caller, "paris-3", "down");
        fetch(caller, "web").unwrap();
        flapping.thaw().unwrap();
        until_held(caller, "paris-3", "up");
        flapping.kill_daemon().unwrap();
        fetch(caller, "web").unwrap();
        lab.start_member("paris-3").unwrap();
        fetch(caller, "web").unwrap();
    }
    for seer in ["paris-1", "paris-2"] {
        until_held(lab.host(seer), "paris-3", "up");
    }
    assert_eq!(lab.host("paris-2").members().unwrap().len(), 3);
    until_fetched(&lab, "paris-1", "other");
}

/// ```text
///   paris-1: operator, caller   paris-2: web   ──✕──   paris-3: web, which is drained   paris-4
/// ```
#[test]
fn sides_that_both_change_while_they_are_parted_agree_once_they_meet() {
    let lab = paris(
        4,
        &[
            ("web", "paris-2"),
            ("stays", "paris-3"),
            ("goes", "paris-3"),
        ],
    );
    let sides = [["paris-1", "paris-2"], ["paris-3", "paris-4"]];
    let pairs = || {
        sides[0]
            .iter()
            .flat_map(|one| sides[1].iter().map(move |other| (*one, *other)))
    };
    let parted = std::time::Instant::now();
    for (one, other) in pairs() {
        lab.part(one, other).unwrap();
    }
    for (seer, missed) in [("paris-1", "paris-3"), ("paris-4", "paris-2")] {
        until_held(lab.host(seer), missed, "down");
    }
    // One side hears of a new version, the other ends an instance's turn and starts a daemon anew.
    apply(
        &lab,
        2,
        &[
            ("web", "paris-2"),
            ("stays", "paris-3"),
            ("late", "paris-4"),
        ],
    );
    until_gone(lab.host("paris-1"), "goes");
    let far = lab.host("paris-3");
    said(far, &["drain", "1.stays"]);
    lab.host("paris-4").kill_daemon().unwrap();
    lab.start_member("paris-4").unwrap();
    assert!(
        far.instances()
            .unwrap()
            .iter()
            .any(|it| it.name == "1.goes")
    );
    // It is to last; nothing happens meanwhile that could be waited for.
    std::thread::sleep(PARTED.saturating_sub(parted.elapsed()));

    for (one, other) in pairs() {
        lab.join(one, other).unwrap();
    }

    until_fetched(&lab, "paris-1", "late");
    until_fetched(&lab, "paris-1", "web");
    until_gone(lab.host("paris-1"), "stays");
    let ended = until("what was withdrawn ends on the other side", SOON, || {
        let instances = far.instances()?;
        Ok(instances.iter().all(|it| it.name != "1.goes").then_some(()))
    });
    assert!(ended.is_ok(), "{:?}\n{}", far.instances(), far.log_tail());
    said(far, &["drain", "1.stays", "--cancel"]);
    until_fetched(&lab, "paris-1", "stays");
}

/// Waits until the caller finds no address of a service.
fn until_gone(host: &Host, name: &str) {
    let gone = until("a service is gone", SOON, || {
        Ok((addresses(host, name) == 0).then_some(()))
    });
    assert!(gone.is_ok(), "{name} is still there\n{}", host.log_tail());
}

/// A host whose disk was put back says what it said long ago: nobody believes that again, and it takes
/// up what it had missed.
#[test]
fn host_that_was_put_back_into_an_older_state_brings_nothing_old_back() {
    let mut lab = paris(3, &[("web", "paris-2"), ("old", "paris-3")]);
    let backup = tempfile::tempdir().unwrap();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let copied = Command::new("cp")
            .arg("-a")
            .arg(from.join("."))
            .arg(to)
            .status();
        assert!(copied.unwrap().success());
    };
    let state = |lab: &Lab| lab.host("paris-3").inside(state_directory());
    lab.host("paris-3").stop_daemon().unwrap();
    copy(&state(&lab), backup.path());
    // Two lives more, so that whichever comes of the copy is the earlier one.
    lab.start_member("paris-3").unwrap();
    lab.host("paris-3").stop_daemon().unwrap();
    lab.start_member("paris-3").unwrap();
    apply(&lab, 2, &[("web", "paris-2"), ("new", "paris-3")]);
    until_fetched(&lab, "paris-1", "new");
    until_gone(lab.host("paris-1"), "old");

    lab.kill_host("paris-3").unwrap();
    lab.boot_host("paris-3").unwrap();
    std::fs::remove_dir_all(state(&lab)).unwrap();
    std::fs::create_dir(state(&lab)).unwrap();
    copy(backup.path(), &state(&lab));
    lab.start_member("paris-3").unwrap();

    until_logged(
        &lab,
        "paris-3",
        &["an older state of this host was restored"],
    );
    until_fetched(&lab, "paris-1", "new");
    until_gone(lab.host("paris-1"), "old");
    let instances = lab.host("paris-3").instances().unwrap();
    let names: Vec<_> = instances.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["1.new"]);
}

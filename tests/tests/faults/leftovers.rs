//! What a daemon left that died in the middle of an instance's beginning or end: each kind of it is
//! taken away by the next one, though nothing else would.

use crate::possessions::{keeper, recorded, until_possessions};
use crate::world::SEEN_MAX;
use margay_core::id::InstanceId;
use margay_keeper::KeeperClient;
use margay_tests::lab::{Host, state_directory, until};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};

/// A program that ends at once when it is told to, and one that does not.
const TWO: &str = r#"
[composition]
name = "two"
version = 1

[automaton.easy]
command = ["sleep", "infinity"]

[automaton.stubborn]
command = ["sh", "-c", "trap '' TERM; while :; do sleep 65431; done"]
"#;

/// What the keeper holds of an instance; held here as well, nothing of it goes by itself.
struct Grip {
    netns: Vec<OwnedFd>,
    dns: Vec<OwnedFd>,
}

impl Grip {
    fn on(keeper: &KeeperClient, instance: InstanceId) -> Grip {
        let fetch = |name: String| keeper.fetch(&name).unwrap().unwrap();
        Grip {
            netns: fetch(format!("netns/{instance}")),
            dns: fetch(format!("dns/{instance}")),
        }
    }

    /// Has the keeper hold it again.
    fn put(&self, keeper: &KeeperClient, instance: InstanceId) {
        for (kind, descriptors) in [("netns", &self.netns), ("dns", &self.dns)] {
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            let name = format!("{kind}/{instance}");
            keeper.hold(&name, &descriptors).unwrap();
        }
    }
}

fn host_with(composition: &str) -> Host {
    let host = Host::start().unwrap();
    host.apply(composition).unwrap();
    host.until_ready(SEEN_MAX).unwrap();
    until_possessions(&host, 2);
    host
}

fn programs(keeper: &KeeperClient) -> Vec<(InstanceId, String)> {
    let all = keeper.list().unwrap().into_iter();
    all.map(|status| (status.instance, status.name)).collect()
}

fn stubborn(keeper: &KeeperClient) -> InstanceId {
    let mut programs = programs(keeper).into_iter();
    let found = programs.find(|(_, name)| name == "1.stubborn");
    found.unwrap().0
}

/// Has the keeper know nothing of the program any more, as before it was started or after its end.
fn forget_program(keeper: &KeeperClient, instance: InstanceId) {
    keeper.remove(instance).unwrap();
    until("its program is gone", SEEN_MAX, || {
        let there = programs(keeper).iter().any(|(id, _)| *id == instance);
        Ok((!there).then_some(()))
    })
    .unwrap();
}

/// Begins to delete all, and kills the daemon while the stubborn one is being ended.
fn killed_in_the_middle_of_an_end(host: &Host) {
    let pid = host.status().unwrap().pid;
    let mut delete = begin(host, &["delete", "two"]);
    until("only the stubborn one is left", SEEN_MAX, || {
        let instances = host.instances()?;
        let only = instances.len() == 1 && instances[0].state == "removing";
        Ok(only.then_some(()))
    })
    .unwrap();
    host.kill_daemon_at(pid).unwrap();
    delete.wait().unwrap();
}

fn begin(host: &Host, words: &[&str]) -> Child {
    let mut command = host.margay(words);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    quiet.stderr(Stdio::null()).spawn().unwrap()
}

/// The journal after the daemon's end; it comes up again.
fn recorded_meanwhile(host: &Host) -> (u64, u64, u64) {
    host.stop_daemon().unwrap();
    let recorded = recorded(host);
    host.start_daemon().unwrap();
    recorded
}

#[test]
fn instance_that_was_prepared_and_never_started_is_made_anew() {
    let host = host_with(&TWO.replace("trap '' TERM;", ""));
    host.kill_daemon().unwrap();
    let keeper = keeper(&host);
    let instance = stubborn(&keeper);
    let grip = Grip::on(&keeper, instance);
    forget_program(&keeper, instance);
    grip.put(&keeper, instance);

    host.start_daemon().unwrap();

    host.until_ready(SEEN_MAX).unwrap();
    until_possessions(&host, 2);
    assert_eq!(recorded_meanwhile(&host), (2, 0, 0), "it stays who it is");
    until_possessions(&host, 2);
}

#[test]
fn instance_that_is_wanted_no_more_leaves_no_device_pin_namespace_or_socket() {
    let host = host_with(TWO);
    let keeper = keeper(&host);
    let instance = stubborn(&keeper);
    let grip = Grip::on(&keeper, instance);
    killed_in_the_middle_of_an_end(&host);
    forget_program(&keeper, instance);
    grip.put(&keeper, instance);

    host.start_daemon().unwrap();

    until_possessions(&host, 0);
    assert_eq!(recorded_meanwhile(&host), (0, 0, 2), "addresses rest");
    until_possessions(&host, 0);
}

#[test]
fn instance_that_nobody_recorded_ends_and_leaves_nothing() {
    let host = host_with(TWO);
    let keeper = keeper(&host);
    let grip = Grip::on(&keeper, stubborn(&keeper));
    host.kill_daemon().unwrap();
    std::fs::remove_file(host.inside(state_directory().join("margay.redb"))).unwrap();

    host.start_daemon().unwrap();

    until_possessions(&host, 0);
    assert_eq!(programs(&keeper), []);
    drop(grip);
}

#[test]
fn end_in_which_the_keeper_died_too_leaves_nothing() {
    let host = host_with(TWO);
    let pid = keeper(&host).hello().unwrap().pid;
    killed_in_the_middle_of_an_end(&host);
    host.kill(pid).unwrap();

    host.start_daemon().unwrap();

    until_possessions(&host, 0);
    assert_eq!(recorded_meanwhile(&host), (0, 0, 2), "addresses rest");
}

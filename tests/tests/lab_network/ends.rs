//! What is left of a lab: nothing, however it ends; and nothing outside while it stands.

use crate::packets::paris;
use margay_tests::lab::until;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the kernel may take to end a lab.
const GONE_MAX: Duration = Duration::from_secs(10);

/// `lab` in a network namespace of its own, so that all it made there would be seen.
struct Player {
    child: Child,
    description: Value,
}

impl Player {
    fn start() -> Player {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("unshare");
        command.args(["--net", env!("CARGO_BIN_EXE_lab"), "--json", "--no-daemons"]);
        command.arg(directory.join("topologies/two-sites.toml"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let description = serde_json::from_str(&line).unwrap();
        Player { child, description }
    }

    /// The first processes of all its nodes.
    fn pids(&self) -> Vec<u64> {
        let nodes = ["hosts", "routers"].map(|it| self.description[it].as_array().unwrap());
        let nodes = nodes.into_iter().flatten();
        nodes.map(|node| node["pid"].as_u64().unwrap()).collect()
    }

    /// Every process in namespaces of its nodes.
    fn processes(&self) -> Vec<u64> {
        let spaces: Vec<_> = self.pids().into_iter().filter_map(pid_namespace).collect();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let processes = processes.filter_map(|it| it.file_name().to_str()?.parse().ok());
        processes
            .filter(|pid| pid_namespace(*pid).is_some_and(|it| spaces.contains(&it)))
            .collect()
    }

    /// The devices of the network namespace in which it runs.
    fn devices_outside(&self) -> Vec<String> {
        let path = format!("/proc/{}/net/dev", self.child.id());
        let text = fs::read_to_string(path).unwrap();
        let names = text.lines().filter_map(|line| line.split_once(':'));
        names.map(|(name, _)| name.trim().to_owned()).collect()
    }
}

fn pid_namespace(pid: u64) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

fn until_gone(processes: &[u64]) {
    let lives = |pid: &&u64| Path::new("/proc").join(pid.to_string()).exists();
    let gone = until("every process is gone", GONE_MAX, || {
        Ok(processes.iter().find(lives).is_none().then_some(()))
    });
    gone.unwrap();
}

#[test]
fn killed_owner_takes_the_whole_lab_along() {
    let mut player = Player::start();
    let processes = player.processes();
    assert!(
        processes.len() >= 6,
        "five hosts and a router: {processes:?}"
    );
    assert_eq!(player.devices_outside(), ["lo"], "nothing of it is outside");

    player.child.kill().unwrap();
    player.child.wait().unwrap();

    until_gone(&processes);
}

#[test]
fn lab_ends_with_its_input_and_does_what_that_says() {
    let mut player = Player::start();
    let processes = player.processes();
    let mut input = player.child.stdin.take().unwrap();
    input
        .write_all(b"cut rome-1-rome\nslow rome-2-rome 5ms\n")
        .unwrap();
    drop(input);
    assert!(player.child.wait().unwrap().success());
    until_gone(&processes);
}

#[test]
fn lab_tells_how_to_enter_each_host() {
    let mut player = Player::start();
    let host = &player.description["hosts"][1];
    assert_eq!(host["name"], "paris-2");
    assert_eq!(host["site"], "paris");
    assert_eq!(host["addresses"][0], "10.0.1.3");
    let enter = host["enter"].as_str().unwrap();
    let mut words = enter.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let inside = command
        .args(words)
        .args(["ip", "-o", "addr"])
        .output()
        .unwrap();
    let inside = String::from_utf8(inside.stdout).unwrap();
    assert!(inside.contains("10.0.1.3/24"), "{inside}");
    drop(player.child.stdin.take());
    player.child.wait().unwrap();
}

#[test]
fn wrong_file_says_what_and_where() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lab.toml");
    fs::write(&path, "[site.paris]\nhost = 3\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    let output = command.arg(&path).output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("lab.toml:2:1"), "{told}");
    assert!(told.contains("did you mean `hosts`?"), "{told}");
}

#[test]
fn dropped_lab_leaves_no_process_and_no_cgroup() {
    let lab = paris();
    lab.link("a-paris").slow(Duration::from_millis(1)).unwrap();
    let cgroups = cgroups();
    assert_eq!(cgroups.len(), 4, "three hosts and the fabric: {cgroups:?}");
    let description = serde_json::to_value(lab.describe().unwrap()).unwrap();
    let hosts = description["hosts"].as_array().unwrap();
    let pids: Vec<u64> = hosts.iter().map(|it| it["pid"].as_u64().unwrap()).collect();

    drop(lab);

    until_gone(&pids);
    assert_eq!(self::cgroups(), Vec::<String>::new());
}

/// The cgroups of this process's nodes.
fn cgroups() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts = mounts.lines();
    let mount = mounts.find(|line| line.contains(" cgroup2 ")).unwrap();
    let entries = fs::read_dir(mount.split(' ').nth(1).unwrap()).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    let prefix = format!("margay-lab-{}-", std::process::id());
    names.filter(|it| it.starts_with(&prefix)).collect()
}

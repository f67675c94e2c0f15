//! Crashes in the middle of changes: whatever was under way is taken up again.

use crate::world::{
    SEEN_MAX, SPARES, Talk, composition, furnish, host_with, instance, margay, populate, shell,
    text, until_ready,
};
use margay_tests::lab::{Host, state_directory, until};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// After how many milliseconds of a change the daemon is killed, change by change.
const KILLED_AFTER_MS: [u64; 8] = [0, 3, 10, 20, 40, 80, 150, 300];

/// Replicas of the worker, by turns.
const REPLICAS: [usize; 2] = [8, 2];

/// More replicas or fewer, by turns.
fn turn(round: usize) -> String {
    let replicas = REPLICAS[round % 2];
    let more = format!(
        "[automaton.worker]\ncommand = [\"sleep\", \"infinity\"]\nreplicas = {replicas}\nneeds = [\"echo\"]"
    );
    composition(&more).replace("version = 1", &format!("version = {}", round + 1))
}

#[test]
fn change_that_a_crash_interrupts_is_finished_or_never_happened() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon().unwrap();
    host.apply(&turn(0)).unwrap();
    until_ready(&host, &["1.echo", "1.caller", "1.worker", "8.worker"]);
    let mut client = Talk::connected(&host, "1.caller");
    let echo = instance(&host, "1.echo").pid;

    for (round, killed_after_ms) in KILLED_AFTER_MS.into_iter().enumerate() {
        let file = host.write("turn.toml", turn(round + 1)).unwrap();
        let pid = host.status().unwrap().pid;
        let mut apply = host.margay(&["apply", file.to_str().unwrap()]);
        let quiet = apply.stdout(Stdio::null()).stderr(Stdio::null());
        let mut apply = quiet.stdin(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_millis(killed_after_ms);
        while Instant::now() < deadline {
            std::thread::yield_now();
        }
        host.kill_daemon_at(pid).unwrap();
        apply.wait().unwrap();
        host.start_daemon().unwrap();
        client.echoes(&format!("{round}"));

        // What the crash swallowed is asked for again; what was done is known to be done.
        let again = margay(&host, &["apply", file.to_str().unwrap()]);
        assert!(again.status.success(), "{}", text(&again));
        let wanted = 2 + REPLICAS[(round + 1) % 2];
        until("all are there and ready", SEEN_MAX, || {
            let all = host.instances()?;
            Ok((all.len() == wanted && all.iter().all(|it| it.ready)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {:#?}\n{}", host.instances(), host.log_tail()));
    }
    assert_eq!(instance(&host, "1.echo").pid, echo);
    drop(Talk::connected(&host, "1.caller"));
    let sleepers = shell(&host, "cat /proc/[0-9]*/comm | grep -c '^sleep$'");
    let wanted = 1 + REPLICAS[KILLED_AFTER_MS.len() % 2];
    assert_eq!(sleepers.trim(), wanted.to_string(), "workers and caller");
}

/// A program that ends only when it is killed.
const STUBBORN: &str = r#"
[automaton.stubborn]
command = ["sh", "-c", "trap '' TERM; while :; do sleep 65432; done"]
"#;

/// Starts a command and kills the daemon as soon as the stubborn instance is being ended.
fn kill_during(host: &Host, words: &[&str]) {
    let pid = host.status().unwrap().pid;
    let mut command = host.margay(words);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut command = quiet.stdin(Stdio::null()).spawn().unwrap();
    until("its end is under way", SEEN_MAX, || {
        let ending = host.instances()?.iter().any(|it| it.state == "removing");
        Ok(ending.then_some(()))
    })
    .unwrap();
    host.kill_daemon_at(pid).unwrap();
    command.wait().unwrap();
    host.start_daemon().unwrap();
}

#[test]
fn end_that_a_crash_interrupts_is_finished() {
    let host = host_with(STUBBORN);
    until_ready(&host, &["1.stubborn"]);

    kill_during(&host, &["delete", "faults"]);

    until("nothing is left", SEEN_MAX, || {
        Ok(host.instances()?.is_empty().then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}\n{}", host.instances(), host.log_tail()));
    assert_eq!(shell(&host, "pgrep -fc '^sleep 65432' || true").trim(), "0");
}

#[test]
fn host_that_crashes_on_its_way_down_comes_up_whole() {
    let host = host_with(STUBBORN);
    until_ready(&host, &["1.stubborn"]);
    let before = instance(&host, "1.stubborn").pid;

    kill_during(&host, &["down"]);

    until("the stubborn one runs anew", SEEN_MAX, || {
        let again = instance(&host, "1.stubborn");
        Ok((again.ready && again.pid.is_some() && again.pid != before).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}\n{}", host.instances(), host.log_tail()));
    until_ready(&host, &["1.echo", "1.caller"]);
    drop(Talk::connected(&host, "1.caller"));
}

#[test]
fn host_whose_keeper_was_killed_makes_its_instances_anew() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon().unwrap();
    host.apply(&turn(0)).unwrap();
    until_ready(&host, &["1.echo", "1.caller", "1.worker", "8.worker"]);
    let keeper = shell(&host, "pgrep -x margay-keeper | head -1");
    host.kill(keeper.trim().parse().unwrap()).unwrap();
    until("the daemon gives up", SEEN_MAX, || {
        Ok(host.status().is_err().then_some(()))
    })
    .unwrap();
    host.wait_for_daemon().unwrap();
    println!("{}", host.log_tail());

    host.start_daemon().unwrap();

    until_ready(&host, &["1.echo", "1.caller", "1.worker", "8.worker"]);
    drop(Talk::connected(&host, "1.caller"));
    let servers = shell(&host, "pgrep -fc '^/usr/bin/python3 /media/echo.py'");
    assert_eq!(servers.trim(), "1", "one of the old ones lives on");
    let told = std::fs::read_to_string(host.log()).unwrap();
    let said = told
        .lines()
        .find(|line| line.contains("the keeper was lost"));
    let said = said.expect("what was lost is told");
    for name in ["1.echo", "1.caller", "8.worker"] {
        assert!(said.contains(name), "{name} in: {said}");
    }
}

#[test]
fn host_whose_journal_was_lost_ends_what_it_does_not_know() {
    let host = host_with("");
    let until_instances_have = |devices: usize| {
        let count = "ip -o link | grep -c ': mg[0-9a-f]*@' || true";
        let whole = (devices + SPARES).to_string();
        let counted = || Ok((shell(&host, count).trim() == whole).then_some(()));
        until("the devices are those of instances", SEEN_MAX, counted).unwrap();
    };
    until_instances_have(2);

    host.kill_daemon().unwrap();
    let journal = state_directory().join("margay.redb");
    shell(&host, &format!("rm {}", journal.display()));
    host.start_daemon().unwrap();

    until_instances_have(0);
    populate(&host, "");
    drop(Talk::connected(&host, "1.caller"));
    until_instances_have(2);
}

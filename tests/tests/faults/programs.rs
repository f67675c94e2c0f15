//! Instances whose programs misbehave.

use crate::world::{
    SEEN_MAX, Talk, composition, host_with, instance, margay, shell, text, until_ready,
};
use margay_tests::lab::{Instance, state_directory, until};

#[test]
fn missing_program_is_told_and_leaves_the_others_alone() {
    let host = host_with("[automaton.absent]\ncommand = [\"/nowhere/program\"]");
    let absent = until("the problem is told", SEEN_MAX, || {
        Ok(Some(instance(&host, "1.absent")).filter(|it| it.problem.is_some()))
    });
    let absent = absent.unwrap();
    let problem = absent.problem.unwrap_or_default();
    assert!(!absent.ready);
    assert!(problem.contains("/nowhere/program"), "{problem}");
    let table = text(&margay(&host, &["ps"]));
    assert!(table.contains("/nowhere/program"), "{table}");
    drop(Talk::connected(&host, "1.caller"));
    assert_eq!(instance(&host, "1.echo").restarts, 0);
}

/// An automaton whose probe knows by which version it was made.
fn aged(version: u32) -> String {
    format!(
        "[automaton.aged]\ncommand = [\"sleep\", \"infinity\"]\nenv = {{ AGE = \"{version}\" }}\n\
         ready = {{ command = [\"sh\", \"-c\", 'test \"$AGE\" = {version}'], every_ms = 100 }}"
    )
}

#[test]
fn command_probe_asks_the_new_instance_and_not_the_one_that_it_replaces() {
    let host = host_with(&aged(1));
    until_ready(&host, &["1.aged"]);
    let old = instance(&host, "1.aged");

    let newer = composition(&aged(2)).replace("version = 1", "version = 2");
    host.apply(&newer).unwrap();

    let replaced = until("the new one takes its place", SEEN_MAX, || {
        let new = |it: &Instance| it.name == "1.aged" && it.called_v4 != old.called_v4 && it.ready;
        Ok(host.instances()?.iter().any(new).then_some(()))
    });
    replaced.unwrap_or_else(|error| panic!("{error}: {:#?}", host.instances()));
}

/// A program that is alive until somebody says that it hangs.
const HANGING: &str = r#"
[automaton.hanging]
command = ["sh", "-c", "echo up; exec sleep infinity"]
alive = { command = ["test", "!", "-e", "/run/hung"], every_ms = 100, failures = 2 }
"#;

#[test]
fn program_that_hangs_is_killed_and_started_again_and_ps_says_why() {
    let host = host_with(HANGING);
    until_ready(&host, &["1.hanging"]);
    let probed = || Ok((instance(&host, "1.hanging").restarts > 0).then_some(()));
    // It hangs only once a probe has found it alive.
    until("it is killed", SEEN_MAX, || {
        if probed()?.is_none() {
            host.run("1.hanging", &["touch", "/run/hung"]).ok();
        }
        probed()
    })
    .unwrap();
    until_ready(&host, &["1.hanging"]);
    let told = text(&margay(&host, &["ps"]));
    assert!(told.contains("not alive (`test ! -e /run/hung`"), "{told}");
    assert_eq!(instance(&host, "1.echo").restarts, 0);
}

/// Three generations of processes that leave their parents and sessions, none of which ends when
/// it is asked to.
const STUBBORN: &str = r#"
[automaton.stubborn]
command = ["sh", "-c", '''
trap "" TERM HUP
for _ in 1 2 3 4 5 6 7 8; do
    setsid sh -c 'for _ in 1 2 3 4 5 6 7 8; do setsid sleep 54321 & done' &
done
wait
while :; do sleep 54321; done
''']
"#;

#[test]
fn program_that_forks_and_ignores_sigterm_ends_with_all_its_processes() {
    let host = host_with(STUBBORN);
    let count = "for it in /proc/[0-9]*/cmdline; do
        tr '\\0' ' ' 2>/dev/null <\"$it\" | grep -c '^sleep 54321' || true
    done | awk '{ all += $1 } END { print all }'";
    let sleepers = || shell(&host, count).trim().parse::<u32>().unwrap();
    until("it has forked", SEEN_MAX, || {
        Ok((sleepers() == 65).then_some(()))
    })
    .unwrap();

    let deleted = margay(&host, &["delete", "faults"]);

    assert!(deleted.status.success(), "{}", text(&deleted));
    let gone = until("every process has ended", SEEN_MAX, || {
        Ok((host.instances()?.is_empty() && sleepers() == 0).then_some(()))
    });
    assert!(
        gone.is_ok(),
        "{} sleepers, {:?}\n{}",
        sleepers(),
        host.instances(),
        host.log_tail()
    );
}

/// 64 MiB of log, then the end.
const CHATTER: &str = r#"
[automaton.chatter]
command = ["sh", "-c", "yes 'a line of no use' | head -c 67108864; echo; echo 'the end'; exec sleep infinity"]
"#;

/// Twice what a log file may hold, and the last move of each.
const LOG_BYTES_MAX: u64 = 2 * (1 << 20) + 2 * (256 << 10);

#[test]
fn program_that_fills_its_log_leaves_the_host_its_disk() {
    let host = host_with(CHATTER);
    until("it has said everything", SEEN_MAX, || {
        let last = margay(&host, &["logs", "1.chatter", "-n", "1"]);
        Ok((text(&last).trim_end() == "the end").then_some(()))
    })
    .unwrap();
    let sizes = format!(
        "find {} -name 'log*' -printf '%s\\n' | awk '{{ all += $1 }} END {{ print all }}'",
        state_directory().display()
    );
    let bytes: u64 = shell(&host, &sizes).trim().parse().unwrap();
    assert!(
        bytes > 0 && bytes < LOG_BYTES_MAX,
        "logs hold {bytes} bytes"
    );
    drop(Talk::connected(&host, "1.caller"));
}

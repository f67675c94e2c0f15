//! Instances live: they start, speak, end, are started again, are stopped and forgotten.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod common;

use common::{Lab, Log, event, exited, stopped, until};
use margay_keeper::{Event, InstanceState, KeeperError};
use std::path::Path;

#[test]
fn a_program_says_what_it_says_into_its_log() {
    let lab = Lab::new();

    let said = lab.run("echo out; echo err >&2; echo again > /dev/stdout; cat");

    assert_eq!(said, "out\nerr\nagain\n");
}

#[test]
fn a_program_has_a_standard_environment() {
    let lab = Lab::new();

    let said = lab.run("echo $COLOUR $HOME $STATE_DIRECTORY; pwd; hostname; touch $HOME/kept");

    assert_eq!(said, "green /run/state /run/state\n/run/state\n1.test\n");
    assert!(lab.directory.path().join("state-1/kept").exists());
}

#[test]
fn a_program_that_ends_is_started_again_after_a_growing_wait() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();

    let (first_init, mut log) = lab.start(&lab.spec(1, &["sh", "-c", "echo run; exit 3"]));

    assert_eq!(
        exited(&mut events),
        ("exited with code 3".into(), Some(100))
    );
    let second_init = event(&mut events, |event| match event {
        Event::Started { init_pid, .. } => Some(*init_pid),
        _ => None,
    });
    assert_ne!(first_init, second_init);
    assert_eq!(
        exited(&mut events),
        ("exited with code 3".into(), Some(200))
    );
    log.read_until("run\nrun\nrun\n");
    assert!(lab.client.list().unwrap()[0].restarts >= 2);
}

#[test]
fn a_program_that_is_killed_on_request_is_started_again() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    let hung = [
        "sh",
        "-c",
        "trap '' TERM; echo run; while :; do sleep 1000; done",
    ];
    let (_, mut log) = lab.start(&lab.spec(1, &hung));
    log.read_until("run\n");

    lab.client.kill(lab.instance(1)).unwrap();

    let (_, restart_after_ms) = exited(&mut events);
    assert_eq!(restart_after_ms, Some(100));
    log.read_until("run\nrun\n");
    let unknown = lab.client.kill(lab.instance(9));
    assert!(matches!(unknown, Err(KeeperError::Refused { .. })));
}

#[test]
fn a_program_that_shall_not_restart_stays_stopped() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();

    let (_, mut log) = lab.start(&lab.script(1, "kill -SEGV $$"));

    assert_eq!(exited(&mut events), ("killed by SIGSEGV".into(), None));
    let status = lab.client.list().unwrap().remove(0);
    assert_eq!(
        (status.state, status.init_pid),
        (InstanceState::Stopped, None)
    );
    assert_eq!(log.read_to_end(), "");
}

#[test]
fn a_program_that_does_not_exist_is_reported_and_tried_again() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();

    lab.start(&lab.spec(1, &["no-such-program"]));

    let (status, again) = exited(&mut events);
    assert!(
        status.starts_with(
            "cannot run `no-such-program`: No such file or directory; check `command`"
        ),
        "{status}"
    );
    assert_eq!(again, Some(100));
    assert_eq!(exited(&mut events).1, Some(200));
}

#[test]
fn a_file_that_is_not_executable_is_reported() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();

    lab.start(&lab.spec(1, &["/etc/passwd"]));

    let (status, _) = exited(&mut events);
    assert!(
        status.starts_with("cannot run `/etc/passwd`: Permission denied"),
        "{status}"
    );
}

#[test]
fn an_instance_that_cannot_be_confined_says_why() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    let mut spec = lab.spec(1, &["true"]);
    spec.etc_dir = "/no/such/etc".into();

    lab.start(&spec);

    let (status, again) = exited(&mut events);
    assert_eq!(
        status,
        "cannot confine `1.test`: cannot enter /no/such/etc: No such file or directory"
    );
    assert_eq!(again, Some(100));
}

#[test]
fn a_user_that_is_root_or_unknown_is_refused() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    for (number, user, complaint) in [
        (1, "root", "user 0 owns the host's files"),
        (2, "nemo", "no user `nemo`"),
    ] {
        let mut spec = lab.script(number, "true");
        spec.user = Some(user.into());

        lab.start(&spec);

        let (status, _) = exited(&mut events);
        assert!(status.contains(complaint), "{status}");
    }
}

#[test]
fn stopping_asks_first() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    let (_, mut log) = lab.start(&lab.spec(
        1,
        &[
            "sh",
            "-c",
            "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.01; done",
        ],
    ));
    log.read_until("up");

    lab.client.stop(lab.instance(1), 60_000).unwrap();

    stopped(&mut events, lab.instance(1));
    assert_eq!(log.read_to_end(), "up\nbye\n");
    assert_eq!(lab.client.list().unwrap()[0].state, InstanceState::Stopped);
}

#[test]
fn stopping_kills_all_of_an_instance_that_forks_and_ignores_sigterm() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    let fork_many = "trap '' TERM; for i in 1 2 3 4 5 6 7 8; do (setsid sleep infinity &); done; \
                     while [ $(pgrep -c -x sleep) -lt 8 ]; do :; done; echo up; \
                     while :; do sleep infinity; done";
    let (_, mut log) = lab.start(&lab.spec(1, &["sh", "-c", fork_many]));
    log.read_until("up");
    assert!(lab.members(1).len() >= 10);

    lab.client.stop(lab.instance(1), 50).unwrap();

    stopped(&mut events, lab.instance(1));
    assert_eq!(lab.members(1), Vec::<String>::new());
}

#[test]
fn stopping_ends_the_wait_for_a_restart() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    lab.start(&lab.spec(1, &["false"]));
    exited(&mut events);

    lab.client.stop(lab.instance(1), 60_000).unwrap();

    stopped(&mut events, lab.instance(1));
}

#[test]
fn orphans_are_reaped() {
    let lab = Lab::new();

    let said = lab.run(
        "sh -c 'true & echo $! > /tmp/orphan'; orphan=$(cat /tmp/orphan); \
         while [ -e /proc/$orphan ]; do :; done; echo reaped",
    );

    assert_eq!(said, "reaped\n");
}

#[test]
fn a_removed_instance_leaves_nothing() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    let spec = lab.spec(1, &["sleep", "infinity"]);
    lab.start(&spec);
    assert_eq!(lab.client.held().unwrap().len(), 2);

    lab.client.remove(lab.instance(1)).unwrap();

    stopped(&mut events, lab.instance(1));
    assert!(lab.client.list().unwrap().is_empty());
    assert!(lab.client.held().unwrap().is_empty());
    until("its cgroup to go", || (!spec.cgroup.exists()).then_some(()));
}

#[test]
fn a_stopped_instance_can_be_started_again() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    let spec = lab.spec(1, &["sh", "-c", "echo up; sleep infinity"]);
    let (_, mut log) = lab.start(&spec);
    log.read_until("up");
    assert!(matches!(
        lab.client.start(&spec),
        Err(KeeperError::Refused { .. })
    ));
    lab.client.stop(lab.instance(1), 0).unwrap();
    stopped(&mut events, lab.instance(1));

    let (_, mut log) = lab.start(&spec);

    log.read_until("up");
    let again = lab.client.log(lab.instance(1)).unwrap().unwrap();
    drop(Log::new(again));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let lab = Lab::new();
    let good = lab.spec(1, &["true"]);
    let mut named = good.clone();
    named.name = "../evil".into();
    let mut relative = good.clone();
    relative.state_dir = "state".into();
    let mut empty = good.clone();
    empty.command.clear();

    for (spec, complaint) in [
        (good, "create_namespace first"),
        (named, "needs a `name`"),
        (relative, "must be an absolute path"),
        (empty, "needs a `command`"),
    ] {
        let error = lab.client.start(&spec).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
    assert!(lab.client.stop(lab.instance(9), 0).is_err());
    assert!(lab.client.remove(lab.instance(9)).is_ok());
}

#[test]
fn instances_do_not_outlive_a_killed_keeper() {
    let mut lab = Lab::new();
    let (init, mut log) = lab.start(&lab.spec(1, &["sh", "-c", "echo up; sleep infinity"]));
    log.read_until("up");

    lab.keeper.kill().unwrap();

    until("the instance to end", || {
        (!Path::new(&format!("/proc/{init}")).exists()).then_some(())
    });
    assert_eq!(lab.members(1), Vec::<String>::new());
}

#[test]
fn a_full_log_holds_its_program_up_and_loses_nothing() {
    let lab = Lab::new();
    let lines = 400_000;
    let (_, mut log) = lab.start(&lab.script(1, &format!("seq {lines}; echo done")));
    until("the pipe to fill", || {
        let unread = lab.client.log(lab.instance(1)).unwrap().unwrap();
        let mut bytes = 0;
        // SAFETY: FIONREAD stores one int, which outlives the call.
        unsafe {
            nix::libc::ioctl(
                std::os::fd::AsRawFd::as_raw_fd(&unread),
                nix::libc::FIONREAD,
                &raw mut bytes,
            )
        };
        (bytes >= 1 << 20).then_some(())
    });

    let said = log.read_to_end();

    assert_eq!(said.lines().count(), lines + 1);
    assert!(said.ends_with("400000\ndone\n"));
}

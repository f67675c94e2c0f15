//! An upgrade replaces the keeper's program and nothing else.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod common;

use common::{KEEPER, Lab, event, exited};
use margay_keeper::{Event, InstanceState, KeeperError};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

#[test]
fn an_upgrade_keeps_instances_descriptors_connections_and_backoff() {
    let lab = Lab::new();
    let before = lab.client.hello().unwrap();
    let mut events = lab.client.subscribe().unwrap();
    lab.client
        .hold("tap", &[File::open("/dev/null").unwrap().as_fd()])
        .unwrap();
    let ticking = lab.spec(
        1,
        &[
            "sh",
            "-c",
            "echo up; trap 'echo told; exit 7' USR1; while :; do sleep 0.01; done",
        ],
    );
    let (init, mut log) = lab.start(&ticking);
    log.read_until("up");
    lab.start(&lab.spec(2, &["false"]));
    assert_eq!(exited(&mut events).1, Some(100));

    lab.client.upgrade(Path::new(KEEPER)).unwrap();

    let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", before.pid)).unwrap();
    assert!(arguments.contains("--resume"), "{arguments}");
    assert_eq!(lab.client.hello().unwrap(), before);
    assert!(lab.client.fetch("tap").unwrap().is_some());
    let list = lab.client.list().unwrap();
    assert_eq!(
        (list[0].init_pid, list[0].state),
        (Some(init), InstanceState::Running)
    );
    // The backoff of the failing instance goes on where it was.
    assert_eq!(exited(&mut events).1, Some(200));
    // The keeper is still the parent: it hears of this end, and the log goes on.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(init),
        nix::sys::signal::Signal::SIGUSR1,
    )
    .unwrap();
    let status = event(&mut events, |event| match event {
        Event::Exited {
            instance, status, ..
        } if *instance == ticking.instance => Some(status.clone()),
        _ => None,
    });
    assert_eq!(status, "exited with code 7");
    log.read_until("up\ntold\nup\n");
}

/// Upgrades to `successor`, a script that ends the instance on its way, while no keeper runs; how
/// the instance ended.
fn upgrade_through(successor: impl Fn(i32) -> String) -> (String, Option<u64>) {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    let (init, mut log) = lab.start(&lab.script(1, "echo up; exec sleep infinity"));
    log.read_until("up");
    let path = lab.directory.path().join("successor");
    std::fs::write(&path, successor(init)).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, executable).unwrap();

    lab.client.upgrade(&path).unwrap();

    exited(&mut events)
}

#[test]
fn an_end_during_an_upgrade_is_not_lost() {
    let exit = upgrade_through(|init| {
        format!(
            "#!/usr/bin/python3\nimport os, sys\nif sys.argv[1] == '--resume':\n    \
             os.kill({init}, 15)\n    \
             while 'State:\\tZ' not in open('/proc/{init}/status').read(): pass\n\
             os.execv('{KEEPER}', sys.argv)\n"
        )
    });

    assert_eq!(exit, ("killed by SIGTERM".into(), None));
}

#[test]
fn an_end_that_another_has_reaped_is_not_lost() {
    let exit = upgrade_through(|init| {
        format!(
            "#!/usr/bin/python3\nimport os, sys\nif sys.argv[1] == '--resume':\n    \
             os.kill({init}, 15)\n    os.waitpid({init}, 0)\n\
             os.execv('{KEEPER}', sys.argv)\n"
        )
    });

    assert_eq!(exit, ("killed by SIGTERM".into(), None));
}

#[test]
fn a_binary_that_is_no_keeper_is_no_successor() {
    let lab = Lab::new();
    let (_, mut log) = lab.start(&lab.spec(1, &["sh", "-c", "echo up; exec sleep infinity"]));
    log.read_until("up");

    for binary in ["/bin/true", "/bin/false", "/etc/passwd", "/no/such/binary"] {
        let refused = lab.client.upgrade(Path::new(binary));
        assert!(
            matches!(refused, Err(KeeperError::Refused { .. })),
            "{binary}: {refused:?}"
        );
    }

    assert_eq!(lab.client.list().unwrap()[0].state, InstanceState::Running);
}

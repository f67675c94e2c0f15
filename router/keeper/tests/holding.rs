//! What is held outlives clients; nothing that a client does ends the keeper.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod common;

use common::{DEADLINE, KEEPER, Lab, event, exited, stopped, until};
use margay_keeper::{Event, KeeperClient, KeeperError, KeeperLaunch};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send,
    sendmsg, socket,
};
use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A connection that speaks whatever the test likes.
fn raw(lab: &Lab) -> OwnedFd {
    let socket = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    connect(socket.as_raw_fd(), &UnixAddr::new(&lab.socket()).unwrap()).unwrap();
    socket
}

fn open_descriptors(lab: &Lab) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", lab.keeper.id()))
        .unwrap()
        .count()
}

#[test]
fn held_descriptors_survive_the_death_of_their_client() {
    let lab = Lab::new();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"still here").unwrap();
    let first = KeeperClient::connect(&lab.socket()).unwrap();
    first.hold("tap", &[file.as_fd(), file.as_fd()]).unwrap();
    drop((first, file));

    let second = KeeperClient::connect(&lab.socket()).unwrap();
    let mut held = second.fetch("tap").unwrap().unwrap();

    assert_eq!(held.len(), 2);
    let mut file = File::from(held.remove(0));
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    assert_eq!(second.held().unwrap(), ["tap"]);
    second.release("tap").unwrap();
    assert!(second.fetch("tap").unwrap().is_none());
}

#[test]
fn a_namespace_is_made_once() {
    let lab = Lab::new();
    let identity = |fd: OwnedFd| nix::sys::stat::fstat(fd).unwrap().st_ino;

    let first = identity(lab.client.create_namespace(lab.instance(1)).unwrap());
    let again = identity(lab.client.create_namespace(lab.instance(1)).unwrap());
    let other = identity(lab.client.create_namespace(lab.instance(2)).unwrap());

    assert_eq!(first, again);
    assert_ne!(first, other);
    let own = std::fs::metadata("/proc/self/ns/net").unwrap();
    assert_ne!(first, std::os::unix::fs::MetadataExt::ino(&own));
    let name = format!("netns/{}", lab.instance(1));
    assert!(lab.client.fetch(&name).unwrap().is_some());
}

#[test]
fn a_second_keeper_on_one_socket_is_refused() {
    let lab = Lab::new();
    let second = || {
        let mut keeper = Command::new(KEEPER)
            .arg("--socket")
            .arg(lab.socket())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(keeper.stderr.take().unwrap());
        // Not to its end: one that is not refused would serve for ever.
        let mut said = String::new();
        stderr.read_line(&mut said).unwrap();
        keeper.kill().unwrap();
        keeper.wait().unwrap();
        said
    };

    let refusal = format!("another keeper (process {}) serves", lab.keeper.id());
    let said = second();
    assert!(said.contains(&refusal), "{said}");
    lab.client.upgrade(Path::new(KEEPER)).unwrap();
    let said = second();
    assert!(
        said.contains(&refusal),
        "an upgrade must not let go of the lock: {said}"
    );
    assert!(lab.client.hello().is_ok());
}

#[test]
fn a_keeper_is_started_if_there_is_none_and_outlives_its_starter() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keeper.sock");
    // What a keeper that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let launch = KeeperLaunch {
        binary: KEEPER.into(),
        state_dir: directory.path().join("state"),
    };

    let client = KeeperClient::connect_or_start(&socket, &launch).unwrap();
    let pid = client.hello().unwrap().pid;
    let again = KeeperClient::connect_or_start(&socket, &launch).unwrap();

    assert_eq!(again.hello().unwrap().pid, pid);
    let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.cast_signed()))).unwrap();
    assert_eq!(session.as_raw(), pid.cast_signed());
    drop(again);
    client.shutdown().unwrap();
    until("the keeper to go", || {
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    assert!(!socket.exists());
    let log = std::fs::read_to_string(directory.path().join("state/keeper.log")).unwrap();
    assert!(log.contains("shut down"), "{log}");
}

#[test]
fn a_keeper_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let launch = KeeperLaunch {
        binary: KEEPER.into(),
        state_dir: directory.path().into(),
    };
    std::fs::write(directory.path().join("file"), "precious").unwrap();

    let error = KeeperClient::connect_or_start(&directory.path().join("file"), &launch);

    let error = error.unwrap_err().to_string();
    assert!(error.contains("is no socket; move it away"), "{error}");
    let missing = KeeperLaunch {
        binary: "/no/such/keeper".into(),
        ..launch
    };
    let error = KeeperClient::connect_or_start(&directory.path().join("socket"), &missing);
    assert!(matches!(error, Err(KeeperError::NotStarted { .. })));
}

#[test]
fn shutting_down_ends_all_instances() {
    let mut lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();
    for number in 1..=3 {
        let (_, mut log) =
            lab.start(&lab.spec(number, &["sh", "-c", "echo up; exec sleep infinity"]));
        log.read_until("up");
    }

    lab.client.shutdown().unwrap();

    for number in 1..=3 {
        event(&mut events, |event| {
            matches!(event, Event::Stopped { .. }).then_some(())
        });
        assert!(lab.members(number).is_empty());
    }
    assert!(lab.keeper.wait().unwrap().success());
    assert!(matches!(lab.client.hello(), Err(KeeperError::Gone)));
}

#[test]
fn a_terminated_keeper_ends_its_instances_first() {
    let mut lab = Lab::new();
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

    let keeper = nix::unistd::Pid::from_raw(lab.keeper.id().cast_signed());
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGTERM).unwrap();

    stopped(&mut events, lab.instance(1));
    assert_eq!(log.read_to_end(), "up\nbye\n");
    assert!(lab.keeper.wait().unwrap().success());
}

#[test]
fn garbage_does_not_disturb_it() {
    let lab = Lab::new();
    let socket = raw(&lab);
    lab.client.hello().unwrap();
    // An answer says that the keeper has taken this connection too.
    send(socket.as_raw_fd(), b"{\"hello\":{}}", MsgFlags::empty()).unwrap();
    assert!(recv(socket.as_raw_fd(), &mut [0; 4096], MsgFlags::empty()).unwrap() > 0);
    let before = open_descriptors(&lab);
    let file = File::open("/dev/null").unwrap();
    let many = vec![file.as_raw_fd(); 200];
    let long = vec![b'['; 150_000];
    for garbage in [
        &b"garbage"[..],
        b"{}",
        b"\"dance\"",
        b"{\"start\":{}}",
        b"\xff\0",
        &long,
    ] {
        for descriptors in [&many[..0], &many[..3], &many[..]] {
            let rights = [ControlMessage::ScmRights(descriptors)];
            let control = if descriptors.is_empty() {
                &rights[..0]
            } else {
                &rights[..]
            };
            let data = [IoSlice::new(garbage)];
            sendmsg::<UnixAddr>(socket.as_raw_fd(), &data, control, MsgFlags::empty(), None)
                .unwrap();
            let mut answer = [0; 4096];
            let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]);
            assert!(answer.starts_with("{\"refused\":"), "{answer}");
        }
    }
    assert_eq!(open_descriptors(&lab), before, "descriptors leaked");

    // An empty packet ends its connection, and no other.
    send(socket.as_raw_fd(), b"", MsgFlags::empty()).unwrap();
    assert_eq!(
        recv(socket.as_raw_fd(), &mut [0; 16], MsgFlags::empty()),
        Ok(0)
    );
    assert!(lab.client.hello().is_ok());
}

#[test]
fn a_client_that_takes_no_answers_is_dropped() {
    let lab = Lab::new();
    let socket = raw(&lab);

    until("it to be dropped", || {
        let sent = send(
            socket.as_raw_fd(),
            b"{\"hello\":{}}",
            MsgFlags::MSG_NOSIGNAL,
        );
        (sent == Err(nix::errno::Errno::EPIPE)).then_some(())
    });

    assert!(lab.client.hello().is_ok());
}

#[test]
fn clients_are_bounded() {
    let lab = Lab::new();

    // One is the lab's own.
    let clients: Vec<_> = (1..64)
        .map(|_| KeeperClient::connect(&lab.socket()).unwrap())
        .collect();
    for client in &clients {
        client.hello().unwrap();
    }

    let error = KeeperClient::connect(&lab.socket())
        .unwrap()
        .hello()
        .unwrap_err();
    assert!(
        matches!(error, KeeperError::Refused { .. } | KeeperError::Gone),
        "{error}"
    );
    drop(clients);
    until("room", || {
        KeeperClient::connect(&lab.socket()).unwrap().hello().ok()
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_told_and_dropped() {
    let lab = Lab::new();
    let mut lazy = lab.client.subscribe().unwrap();
    let mut busy = lab.client.subscribe().unwrap();
    lab.start(&lab.spec(1, &["false"]));
    exited(&mut busy);
    lab.client.stop(lab.instance(1), 0).unwrap();
    // Each stop of a stopped instance is told again.
    for _ in 0..1000 {
        stopped(&mut busy, lab.instance(1));
        lab.client.stop(lab.instance(1), 0).unwrap();
    }

    let mut count = 0;
    let dropped = loop {
        match lazy.recv(Some(DEADLINE)) {
            Ok(event) => count += usize::from(event.is_some()),
            Err(error) => break error,
        }
    };

    assert!(matches!(&dropped, KeeperError::Dropped { reason } if reason.contains("too_slow")));
    assert!((50..1000).contains(&count), "{count} events");
    assert!(lab.client.hello().is_ok());
}

#[test]
fn strangers_are_refused() {
    let lab = Lab::new();
    // Even if somebody opens the path to everyone.
    for path in [lab.directory.path(), &lab.socket()] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let ask = "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); \
               s.connect(sys.argv[1]); s.settimeout(30); print(s.recv(1000).decode())";

    let stranger = Command::new("setpriv")
        .args([
            "--reuid",
            "65534",
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            ask,
        ])
        .arg(lab.socket())
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&stranger.stdout);
    assert!(
        said.contains("only root and the keeper's own user"),
        "{stranger:?}"
    );
}

#[test]
fn waiting_for_events_ends_in_time() {
    let lab = Lab::new();
    let mut events = lab.client.subscribe().unwrap();

    assert_eq!(events.recv(Some(Duration::from_millis(20))).unwrap(), None);
}

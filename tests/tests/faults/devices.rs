//! A device that is deleted behind the daemon's back.

use crate::world::{SEEN_MAX, Talk, host_with, instance, said, shell, until_ready};
use margay_tests::lab::{Host, Instance, until};

const OTHER: &str = r#"
[automaton.victim]
command = ["/usr/bin/python3", "/media/echo.py", "7777"]
ports = { echo = { port = 7777, protocol = "tcp" } }
needs = ["echo"]
ready = { tcp = true, port = "echo", every_ms = 200 }

[automaton.friend]
command = ["sleep", "infinity"]
needs = ["victim"]
"#;

/// The host's end of an instance's link.
fn device(host: &Host, instance: &Instance) -> String {
    let netns = format!("--net=/proc/{}/ns/net", instance.pid.unwrap());
    let link = said(
        host,
        &["nsenter", &netns, "ip", "-o", "link", "show", "eth0"],
    );
    let index = link.split("@if").nth(1).unwrap();
    let index = index.split(':').next().unwrap();
    let name = format!("ip -o link | awk -F'[:@ ]+' '$1 == {index} {{ print $2 }}'");
    shell(host, &name).trim().to_owned()
}

#[test]
fn device_deleted_behind_our_back_is_made_again_and_others_notice_nothing() {
    let host = host_with(OTHER);
    the_victim_comes_back(&host, |host, device| {
        said(host, &["ip", "link", "delete", device]);
    });
}

#[test]
fn device_deleted_while_there_is_no_daemon_is_made_again() {
    let host = host_with(OTHER);
    the_victim_comes_back(&host, |host, device| {
        host.kill_daemon().unwrap();
        said(host, &["ip", "link", "delete", device]);
        host.start_daemon().unwrap();
    });
}

/// Deletes the victim's device, and shows that all is as before.
fn the_victim_comes_back(host: &Host, delete: impl FnOnce(&Host, &str)) {
    until_ready(host, &["1.victim", "1.friend"]);
    let mut client = Talk::connected(host, "1.caller");
    let (echo, victim) = (instance(host, "1.echo"), instance(host, "1.victim"));
    let deleted = device(host, &victim);
    assert!(deleted.starts_with("mg"), "{deleted}");

    delete(host, &deleted);

    let again = until("the victim is whole again", SEEN_MAX, || {
        let again = instance(host, "1.victim");
        Ok(Some(again).filter(|it| it.ready && it.pid != victim.pid))
    });
    let again = again
        .unwrap_or_else(|error| panic!("{error}: {:#?}\n{}", host.instances(), host.log_tail()));
    assert_eq!(again.called_v4, victim.called_v4);
    assert_eq!(again.called_v6, victim.called_v6);
    assert_eq!(again.caller_v4, victim.caller_v4);
    let mut friend = Talk::client(host, "1.friend");
    let opened = friend.ask("open victim.matrix 7777");
    assert!(!opened.starts_with("failed"), "to it: {opened}");
    friend.echoes("hello");
    drop(Talk::connected(host, "1.victim"));
    client.echoes("untouched");
    let after = instance(host, "1.echo");
    assert_eq!((after.pid, after.restarts), (echo.pid, 0));
}

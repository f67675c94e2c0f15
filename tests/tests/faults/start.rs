//! Starts that must not succeed, and say why.

use crate::world::{Talk, host_with, margay, said, shell, text};
use margay_tests::lab::{Host, run_directory, state_directory};

/// Hides what a host may lack; `$1` is where cgroup2 is mounted.
const HIDE: &str = r#"
mount -t tmpfs none /sys/kernel/btf
mount -t tmpfs none /dev/net
umount "$1"
"#;

/// Brings it back.
const SHOW: &str = r#"
umount /sys/kernel/btf
umount /dev/net
mount -t cgroup2 cgroup2 "$1"
"#;

#[test]
fn host_that_lacks_something_is_told_all_of_it_at_once() {
    let host = Host::without_daemon().unwrap();
    let cgroups = shell(&host, "awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts");
    said(&host, &["sh", "-euc", HIDE, "sh", cgroups.trim()]);

    assert!(host.start_daemon().is_err());
    let error = host.log_tail();

    for lacking in [
        "BTF is missing",
        "/sys/kernel/btf/vmlinux",
        "TUN is missing",
        "/dev/net/tun",
        "cgroup2 is missing",
    ] {
        assert!(error.contains(lacking), "not told: {lacking}; but: {error}");
    }
    assert!(error.contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
    let left = shell(&host, "find /media/state /media/run -mindepth 1");
    assert_eq!(left, "", "a start that failed left something behind");
    said(&host, &["sh", "-euc", SHOW, "sh", cgroups.trim()]);
    host.start_daemon().unwrap();
}

#[test]
fn second_daemon_on_a_state_directory_is_refused_and_the_first_goes_on() {
    let host = host_with("");
    let mut client = Talk::connected(&host, "1.caller");
    let state = state_directory().display().to_string();

    let second = margay(&host, &["up", "--state", &state]);

    assert_eq!(second.status.code(), Some(1), "{}", text(&second));
    let told = text(&second);
    assert!(
        told.contains(&format!("another daemon uses {state}")),
        "{told}"
    );
    assert!(told.contains("--state"), "what to do: {told}");
    client.echoes("again");
    assert!(host.status().is_ok());
    let sockets = shell(&host, &format!("ls {}", run_directory().display()));
    assert!(sockets.contains("control.sock"), "{sockets}");
}

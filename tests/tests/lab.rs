//! The lab itself: a host of namespaces that leaves nothing behind. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use margay_tests::lab::programs::{Libc, compile, compile_go};
use margay_tests::lab::{Host, PLACE, until};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

fn said(host: &Host, words: &[&str]) -> String {
    let output = host.command(words[0]).args(&words[1..]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn host_has_its_own_network_processes_and_files() {
    let host = Host::without_daemon().unwrap();
    let path = host.write("deep/note", "hello").unwrap();

    assert_eq!(said(&host, &["cat", path.to_str().unwrap()]), "hello");
    assert!(!path.exists(), "the host's files are seen outside");
    let links = said(&host, &["ip", "-o", "link"]);
    assert_eq!(links.lines().count(), 1, "only lo: {links}");
    assert!(links.contains("lo: <LOOPBACK,UP"), "{links}");
    let processes = said(&host, &["sh", "-c", "ls -d /proc/[0-9]*"]);
    assert!(processes.starts_with("/proc/1\n"), "{processes}");
    assert!(
        processes.lines().count() < 10,
        "a pid namespace: {processes}"
    );
}

#[test]
fn ended_host_leaves_no_process_and_no_cgroup() {
    let host = Host::without_daemon().unwrap();
    let script = r#"mkdir -p "$1/a/b"; echo $$ >"$1/a/b/cgroup.procs"; echo in; exec sleep 1000"#;
    let mount = cgroup2_mount();
    let mut command = host.command("sh");
    command
        .args(["-c", script, "sh", &mount])
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let cgroup = until(
        "the process is in its cgroup",
        Duration::from_secs(5),
        || {
            Ok(labs()
                .into_iter()
                .find(|it| fs::metadata(format!("{it}/a/b")).is_ok()))
        },
    );
    let cgroup = cgroup.unwrap();

    host.end();

    assert!(!child.wait().unwrap().success(), "the kernel killed it");
    assert!(fs::metadata(&cgroup).is_err(), "{cgroup} stays behind");
    host.end();
}

#[test]
fn clients_of_both_libcs_compile_and_run() {
    let host = Host::without_daemon().unwrap();
    for libc in Libc::ALL {
        let fetch = include_str!("../src/demo/fetch.c");
        let path = compile(&host, "fetch", fetch, libc).unwrap();
        let answer = said(&host, &[path.to_str().unwrap(), "127.0.0.9"]);
        assert_eq!(answer, "127.0.0.9\n");
    }
}

#[test]
fn go_compiles() {
    let host = Host::without_daemon().unwrap();
    let go = "package main\n\nfunc main() { print(\"go\") }\n";
    let path = compile_go(&host, "hello", go).unwrap();
    said(&host, &[path.to_str().unwrap()]);
}

/// nginx as an instance runs it: unprivileged, writing to a private /run and /tmp only.
#[test]
fn nginx_answers_with_the_address_it_was_called_by() {
    let host = Host::without_daemon().unwrap();
    host.write("nginx.conf", include_str!("../src/demo/nginx.conf"))
        .unwrap();
    let script = r#"
        mount -t tmpfs -o mode=1777 t /run; mount -t tmpfs -o mode=1777 t /tmp
        mount -o remount,bind,ro /
        echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
        exec setpriv --reuid 60001 --regid 60001 --clear-groups --no-new-privs --bounding-set -all \
            nginx -e stderr -c "$1""#;
    let mut command = host.command("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        &format!("{PLACE}/nginx.conf"),
    ]);
    let mut nginx = command.spawn().unwrap();
    for (url, body) in [
        ("http://127.0.0.7/", "127.0.0.7\n"),
        ("http://[::1]/", "::1\n"),
    ] {
        let answer = until("nginx answers", Duration::from_secs(10), || {
            let output = host.command("curl").args(["-s", url]).output()?;
            Ok(output.status.success().then_some(output.stdout))
        });
        assert_eq!(answer.unwrap(), body.as_bytes());
    }
    host.end();
    nginx.wait().unwrap();
}

fn cgroup2_mount() -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.contains(" cgroup2 "))
        .unwrap();
    line.split(' ').nth(1).unwrap().to_owned()
}

/// The cgroups of this process's lab hosts.
fn labs() -> Vec<String> {
    let prefix = format!("margay-lab-{}-", std::process::id());
    let entries = fs::read_dir(cgroup2_mount())
        .unwrap()
        .map(|it| it.unwrap().path());
    entries
        .map(|it| it.display().to_string())
        .filter(|it| it.contains(&prefix))
        .collect()
}

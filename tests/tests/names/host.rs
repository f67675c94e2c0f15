//! The host's own address for questions: its programs, and a DNS server that forwards to it.

use crate::world::{SEEN_MAX, furnish, instance, populate};
use margay_tests::lab::{Host, PLACE, until};
use std::process::{Child, Stdio};
use std::time::Duration;

const SHOP: &str = r#"
[composition]
name = "shop"
version = 1

[automaton.web]
command = ["sleep", "infinity"]
ports = { http = { port = 80, protocol = "tcp" } }

[automaton.secret]
command = ["sleep", "infinity"]

[host]
needs = ["web"]
"#;

const ADDR: &str = "127.53.53.53";

/// As docs/operator.md has it, on a port of its own.
const UNBOUND: &str = r#"
server:
    interface: 127.0.0.9
    do-daemonize: no
    use-syslog: no
    username: ""
    chroot: ""
    pidfile: ""
    do-not-query-localhost: no
    domain-insecure: "matrix."
    local-zone: "100.in-addr.arpa." nodefault
    local-zone: "64.100.in-addr.arpa." nodefault
stub-zone:
    name: "matrix."
    stub-addr: 127.53.53.53
stub-zone:
    name: "64.100.in-addr.arpa."
    stub-addr: 127.53.53.53
"#;

/// A program that is killed with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a server says to a program of the host.
fn asked(host: &Host, server: &str, name: &str, kind: &str) -> Vec<String> {
    let mut command = host.command("/usr/bin/python3");
    command.args([&format!("{PLACE}/dig.py"), name, kind, server]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn hosts_programs_and_a_site_server_learn_what_the_composition_lets_the_host_know() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    let resolver = format!("{ADDR}:53");
    host.start_daemon_with(&["--resolver", &resolver]).unwrap();
    populate(&host, SHOP);
    let web = instance(&host, "1.web");
    let expected = format!("answer web.matrix. A {}", web.called_v4);

    assert_eq!(
        asked(&host, ADDR, "web.matrix", "A"),
        ["NOERROR", &expected]
    );
    let port = asked(&host, ADDR, "_http._tcp.web.matrix", "SRV");
    assert_eq!(
        port[1],
        "answer _http._tcp.web.matrix. SRV 0 0 80 1.web.matrix."
    );
    assert_eq!(asked(&host, ADDR, "secret.matrix", "A")[0], "NXDOMAIN");
    assert_eq!(asked(&host, ADDR, "example.com", "A"), ["REFUSED"]);

    let conf = host.write("unbound.conf", UNBOUND).unwrap();
    let mut command = host.command("/usr/sbin/unbound");
    command
        .arg("-c")
        .arg(conf)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _unbound = Running(command.spawn().unwrap());
    let through = |name: &str, kind: &str| asked(&host, "127.0.0.9", name, kind);
    until("unbound answers", SEEN_MAX, || {
        Ok((!through("web.matrix", "A").is_empty()).then_some(()))
    })
    .unwrap();
    assert_eq!(through("web.matrix", "A"), ["NOERROR", &expected]);
    assert_eq!(through("secret.matrix", "A")[0], "NXDOMAIN");
    let [a, b, c, d] = web.called_v4.octets();
    let named = through(&format!("{d}.{c}.{b}.{a}.in-addr.arpa"), "PTR");
    assert!(named[1].ends_with("PTR 1.web.matrix."), "{named:?}");
}

#[test]
fn address_that_is_taken_is_named_before_anything_of_the_host_is_touched() {
    let host = Host::without_daemon().unwrap();
    let script = "import socket,time; s=socket.socket(); s.bind(('127.53.53.53',53)); s.listen(); time.sleep(60)";
    let mut command = host.command("/usr/bin/python3");
    command.args(["-c", script]);
    let _other = Running(command.spawn().unwrap());
    let listens = || {
        let seen = host.command("cat").arg("/proc/net/tcp").output()?;
        let text = String::from_utf8_lossy(&seen.stdout).into_owned();
        Ok(text.contains("3535357F:0035").then_some(()))
    };
    until("the address is taken", Duration::from_secs(10), listens).unwrap();

    let failed = host.start_daemon_with(&["--resolver", "127.53.53.53:53"]);

    assert!(failed.is_err());
    let log = host.log_tail();
    assert!(
        log.contains("cannot answer DNS at 127.53.53.53:53"),
        "{log}"
    );
    assert!(log.contains("`--resolver` takes"), "{log}");
    let links = host.command("ip").args(["-o", "link"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&links.stdout).contains("margay0"));
}

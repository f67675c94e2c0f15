//! The outside: reached by those whose composition says so, under the host's address, and by no one else.
//!
//! ```text
//!  1.roamer ─┐                    host                       outside
//!            ├─ eBPF ── routing, masquerade ── out0 ──── in0 192.0.2.1
//!  1.homebody┘             192.0.2.2                      (DNS, TCP, UDP)
//! ```

use crate::world::{SEEN_MAX, dig, furnish, instance};
use margay_tests::lab::{Host, until};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

const WORLD: &str = r#"
[composition]
name = "world"
version = 1

[automaton.roamer]
command = ["/usr/bin/python3", "-m", "http.server", "8000"]
egress = "all"

[automaton.homebody]
command = ["sleep", "infinity"]
"#;

/// The host between its instances and the outside, whose processes are below `$1`.
const BETWEEN: &str = r#"
ip link add out0 type veth peer name in0
ip link set in0 netns "$1"
ip addr add 192.0.2.2/24 dev out0
ip link set out0 up
"#;

/// Asks the outside by name over TCP and UDP: who am I, and is this address open?
const ROAM: &str = r#"
import socket, sys
def tcp(words):
    with socket.create_connection(("www.example.com", 80), 5) as asking:
        asking.sendall(words.encode())
        return asking.recv(100).decode()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout(5)
    asking.sendto(b"who", ("www.example.com", 80))
    print(tcp("who"), asking.recv(100).decode(), *(tcp("knock " + addr) for addr in sys.argv[1:]))
"#;

/// What one who stays inside meets: a name, an address.
const STAY: &str = r#"
import socket
for addr in ("www.example.com", "192.0.2.1"):
    try:
        socket.create_connection((addr, 80), 5)
        print("reached")
    except OSError as error:
        print(type(error).__name__)
"#;

/// The outside; it ends with its owner.
struct Outside(Child);

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn sh(host: &Host, script: &str, argument: &str) {
    let mut command = host.command("sh");
    let output = command.args(["-euc", script, "sh", argument]).output();
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {error}");
}

/// Makes the outside and the way there; the host names it as its DNS server.
fn outside(host: &Host) -> Outside {
    let program = host
        .write("outside.py", include_str!("programs/outside.py"))
        .unwrap();
    let mut command = host.command("unshare");
    command.args(["-n", "sh", "-c", "echo $$; exec python3 \"$1\"", "sh"]);
    command.arg(program).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let world = Outside(child);
    let pid = lines.next().unwrap().unwrap();
    sh(host, BETWEEN, &pid);
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let conf = host.write("resolv.conf", "nameserver 192.0.2.1\n").unwrap();
    let conf = conf.display().to_string();
    sh(host, "mount --bind \"$1\" /etc/resolv.conf", &conf);
    world
}

fn python(host: &Host, caller: &str, words: &[&str]) -> String {
    let command = [&["/usr/bin/python3", "-c"], words].concat();
    host.run(caller, &command).unwrap().trim().to_owned()
}

fn explained(host: &Host, caller: &str, target: &str) -> serde_json::Value {
    let mut command = host.margay(&["explain", "--json", target, "--as", caller]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn outside_is_reached_by_those_who_may_and_reaches_no_one_by_itself() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    let _outside = outside(&host);
    sh(&host, "echo 0 >/proc/sys/net/ipv4/ip_forward", "");
    host.start_daemon().unwrap();
    host.apply(WORLD).unwrap();

    let told = until("the host is asked to forward", SEEN_MAX, || {
        let instances = host.instances()?;
        let roamer = instances.into_iter().find(|it| it.name == "1.roamer");
        Ok(roamer.and_then(|roamer| roamer.problem))
    });
    let told = told.unwrap();
    assert!(told.contains("sysctl -w net.ipv4.ip_forward=1"), "{told}");
    sh(&host, "echo 1 >/proc/sys/net/ipv4/ip_forward", "");
    host.until_ready(SEEN_MAX).unwrap();

    let roamer = instance(&host, "1.roamer");
    let own = [roamer.caller_v4.to_string(), roamer.called_v4.to_string()];
    let roams = || python(&host, "1.roamer", &[ROAM, &own[0], &own[1]]);
    assert_eq!(roams(), "192.0.2.2 192.0.2.2 shut shut");
    let stays = python(&host, "1.homebody", &[STAY]);
    assert_eq!(stays, "gaierror\nConnectionRefusedError", "no name, no way");
    let denied = dig(&host, "1.homebody", "www.example.com", "A");
    assert_eq!(denied[0], "NXDOMAIN");
    assert_eq!(
        dig(&host, "1.roamer", "homebody.matrix", "A")[0],
        "NXDOMAIN"
    );

    assert_eq!(
        explained(&host, "1.roamer", "192.0.2.1:80")["verdict"],
        "leaves"
    );
    let stays = explained(&host, "1.homebody", "192.0.2.1:80");
    assert_eq!(stays["reason"], "no_egress", "{stays:#}");
    let drops = host.drops().unwrap();
    assert!(
        drops["no_egress"] >= 1,
        "it was told by its own name: {drops:?}"
    );

    // The daemon's end stops none of it, and its next start repairs what others took away.
    sh(&host, "nft flush ruleset", "");
    host.kill_daemon().unwrap();
    host.start_daemon().unwrap();
    host.until_ready(SEEN_MAX).unwrap();
    assert_eq!(roams(), "192.0.2.2 192.0.2.2 shut shut");

    // The host takes its rules away with it, long after the last who needed them.
    let stay = WORLD.replace("egress = \"all\"", "");
    let stay = stay.replace("version = 1", "version = 2");
    host.apply(&stay).unwrap();
    let alone = until("nobody leaves any more", SEEN_MAX, || {
        let mut roamers = host.instances()?;
        roamers.retain(|it| it.name == "1.roamer");
        Ok((roamers.len() == 1 && roamers[0].caller_v4 != roamer.caller_v4).then_some(()))
    });
    alone.unwrap();
    sh(&host, "nft list table ip margay >/dev/null", "");
    let mut down = host.margay(&["down"]);
    assert!(down.stdin(Stdio::null()).status().unwrap().success());
    sh(&host, "! nft list table ip margay 2>/dev/null", "");
}

//! `margay down` leaves nothing behind.

use crate::world::{Talk, furnish, margay, populate, shell, text, until_ready};
use margay_tests::lab::Host;

/// All that a host holds: devices, addresses, mounts, cgroups, processes with their namespaces.
const TRACES: &str = r#"
ip -o link | cut -d: -f2
ip -o address | awk '{ print $2, $4 }'
awk '{ print $2, $3 }' /proc/mounts
find "$(awk '$3 == "cgroup2" { print $2 }' /proc/mounts)" -mindepth 1 -type d
for process in /proc/[0-9]*; do
    test "$process" = "/proc/$$" || echo "$(cat "$process/comm" 2>/dev/null)"
done
ls /proc/[0-9]*/ns/net | while read -r it; do readlink "$it"; done | sort -u
"#;

#[test]
fn host_that_is_down_leaves_nothing_in_the_kernel() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    let before = shell(&host, TRACES);
    host.start_daemon().unwrap();
    populate(&host, "");
    let mut client = Talk::connected(&host, "1.caller");
    let during = shell(&host, TRACES);
    for trace in ["margay0", "mg", "bpf", "keeper"] {
        assert!(during.contains(trace), "no {trace} to take away: {during}");
    }
    client.echoes("still");

    let down = margay(&host, &["down"]);

    assert!(down.status.success(), "{}", text(&down));
    let after = margay_tests::lab::until("nothing is left", crate::world::SEEN_MAX, || {
        let now = shell(&host, TRACES);
        Ok((now == before).then_some(now))
    });
    let now = shell(&host, TRACES);
    assert!(
        after.is_ok(),
        "before:\n{before}\nafter:\n{now}\n{}",
        host.log_tail()
    );
    drop(client);
    host.start_daemon().unwrap();
    until_ready(&host, &["1.echo", "1.caller"]);
    drop(Talk::connected(&host, "1.caller"));
}

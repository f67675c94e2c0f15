//! Floods of first packets: bounded memory, and other instances go on.

use crate::world::{SEEN_MAX, Talk, dropped, furnish, instance, populate, shell, until_ready};
use margay_tests::lab::programs::{Libc, compile};
use margay_tests::lab::{Host, until};
use std::time::{Duration, Instant};

/// A server that never accepts, and two programs that may call it.
const FLOOD: &str = r#"
[automaton.mute]
command = ["/usr/bin/python3", "/media/mute.py", "9"]
ports = { stream = { port = 9, protocol = "tcp" }, datagram = { port = 9, protocol = "udp" } }
ready = { command = ["true"], every_ms = 200 }

[automaton.flooder]
command = ["sleep", "infinity"]
needs = ["mute"]
"#;

/// Connections that others open during the flood.
const REQUESTS: usize = 50;

/// A connection whose SYN was dropped waits for a second; whose second one was, too, for three.
const SLOWEST_MAX: Duration = Duration::from_secs(3);

/// Flows that the host may have: few enough for the flood to reach its share.
const FLOWS_MAX: usize = 16_384;

/// What one instance may open of them.
const FLOWS_PER_INSTANCE_MAX: usize = FLOWS_MAX / 2;

/// Flows that are refused between two looks at the daemon's memory.
const REFUSED_MORE: u64 = 50_000;

/// What the daemon may need for that many flows: a KiB each, and what its allocator keeps.
const GROWTH_KIB_MAX: u64 = 32 * 1024;

fn memory_kib(host: &Host) -> u64 {
    let pid = host.status().unwrap().pid;
    let script = format!("awk '$1 == \"VmRSS:\" {{ print $2 }}' /proc/{pid}/status");
    shell(host, &script).trim().parse().unwrap()
}

#[test]
fn flood_to_a_service_is_bounded_and_leaves_other_instances_untouched() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    let source = include_str!("programs/flood.c");
    let flood = compile(&host, "flood", source, Libc::Glibc).unwrap();
    host.start_daemon_with(&["--flows-max", &FLOWS_MAX.to_string()])
        .unwrap();
    populate(&host, FLOOD);
    until_ready(&host, &["1.mute", "1.flooder"]);
    let mut client = Talk::connected(&host, "1.caller");
    let before = memory_kib(&host);
    let pids = || ["1.echo", "1.mute"].map(|name| instance(&host, name).pid);
    let pids_before = pids();

    let words = [flood.to_str().unwrap(), "mute.matrix", "9"];
    let mut flooder = Talk::start(host.exec("1.flooder", &words));
    assert_eq!(flooder.hear(), "flooding");
    let mut slowest = Duration::ZERO;
    let mut requests = 0;
    let mut request = || {
        let began = Instant::now();
        client.open_echo();
        client.echoes(&format!("{requests}"));
        slowest = slowest.max(began.elapsed());
        requests += 1;
        requests
    };
    until("the flood has filled its share", SEEN_MAX, || {
        let enough = request() >= REQUESTS;
        let cut = dropped(&host, "upcall_quota") > 0;
        let full = dropped(&host, "flow_limit_instance") > 0;
        Ok((enough && cut && full).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", host.drops()));
    let full = memory_kib(&host);
    let refused = dropped(&host, "flow_limit_instance");
    until("the flood has been refused for a while", SEEN_MAX, || {
        let more = dropped(&host, "flow_limit_instance") - refused;
        Ok((more > REFUSED_MORE).then_some(()))
    })
    .unwrap();
    let during = memory_kib(&host);
    let flows = host.flows().unwrap();
    let flooding = flows.iter().filter(|it| it.client == "1.flooder").count();
    let flooded = flooder.finish();

    println!(
        "{flooded}; slowest of {requests} other requests {slowest:?}; {before} KiB, with a full share {full}, later {during}"
    );
    println!("{:?}", host.drops().unwrap());
    assert!(flooding <= FLOWS_PER_INSTANCE_MAX, "{flooding} flows");
    assert_eq!(dropped(&host, "flow_table_full"), 0);
    assert!(slowest < SLOWEST_MAX, "{slowest:?} during {flooded}");
    assert!(
        full < before + GROWTH_KIB_MAX && during < full + GROWTH_KIB_MAX / 16,
        "{before} KiB grew to {full} and {during} KiB: {flooded}"
    );
    assert_eq!(pids(), pids_before, "an instance was restarted");
}

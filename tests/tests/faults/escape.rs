//! Instances that try to be more than instances.

use crate::world::{dropped, host_with, instance, said};
use margay_tests::lab::{Host, Instance, PLACE, run_directory, state_directory};

const INTRUDER: &str = r#"
[automaton.intruder]
command = ["sleep", "infinity"]
needs = ["echo"]
"#;

/// Processes that an instance of one program may see, the shell that looks included.
const PROCESSES_MAX: usize = 6;

#[test]
fn instance_cannot_enter_the_hosts_namespaces_or_touch_what_is_not_its_own() {
    let host = host_with(INTRUDER);
    let escape = format!("{PLACE}/escape.py");
    let (run, state) = (run_directory(), state_directory());
    let words = [
        "/usr/bin/python3",
        &escape,
        run.to_str().unwrap(),
        state.to_str().unwrap(),
    ];

    let told = host.run("1.intruder", &words).unwrap();

    let attempts = told.lines().count();
    assert!(attempts > 20, "not everything was tried: {told}");
    let refused = told.lines().filter(|it| it.starts_with("refused")).count();
    assert_eq!(refused, attempts, "{told}");
    let script = "for it in /proc/[0-9]*; do cat $it/comm; done";
    let seen = host.run("1.intruder", &["sh", "-c", script]).unwrap();
    assert!(!seen.contains("margay\n"), "it sees the daemon: {seen}");
    assert!(seen.lines().count() <= PROCESSES_MAX, "{seen}");
}

/// Sends forged datagrams from the intruder's network to the echo server, and says how many left.
fn forge(host: &Host, source: &str, target: &str, raw: bool) -> u64 {
    let forge = format!("{PLACE}/forge.py");
    let intruder = instance(host, "1.intruder");
    let sent = if raw {
        // As root in the intruder's network: what the kernel refuses programs is ours to refuse then.
        let netns = format!("--net=/proc/{}/ns/net", intruder.pid.unwrap());
        let words = [
            &netns,
            "/usr/bin/python3",
            &forge,
            source,
            target,
            "7",
            "raw",
        ];
        said(host, &[&["nsenter"][..], &words].concat())
    } else {
        let words = ["/usr/bin/python3", &forge, source, target, "7"];
        host.run("1.intruder", &words).unwrap()
    };
    sent.trim().parse().unwrap()
}

#[test]
fn packets_under_anothers_address_are_dropped_and_counted() {
    let host = host_with(INTRUDER);
    let (caller, echo) = (instance(&host, "1.caller"), instance(&host, "1.echo"));
    let families = |it: &Instance| [it.caller_v4.to_string(), it.caller_v6.to_string()];
    let targets = [echo.called_v4.to_string(), echo.called_v6.to_string()];
    for (source, target) in families(&caller).iter().zip(&targets) {
        for raw in [false, true] {
            let before = dropped(&host, "forged_source");
            let sent = forge(&host, source, target, raw);
            let counted = dropped(&host, "forged_source") - before;
            assert_eq!(counted, sent, "{source} to {target}, raw: {raw}");
            assert!(sent > 0 || !raw, "nothing was tried from {source}");
        }
    }
    assert!(host.flows().unwrap().is_empty(), "{:?}", host.flows());
}

//! Many flows of one client to servers on other hosts: opened by the kernels of both ends.

use crate::site::{Family, network};
use margay_tests::lab::{Lab, PLACE, until};
use std::time::{Duration, Instant};

/// How long hosts may take to tell each other of what runs on them.
const READY: Duration = Duration::from_secs(40);

/// How long a program may take to learn that it may not call, Python's start included.
const FAST: Duration = Duration::from_secs(2);

const CALLS: u64 = 300;

fn composition(version: u32, needs: &str) -> String {
    format!(
        r#"
[composition]
name = "counting"
version = {version}

[automaton.count]
command = ["/usr/bin/python3", "{PLACE}/own_address.py"]
answer = "service"
replicas = 3
ports = {{ streams = {{ port = 5000, protocol = "tcp" }} }}
ready = {{ tcp = true, port = "streams", every_ms = 100 }}
on = ["b", "b", "c"]

[automaton.caller]
command = ["sleep", "infinity"]
needs = [{needs}]
on = ["a"]
"#
    )
}

/// Calls so often; how many each server answered, or what went wrong.
fn call(lab: &Lab, calls: u64, family: &str) -> anyhow::Result<Vec<u64>> {
    let words = [
        "/usr/bin/python3",
        &format!("{PLACE}/count.py"),
        &calls.to_string(),
        family,
    ];
    let told = lab.host("a").run("1.caller", &words)?;
    let counts = told.split_whitespace().map(str::parse);
    Ok(counts.collect::<Result<_, _>>()?)
}

/// First packets that a asked others for, and those that b and c accepted.
fn asked(lab: &Lab) -> (u64, u64) {
    let status = |host| lab.host(host).status().unwrap();
    let accepted = ["b", "c"].map(|host| status(host).requests_accepted);
    (status("a").requests_sent, accepted.iter().sum())
}

/// ```text
///   a: 1.caller ── 300 connections ──▶ b: 1.count, 2.count
///                                  └─▶ c: 3.count
/// ```
#[test]
fn kernels_of_both_ends_open_most_flows_in_even_shares_until_permission_is_withdrawn() {
    let lab = network(&["a", "b", "c"], &[Family::V4]);
    for host in ["a", "b", "c"] {
        let host = lab.host(host);
        let programs = [
            ("count.py", include_str!("../protocols/count.py")),
            (
                "own_address.py",
                include_str!("../protocols/own_address.py"),
            ),
        ];
        for (name, text) in programs {
            host.write(name, text).unwrap();
        }
    }
    let a = lab.host("a");
    a.apply(&composition(1, "\"count\"")).unwrap();
    let logs = || {
        ["a", "b", "c"]
            .map(|host| lab.host(host).log_tail())
            .join("\n")
    };
    let all = until("all three answer", READY, || {
        Ok(call(&lab, 3, "4")
            .ok()
            .filter(|shares| *shares == [1, 1, 1]))
    });
    assert!(all.is_ok(), "{}", logs());

    for family in ["4", "6"] {
        let before = asked(&lab);
        let shares = call(&lab, CALLS, family).unwrap_or_else(|error| {
            panic!("IPv{family}: {error:#}\n{:?}\n{}", a.drops(), logs());
        });
        // What core decides takes turns of its own.
        assert!(
            shares.iter().all(|share| share.abs_diff(CALLS / 3) <= 5),
            "{shares:?}"
        );
        let after = asked(&lab);
        let (sent, accepted) = (after.0 - before.0, after.1 - before.1);
        assert!(
            sent <= CALLS / 10 && accepted <= CALLS / 10,
            "{sent} {accepted}"
        );
    }
    let by_kernel = a.flows().unwrap().len();
    assert!(
        by_kernel > 0,
        "connections that just closed are still shown"
    );

    a.apply(&composition(2, "")).unwrap();
    let refused = until("calls are refused", READY, || {
        let began = Instant::now();
        let refused = call(&lab, 1, "4").err().map(|error| format!("{error:#}"));
        Ok(refused.map(|error| (error, began.elapsed())))
    });
    let (error, after) = refused.unwrap();
    assert!(after < FAST, "{after:?}: {error}");
    let open = lab.host("b").flows().unwrap();
    assert!(open.is_empty(), "{open:?}");
}

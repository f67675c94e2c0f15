//! Tables that are full: new flows are refused with a reason, live ones go on.

use crate::world::{ECHO_PORT, SEEN_MAX, Talk, dropped, furnish, populate, until_ready};
use margay_tests::lab::{Host, until};

/// Flows that the host may have.
const FLOWS_MAX: u32 = 16;

/// Flows that one instance may open: half of them.
const FLOWS_PER_INSTANCE_MAX: u32 = FLOWS_MAX / 2;

/// A refusal is no timeout.
const REFUSED_MS_MAX: u32 = 900;

const HOARDERS: &str = r#"
[automaton.hoarder]
command = ["sleep", "infinity"]
replicas = 2
needs = ["echo"]
"#;

/// Opens connections until one is refused; returns how many that were.
fn hoard(client: &mut Talk) -> u32 {
    let answer = client.ask(&format!("hold echo.matrix {ECHO_PORT} {}", FLOWS_MAX + 1));
    let mut words = answer.split(' ').map(|word| word.parse::<u32>().unwrap());
    let (opened, refused_ms) = (words.next().unwrap(), words.next().unwrap());
    assert!(refused_ms < REFUSED_MS_MAX, "refused in silence: {answer}");
    opened
}

#[test]
fn full_flow_table_refuses_new_flows_with_a_reason_while_live_ones_go_on() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon_with(&["--flows-max", &FLOWS_MAX.to_string()])
        .unwrap();
    populate(&host, HOARDERS);
    until_ready(&host, &["1.hoarder", "2.hoarder"]);
    let mut live = Talk::connected(&host, "1.caller");
    let mut late = Talk::client(&host, "1.caller");
    let mut first = Talk::client(&host, "1.hoarder");
    let mut second = Talk::client(&host, "2.hoarder");

    assert_eq!(hoard(&mut first), FLOWS_PER_INSTANCE_MAX);
    assert!(dropped(&host, "flow_limit_instance") > 0);
    assert_eq!(dropped(&host, "flow_table_full"), 0);
    live.echoes("one");
    let rest = FLOWS_MAX - FLOWS_PER_INSTANCE_MAX - 1;
    assert_eq!(hoard(&mut second), rest);
    let full = dropped(&host, "flow_table_full");
    assert!(full > 0);
    live.echoes("two");
    assert_eq!(hoard(&mut late), 0);
    assert!(dropped(&host, "flow_table_full") > full);
    live.echoes("three");

    drop((first, second));
    until("there is room again", SEEN_MAX, || {
        let opened = late.ask(&format!("open echo.matrix {ECHO_PORT}"));
        Ok((!opened.starts_with("failed")).then_some(()))
    })
    .unwrap();
    late.echoes("room");
    live.echoes("four");
}

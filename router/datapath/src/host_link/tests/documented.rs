//! The protocol page says what the code does.

use super::super::message::*;
use super::super::sealed::*;
use super::super::*;
use std::time::Duration;

const PAGE: &str = include_str!("../../../../../docs/protocol/host-link.md");

#[test]
fn every_drop_reason_and_every_reason_for_down_is_on_the_page() {
    for reason in LinkDrop::ALL {
        let line = format!("| `{}` | {} |", reason.name(), reason.explanation());
        assert!(PAGE.contains(&line), "the page lacks: {line}");
    }
    for reason in DownReason::ALL {
        assert!(
            PAGE.contains(&format!("| `{}` |", reason.name())),
            "{reason:?}"
        );
    }
    let names = |line: &&str| line.starts_with("| `");
    let known = LinkDrop::ALL.len() + DownReason::ALL.len();
    assert_eq!(PAGE.lines().filter(names).count(), known, "none is stale");
}

#[test]
fn sizes_and_timers_are_those_of_the_page() {
    let sizes = [
        ("initiation", INITIATION_BYTES),
        ("longest data message", DATAGRAM_BYTES_MAX),
        ("longest statement", STATEMENT_BYTES_MAX),
        ("longest refusal", REFUSAL_BYTES_MAX),
        ("longest payload", PAYLOAD_BYTES_MAX),
        ("replay window", REPLAY_WINDOW as usize),
        ("addresses of a peer", ADDRESSES_MAX),
    ];
    for (what, size) in sizes {
        let line = format!("| {what} | {size} |");
        assert!(PAGE.contains(&line), "the page lacks: {line}");
    }
    let timers = [
        ("first retry", RETRY_MIN),
        ("longest retry", RETRY_MAX),
        ("core's word", EXCHANGE_LIFE),
        ("a request's answer", REQUEST_LIFE),
        ("first use of a session", UNUSED_LIFE),
        ("crossing", CROSSING),
        ("renewal by its initiator", RENEW_AFTER),
        ("renewal by the other side", RENEW_LATE),
        ("life of a session", SESSION_LIFE),
        ("echo", ECHO_INTERVAL),
        ("echo of the other side", ECHO_LATE),
        ("silence", SILENCE_MAX),
        ("shunned", SHUN),
        ("nonsense counted", NONSENSE_COUNTED),
        ("waiting payload", WAITING_MAX),
        ("cookie secret", COOKIE_SECRET_LIFE),
    ];
    for (what, timer) in timers {
        let line = format!("| {what} | {} |", seconds(timer));
        assert!(PAGE.contains(&line), "the page lacks: {line}");
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

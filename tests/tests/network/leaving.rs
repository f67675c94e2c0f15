//! Hosts that go on purpose: the others know at once, without a probe that fails.

use crate::site::{Family, network, said, until_linked, until_logged};
use margay_tests::lab::{Host, Lab};
use serde_json::Value;

/// What a host holds another one for.
fn state(host: &Host, of: &str) -> Value {
    let members = said(host, &["members", "--json"]);
    let members: Value = serde_json::from_str(&members).unwrap();
    let mut rows = members.as_array().unwrap().iter();
    rows.find(|row| row["name"] == of).unwrap()["state"].clone()
}

fn log(lab: &Lab, host: &str) -> String {
    std::fs::read_to_string(lab.host(host).log()).unwrap()
}

/// ```text
///   a ─┐
///   b ─┼─ paris     c is taken down
///   c ─┘
/// ```
#[test]
fn host_that_is_taken_down_is_missed_before_its_link_ends() {
    let lab = network(&["a", "b", "c"], &[Family::V4]);
    said(lab.host("c"), &["down"]);
    for host in ["a", "b"] {
        until_logged(&lab, host, &["a link is down", "host=c", "farewell"]);
        // Detection would take probes and a suspicion, and the link's end comes right behind the word.
        assert_eq!(
            state(lab.host(host), "c"),
            "down",
            "{host}\n{}",
            log(&lab, host)
        );
    }
}

#[test]
fn daemon_that_is_ended_alone_says_nothing() {
    let lab = network(&["a", "b"], &[Family::V4]);
    lab.host("b").stop_daemon().unwrap();
    lab.start_daemon("b").unwrap();
    until_logged(&lab, "b", &["a link is up", "host=a"]);
    until_linked(&lab, "a", &["a", "b"]);
    assert!(!log(&lab, "a").contains("farewell"), "{}", log(&lab, "a"));
}

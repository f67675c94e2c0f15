//! A site of some hosts, joined by one segment.

use margay_tests::lab::{Host, Lab, Topology, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long hosts may take to find each other, or to miss each other, on a busy machine.
pub const SOON: Duration = Duration::from_secs(45);

/// The port of every host link.
pub const PORT: u16 = 7400;

/// Where the root key is written: in the host's own files.
pub const ROOT: &str = "/media/root.key";

/// Hosts a, b and so on in Paris, whose daemons run alone.
///
/// ```text
///   a ─┐
///   b ─┼─ paris
///   c ─┘
/// ```
pub fn hosts(names: &[&str], families: &[Family]) -> Lab {
    let mut text = "[segment.paris]\nv4 = \"10.1.0.0/24\"\nv6 = \"fd00:1::/64\"\n".to_owned();
    text += "[site.paris]\n";
    for (number, name) in (1..).zip(names) {
        let (v4, v6) = (format!("10.1.0.{number}"), format!("fd00:1::{number}"));
        let underlay = families.iter().map(|family| match family {
            Family::V4 => format!("\"--underlay={v4}:{PORT}\""),
            Family::V6 => format!("\"--underlay=[{v6}]:{PORT}\""),
        });
        let underlay = underlay.collect::<Vec<_>>().join(", ");
        text += &format!(
            "[host.{name}]\nsite = \"paris\"\naddresses = [\"{v4}\", \"{v6}\"]\n\
             daemon = [{underlay}]\n"
        );
    }
    let topology = Topology::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    Lab::start(&topology).unwrap()
}

/// By what hosts reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// By IPv4.
    V4,
    /// By IPv6.
    V6,
}

/// The same, all in one network that the first of them founded.
pub fn network(names: &[&str], families: &[Family]) -> Lab {
    let lab = hosts(names, families);
    let (first, others) = names.split_first().unwrap();
    create(&lab, first);
    for name in others {
        let token = invite(&lab, first, &[]);
        join(&lab, name, &token);
    }
    for name in names {
        until_linked(&lab, name, names);
    }
    lab
}

/// Founds a network by a host.
pub fn create(lab: &Lab, host: &str) {
    let words = [
        "network", "create", "--root", ROOT, "--name", host, "--site", "paris",
    ];
    said(lab.host(host), &words);
}

/// Makes a token on a host.
pub fn invite(lab: &Lab, host: &str, options: &[&str]) -> String {
    let words = [&["invite", "--site", "paris"], options].concat();
    said(lab.host(host), &words).trim_end().to_owned()
}

/// Joins by a token.
pub fn join(lab: &Lab, host: &str, token: &str) {
    said(lab.host(host), &["join", token, "--name", host]);
}

/// What a command printed; it must succeed.
pub fn said(host: &Host, words: &[&str]) -> String {
    let output = host.margay(words).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let log = || host.log_tail();
    assert!(output.status.success(), "{words:?}: {error}\n{}", log());
    String::from_utf8(output.stdout).unwrap()
}

/// What a command complained of; it must fail.
pub fn complaint(host: &Host, words: &[&str]) -> String {
    let output = host.margay(words).output().unwrap();
    assert!(!output.status.success(), "{words:?} succeeded");
    String::from_utf8(output.stderr)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// The state of the link to each member, by its name, as a host sees it.
pub fn links(host: &Host) -> BTreeMap<String, String> {
    let members = said(host, &["members", "--json"]);
    let members: Value = serde_json::from_str(&members).unwrap();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let rows = members.as_array().unwrap().iter();
    rows.map(|row| (text(row, "name"), text(row, "link")))
        .collect()
}

/// Waits until a host has a working link to all the others, and knows no one else.
pub fn until_linked(lab: &Lab, host: &str, names: &[&str]) {
    let wanted = names.iter().map(|name| {
        let link = if *name == host { "self" } else { "up" };
        ((*name).to_owned(), link.to_owned())
    });
    until_links(lab, host, &wanted.collect());
}

/// Waits until a host sees the links so.
pub fn until_links(lab: &Lab, host: &str, wanted: &BTreeMap<String, String>) {
    let mut seen = BTreeMap::new();
    let waited = until("hosts are linked", SOON, || {
        seen = links(lab.host(host));
        Ok((seen == *wanted).then_some(()))
    });
    let log = || lab.host(host).log_tail();
    assert!(waited.is_ok(), "{host} sees {seen:?}\n{}", log());
}

/// Waits until a host holds another for up or down.
pub fn until_held(seer: &Host, name: &str, state: &str) {
    let held = until("it is seen how a host is", SOON, || {
        let members = seer.members()?;
        let member = members.iter().find(|it| it.name == name);
        Ok(member.filter(|it| it.state == state).map(drop))
    });
    assert!(held.is_ok(), "{name} is not {state}: {:?}", seer.members());
}

/// Waits until a host's log has a line with all these words.
pub fn until_logged(lab: &Lab, host: &str, words: &[&str]) {
    let waited = until("a line is logged", SOON, || {
        let log = std::fs::read_to_string(lab.host(host).log())?;
        let has = |line: &str| words.iter().all(|word| line.contains(word));
        Ok(log.lines().any(has).then_some(()))
    });
    let log = || lab.host(host).log_tail();
    assert!(waited.is_ok(), "no line of {words:?}\n{}", log());
}

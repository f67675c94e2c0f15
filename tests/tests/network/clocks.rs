//! Hosts whose time of day is wrong: an hour does no harm, and what does is said to.

use crate::site::{complaint, invite, said, until_linked};
use crate::sites::{composition, until_fetched};
use margay_tests::lab::{Host, Lab, Topology};
use std::time::{Duration, SystemTime};

/// How far the time is off by which a daemon writes its log, in minutes.
fn off(host: &Host) -> i64 {
    let log = std::fs::read_to_string(host.log()).unwrap();
    let written = log.lines().next_back().unwrap().split_whitespace().next();
    let written = humantime::parse_rfc3339(written.unwrap()).unwrap();
    let now = SystemTime::now();
    let minutes = |off: Duration| i64::try_from(off.as_secs()).unwrap() / 60;
    match written.duration_since(now) {
        Ok(ahead) => minutes(ahead + Duration::from_secs(30)),
        Err(behind) => -minutes(behind.duration() + Duration::from_secs(30)),
    }
}

/// ```text
///   paris-1: founder, caller   paris-2: an hour ahead   paris-3: an hour behind
/// ```
#[test]
fn hosts_whose_clocks_are_an_hour_off_belong_to_the_network() {
    let topology = Topology::parse("[site.paris]\nhosts = 3\n").unwrap();
    let lab = Lab::without_daemons(&topology).unwrap();
    lab.host("paris-2").shift_clock("+1h");
    lab.host("paris-3").shift_clock("-1h");

    lab.found_network("paris-1", |_| &[]).unwrap();

    for (host, minutes) in [("paris-1", 0), ("paris-2", 60), ("paris-3", -60)] {
        let off = off(lab.host(host));
        assert!(
            (minutes - 1..=minutes + 1).contains(&off),
            "{host} is {off} minutes off"
        );
    }
    let names = ["paris-1", "paris-2", "paris-3"];
    for name in names {
        until_linked(&lab, name, &names);
    }
    let servers = [("ahead", "paris-2"), ("behind", "paris-3")];
    let founder = lab.host("paris-1");
    founder.apply(&composition("paris-1", &servers)).unwrap();
    for (name, _) in servers {
        until_fetched(&lab, "paris-1", name);
    }
    said(founder, &["revoke", "paris-2"]);
    for name in ["paris-1", "paris-3"] {
        until_linked(&lab, name, &["paris-1", "paris-3"]);
    }
}

#[test]
fn host_whose_clock_is_far_off_is_told_so_when_it_joins() {
    let topology = Topology::parse("[site.paris]\nhosts = 2\n").unwrap();
    let lab = Lab::without_daemons(&topology).unwrap();
    lab.host("paris-2").shift_clock("-3h");
    lab.found_network_without(&["paris-2"], "paris-1", |_| &[])
        .unwrap();
    lab.start_member("paris-2").unwrap();
    let token = invite(&lab, "paris-1", &[]);
    let refused = complaint(lab.host("paris-2"), &["join", &token, "--name", "paris-2"]);
    assert!(refused.contains("clock"), "{refused}");
}

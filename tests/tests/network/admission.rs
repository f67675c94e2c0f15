//! Who gets in, who does not, and who is taken out: told in one line on both sides.

use crate::rogue::{Desk, Manner, Order, Place, Rogue};
use crate::site::{
    Family, SOON, complaint, create, hosts, invite, join, links, network, said, until_linked,
    until_links, until_logged,
};
use margay_tests::lab::{Lab, Topology, until};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn three_hosts_become_a_network_in_which_each_is_linked_to_all() {
    let names = ["a", "b", "c"];
    let lab = network(&names, &[Family::V4, Family::V6]);
    let table = said(lab.host("a"), &["members"]);
    assert!(table.contains("issuer"), "{table}");
    for block in ["100.64.0.0/20", "100.64.16.0/20", "100.64.32.0/20"] {
        assert!(table.contains(block), "{block} is not in\n{table}");
    }

    // Who comes back knows the others, also those that are not its issuer.
    let lab = lab;
    lab.host("c").stop_daemon().unwrap();
    let down = [("a", "self"), ("b", "up"), ("c", "down")];
    let down = down.map(|(host, link)| (host.to_owned(), link.to_owned()));
    until_links(&lab, "a", &BTreeMap::from(down));
    lab.start_daemon("c").unwrap();
    for name in names {
        until_linked(&lab, name, &names);
    }
}

#[test]
fn an_operator_applies_for_all_and_everybody_sees_what_runs_where() {
    let lab = hosts(&["a", "b"], &[Family::V4]);
    create(&lab, "a");
    let inviting = |words: &[&str]| complaint(lab.host("a"), &[&["invite"], words].concat());
    assert!(inviting(&["--site", "paris", "--role", "issuer"]).contains("--role operator"));
    assert!(inviting(&["--site", ""]).contains("names no site"));
    let again = complaint(
        lab.host("a"),
        &["network", "create", "--name", "a", "--site", "paris"],
    );
    assert!(again.contains("belongs to a network already"), "{again}");

    let token = invite(&lab, "a", &["--role", "operator"]);
    join(&lab, "b", &token);
    until_linked(&lab, "a", &["a", "b"]);
    let composition = "[composition]\nname = \"shop\"\nversion = 1\n\n[automaton.web]\n\
         command = [\"sleep\", \"infinity\"]\nreplicas = 2\non = [\"a\", \"zz\"]\n";
    let file = lab.host("b").write("shop.toml", composition).unwrap();
    let applied = said(lab.host("b"), &["apply", &file.display().to_string()]);
    assert!(applied.contains("zz is no member"), "{applied}");
    until("b sees what runs on a", SOON, || {
        let seen = said(lab.host("b"), &["ps", "--all"]);
        let web = ["1.web", "a", "shop@1", "ready"];
        let is_web = |line: &str| {
            line.split_whitespace()
                .zip(web)
                .all(|(is, wanted)| is == wanted)
        };
        Ok(seen.lines().any(is_web).then_some(()))
    })
    .unwrap();
}

#[test]
fn only_whole_fresh_tokens_of_a_known_invitation_let_a_host_in() {
    let lab = hosts(&["a", "b", "c"], &[Family::V4]);
    let alone = complaint(lab.host("a"), &["members"]);
    assert!(alone.contains("belongs to no network"), "{alone}");
    create(&lab, "a");
    let refused =
        |host: &str, token: &str| complaint(lab.host(host), &["join", token, "--name", host]);

    let token = invite(&lab, "a", &[]);
    let cut = token.len() - 1;
    let damaged = &token[..cut];
    assert!(refused("b", damaged).contains("damaged"));

    join(&lab, "b", &token);
    until_linked(&lab, "a", &["a", "b"]);
    let used_up = refused("c", &token);
    assert!(used_up.contains("used as often as it may be"), "{used_up}");
    assert_eq!(used_up.lines().count(), 1, "{used_up}");
    until_logged(&lab, "a", &["refused", "token is used up"]);

    let brief = invite(&lab, "a", &["--lifetime", "1s"]);
    // Its lifetime is over then; nothing else tells when.
    std::thread::sleep(Duration::from_secs(2));
    let expired = refused("c", &brief);
    assert!(expired.contains("token has expired"), "{expired}");
    until_logged(&lab, "a", &["refused", "token expired at"]);

    let taken = invite(&lab, "a", &[]);
    let taken = complaint(lab.host("c"), &["join", &taken, "--name", "b"]);
    assert!(taken.contains("has this host's name"), "{taken}");
    assert_eq!(links(lab.host("a")).len(), 2);
}

#[test]
fn revoked_host_is_hung_up_on_by_all_and_may_come_back_by_a_new_token() {
    let names = ["a", "b", "c"];
    let lab = network(&names, &[Family::V4]);
    let composition = "[composition]\nname = \"shop\"\nversion = 1\n\
        [automaton.idle]\ncommand = [\"sleep\", \"1000\"]\non = [\"c\"]\n";
    lab.host("a").apply(composition).unwrap();
    let until_runs = |count: usize| {
        until("c runs what it should", SOON, || {
            Ok((lab.host("c").instances()?.len() == count).then_some(()))
        })
        .unwrap();
    };
    until_runs(1);
    let no_operator = complaint(lab.host("c"), &["delete", "shop"]);
    assert!(no_operator.contains("is no operator"), "{no_operator}");

    said(lab.host("a"), &["revoke", "c"]);

    until_linked(&lab, "a", &["a", "b"]);
    until_linked(&lab, "b", &["a", "b"]);
    until_logged(&lab, "b", &["no member any more", "was revoked"]);
    until_logged(&lab, "c", &["was refused", "taken out of the network"]);
    let by_b = complaint(lab.host("b"), &["revoke", "a"]);
    assert!(by_b.contains("is no issuer"), "{by_b}");

    let token = invite(&lab, "a", &[]);
    said(lab.host("c"), &["delete", "shop"]);
    until_runs(0);
    join(&lab, "c", &token);
    for name in names {
        until_linked(&lab, name, &names);
    }
}

#[test]
fn host_that_runs_something_does_not_join() {
    let lab = hosts(&["a", "b"], &[Family::V4]);
    create(&lab, "a");
    let token = invite(&lab, "a", &[]);
    let composition = "[composition]\nname = \"shop\"\nversion = 1\n\
        [automaton.idle]\ncommand = [\"sleep\", \"1000\"]\n";
    lab.host("b").apply(composition).unwrap();
    let busy = complaint(lab.host("b"), &["join", &token, "--name", "b"]);
    assert!(busy.contains("margay delete"), "{busy}");
    let again = complaint(
        lab.host("a"),
        &[
            "network",
            "create",
            "--root",
            "/media/other.key",
            "--name",
            "a",
            "--site",
            "x",
        ],
    );
    assert!(again.contains("belongs to a network"), "{again}");
}

/// ```text
///   paris-1: founder   paris-2: holds 100.64.16.0/20   paris-3: an issuer that grants it once more
///                                                      paris-4: to it
/// ```
#[test]
fn host_that_names_anothers_address_block_is_refused_in_one_line_on_both_sides() {
    let topology = Topology::parse("[site.paris]\nhosts = 4\n").unwrap();
    let lab = Lab::without_daemons(&topology).unwrap();
    let strays = ["paris-3", "paris-4"];
    lab.found_network_without(&strays, "paris-1", |_| &[])
        .unwrap();
    let mut desk = Desk::open(&lab, "paris-1", "100.127.0.0/16");
    let place = Place {
        host: "paris-3",
        site: "paris",
        is_gateway: false,
    };
    let rogue = Rogue::enter(&lab, &mut desk, &place, "paris-1", Manner::Honest);
    let desk = Desk::open(&lab, "paris-1", "100.64.16.0/20");
    let (token, issuer) = desk.invite(&lab, "paris-3");
    rogue.order(Order::LetIn(Box::new(issuer)));

    lab.start_member("paris-4").unwrap();
    let joined = said(
        lab.host("paris-4"),
        &["join", &token.to_string(), "--name", "paris-4"],
    );
    assert!(joined.contains("100.64.16.0/20"), "{joined}");

    let (here, there) = (
        ["a host was refused", "block"],
        ["this host was refused", "addresses"],
    );
    until_logged(&lab, "paris-4", &there);
    until_logged(&lab, "paris-1", &here);
    for (host, words) in [("paris-1", here), ("paris-4", there)] {
        let log = std::fs::read_to_string(lab.host(host).log()).unwrap();
        let lines = log.lines().filter(|line| line.contains(words[0]));
        assert_eq!(lines.count(), 1, "{log}");
    }
    let counted = lab.host("paris-1").drops().unwrap();
    assert!(counted.get("block_taken") > Some(&0), "{counted:?}");
    let seen = links(lab.host("paris-4"));
    assert_eq!(seen.get("paris-1").map(String::as_str), Some("refused"));
    assert_eq!(links(lab.host("paris-1")).get("paris-4"), None);
}

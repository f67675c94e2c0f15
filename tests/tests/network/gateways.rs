//! Gateways of other sites that do not answer, or with nonsense: what is sought is found all the same.

use crate::hostile::{claimed, until_dropped_by_any};
use crate::rogue::{Desk, Manner, Place, Rogue};
use crate::sites::{SOON, composition, until_fetched};
use margay_tests::lab::{Lab, Topology, until};

const ROGUE_AT: &str = "oslo-1";

/// ```text
///   paris-1: founder, caller   paris-2      rome-1: server      oslo-1: the rogue, its site's only gateway
/// ```
/// Kademlia leads to both Rome and Oslo, for the rogue says that it serves the same.
fn found_beside_a_gateway(manner: Manner, reason: &str) {
    let sites = "[site.paris]\nhosts = 2\n[site.rome]\nhosts = 1\n[site.oslo]\nhosts = 1\n";
    let lab = Lab::without_daemons(&Topology::parse(sites).unwrap()).unwrap();
    lab.found_network_without(&[ROGUE_AT], "paris-1", |_| &[])
        .unwrap();
    let range = "100.127.0.0/20";
    let mut desk = Desk::open(&lab, "paris-1", range);
    let place = Place {
        host: ROGUE_AT,
        site: "oslo",
        is_gateway: true,
    };
    let rogue = Rogue::enter(&lab, &mut desk, &place, "paris-1", manner);
    for name in ["paris-1", "paris-2", "rome-1"] {
        let host = lab.host(name);
        let known = until("the rogue is known", SOON, || {
            let members = host.members()?;
            Ok(members.iter().any(|it| it.name == ROGUE_AT).then_some(()))
        });
        assert!(known.is_ok(), "{name}: {:?}", host.members());
    }
    // More than one, so that one search at least leads to the rogue.
    let names = ["one", "two", "three"];
    for (number, name) in (1..).zip(names) {
        rogue.claim(claimed(&desk, rogue.keys().id(), range, number, name));
    }
    let servers = names.map(|name| (name, "rome-1"));
    let caller = lab.host("paris-1");
    caller.apply(&composition("paris-1", &servers)).unwrap();
    for name in names {
        until_fetched(&lab, "paris-1", name);
    }
    until_dropped_by_any(&lab, &["paris-1", "paris-2"], reason);
}

#[test]
fn what_a_mute_gateway_is_asked_others_answer() {
    found_beside_a_gateway(Manner::Mute, "no_answer");
}

#[test]
fn what_a_babbling_gateway_answers_is_not_believed() {
    found_beside_a_gateway(Manner::Babbling, "unreadable");
}

//! Members and strangers that flood, stall, and speak nonsense: each is dropped by a reason, and the
//! others are served.

use crate::rogue::{CATALOG, Desk, Manner, Order, Place, Rogue};
use crate::site::until_logged;
use crate::sites::{SOON, composition, fetch, until_fetched};
use margay_core::host::HostId;
use margay_core::overlay::Topic;
use margay_core::signature::Purpose;
use margay_core::wire::margay::catalog as wire;
use margay_core::wire::margay::neighbourhood as parts;
use margay_tests::lab::{Host, Lab, Topology, in_network, until};
use prost::Message;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CALLER_AT: &str = "paris-1";
const SERVER_AT: &str = "paris-2";
const ROGUE_AT: &str = "paris-3";

/// What hosts of the site publish about.
const TOPIC: &str = "site/paris";

/// Addresses that the founder has not come to.
const ROGUE_RANGE: &str = "100.127.0.0/16";

/// ```text
///   paris-1: founder, caller   paris-2: server   paris-3: the rogue, as soon as it enters
/// ```
fn paris() -> Lab {
    let topology = Topology::parse("[site.paris]\nhosts = 3\n").unwrap();
    let lab = Lab::without_daemons(&topology).unwrap();
    lab.found_network_without(&[ROGUE_AT], CALLER_AT, |_| &[])
        .unwrap();
    let servers = [("web", SERVER_AT)];
    let host = lab.host(CALLER_AT);
    host.apply(&composition(CALLER_AT, &servers)).unwrap();
    until_fetched(&lab, CALLER_AT, "web");
    lab
}

/// Lets the rogue in, and waits until all hold it for one of theirs.
fn enter(lab: &Lab, desk: &mut Desk) -> Rogue {
    let place = Place {
        host: ROGUE_AT,
        site: "paris",
        is_gateway: false,
    };
    let rogue = Rogue::enter(lab, desk, &place, CALLER_AT, Manner::Honest);
    for seer in [CALLER_AT, SERVER_AT] {
        let host = lab.host(seer);
        let seen = until("the rogue is up", SOON, || {
            let members = host.members()?;
            let is_up = |name: &str, state: &str| name == ROGUE_AT && state == "up";
            Ok(members
                .iter()
                .any(|it| is_up(&it.name, &it.state))
                .then_some(()))
        });
        assert!(
            seen.is_ok(),
            "{seer}: {:?}\n{}",
            host.members(),
            host.log_tail()
        );
    }
    rogue
}

/// Waits until a host has dropped something for each of these reasons.
fn until_dropped(host: &Host, reasons: &[&str]) {
    let mut drops = Default::default();
    let dropped = until("what is wrong is dropped", SOON, || {
        drops = host.drops()?;
        let counted = |reason: &&str| drops.get(*reason).is_some_and(|count| *count > 0);
        Ok(reasons.iter().all(counted).then_some(()))
    });
    assert!(
        dropped.is_ok(),
        "{reasons:?}: {drops:?}\n{}",
        host.log_tail()
    );
}

/// Sees that a service which is new on one host is answered on the other, by the next version of the
/// composition.
fn news_still_spread(lab: &Lab) {
    let servers = [("web", SERVER_AT), ("news", SERVER_AT)];
    let later = composition(CALLER_AT, &servers).replace("version = 1", "version = 2");
    lab.host(CALLER_AT).apply(&later).unwrap();
    until_fetched(lab, CALLER_AT, "news");
}

/// A message of the catalog as its datagram on the link.
fn datagram(gossip: &wire::Gossip) -> Vec<u8> {
    let part = parts::Part {
        version: 1,
        kind: parts::Kind::Gossip.into(),
        count: 1,
        content: gossip.encode_to_vec(),
        ..parts::Part::default()
    };
    part.encode_to_vec()
}

/// A record that says what nobody understands, as `origin`'s word of that number, by the rogue's key.
fn record(rogue: &Rogue, origin: HostId, sequence: u64, version: u32) -> wire::Gossip {
    let record = wire::Record {
        version,
        epoch: 1,
        sequence,
        key: b"no key".to_vec(),
        body: Some(b"no body".to_vec()),
        digest: vec![0; 16],
    };
    let signed = rogue.keys().host.sign(Purpose("catalog record"), &record);
    wire::Gossip {
        version: 1,
        origin: origin.as_bytes().to_vec(),
        records: vec![signed.encode_to_vec()],
        ..wire::Gossip::default()
    }
}

#[test]
fn poisoned_records_stop_nobody() {
    let lab = paris();
    let rogue = enter(&lab, &mut Desk::open(&lab, CALLER_AT, ROGUE_RANGE));
    let own = rogue.keys().id();
    let hosts = [CALLER_AT, SERVER_AT];
    let ids = hosts.map(|host| crate::rogue::Keys::of(&lab, host).id());
    let poisoned = [
        // Another host's word, by the rogue's key.
        record(&rogue, ids[0], 100, 1),
        record(&rogue, ids[1], 100, 1),
        // Its own word, which nobody understands, and one of a version to come.
        record(&rogue, own, 100, 1),
        record(&rogue, own, 101, 9),
    ];
    for gossip in &poisoned {
        rogue.publish(TOPIC, gossip.encode_to_vec());
        for id in ids {
            rogue.say(id, CATALOG, &datagram(gossip));
        }
    }
    rogue.publish(TOPIC, vec![0xff; 500]);
    for id in ids {
        rogue.say(id, CATALOG, &[0xff; 500]);
    }
    for host in hosts {
        let reasons = [
            "forged",
            "unread",
            "unreadable",
            "unknown_version",
            "unreadable_part",
        ];
        until_dropped(lab.host(host), &reasons);
    }
    news_still_spread(&lab);
}

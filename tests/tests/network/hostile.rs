//! Members and strangers that flood, stall, and speak nonsense: each is dropped by a reason, and the
//! others are served.

use crate::rogue::{
    CATALOG, Desk, INTRODUCTION, Keys, Manner, Order, PORT, Place, REVOCATION, Rogue,
};
use crate::site::until_held;
use crate::sites::{SOON, composition, fetch, until_fetched};
use margay_core::address::{AddressPlan, InstanceAddresses, Ipv4Block, VirtualIp};
use margay_core::host::HostId;
use margay_core::id::{InstanceId, Version};
use margay_core::overlay::Topic;
use margay_core::peer::{Distance, Known, RemoteInstance};
use margay_core::signature::Purpose;
use margay_core::wire::margay::catalog as wire;
use margay_core::wire::margay::neighbourhood as parts;
use margay_tests::lab::{Host, Lab, Topology, in_network, until};
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
        until_held(lab.host(seer), ROGUE_AT, "up");
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

/// Waits until one of the hosts has dropped something for this reason.
pub fn until_dropped_by_any(lab: &Lab, hosts: &[&str], reason: &str) {
    let dropped = until("what is wrong is dropped", SOON, || {
        for host in hosts {
            if lab
                .host(host)
                .drops()?
                .get(reason)
                .is_some_and(|it| *it > 0)
            {
                return Ok(Some(()));
            }
        }
        Ok(None)
    });
    let drops = hosts.iter().map(|host| lab.host(host).drops());
    assert!(dropped.is_ok(), "{reason}: {:?}", drops.collect::<Vec<_>>());
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

/// A record that says what nobody understands, as `origin`'s word in some life of it, by the rogue's key.
fn record(rogue: &Rogue, origin: HostId, epoch: u64, version: u32) -> wire::Gossip {
    let record = wire::Record {
        version,
        epoch,
        sequence: 100,
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
    let ids = hosts.map(|host| Keys::of(&lab, host).id());
    let poisoned = [
        // Another host's word, by the rogue's key.
        record(&rogue, ids[0], u64::MAX, 1),
        record(&rogue, ids[1], u64::MAX, 1),
        // Its own word, which nobody understands, and one of a version to come.
        record(&rogue, own, 1, 1),
        record(&rogue, own, 1, 9),
    ];
    let poison = || {
        for gossip in &poisoned {
            rogue.publish(TOPIC, gossip.encode_to_vec());
            for id in ids {
                rogue.say(id, CATALOG, &datagram(gossip));
            }
        }
        rogue.publish(TOPIC, vec![0xff; 500]);
        for id in ids {
            rogue.say(id, CATALOG, &[0xff; 500]);
            rogue.say(id, INTRODUCTION, b"nobody");
            rogue.say(id, REVOCATION, b"everybody");
            rogue.say(id, 200, b"of a version to come");
        }
    };
    let reasons = [
        "forged",
        "unread",
        "unreadable",
        "unknown_version",
        "unreadable_part",
        "unknown_payload",
    ];
    // What is said once may be lost.
    let dropped = until("what is wrong is dropped", SOON, || {
        poison();
        let drops = [lab.host(hosts[0]).drops()?, lab.host(hosts[1]).drops()?];
        let all = |drops: &BTreeMap<String, u64>| {
            let counted = |reason: &&str| drops.get(*reason).is_some_and(|count| *count > 0);
            reasons.iter().all(counted)
        };
        Ok(drops.iter().all(all).then_some(()))
    });
    assert!(
        dropped.is_ok(),
        "{:?}",
        hosts.map(|host| lab.host(host).drops())
    );
    news_still_spread(&lab);
}

/// It says of the server's host that it ended, in a life that would win over all that it can say.
#[test]
fn whoever_says_that_another_has_ended_is_not_believed_for_long() {
    let lab = paris();
    let rogue = enter(&lab, &mut Desk::open(&lab, CALLER_AT, ROGUE_RANGE));
    rogue.order(Order::Slander(Keys::of(&lab, SERVER_AT).id()));
    until_dropped(lab.host(CALLER_AT), &["contradicted"]);
    until_held(lab.host(CALLER_AT), SERVER_AT, "up");
    until_fetched(&lab, CALLER_AT, "web");
    others_are_served(&lab);
}

/// An instance's identity and addresses are its host's to give: nobody else is believed.
#[test]
fn whoever_claims_anothers_addresses_is_not_believed() {
    let lab = paris();
    let desk = &mut Desk::open(&lab, CALLER_AT, ROGUE_RANGE);
    let rogue = enter(&lab, desk);
    let anothers = "100.64.16.0/20";
    rogue.claim(claimed(desk, rogue.keys().id(), anothers, 1, "web"));
    for host in [CALLER_AT, SERVER_AT] {
        until_dropped(lab.host(host), &["not_its_own"]);
    }
    others_are_served(&lab);
}

/// An instance as the host would tell of it that has this block.
pub fn claimed(
    desk: &Desk,
    host: HostId,
    block: &str,
    number: u32,
    service: &str,
) -> RemoteInstance {
    let block: Ipv4Block = block.parse().unwrap();
    let plan = AddressPlan::new(&desk.network().address_key(), block);
    let instance = InstanceId(u64::from(block.base().to_bits()) << 32 | u64::from(number));
    let (called, caller) = plan.v6_of(instance);
    let vip = |v4: Ipv4Block, v6| VirtualIp {
        v4: (v4.base().to_bits() + number).into(),
        v6,
    };
    RemoteInstance {
        instance,
        host,
        name: format!("{number}.{service}").parse().unwrap(),
        composition: "far".parse().unwrap(),
        version: Version(1),
        addresses: InstanceAddresses {
            called: vip(plan.v4_called, called),
            caller: vip(plan.v4_caller, caller),
        },
        ready: true,
        weight: NonZeroU32::new(100).unwrap(),
        flows: 0,
        processor: 0,
        distance: Distance::NONE,
        via: None,
        known: Known::Flooded,
    }
}

/// Sees that flows open while something goes on, each at its first try, and that news spread.
fn others_are_served(lab: &Lab) {
    let began = Instant::now();
    for _ in 0..10 {
        let host = lab.host(CALLER_AT);
        let fetched = fetch(host, "web");
        assert!(fetched.is_ok(), "{fetched:?}\n{}", host.log_tail());
    }
    let fetched = began.elapsed();
    news_still_spread(lab);
    println!(
        "ten fetches took {fetched:?}, news {:?}",
        began.elapsed() - fetched
    );
}

#[test]
fn whoever_floods_the_link_keeps_nobody_from_being_served() {
    let lab = paris();
    let rogue = enter(&lab, &mut Desk::open(&lab, CALLER_AT, ROGUE_RANGE));
    for host in [CALLER_AT, SERVER_AT] {
        let to = Keys::of(&lab, host).id();
        let payload = [&[CATALOG], &[0xff; 1_000][..]].concat();
        let copies = 100_000;
        rogue.order(Order::Say {
            to,
            payload,
            copies,
        });
    }
    until_dropped(lab.host(CALLER_AT), &["unreadable_part"]);
    others_are_served(&lab);
}

#[test]
fn whoever_floods_gossip_keeps_nobody_from_being_served() {
    let lab = paris();
    let rogue = enter(&lab, &mut Desk::open(&lab, CALLER_AT, ROGUE_RANGE));
    let topic = Topic(TOPIC.to_owned());
    let messages = 100_000;
    rogue.order(Order::Flood { topic, messages });
    until_dropped(lab.host(CALLER_AT), &["unreadable"]);
    others_are_served(&lab);
}

/// Does something over and over on a host that has no daemon, for as long as this lives.
struct Stranger {
    goes_on: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    /// `visit` is called again and again in the host's network.
    fn at(lab: &Lab, mut visit: impl FnMut() + Send + 'static) -> Stranger {
        let namespace = lab.host(ROGUE_AT).network_namespace();
        let goes_on = Arc::new(AtomicBool::new(true));
        let wanted = Arc::clone(&goes_on);
        let thread = std::thread::spawn(move || {
            in_network(&namespace).unwrap();
            while wanted.load(Ordering::Relaxed) {
                visit();
            }
        });
        Stranger {
            goes_on,
            thread: Some(thread),
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Where the link and the overlay of a host listen.
fn listens(lab: &Lab, host: &str) -> SocketAddr {
    SocketAddr::new(lab.addresses(host)[0], PORT)
}

#[test]
fn datagrams_that_mean_nothing_keep_nobody_from_being_served() {
    let lab = paris();
    let victims = [CALLER_AT, SERVER_AT].map(|host| listens(&lab, host));
    let initiation = [&[1, 1, 0, 0][..], &[7; 1_150]].concat();
    let data = [&[4, 1, 0, 0][..], &[7; 100]].concat();
    let garbage = [vec![1, 1, 0, 0], vec![0xff; 1_400], initiation, data];
    let mut socket = None;
    let _stranger = Stranger::at(&lab, move || {
        let socket = socket.get_or_insert_with(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        for (victim, datagram) in victims
            .iter()
            .flat_map(|it| garbage.iter().map(move |g| (it, g)))
        {
            socket.send_to(datagram, victim).ok();
        }
    });
    for host in [CALLER_AT, SERVER_AT] {
        until_dropped(
            lab.host(host),
            &["malformed", "wrong_mac", "unknown_session"],
        );
    }
    others_are_served(&lab);
}

/// ```text
///   paris-3 holds as many connections as it gets, some silent and some babbling; paris-2 starts again
/// ```
#[test]
fn streams_that_say_nothing_or_nonsense_keep_nobody_from_being_served() {
    let lab = paris();
    let victims = [CALLER_AT, SERVER_AT].map(|host| listens(&lab, host));
    let mut held = VecDeque::new();
    let _stranger = Stranger::at(&lab, move || {
        for (number, victim) in victims.iter().enumerate() {
            let Ok(mut stream) = TcpStream::connect_timeout(victim, Duration::from_secs(1)) else {
                continue;
            };
            if number.is_multiple_of(2) {
                stream.write_all(b"GET / HTTP/1.1\r\n\r\n").ok();
            }
            held.push_back(stream);
        }
        if held.len() > 400 {
            held.pop_front();
        }
    });
    until_dropped(lab.host(CALLER_AT), &["handshake_failed"]);
    lab.host(SERVER_AT).kill_daemon().unwrap();
    lab.start_member(SERVER_AT).unwrap();
    until_fetched(&lab, CALLER_AT, "web");
    others_are_served(&lab);
}

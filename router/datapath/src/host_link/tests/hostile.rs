//! Peers that flood, stall or speak nonsense, and whatever else arrives: named, and others served.

use super::super::message::MAC_BYTES;
use super::super::sealed::Content;
use super::super::*;
use super::net::{Net, Policy, address, config, host_id};
use super::rogue::Rogue;
use proptest::prelude::*;
use std::time::Duration;

/// The host that [`Net`]'s hosts take a rogue for.
fn rogue_host() -> HostId {
    host_id(99)
}

#[test]
fn a_peer_that_floods_is_dropped_shunned_and_later_admitted_again() {
    let mut strict = config(0, 1);
    strict.limits.peer = Allowance {
        burst: 100,
        per_second: 100,
    };
    strict.limits.excess_max = 50;
    let mut net = Net::new(2, 1);
    net.restart(0, strict);
    net.set_peer(1, 0);
    net.run_until("up", |net| net.is_up(0, 1));
    let mut rogue = Rogue::new(1, address(66));
    let mut flood = rogue.link(&mut net, 0);
    for _ in 0..200 {
        flood.send(&mut net, 0, &Content::Payload(b"flood").to_bytes());
    }
    assert_eq!(net.delivered(0).len(), 100);
    assert_eq!(net.dropped(0, LinkDrop::Flood), 51);
    assert_eq!(net.dropped(0, LinkDrop::UnknownSession), 49);
    let down = Output::Down {
        host: rogue_host(),
        reason: DownReason::Flood,
    };
    assert!(net.hosts[0].told.contains(&down));
    let again = rogue.initiation(net.hosts[0].key, None);
    net.inject(0, rogue.from, &again);
    assert_eq!(net.dropped(0, LinkDrop::Shunned), 1);
    net.send(1, 0, b"served");
    net.run_for(Duration::from_millis(100));
    assert_eq!(net.delivered(0).last().unwrap(), b"served");
    net.run_for(SHUN);
    assert_eq!(net.hosts[0].link.peers.len(), 1, "it is forgotten");
    rogue.link(&mut net, 0);
}

#[test]
fn a_busy_peer_within_its_budget_is_not_dropped() {
    let mut strict = config(0, 1);
    strict.limits.peer = Allowance {
        burst: 100,
        per_second: 100,
    };
    strict.limits.excess_max = 50;
    let mut net = Net::new(1, 1);
    net.restart(0, strict);
    let mut busy = Rogue::new(1, address(66)).link(&mut net, 0);
    for _ in 0..5 {
        for _ in 0..120 {
            busy.send(&mut net, 0, &Content::Payload(b"busy").to_bytes());
        }
        net.run_for(Duration::from_secs(2));
    }
    assert_eq!(net.delivered(0).len(), 500);
    assert!(net.downs(0).is_empty());
}

#[test]
fn a_peer_that_speaks_nonsense_is_dropped_and_others_are_served() {
    let mut net = Net::pair(1);
    let mut rogue = Rogue::new(1, address(66)).link(&mut net, 0);
    let unasked = Content::EchoAnswer(9).to_bytes();
    for nonsense in [&[][..], &[9], &[1, 2], &unasked, &[3, 3]]
        .into_iter()
        .cycle()
        .take(11)
    {
        rogue.send(&mut net, 0, nonsense);
    }
    // The empty ones are too short to be datagrams at all.
    assert_eq!(net.dropped(0, LinkDrop::Malformed), 3);
    assert_eq!(net.dropped(0, LinkDrop::Nonsense), 8);
    rogue.send(&mut net, 0, &[9]);
    let down = Output::Down {
        host: rogue_host(),
        reason: DownReason::Nonsense,
    };
    assert_eq!(net.hosts[0].told.last(), Some(&down));
    net.send(1, 0, b"served");
    net.run_for(Duration::from_millis(100));
    assert_eq!(net.delivered(0), [b"served"]);
}

#[test]
fn a_peer_that_stalls_is_dropped_and_forgotten() {
    let mut net = Net::new(1, 1);
    let mut rogue = Rogue::new(1, address(66)).link(&mut net, 0);
    rogue.send(&mut net, 0, &Content::Payload(b"hello").to_bytes());
    let began = net.now;
    net.run_until("down", |net| !net.downs(0).is_empty());
    assert_eq!(net.downs(0), [DownReason::Silent]);
    assert_eq!(net.now.since(began), SILENCE_MAX);
    assert!(net.hosts[0].link.peers.is_empty());
    assert!(net.hosts[0].link.shared.indices.is_empty());
    assert_eq!(net.hosts[0].link.poll_timeout(), None);
}

#[test]
fn an_admitted_session_that_is_never_used_ends() {
    let mut net = Net::new(1, 1);
    Rogue::new(1, address(66)).link(&mut net, 0);
    net.run_for(UNUSED_LIFE);
    assert!(net.hosts[0].told.is_empty());
    assert!(net.hosts[0].link.peers.is_empty());
    assert!(net.hosts[0].link.shared.indices.is_empty());
}

#[test]
fn copied_initiations_are_dropped_before_core_sees_them() {
    let mut net = Net::new(2, 1);
    net.hosts[1].policy = Policy::SayNothing;
    net.set_peer(0, 1);
    net.run_for(Duration::from_millis(50));
    let initiation = net.seen[0].clone();
    net.inject(1, initiation.from, &initiation.bytes);
    assert_eq!(net.dropped(1, LinkDrop::ReplayedInitiation), 1);
    net.hosts[1].policy = Policy::Admit;
    net.run_until("up", |net| net.is_up(0, 1) && net.is_up(1, 0));
    net.inject(1, initiation.from, &initiation.bytes);
    assert_eq!(net.dropped(1, LinkDrop::ReplayedInitiation), 2);
    assert_eq!(net.hosts[1].introduced, 2);
}

#[test]
fn a_host_that_reaches_itself_does_not_talk_to_itself() {
    let mut net = Net::new(1, 1);
    let set = Input::SetPeer {
        host: host_id(50),
        noise_key: net.hosts[0].key,
        addresses: vec![address(0)],
    };
    net.tell(0, set);
    net.run_for(Duration::from_secs(1));
    assert!(net.dropped(0, LinkDrop::OwnKey) > 0);
    assert_eq!(net.hosts[0].introduced, 0);
}

#[test]
fn another_networks_host_gets_no_session() {
    let mut net = Net::new(2, 1);
    let mut foreign = config(1, 1);
    foreign.network = NetworkSecret([8; 32]);
    net.restart(1, foreign);
    net.introduce_each_other();
    net.run_for(Duration::from_secs(30));
    assert!(!net.is_up(0, 1) && !net.is_up(1, 0));
    assert!(net.dropped(0, LinkDrop::Forged) > 0);
    assert!(net.dropped(1, LinkDrop::Forged) > 0);
}

#[test]
fn forged_datagrams_end_no_session_and_spend_no_budget() {
    let mut strict = config(0, 1);
    strict.limits.peer = Allowance {
        burst: 10,
        per_second: 10,
    };
    strict.limits.excess_max = 10;
    let mut net = Net::new(1, 1);
    net.restart(0, strict);
    let mut peer = Rogue::new(1, address(66)).link(&mut net, 0);
    peer.send(&mut net, 0, &Content::Payload(b"one").to_bytes());
    let Some(index) = net.hosts[0].link.shared.indices.keys().next().copied() else {
        panic!("a session");
    };
    for counter in 0..1000 {
        let forged = Message::Data {
            receiver: index,
            counter: counter + 1,
            sealed: &[0; 40],
        };
        net.inject(0, address(67), &forged.to_bytes());
    }
    assert_eq!(net.dropped(0, LinkDrop::Forged), 1000);
    peer.send(&mut net, 0, &Content::Payload(b"two").to_bytes());
    assert_eq!(net.delivered(0), [b"one", b"two"]);
}

#[test]
fn a_forged_response_does_not_spoil_the_handshake() {
    let mut net = Net::new(2, 1);
    net.set_peer(0, 1);
    net.run_until("called", |net| !net.seen.is_empty());
    let Ok(Message::Initiation { sender, .. }) = Message::parse(&net.seen[0].bytes) else {
        panic!("an initiation");
    };
    let forged = Message::Response {
        receiver: sender,
        noise: &[9; 100],
    }
    .to_bytes();
    let cookie = Message::CookieReply {
        receiver: sender,
        nonce: [1; 24],
        sealed: [2; 32],
    }
    .to_bytes();
    net.inject(0, address(1), &forged);
    net.inject(0, address(1), &cookie);
    assert_eq!(net.dropped(0, LinkDrop::Forged), 2);
    net.run_for(Duration::from_millis(100));
    assert!(net.is_up(0, 1));
    net.inject(0, address(1), &forged);
    net.inject(0, address(1), &cookie);
    // The index is the session's now, of which no response and no cookie is due.
    assert_eq!(net.dropped(0, LinkDrop::UnknownSession), 2);
}

#[test]
fn no_byte_of_a_handshake_can_be_changed_on_its_way() {
    let mut net = Net::new(2, 1);
    net.cut.extend([(0, 1), (1, 0)]);
    net.set_peer(0, 1);
    net.run_for(Duration::from_millis(10));
    let initiation = net.seen[0].clone();
    // mac2 comes last: without a cookie it says nothing.
    for at in 0..initiation.bytes.len() - MAC_BYTES {
        let mut changed = initiation.bytes.clone();
        changed[at] ^= 1;
        net.inject(1, initiation.from, &changed);
    }
    assert_eq!(net.hosts[1].introduced, 0);
    net.inject(1, initiation.from, &initiation.bytes);
    let [_, response] = &net.seen[..] else {
        panic!("an answer to the true one only");
    };
    let response = response.clone();
    for at in 0..response.bytes.len() {
        let mut changed = response.bytes.clone();
        changed[at] ^= 1;
        net.inject(0, response.from, &changed);
    }
    assert!(net.hosts[0].told.is_empty());
    net.inject(0, response.from, &response.bytes);
    assert!(net.is_up(0, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_from_outside_disturb_a_link(
        datagrams in proptest::collection::vec(any_datagram(), 1..40),
        seed in any::<u64>(),
    ) {
        let mut net = Net::pair(seed);
        for (datagram, damage) in datagrams {
            // Whatever bytes, or a true datagram that was damaged.
            let bytes = match damage {
                Some((which, at, byte)) => {
                    let mut bytes = which.get(&net.seen).bytes.clone();
                    let at = at.index(bytes.len());
                    bytes[at] ^= byte;
                    bytes
                }
                None => datagram,
            };
            net.inject(0, address(66), &bytes);
            net.inject(1, address(0), &bytes);
            net.run_for(Duration::from_millis(20));
        }
        net.send(0, 1, b"still");
        net.send(1, 0, b"here");
        net.run_for(Duration::from_millis(100));
        prop_assert_eq!(net.delivered(1), vec![b"still".to_vec()]);
        prop_assert_eq!(net.delivered(0), vec![b"here".to_vec()]);
        prop_assert!(net.downs(0).is_empty() && net.downs(1).is_empty());
    }
}

type Damage = Option<(prop::sample::Index, prop::sample::Index, u8)>;

fn any_datagram() -> impl Strategy<Value = (Vec<u8>, Damage)> {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        (1..=4u8, proptest::collection::vec(any::<u8>(), 0..1200)).prop_map(|(kind, rest)| [
            &[kind, 1, 0, 0],
            &rest[..]
        ]
        .concat()),
    ];
    let damage = proptest::option::of((
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        1..=255u8,
    ));
    (bytes, damage)
}

//! What sessions do with time: renewed, overlapping, expired; echoes, silence, waiting payloads.

use super::super::sealed::PAYLOAD_BYTES_MAX;
use super::super::*;
use super::net::{Net, Policy, config};
use std::time::Duration;

fn initiations(net: &Net) -> usize {
    let is_one = |bytes: &[u8]| matches!(Message::parse(bytes), Ok(Message::Initiation { .. }));
    net.seen.iter().filter(|it| is_one(&it.bytes)).count()
}

#[test]
fn sessions_are_renewed_by_time_and_no_payload_is_lost_meanwhile() {
    let mut net = Net::pair(1);
    let before = initiations(&net);
    for number in 0..1200u32 {
        net.send(0, 1, &number.to_be_bytes());
        net.send(1, 0, &number.to_be_bytes());
        net.run_for(Duration::from_millis(500));
    }
    let sent: Vec<Vec<u8>> = (0..1200u32).map(|it| it.to_be_bytes().to_vec()).collect();
    assert_eq!(net.delivered(0), sent);
    assert_eq!(net.delivered(1), sent);
    let renewals = initiations(&net) - before;
    assert!((4..=8).contains(&renewals), "{renewals} in ten minutes");
    assert!(net.downs(0).is_empty() && net.downs(1).is_empty());
}

#[test]
fn sessions_are_renewed_by_number_of_datagrams() {
    let mut few = config(0, 1);
    few.limits.renew_after_datagrams = 100;
    let mut net = Net::new(2, 1);
    net.restart(0, few);
    net.set_peer(0, 1);
    net.run_until("up", |net| net.is_up(0, 1));
    let before = initiations(&net);
    for _ in 0..1000 {
        net.send(0, 1, b"again");
        net.run_for(Duration::from_millis(10));
    }
    assert_eq!(net.delivered(1).len(), 1000);
    let renewals = initiations(&net) - before;
    assert!((5..=12).contains(&renewals), "{renewals}");
}

#[test]
fn datagrams_of_the_session_before_still_open_after_a_renewal() {
    let mut net = Net::pair(1);
    net.run_for(RENEW_AFTER - Duration::from_secs(5));
    let begun = net.seen.len();
    net.cut.insert((0, 1));
    net.send(0, 1, b"late");
    let late = net.seen[begun].clone();
    net.cut.clear();
    let calls = initiations(&net);
    net.run_until("renewed", |net| initiations(net) > calls);
    net.run_for(Duration::from_secs(2));
    assert!(net.delivered(1).is_empty());
    net.inject(1, late.from, &late.bytes);
    assert_eq!(net.delivered(1), [b"late"]);
    net.inject(1, late.from, &late.bytes);
    assert_eq!(net.delivered(1), [b"late"], "once");
    assert_eq!(net.dropped(1, LinkDrop::Replayed), 1);
    net.run_for(SESSION_LIFE);
    net.inject(1, late.from, &late.bytes);
    assert_eq!(net.dropped(1, LinkDrop::UnknownSession), 1);
}

#[test]
fn a_session_that_cannot_be_renewed_expires() {
    let mut net = Net::pair(1);
    net.hosts[0].policy = Policy::Refuse("revoked");
    net.hosts[1].policy = Policy::Refuse("revoked");
    let began = net.now;
    net.run_until("down", |net| !net.is_up(0, 1) && !net.is_up(1, 0));
    assert_eq!(net.downs(0), [DownReason::Expired]);
    assert_eq!(net.downs(1), [DownReason::Expired]);
    assert!(net.now.since(began) <= SESSION_LIFE);
}

#[test]
fn half_open_links_are_noticed_by_both_sides() {
    // One hears the other, which does not hear it; either may be who asks.
    for (deaf, seed) in [0, 1].into_iter().zip(1..) {
        let mut net = Net::pair(seed);
        net.run_for(Duration::from_secs(30));
        net.cut.insert((1 - deaf, deaf));
        let cut = net.now;
        net.run_until("one is down", |net| !net.is_up(0, 1) || !net.is_up(1, 0));
        assert!(net.now.since(cut) <= SILENCE_MAX);
        net.run_until("both are down", |net| !net.is_up(0, 1) && !net.is_up(1, 0));
        assert!(net.now.since(cut) <= SILENCE_MAX + ECHO_LATE);
        assert_eq!(net.downs(0), [DownReason::Silent]);
        assert_eq!(net.downs(1), [DownReason::Silent]);
        net.run_for(Duration::from_secs(60));
        assert!(!net.is_up(0, 1) && !net.is_up(1, 0), "half is not up");
        net.cut.clear();
        net.run_until("up again", |net| net.is_up(0, 1) && net.is_up(1, 0));
    }
}

#[test]
fn one_question_serves_both_sides() {
    let mut net = Net::pair(1);
    net.run_for(Duration::from_secs(1));
    let before = net.seen.len();
    net.run_for(Duration::from_secs(60));
    assert!(net.is_up(0, 1) && net.is_up(1, 0));
    // A question and its answer each six to ten seconds.
    assert!((12..=20).contains(&(net.seen.len() - before)));
}

#[test]
fn a_peer_that_started_anew_is_up_again_at_once_if_it_calls() {
    for seed in 0..20 {
        let mut net = Net::pair(seed);
        for index in 0..2 {
            let began = net.now;
            net.restart(index, config(index as u8, 2));
            net.hosts[index].told.clear();
            net.set_peer(index, 1 - index);
            net.run_until("up", |net| net.is_up(index, 1 - index));
            net.run_for(Duration::from_millis(50));
            net.send(1 - index, index, b"hello");
            net.run_for(Duration::from_millis(50));
            assert_eq!(net.delivered(index), [b"hello"], "seed {seed}");
            assert!(net.now.since(began) < Duration::from_secs(1));
        }
    }
}

#[test]
fn a_peer_that_started_anew_in_the_same_epoch_is_taken_for_its_own_past() {
    let mut net = Net::pair(1);
    net.run_for(Duration::from_secs(3));
    net.restart(1, config(1, 1));
    net.set_peer(1, 0);
    net.run_for(Duration::from_millis(100));
    assert!(net.dropped(0, LinkDrop::ReplayedInitiation) > 0);
}

#[test]
fn a_removed_peer_is_told_and_no_longer_served() {
    let mut net = Net::pair(1);
    net.hosts[0].policy = Policy::Refuse("it was removed");
    let one = net.hosts[1].id;
    net.tell(0, Input::RemovePeer { host: one });
    net.run_for(Duration::from_millis(100));
    assert_eq!(net.downs(0), [DownReason::Removed]);
    assert_eq!(net.downs(1), [DownReason::Farewell]);
    net.send(0, 1, b"nothing");
    assert_eq!(net.dropped(0, LinkDrop::NoSuchPeer), 1);
}

#[test]
fn payloads_wait_for_the_handshake_but_few_and_not_for_long() {
    let mut net = Net::new(2, 1);
    net.cut.insert((0, 1));
    net.set_peer(0, 1);
    for number in 0..20u8 {
        net.send(0, 1, &[number]);
    }
    assert_eq!(net.dropped(0, LinkDrop::WaitingFull), 4);
    net.run_for(WAITING_MAX);
    assert_eq!(net.dropped(0, LinkDrop::WaitedTooLong), 16);
    net.send(0, 1, b"in time");
    net.cut.clear();
    net.run_until("up", |net| net.is_up(0, 1));
    net.run_for(Duration::from_millis(100));
    assert_eq!(net.delivered(1), [b"in time"]);
}

#[test]
fn payloads_have_a_longest_length() {
    let mut net = Net::pair(1);
    net.send(0, 1, &[7; PAYLOAD_BYTES_MAX]);
    net.send(0, 1, &[7; PAYLOAD_BYTES_MAX + 1]);
    net.send(0, 1, &[]);
    net.run_for(Duration::from_millis(100));
    let lengths: Vec<usize> = net.delivered(1).iter().map(Vec::len).collect();
    assert_eq!(lengths.len(), 2);
    assert!(lengths.contains(&PAYLOAD_BYTES_MAX) && lengths.contains(&0));
    assert_eq!(net.dropped(0, LinkDrop::PayloadTooLong), 1);
}

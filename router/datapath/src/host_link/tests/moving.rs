//! A host changes its address: the latest authenticated source wins.

use super::super::*;
use super::net::{Net, address};
use std::time::Duration;

#[test]
fn a_host_that_moves_is_followed_as_soon_as_it_speaks() {
    let mut net = Net::pair(1);
    net.hosts[1].addresses = vec![address(77)];
    net.send(1, 0, b"from elsewhere");
    net.run_until("heard", |net| !net.delivered(0).is_empty());
    let roamed = Output::Roamed {
        host: net.hosts[1].id,
        address: address(77),
    };
    assert!(net.hosts[0].told.contains(&roamed));
    net.send(0, 1, b"followed");
    net.run_until("followed", |net| !net.delivered(1).is_empty());
    assert!(net.downs(0).is_empty() && net.downs(1).is_empty());
}

#[test]
fn a_silent_host_that_moves_is_followed_at_once_if_its_router_says_so() {
    let mut net = Net::pair(1);
    net.hosts[1].addresses = vec![address(77)];
    net.tell(1, Input::Moved);
    net.run_for(Duration::from_millis(20));
    net.send(0, 1, b"followed");
    net.run_for(Duration::from_millis(20));
    assert_eq!(net.delivered(1), [b"followed"]);
}

#[test]
fn a_silent_host_that_moves_is_followed_with_its_next_echo() {
    let mut net = Net::pair(1);
    net.hosts[1].addresses = vec![address(77)];
    net.run_for(ECHO_INTERVAL * 2);
    net.send(0, 1, b"followed");
    net.run_for(Duration::from_millis(20));
    assert_eq!(net.delivered(1), [b"followed"]);
}

#[test]
fn neither_copies_nor_forgeries_nor_old_datagrams_move_a_host() {
    let mut net = Net::pair(1);
    let begun = net.seen.len();
    net.send(1, 0, b"first");
    let first = net.seen[begun].clone();
    net.run_until("heard", |net| !net.delivered(0).is_empty());
    let elsewhere = address(66);
    net.inject(0, elsewhere, &first.bytes);
    let mut forged = first.bytes.clone();
    forged[15] ^= 0x40;
    net.inject(0, elsewhere, &forged);
    // Two datagrams in the wrong order, the older from elsewhere.
    net.cut.insert((1, 0));
    let begun = net.seen.len();
    net.send(1, 0, b"older");
    net.send(1, 0, b"newer");
    let [older, newer] = [begun, begun + 1].map(|at| net.seen[at].clone());
    net.inject(0, newer.from, &newer.bytes);
    net.inject(0, elsewhere, &older.bytes);
    let told = &net.hosts[0].told;
    assert_eq!(net.delivered(0), [&b"first"[..], b"newer", b"older"]);
    let roamed = |it: &Output| matches!(it, Output::Roamed { .. });
    assert!(!told.iter().any(roamed), "{told:?}");
}

#[test]
fn a_copied_initiation_from_elsewhere_neither_moves_a_host_nor_ends_its_session() {
    let mut net = Net::new(2, 1);
    net.cut.insert((0, 1));
    net.set_peer(0, 1);
    net.run_for(Duration::from_millis(10));
    let initiation = net.seen[0].clone();
    // It arrives by another way, and is answered there: whoever copied it cannot read the answer.
    net.inject(1, address(66), &initiation.bytes);
    net.cut.clear();
    net.run_until("up", |net| net.is_up(0, 1) && net.is_up(1, 0));
    let up = Output::Up {
        host: net.hosts[0].id,
        address: address(0),
    };
    assert_eq!(net.hosts[1].told, [up]);
}

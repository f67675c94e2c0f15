//! What strangers get: nothing, a cookie, or a handshake within bounds.

use super::super::message::{INITIATION_BYTES, Message};
use super::super::*;
use super::net::{Net, Policy, address, config, host_id};
use super::rogue::Rogue;
use std::time::Duration;

const NONE: Allowance = Allowance {
    burst: 0,
    per_second: 1,
};

/// A net of which host 0 has these limits for strangers.
fn net_with(limits: GateLimits) -> Net {
    let mut guarded = config(0, 1);
    guarded.limits.gate = limits;
    let mut net = Net::new(2, 1);
    net.restart(0, guarded);
    net
}

fn always_cookies() -> GateLimits {
    GateLimits {
        unproven: NONE,
        ..GateLimits::default()
    }
}

#[test]
fn who_does_not_know_our_key_gets_no_answer_at_all() {
    let mut net = net_with(always_cookies());
    let mut stranger = Rogue::new(1, address(66));
    let key = stranger.key();
    let initiation = stranger.initiation(key, None);
    net.inject(0, stranger.from, &initiation);
    assert_eq!(net.dropped(0, LinkDrop::WrongMac), 1);
    assert_eq!((net.hosts[0].sent, net.hosts[0].introduced), (0, 0));
}

#[test]
fn under_load_a_host_returns_its_cookie_and_is_served_without_delay() {
    let mut net = net_with(always_cookies());
    let began = net.now;
    net.set_peer(1, 0);
    net.run_until("up", |net| net.is_up(0, 1));
    assert_eq!(net.dropped(0, LinkDrop::CookieAsked), 1);
    assert!(net.now.since(began) < RETRY_MIN, "within the first try");
    assert_eq!(net.hosts[0].introduced, 1);
}

#[test]
fn a_newcomer_returns_its_cookie_too() {
    let mut net = net_with(always_cookies());
    let introduce = Input::Introduce {
        to: address(0),
        noise_key: net.hosts[0].key,
        introduction: super::net::statement("join"),
    };
    net.tell(1, introduce);
    net.run_until("answered", |net| !net.hosts[1].told.is_empty());
    assert!(matches!(net.hosts[1].told[0], Output::Answered { .. }));
}

#[test]
fn a_cookie_is_used_again_while_it_holds() {
    let mut net = net_with(always_cookies());
    net.hosts[0].policy = Policy::SayNothing;
    net.set_peer(1, 0);
    net.run_until("three tries", |net| net.hosts[0].introduced == 3);
    assert_eq!(net.dropped(0, LinkDrop::CookieAsked), 1);
}

#[test]
fn a_cookie_is_worth_nothing_elsewhere_or_later() {
    let mut net = net_with(always_cookies());
    net.hosts[0].policy = Policy::Refuse("no");
    let key = net.hosts[0].key;
    let mut stranger = Rogue::new(1, address(66));
    let first = stranger.initiation(key, None);
    net.inject(0, stranger.from, &first);
    let cookie = stranger.cookie(&net, key, &first).expect("it gets one");
    let second = stranger.initiation(key, Some(cookie));
    net.inject(0, address(67), &second);
    assert_eq!(net.hosts[0].introduced, 0, "another address");
    net.inject(0, stranger.from, &second);
    assert_eq!(net.hosts[0].introduced, 1);
    // Secrets change only when somebody asks; twice is enough.
    for _ in 0..2 {
        net.run_for(COOKIE_SECRET_LIFE);
        let third = stranger.initiation(key, None);
        net.inject(0, stranger.from, &third);
    }
    let late = stranger.initiation(key, Some(cookie));
    net.inject(0, stranger.from, &late);
    assert_eq!(net.hosts[0].introduced, 1, "too late");
}

#[test]
fn one_flooding_source_is_bounded_and_others_are_served() {
    let mut net = net_with(GateLimits::default());
    net.hosts[0].policy = Policy::Refuse("no");
    let key = net.hosts[0].key;
    let mut flooder = Rogue::new(1, address(66));
    for _ in 0..300 {
        let initiation = flooder.initiation(key, None);
        net.inject(0, flooder.from, &initiation);
    }
    assert_eq!(net.hosts[0].introduced, 10, "its burst");
    let last = flooder.initiation(key, None);
    net.inject(0, flooder.from, &last);
    let cookie = flooder.cookie(&net, key, &last).expect("it is asked");
    for _ in 0..300 {
        let initiation = flooder.initiation(key, Some(cookie));
        net.inject(0, flooder.from, &initiation);
    }
    assert_eq!(net.hosts[0].introduced, 20, "its burst with a cookie");
    assert_eq!(net.dropped(0, LinkDrop::SourceBudget), 290);
    net.hosts[0].policy = Policy::Admit;
    net.set_peer(1, 0);
    net.run_until("up", |net| net.is_up(0, 1));
}

#[test]
fn forged_sources_cost_a_bounded_number_of_handshakes_and_cookies() {
    let mut net = net_with(GateLimits::default());
    net.hosts[0].policy = Policy::Refuse("no");
    let key = net.hosts[0].key;
    let mut flooder = Rogue::new(1, address(66));
    for number in 0..2000u32 {
        let forged = SocketAddr::from((std::net::Ipv4Addr::from(0x0b00_0000 + number), 9));
        let initiation = flooder.initiation(key, None);
        net.inject(0, forged, &initiation);
    }
    assert_eq!(net.hosts[0].introduced, 100);
    assert_eq!(net.dropped(0, LinkDrop::CookieAsked), 500);
    assert_eq!(net.dropped(0, LinkDrop::CookieBudget), 1400);
    net.hosts[0].policy = Policy::Admit;
    net.set_peer(1, 0);
    let began = net.now;
    net.run_until("up", |net| net.is_up(0, 1));
    assert!(net.now.since(began) < Duration::from_secs(2));
}

#[test]
fn sources_with_cookies_share_what_this_host_computes() {
    let mut net = net_with(GateLimits {
        unproven: NONE,
        proven: Allowance {
            burst: 1,
            per_second: 1,
        },
        ..GateLimits::default()
    });
    let key = net.hosts[0].key;
    for number in 0..3 {
        let mut honest = Rogue::new(number + 1, address(60 + number));
        let first = honest.initiation(key, None);
        net.inject(0, honest.from, &first);
        let cookie = honest.cookie(&net, key, &first);
        let second = honest.initiation(key, cookie);
        net.inject(0, honest.from, &second);
    }
    assert_eq!(net.hosts[0].introduced, 1);
    assert_eq!(net.dropped(0, LinkDrop::HandshakeBudget), 2);
}

#[test]
fn the_table_of_sources_is_bounded_and_empties_itself() {
    let mut net = net_with(GateLimits {
        sources_max: 3,
        ..GateLimits::default()
    });
    net.hosts[0].policy = Policy::Refuse("no");
    let key = net.hosts[0].key;
    let mut flooder = Rogue::new(1, address(66));
    for round in 1..=2 {
        for number in 0..5 {
            let initiation = flooder.initiation(key, None);
            net.inject(0, address(100 + 10 * round + number), &initiation);
        }
        assert_eq!(net.hosts[0].introduced, 3 * u32::from(round));
        net.run_for(Duration::from_secs(3));
    }
}

#[test]
fn forged_sources_take_no_place_of_who_returns_its_cookie() {
    let mut net = net_with(GateLimits {
        sources_max: 3,
        ..GateLimits::default()
    });
    let key = net.hosts[0].key;
    let mut flooder = Rogue::new(1, address(66));
    for number in 0..5 {
        let initiation = flooder.initiation(key, None);
        net.inject(0, address(100 + number), &initiation);
    }
    let before = net.hosts[0].introduced;
    let mut honest = Rogue::new(2, address(60));
    let first = honest.initiation(key, None);
    net.inject(0, honest.from, &first);
    let cookie = honest.cookie(&net, key, &first);
    let second = honest.initiation(key, cookie);
    net.inject(0, honest.from, &second);
    assert_eq!(net.hosts[0].introduced, before + 1);
}

#[test]
fn addresses_of_one_ipv6_network_are_one_source() {
    let mut net = net_with(GateLimits::default());
    net.hosts[0].policy = Policy::Refuse("no");
    let key = net.hosts[0].key;
    let mut flooder = Rogue::new(1, address(66));
    for number in 0..50 {
        let from = format!("[2001:db8::{number:x}]:9").parse().unwrap();
        let initiation = flooder.initiation(key, None);
        net.inject(0, from, &initiation);
    }
    assert_eq!(net.hosts[0].introduced, 10);
    let from = "[2001:db8:0:1::1]:9".parse().unwrap();
    let initiation = flooder.initiation(key, None);
    net.inject(0, from, &initiation);
    assert_eq!(net.hosts[0].introduced, 11);
}

#[test]
fn no_answer_is_longer_than_what_it_answers() {
    let mut net = Net::new(2, 1);
    net.hosts[1].policy = Policy::SayNothing;
    net.set_peer(0, 1);
    net.run_for(Duration::from_millis(50));
    let longest = sealed::Statement::new(vec![7; sealed::STATEMENT_BYTES_MAX]).unwrap();
    let admit = Input::Admit {
        exchange: ExchangeId(0),
        host: host_id(0),
        answer: longest,
    };
    net.tell(1, admit);
    let [initiation, response] = &net.seen[..] else {
        panic!("two datagrams");
    };
    assert!(matches!(
        Message::parse(&response.bytes),
        Ok(Message::Response { .. })
    ));
    assert_eq!(initiation.bytes.len(), INITIATION_BYTES);
    assert!(response.bytes.len() < INITIATION_BYTES);
}

//! How links come about: introduced, admitted, refused, at once from both sides, by NAT.

use super::super::*;
use super::net::{Net, Policy, address, config, host_id, statement};
use std::time::Duration;

#[test]
fn a_host_that_is_told_of_another_links_to_it_and_both_learn_who_speaks() {
    let mut net = Net::new(2, 1);
    net.set_peer(0, 1);
    net.run_until("both are up", |net| net.is_up(0, 1) && net.is_up(1, 0));
    let (zero, one) = (net.hosts[0].id, net.hosts[1].id);
    assert_eq!(
        net.hosts[0].told,
        [
            Output::Answered {
                by: Party::Host(one),
                answer: statement("welcome")
            },
            Output::Up {
                host: one,
                address: address(1)
            },
        ]
    );
    assert_eq!(
        net.hosts[1].told,
        [Output::Up {
            host: zero,
            address: address(0)
        }]
    );
    net.send(0, 1, b"question");
    net.send(1, 0, b"answer");
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.delivered(1), [b"question"]);
    assert_eq!(net.delivered(0), [b"answer"]);
}

#[test]
fn core_sees_the_introduction_and_until_it_speaks_nothing_is_answered() {
    let mut net = Net::new(1, 1);
    let mut other = HostLink::new(config(1, 1), [1; 32], net.now);
    let set = Input::SetPeer {
        host: net.hosts[0].id,
        noise_key: net.hosts[0].key,
        addresses: vec![address(0)],
    };
    other.handle_input(set, net.now);
    other.handle_timeout(net.now);
    let Some(Output::Transmit { datagram, .. }) = other.poll_output() else {
        panic!("it calls");
    };
    let link = &mut net.hosts[0].link;
    let received = Input::Received {
        from: address(1),
        datagram: &datagram,
    };
    link.handle_input(received, net.now);
    let introduced = Output::Introduced {
        exchange: ExchangeId(0),
        from: address(1),
        noise_key: other.public_key(),
        introduction: statement("host 1"),
    };
    assert_eq!(link.poll_output(), Some(introduced));
    assert_eq!(link.poll_output(), None);
}

#[test]
fn an_introduction_that_changed_is_what_the_next_handshake_says() {
    let mut net = Net::new(2, 1);
    net.hosts[1].policy = Policy::SayNothing;
    net.tell(0, Input::SetIntroduction(statement("renewed")));
    net.set_peer(0, 1);
    net.run_for(Duration::from_millis(100));
    let initiation = net.seen[0].bytes.clone();
    // The same initiation, read by a link of the same key that has not seen it.
    let mut reader = HostLink::new(config(1, 1), [9; 32], net.now);
    let received = Input::Received {
        from: address(0),
        datagram: &initiation,
    };
    reader.handle_input(received, net.now);
    let Some(Output::Introduced { introduction, .. }) = reader.poll_output() else {
        panic!("it opens");
    };
    assert_eq!(introduction, statement("renewed"));
}

#[test]
fn a_refused_host_learns_why_and_tries_ever_more_rarely() {
    let mut net = Net::new(2, 1);
    net.hosts[1].policy = Policy::Refuse("the certificate expired yesterday");
    net.set_peer(0, 1);
    net.run_for(Duration::from_secs(120));
    let refused = Output::Refused {
        by: Party::Host(net.hosts[1].id),
        reason: "the certificate expired yesterday".to_owned(),
    };
    let told = &net.hosts[0].told;
    assert!(told.iter().all(|it| *it == refused), "{told:?}");
    assert!((6..=11).contains(&told.len()), "{} tries", told.len());
    assert!(!net.is_up(1, 0));
}

#[test]
fn an_exchange_about_which_core_says_nothing_ends() {
    let mut net = Net::new(2, 1);
    net.hosts[1].policy = Policy::SayNothing;
    net.set_peer(0, 1);
    net.run_until("one tried often", |net| net.hosts[1].introduced == 3);
    let zero = net.hosts[0].id;
    net.tell(
        0,
        Input::RemovePeer {
            host: net.hosts[1].id,
        },
    );
    net.run_for(EXCHANGE_LIFE + Duration::from_secs(1));
    assert_eq!(net.dropped(1, LinkDrop::ExchangeExpired), 1, "the newest");
    for exchange in 0..3 {
        let admit = Input::Admit {
            exchange: ExchangeId(exchange),
            host: zero,
            answer: statement("too late"),
        };
        net.tell(1, admit);
    }
    assert_eq!(net.dropped(1, LinkDrop::ExchangeUnknown), 3);
    assert_eq!(net.hosts[1].sent, 0);
}

#[test]
fn too_many_exchanges_at_once_are_dropped_and_later_ones_served() {
    let mut few = config(0, 1);
    few.limits.exchanges_max = 2;
    let mut net = Net::new(4, 1);
    net.restart(0, few);
    net.hosts[0].policy = Policy::SayNothing;
    for other in 1..4 {
        net.set_peer(other, 0);
    }
    net.run_for(Duration::from_millis(100));
    assert_eq!(net.hosts[0].introduced, 2);
    assert_eq!(net.dropped(0, LinkDrop::ExchangesFull), 1);
    net.hosts[0].policy = Policy::Admit;
    net.run_until("all are up", |net| (1..4).all(|other| net.is_up(other, 0)));
}

#[test]
fn handshakes_that_cross_end_in_one_session_that_both_use() {
    for seed in 0..20 {
        let mut net = Net::new(2, seed);
        net.introduce_each_other();
        net.run_for(Duration::from_secs(2));
        assert!(net.is_up(0, 1) && net.is_up(1, 0), "seed {seed}");
        let begun = net.seen.len();
        net.send(0, 1, b"over");
        net.send(1, 0, b"back");
        net.run_for(Duration::from_millis(100));
        let session = |datagram: &super::net::Datagram| match Message::parse(&datagram.bytes) {
            Ok(Message::Data { receiver, .. }) => receiver,
            other => panic!("seed {seed}: {other:?}"),
        };
        let [over, back] = &net.seen[begun..begun + 2] else {
            panic!("two datagrams");
        };
        // The session that the lower key began: what it is sent bears the index of its handshake.
        let lower = usize::from(net.hosts[1].key < net.hosts[0].key);
        let called = net
            .seen
            .iter()
            .find_map(|it| match Message::parse(&it.bytes) {
                Ok(Message::Initiation { sender, .. }) if it.from == net.address_of(lower) => {
                    Some(sender)
                }
                _ => None,
            });
        let towards_lower = if lower == 0 { back } else { over };
        assert_eq!(Some(session(towards_lower)), called, "seed {seed}");
        assert_eq!(net.delivered(0), [b"back"]);
        assert_eq!(net.delivered(1), [b"over"]);
    }
}

#[test]
fn addresses_are_tried_in_turn_until_one_answers() {
    let mut net = Net::new(2, 1);
    let nowhere = address(200);
    let set = Input::SetPeer {
        host: net.hosts[1].id,
        noise_key: net.hosts[1].key,
        addresses: vec![nowhere, nowhere, address(1)],
    };
    net.tell(0, set);
    net.run_until("up", |net| net.is_up(0, 1));
    let tried: Vec<_> = net.seen[..3].iter().map(|it| it.to).collect();
    assert_eq!(tried, [nowhere, nowhere, address(1)]);
    let took = net.now.since(Moment::from_nanos(1_000_000_000));
    assert!(took < Duration::from_millis(1600), "{took:?}");
}

#[test]
fn addresses_beyond_the_bound_are_named() {
    let mut net = Net::new(2, 1);
    let set = Input::SetPeer {
        host: net.hosts[1].id,
        noise_key: net.hosts[1].key,
        addresses: (0..10).map(|number| address(100 + number)).collect(),
    };
    net.tell(0, set);
    assert_eq!(net.dropped(0, LinkDrop::AddressesFull), 2);
}

#[test]
fn a_host_behind_a_nat_is_reached_over_the_mapping_that_it_opened() {
    let mut net = Net::new(2, 1);
    net.hosts[1].mappings = Some(Default::default());
    net.set_peer(0, 1);
    net.run_for(Duration::from_secs(5));
    assert!(!net.is_up(0, 1), "nobody reaches it unasked");
    net.set_peer(1, 0);
    net.run_until("up", |net| net.is_up(0, 1) && net.is_up(1, 0));
    net.run_for(Duration::from_secs(600));
    net.send(0, 1, b"hello");
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.delivered(1), [b"hello"]);
    assert!(net.downs(0).is_empty() && net.downs(1).is_empty());
}

#[test]
fn a_newcomer_asks_once_and_is_answered_without_a_link() {
    let mut net = Net::new(2, 1);
    let introduce = Input::Introduce {
        to: address(1),
        noise_key: net.hosts[1].key,
        introduction: statement("please let me join"),
    };
    net.tell(0, introduce);
    net.run_for(Duration::from_secs(60));
    let answered = Output::Answered {
        by: Party::Address(address(1)),
        answer: statement("welcome"),
    };
    assert_eq!(net.hosts[0].told, [answered]);
    assert_eq!(net.hosts[0].sent, 1);
    assert!(net.hosts[1].told.is_empty(), "{:?}", net.hosts[1].told);
    assert_eq!(net.hosts[1].link.peers.len(), 0, "nothing is kept of it");
    net.set_peer(0, 1);
    net.run_until("up", |net| net.is_up(1, 0));
}

#[test]
fn a_newcomer_is_refused_or_told_that_nobody_answers() {
    let mut net = Net::new(2, 1);
    net.hosts[1].policy = Policy::Refuse("this token is used up");
    for to in [address(1), address(200)] {
        let introduce = Input::Introduce {
            to,
            noise_key: net.hosts[1].key,
            introduction: statement("please let me join"),
        };
        net.tell(0, introduce);
    }
    net.run_for(REQUEST_LIFE + Duration::from_secs(1));
    let refused = Output::Refused {
        by: Party::Address(address(1)),
        reason: "this token is used up".to_owned(),
    };
    let unanswered = Output::Unanswered { to: address(200) };
    assert_eq!(net.hosts[0].told, [refused, unanswered]);
    assert_eq!(net.hosts[0].link.poll_timeout(), None);
}

#[test]
fn requests_are_bounded() {
    let mut net = Net::new(2, 1);
    for number in 0..9 {
        let introduce = Input::Introduce {
            to: address(200 + number),
            noise_key: net.hosts[1].key,
            introduction: statement("join"),
        };
        net.tell(0, introduce);
    }
    assert_eq!(net.dropped(0, LinkDrop::RequestsFull), 1);
}

#[test]
fn a_host_without_room_for_another_link_says_so() {
    let mut full = config(0, 1);
    full.limits.peers_max = 1;
    let mut net = Net::new(3, 1);
    net.restart(0, full);
    net.set_peer(1, 0);
    net.run_until("up", |net| net.is_up(0, 1));
    net.set_peer(2, 0);
    net.run_until("refused", |net| !net.hosts[2].told.is_empty());
    assert!(
        matches!(&net.hosts[2].told[0], Output::Refused { reason, .. } if reason.contains("as many"))
    );
    assert!(net.dropped(0, LinkDrop::PeersFull) > 0);
    net.set_peer(0, 2);
    assert!(
        net.dropped(0, LinkDrop::PeersFull) > 1,
        "core is not exempt"
    );
}

#[test]
fn a_new_key_of_a_host_ends_its_old_sessions_and_not_the_wish_for_a_link() {
    let mut net = Net::pair(1);
    let mut renewed = config(1, 2);
    renewed.private_key = NoisePrivateKey::from_bytes([222; 32]);
    net.restart(1, renewed);
    net.hosts[1].key = net.hosts[1].link.public_key();
    net.hosts[1].told.clear();
    net.set_peer(1, 0);
    net.run_until("up again", |net| net.is_up(1, 0) && net.is_up(0, 1));
    assert_eq!(net.downs(0), [DownReason::KeyChanged]);
    net.cut.extend([(0, 1), (1, 0)]);
    net.run_until("down", |net| !net.is_up(0, 1));
    net.cut.clear();
    net.tell(1, Input::RemovePeer { host: host_id(0) });
    net.hosts[1].told.clear();
    net.run_until("called by zero", |net| net.is_up(1, 0));
}

#[test]
fn a_key_that_proves_to_be_another_hosts_is_that_hosts() {
    let mut net = Net::new(2, 1);
    let wrong = Input::SetPeer {
        host: host_id(50),
        noise_key: net.hosts[1].key,
        addresses: Vec::new(),
    };
    net.tell(0, wrong);
    net.set_peer(1, 0);
    net.run_until("up", |net| net.is_up(0, 1));
    net.send(0, 1, b"hello");
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.delivered(1), [b"hello"]);
}

//! Echoes of keepers: asked where the peer was heard from last, and believed once.

use super::super::*;
use super::net::{Net, address};
use margay_core::echo::{EchoSecret, TicketName};

const NAME: TicketName = TicketName([2; 16]);

fn secret() -> EchoSecret {
    EchoSecret::from_bytes([1; 32])
}

/// Two hosts with a link, of which the first holds a ticket of the second.
fn pair_with_ticket() -> Net {
    let mut net = Net::pair(1);
    let (host, ticket) = (net.hosts[1].id, secret().ticket(NAME));
    net.tell(0, Input::HoldTicket { host, ticket });
    net
}

/// Asks, and hands out the question and where it went.
fn ask(net: &mut Net) -> (SocketAddr, Vec<u8>) {
    let host = net.hosts[1].id;
    net.tell(0, Input::AskKeeper { host });
    let asked = net.seen.last().unwrap();
    (asked.to, asked.bytes.clone())
}

fn answers(net: &Net) -> usize {
    let told = net.hosts[0].told.iter();
    told.filter(|it| matches!(it, Output::KeeperAnswered { .. }))
        .count()
}

#[test]
fn a_keeper_is_asked_where_its_host_was_heard_from_last_also_when_the_link_is_down() {
    let mut net = pair_with_ticket();
    let elsewhere = address(9);
    net.hosts[1].addresses[0] = elsewhere;
    net.send(1, 0, b"from elsewhere");
    net.run_for(std::time::Duration::from_secs(1));
    net.cut.extend([(0, 1), (1, 0)]);
    net.run_until("down", |net| !net.is_up(0, 1));
    let (to, question) = ask(&mut net);
    assert_eq!(to, elsewhere);
    let answer = secret().answer(&question).unwrap();
    net.inject(0, elsewhere, &answer);
    assert_eq!(answers(&net), 1);
}

#[test]
fn an_answer_counts_once_and_not_much_later() {
    let mut net = pair_with_ticket();
    let from = net.address_of(1);
    let questions: Vec<_> = (0..12).map(|_| ask(&mut net).1).collect();
    let answer = |number: usize| secret().answer(&questions[number]).unwrap();
    for late in 0..4 {
        net.inject(0, from, &answer(late));
    }
    assert_eq!((answers(&net), net.dropped(0, LinkDrop::Replayed)), (0, 4));
    net.inject(0, from, &answer(4));
    net.inject(0, from, &answer(4));
    assert_eq!((answers(&net), net.dropped(0, LinkDrop::Replayed)), (1, 5));
    net.inject(0, from, &answer(11));
    net.inject(0, from, &answer(10));
    assert_eq!((answers(&net), net.dropped(0, LinkDrop::Replayed)), (2, 6));
}

#[test]
fn nobody_answers_for_another_host_and_a_new_ticket_ends_the_old_one() {
    let mut net = pair_with_ticket();
    let from = net.address_of(1);
    let (_, question) = ask(&mut net);
    let genuine = secret().answer(&question).unwrap();
    let mut forged = genuine;
    forged[27] += 1;
    net.inject(0, from, &forged);
    assert_eq!(net.dropped(0, LinkDrop::Forged), 1);
    let (host, ticket) = (net.hosts[1].id, secret().ticket(TicketName([3; 16])));
    net.tell(0, Input::HoldTicket { host, ticket });
    net.inject(0, from, &genuine);
    assert_eq!(net.dropped(0, LinkDrop::UnknownSession), 1);
    assert_eq!(answers(&net), 0);
}

#[test]
fn who_gave_no_ticket_or_is_no_peer_is_not_asked() {
    let mut net = Net::pair(1);
    let host = net.hosts[1].id;
    let sent = net.hosts[0].sent;
    net.tell(0, Input::AskKeeper { host });
    assert_eq!(net.dropped(0, LinkDrop::NoTicket), 1);
    let ticket = secret().ticket(NAME);
    net.tell(0, Input::RemovePeer { host });
    let farewell = net.hosts[0].sent;
    assert_eq!(farewell, sent + 1);
    net.tell(0, Input::HoldTicket { host, ticket });
    net.tell(0, Input::AskKeeper { host });
    assert_eq!(net.dropped(0, LinkDrop::NoSuchPeer), 1);
    assert_eq!(net.hosts[0].sent, farewell);
}

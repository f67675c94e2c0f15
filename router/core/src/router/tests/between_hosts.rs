//! Flows between two hosts: two Routers, and the frames between them.

use super::hosts::host;
use super::two_hosts::{SHOP, Two};
use super::world::{Kind, World, packet};
use crate::drop_reason::DropReason;
use crate::packet::{Packet, Transport, Unreachable, Upcalled, unreachable};
use crate::peer::PeerInput;
use crate::port::{Input, Output, SlotReading};
use crate::way::{Ingress, Way};
use std::sync::Arc;
use std::time::Duration;

/// The server's answer to a first packet that it read.
pub(super) fn answer(read: &[u8]) -> Vec<u8> {
    let key = Packet::parse(read).unwrap().key.reversed();
    let (source, to) = ((key.source.ip(), key.source.port()), key.destination);
    let kind = match key.protocol {
        crate::flow_key::Protocol::Tcp => Kind::Ack(to.port()),
        _ => Kind::Udp(to.port()),
    };
    packet(source, to.ip(), kind)
}

#[test]
fn replicas_run_where_they_are_placed() {
    let two = Two::with_the_shop();
    let names = |world: &World| {
        let plans = world.plans.values();
        plans.map(|plan| plan.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&two.a), ["1.shopper", "1.stranger", "3.web"]);
    assert_eq!(names(&two.b), ["1.store", "1.web", "2.web"]);
    let ids = |world: &World| world.plans.keys().copied().collect::<Vec<_>>();
    let shared = ids(&two.a).into_iter().find(|id| ids(&two.b).contains(id));
    assert_eq!(shared, None, "identities are network-wide");
}

#[test]
fn first_packet_opens_entries_on_both_hosts() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");

    let key = two.shopper_calls(4_000, to, Kind::Syn(80));
    assert!(two.a.flows.is_empty(), "not before the other host accepts");
    two.talk();

    let (here, there) = (&two.a.flows[&key], &two.b.flows[&key]);
    assert_eq!((here.client, here.server), (there.client, there.server));
    let peer = here.forward.location;
    assert!(matches!(two.a.locations[&peer], Way::Peer(_)));
    assert_eq!(here.reverse.ingress, Ingress::Peer(peer));
    assert_eq!(there.forward.ingress, Ingress::Peer(there.reverse.location));
    assert!(matches!(
        two.b.locations[&there.forward.location],
        Way::Device(_)
    ));
    let [syn] = two.b.injected()[..] else {
        panic!("the server reads one packet");
    };
    assert_eq!(Packet::parse(syn).unwrap().key, key);
}

#[test]
fn replies_before_the_acknowledgement_travel_in_frames() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.store");
    let key = two.shopper_calls(4_000, to, Kind::Udp(6_379));
    for (_, frame) in two.a.take_frames() {
        let from = host('a');
        two.b.tell(Input::Peer(PeerInput::Frame { from, frame }));
    }
    let read = two.b.injected()[0].to_vec();

    two.b.send("1.store", &answer(&read));

    assert!(two.b.flows.is_empty(), "nothing was acknowledged");
    two.talk();
    let [reply] = two.a.injected()[..] else {
        panic!("the shopper reads one packet: {:?}", two.a.injected());
    };
    assert_eq!(Packet::parse(reply).unwrap().key, key.reversed());
    assert!(two.a.flows.contains_key(&key) && two.b.flows.contains_key(&key));
}

#[test]
fn server_that_is_bound_to_no_address_answers_around_the_acknowledgement_too() {
    for acknowledged in [false, true] {
        let mut two = Two::with_the_shop();
        let to = two.b.called("1.store");
        let key = two.shopper_calls(4_000, to, Kind::Udp(6_379));
        for (_, frame) in two.a.take_frames() {
            let from = host('a');
            two.b.tell(Input::Peer(PeerInput::Frame { from, frame }));
        }
        if acknowledged {
            two.talk();
        }
        let from = (two.b.caller("1.store"), key.destination.port());

        let kind = Kind::Udp(key.source.port());
        two.b.send("1.store", &packet(from, key.source.ip(), kind));

        two.talk();
        let [reply] = two.a.injected()[..] else {
            panic!("the shopper reads one packet: {:?}", two.a.injected());
        };
        assert_eq!(Packet::parse(reply).unwrap().key, key.reversed());
    }
}

#[test]
fn whatever_frame_is_lost_the_flow_opens_once_it_is_asked_for_again() {
    for lost in 0..3 {
        let mut two = Two::with_the_shop();
        two.lost.extend((0..=lost).map(|frame| frame == lost));
        let to = two.b.called("1.web");
        let key = two.shopper_calls(4_000, to, Kind::Syn(80));
        two.talk();
        // What the server's kernel does when its first answer is not acknowledged.
        if let Some(syn) = two.b.injected().first().map(|read| read.to_vec())
            && !two.b.flows.contains_key(&key)
        {
            two.b.send("1.web", &answer(&syn));
        }
        for _ in 0..8 {
            two.talk();
            two.pass(Duration::from_millis(250));
        }
        two.talk();
        assert!(two.a.flows.contains_key(&key), "frame {lost} was lost");
        assert!(two.b.flows.contains_key(&key), "frame {lost} was lost");
    }
}

#[test]
fn a_host_that_does_not_answer_is_given_up_and_the_caller_told() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    two.shopper_calls(4_000, to, Kind::Syn(80));

    two.a.pass(Duration::from_secs(5));

    assert_eq!(two.a.counted(DropReason::NoAnswer), 1);
    let reset = Packet::parse(two.a.injected()[0]).unwrap();
    assert!(matches!(reset.transport, Transport::Tcp(segment) if segment.rst));
}

#[test]
fn flows_to_a_host_that_is_down_go_to_siblings() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    two.shopper_calls(4_000, to, Kind::Syn(80));

    two.a.tell(Input::Peer(PeerInput::Down { host: host('b') }));

    let servers: Vec<_> = two.a.flows.values().map(|flow| flow.server).collect();
    assert_eq!(servers, [two.a.id("3.web")], "also the flow that waited");
}

#[test]
fn live_flows_outlive_a_silent_daemon_and_end_with_their_host() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    let key = two.shopper_calls(4_000, to, Kind::Syn(80));
    two.talk();

    two.a.tell(Input::Peer(PeerInput::Down { host: host('b') }));
    assert!(two.a.flows.contains_key(&key));
    two.a.tell(Input::Peer(PeerInput::Lost { host: host('b') }));
    assert!(!two.a.flows.contains_key(&key));
}

#[test]
fn the_serving_host_checks_the_policy_again() {
    let mut two = Two::with_the_shop();
    let shop = SHOP.replace("version = 1", "version = 2");
    let shop = shop.replace("needs = [\"web\", \"store\"]", "needs = [\"web\"]");
    two.b.apply(&shop).unwrap();
    let to = two.b.called("1.store");

    two.shopper_calls(4_000, to, Kind::Udp(6_379));
    two.talk();

    assert!(two.b.injected().is_empty() && two.a.flows.is_empty());
    assert_eq!(two.a.counted(DropReason::NotPermitted), 1);
    assert_eq!(two.b.counted(DropReason::NotPermitted), 1);
}

#[test]
fn a_host_with_an_older_composition_says_so() {
    let mut two = Two::with_the_shop();
    let shop = SHOP.replace("version = 1", "version = 2");
    two.a.apply(&shop).unwrap();
    let to = two.b.called("1.web");
    two.shopper_calls(4_000, to, Kind::Syn(80));
    for _ in 0..7 {
        two.talk();
        assert_eq!(
            two.a.counted(DropReason::PolicyUnknown),
            0,
            "it may hear yet"
        );
        two.pass(Duration::from_millis(250));
    }
    two.talk();
    assert_eq!(two.a.counted(DropReason::PolicyUnknown), 1);
}

#[test]
fn requests_for_callers_of_other_hosts_are_refused() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    two.shopper_calls(4_000, to, Kind::Syn(80));
    for (_, frame) in two.a.take_frames() {
        let from = host('c');
        two.b.tell(Input::Peer(PeerInput::Frame { from, frame }));
    }
    assert_eq!(two.b.counted(DropReason::ForgedSource), 1);
    assert!(two.b.injected().is_empty());
}

#[test]
fn errors_about_a_flow_are_read_from_its_servers_host_only() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.store");
    let key = two.shopper_calls(4_000, to, Kind::Udp(6_379));
    two.talk();
    let read = two.b.injected()[0].to_vec();
    let packet = Packet::parse(&read).unwrap();
    let error = unreachable(&packet, &read, Unreachable::Port).unwrap();
    two.b.send("1.store", &error);
    let frames = two.b.take_frames();
    let (_, frame) = frames.last().unwrap();
    for (from, read) in [('c', 0), ('b', 1)] {
        let from = host(from);
        let frame = frame.clone();
        two.a.tell(Input::Peer(PeerInput::Frame { from, frame }));
        assert_eq!(two.a.injected().len(), read, "from {from:?}");
    }
    assert_eq!(two.a.counted(DropReason::ForgedSource), 1);
    let Ok(Upcalled::Error(error)) = Upcalled::parse(two.a.injected()[0]) else {
        panic!("the shopper reads an error");
    };
    assert_eq!(error.about, key);
}

#[test]
fn what_is_sent_before_the_answer_waits_within_bounds_and_follows_in_order() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.store");
    let source = (two.a.caller("1.shopper"), 4_000);
    for number in 0..6_u8 {
        let mut bytes = packet(source, to, Kind::Udp(6_379));
        *bytes.last_mut().unwrap() = number;
        two.a.send("1.shopper", &bytes);
    }
    assert_eq!(two.a.counted(DropReason::HeldPackets), 2);
    two.talk();
    assert_eq!(two.a.forwarded(), 3, "the first one came with the request");
    assert_eq!(two.b.injected().len(), 1);
}

#[test]
fn a_restarted_router_keeps_flows_to_hosts_that_it_meets_again() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    let key = two.shopper_calls(4_000, to, Kind::Syn(80));
    two.talk();
    let spoken = SlotReading {
        packets: 3,
        last_seen: two.a.now,
        ..SlotReading::default()
    };
    two.a.counters.insert(key, (spoken, spoken));

    two.a.restart();
    assert!(
        two.a.flows.contains_key(&key),
        "it is not known yet what runs there"
    );
    two.meet();
    two.a.pass(Duration::from_secs(61));
    assert!(two.a.flows.contains_key(&key));

    two.a.restart();
    two.a.pass(Duration::from_secs(61));
    assert!(!two.a.flows.contains_key(&key), "nobody told of it");
}

#[test]
fn names_show_the_instances_of_all_hosts() {
    let two = Two::with_the_shop();
    let names = two.a.log.iter().rev().find_map(|output| match output {
        Output::PublishNames(names) => Some(Arc::clone(names)),
        _ => None,
    });
    let names = names.expect("names were published");
    let shopper = two.a.id("1.shopper");
    let name_of = |addr| names.name_of(addr, shopper);
    for name in ["1.web", "2.web"] {
        assert_eq!(name_of(two.b.called(name)), Some(format!("{name}.matrix")));
    }
    assert_eq!(
        name_of(two.a.called("3.web")),
        Some("3.web.matrix".to_owned())
    );
}

#[test]
fn a_flow_to_the_address_that_a_server_calls_from_stays_as_it_was_called() {
    let mut two = Two::with_the_shop();
    let to = two.b.caller("1.web");
    let key = two.shopper_calls(4_000, to, Kind::Syn(80));
    two.talk();
    assert_eq!(two.a.flows[&key].forward.delivered, key);
    assert!(two.b.flows.contains_key(&key));
}

/// Half of them are the balancer's choice at a, half of them at b: and nobody passes one back.
#[test]
fn who_is_asked_for_a_sibling_does_not_balance_again() {
    let mut two = Two::with_the_shop();
    let instance = two.b.id("2.web");
    let drain = |request| Input::Drain {
        request,
        instance,
        drained: true,
    };
    two.b.ask(drain).unwrap();
    two.meet();
    let to = two.b.called("2.web");
    for port in 4_000..4_020 {
        let key = two.shopper_calls(port, to, Kind::Syn(80));
        two.talk();
        assert!(two.a.flows.contains_key(&key), "{port}");
    }
}

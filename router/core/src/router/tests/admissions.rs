//! Flows that two kernels open between two hosts: by an admission at the server's, and not without.

use super::hosts::{host, path};
use super::two_hosts::{SHOP, Two};
use super::world::{Kind, World, packet};
use crate::aggregate::Epoch;
use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use crate::flow_table::{FlowLimits, HALF_OPEN_MAX};
use crate::id::InstanceId;
use crate::packet::Packet;
use crate::peer::{Known, PeerInput};
use crate::port::{Input, Output};
use crate::service_frame::{Attempt, FrameKind, Scope, ServiceFrame};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const HTTP: Kind = Kind::Syn(80);

/// Calls from many ports, one after the other; the key of each.
fn call_all(two: &mut Two, to: IpAddr, ports: std::ops::Range<u16>) -> Vec<FlowKey> {
    let call = |port| {
        let key = two.shopper_calls(port, to, HTTP);
        two.talk();
        key
    };
    ports.map(call).collect()
}

/// How many of these flows stand at both hosts.
fn open_at_both(two: &Two, keys: &[FlowKey]) -> usize {
    let at_both = keys.iter().filter(|key| {
        let here = two.a.flows.get(key);
        here.is_some_and(|here| two.b.flows.contains_key(&here.forward.delivered))
    });
    at_both.count()
}

fn asked(two: &Two) -> u64 {
    two.a.router.requests().requests_sent
}

fn returned(two: &Two) -> u64 {
    two.b.router.requests().packets_returned
}

/// ```text
///   shopper --[first SYN]--> core a ==Request==> core b       an admission, an aggregate
///   shopper --[next SYNs]--> kernel a ---------> kernel b --> 1.web
/// ```
#[test]
fn only_the_first_flow_to_another_host_is_decided_by_core() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    let keys = call_all(&mut two, to, 4_000..4_100);
    assert_eq!(open_at_both(&two, &keys), 100);
    assert_eq!((asked(&two), returned(&two)), (1, 0));
    assert_eq!(two.b.delivered, 99);
}

#[test]
fn flows_that_both_kernels_opened_are_counted_and_closed_at_both_hosts() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_050);
    for world in [&mut two.a, &mut two.b] {
        world.tell(Input::FlowsWanted);
        assert_eq!(world.router.flows().len(), 50);
    }
    let served = two.b.router.services();
    let web = served.iter().flat_map(|service| &service.instances);
    assert_eq!(web.map(|instance| instance.flows).max(), Some(50));
    two.pass(HALF_OPEN_MAX + Duration::from_secs(1));
    assert!(two.a.flows.is_empty() && two.b.flows.is_empty());
}

#[test]
fn shares_with_other_hosts_targets_equal_those_of_core() {
    // Whoever's turn it is first: an instance here, or one of the other host.
    for others_first in [0, 1] {
        let by_core = spread(others_first, true);
        let by_kernel = spread(others_first, false);
        assert_eq!(by_core.0, by_kernel.0);
        assert_eq!(by_core.0.values().sum::<usize>(), 120);
        assert!(
            by_kernel.1 < 10 && by_core.1 > 40,
            "{by_core:?} {by_kernel:?}"
        );
    }
}

/// How many of 120 flows each server took, and for how many another host was asked.
fn spread(others_first: u16, by_core: bool) -> (BTreeMap<InstanceId, usize>, u64) {
    let mut two = Two::with_the_shop();
    let to = drained_instance(&mut two);
    let other = two.a.called("3.web");
    call_all(&mut two, other, 3_000..3_000 + others_first);
    let mut taken = BTreeMap::new();
    for port in 4_000..4_120 {
        if by_core {
            // Whatever changes has core decide the next flow.
            let policy = SHOP.replace("version = 1", &format!("version = {}", port - 3_990));
            two.a.apply(&policy).unwrap();
            two.b.apply(&policy).unwrap();
        }
        let key = two.shopper_calls(port, to, HTTP);
        two.talk();
        *taken.entry(two.a.flows[&key].server).or_default() += 1;
    }
    (taken, asked(&two))
}

/// The address of an instance of the web that takes no flows: its siblings on both hosts do.
fn drained_instance(two: &mut Two) -> IpAddr {
    let instance = two.b.id("2.web");
    let drain = |request| Input::Drain {
        request,
        instance,
        drained: true,
    };
    two.b.ask(drain).unwrap();
    two.meet();
    two.b.called("2.web")
}

#[test]
fn of_tcp_only_a_syn_opens_a_flow() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_001);
    let from = two.b.location_of(host('a'));
    let stray = packet((two.a.caller("1.shopper"), 5_000), to, Kind::Ack(80));
    two.b.receive(from, &stray);
    assert_eq!(two.b.flows.len(), 1);
    let frame = super::world::frame(&stray);
    two.b.tell(Input::PeerUpcall { from: None, frame });
    assert_eq!(two.b.counted(DropReason::NoAdmission), 1);
    assert_eq!(returned(&two), 0);
}

#[test]
fn withdrawn_permission_at_the_servers_host_refuses_the_very_next_flow() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_010);
    let without = SHOP
        .replace("version = 1", "version = 2")
        .replace("needs = [\"web\", \"store\"]", "needs = [\"store\"]");
    two.b.apply(&without).unwrap();
    assert!(two.b.flows.is_empty(), "open flows are closed at once");

    let [key] = call_all(&mut two, to, 4_010..4_011)[..] else {
        panic!("one call");
    };
    assert_eq!(returned(&two), 1);
    assert!(!two.a.flows.contains_key(&key) && two.b.flows.is_empty());
    assert_eq!(two.a.counted(DropReason::NotPermitted), 1);
    call_all(&mut two, to, 4_011..4_020);
    assert_eq!(
        returned(&two),
        1,
        "the kernel of the client's host sends none"
    );
}

#[test]
fn a_packet_that_comes_back_is_asked_for_and_lost_by_nobody() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_010);
    two.b
        .apply(&SHOP.replace("version = 1", "version = 2"))
        .unwrap();
    let keys = call_all(&mut two, to, 4_010..4_030);
    assert_eq!(returned(&two), 1);
    // The other host's version is newer, which permits as much.
    assert_eq!(open_at_both(&two, &keys), 20);
    assert_eq!(asked(&two), 2);
}

#[test]
fn packets_that_come_back_together_are_asked_for_each() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_010);
    two.b
        .apply(&SHOP.replace("version = 1", "version = 2"))
        .unwrap();
    let keys: Vec<_> = (4_010..4_030)
        .map(|port| two.shopper_calls(port, to, HTTP))
        .collect();
    // Each once more, as a client does that hears nothing.
    let again = two.a.crossing.clone();
    two.a.crossing.extend(again);
    two.talk();
    assert_eq!(returned(&two), 40);
    assert_eq!(open_at_both(&two, &keys), 20);
    assert_eq!(two.a.counted(DropReason::NotUnderstoodFrame), 0);
}

#[test]
fn an_instance_that_takes_no_flows_admits_none() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.store");
    let call = |two: &mut Two, port| {
        let key = two.shopper_calls(port, to, Kind::Udp(6_379));
        two.talk();
        key
    };
    let keys: Vec<_> = (4_000..4_010).map(|port| call(&mut two, port)).collect();
    assert_eq!((open_at_both(&two, &keys), asked(&two)), (10, 1));
    let instance = two.b.id("1.store");
    let drain = |request| Input::Drain {
        request,
        instance,
        drained: true,
    };
    two.b.ask(drain).unwrap();

    // The client's host has not heard of it yet.
    let key = call(&mut two, 4_010);
    assert_eq!(returned(&two), 1);
    assert_eq!(open_at_both(&two, &[key]), 0);
    assert_eq!(two.a.counted(DropReason::NoInstance), 1);
}

#[test]
fn an_instance_that_begins_anew_is_admitted_to_anew() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_010);
    let instance = two.b.id("1.web");
    two.b.tell(Input::DeviceLost { instance });
    assert!(two.b.flows.is_empty());
    let keys = call_all(&mut two, to, 4_010..4_020);
    assert_eq!((open_at_both(&two, &keys), returned(&two)), (10, 1));
}

#[test]
fn a_host_that_is_down_gets_no_flow_of_the_kernel() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_010);
    two.a.tell(Input::Peer(PeerInput::Down { host: host('b') }));
    let key = two.shopper_calls(4_010, to, HTTP);
    assert_eq!(two.a.flows[&key].server, two.a.id("3.web"));
    assert!(two.a.crossing.is_empty());
}

/// ```text
///   a's kernel: 1.web of b, 3.web of a, in turns | b is down, b is up again | a's core decides
/// ```
#[test]
fn a_host_that_was_down_is_asked_before_the_kernel_sends_it_flows() {
    let mut two = Two::with_the_shop();
    let to = drained_instance(&mut two);
    let keys = call_all(&mut two, to, 4_000..4_010);
    assert!(open_at_both(&two, &keys) >= 4 && asked(&two) < 3);
    two.a.tell(Input::Peer(PeerInput::Down { host: host('b') }));
    two.meet();
    let mut keys = Vec::new();
    for port in 4_010..4_020 {
        keys.push(two.shopper_calls(port, to, HTTP));
        assert!(two.a.crossing.is_empty(), "the host may have forgotten");
    }
    two.talk();
    assert!(keys.iter().all(|key| two.a.flows.contains_key(key)));
}

#[test]
fn clients_of_a_host_that_is_lost_are_admitted_no_more() {
    for gone in [false, true] {
        let mut two = Two::with_the_shop();
        let to = two.b.called("1.web");
        call_all(&mut two, to, 4_000..4_010);
        let instance = two.a.id("1.shopper");
        two.b.tell(Input::Peer(match gone {
            true => PeerInput::InstanceGone { instance },
            false => PeerInput::Lost { host: host('a') },
        }));
        let key = two.shopper_calls(4_010, to, HTTP);
        let (_, packet) = two.a.crossing.pop().unwrap();
        let from = two.b.location_of(host('a'));
        two.b.receive(from, &packet);
        assert!(!two.b.flows.contains_key(&key));
    }
}

#[test]
fn an_empty_supply_at_the_servers_host_costs_an_upcall_there() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    let keys = call_all(&mut two, to, 4_000..4_010);
    two.b.kernel.reclaim();
    let more = call_all(&mut two, to, 4_010..4_020);
    assert_eq!(open_at_both(&two, &keys) + open_at_both(&two, &more), 20);
    assert_eq!((asked(&two), returned(&two)), (1, 0));
    let opened = |output: &&Output| matches!(output, Output::OpenFlow(_));
    assert_eq!(two.b.log.iter().filter(opened).count(), 2);
}

#[test]
fn many_flows_at_once_exceed_no_limit_of_either_host() {
    for (flows_max, narrow) in [16, 32, 64, 400]
        .into_iter()
        .flat_map(|max| [(max, 'a'), (max, 'b')])
    {
        let limits = FlowLimits {
            flows_max,
            flows_per_instance_max: flows_max / 4,
        };
        let mut two = Two::with_limits(|name| (name == narrow).then_some(limits));
        let to = two.b.called("1.web");
        let keys = call_all(&mut two, to, 4_000..4_000 + flows_max as u16 / 2);
        let at_both = open_at_both(&two, &keys);
        assert_eq!(at_both as u32, flows_max / 4, "{narrow} has {flows_max}");
    }
}

#[test]
fn a_client_that_moves_to_another_host_is_admitted_from_the_former_no_more() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_010);
    let mut moved = two.remote('a', "1.shopper");
    moved.host = host('c');
    two.b
        .tell(Input::Peer(PeerInput::Instance(Arc::new(moved))));
    let key = two.shopper_calls(4_010, to, HTTP);
    let (_, packet) = two.a.crossing.pop().unwrap();
    let from = two.b.location_of(host('a'));
    two.b.receive(from, &packet);
    assert!(!two.b.flows.contains_key(&key));
}

#[test]
fn a_server_that_moves_to_another_host_is_asked_for_there() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_010);
    let mut moved = two.remote('b', "1.web");
    moved.host = host('c');
    let path = path();
    let up = PeerInput::Up {
        host: host('c'),
        path,
    };
    two.a.tell(Input::Peer(up));
    two.a
        .tell(Input::Peer(PeerInput::Instance(Arc::new(moved))));
    two.shopper_calls(4_010, to, HTTP);
    assert!(two.a.crossing.is_empty());
    let frames = two.a.take_frames();
    assert_eq!(frames.last().map(|(to, _)| *to), Some(host('c')));
    // Nor does what the former host admitted have the kernel send flows to the other.
    let drained = two.b.called("2.web");
    let mut sibling = two.remote('b', "2.web");
    sibling.ready = false;
    two.a
        .tell(Input::Peer(PeerInput::Instance(Arc::new(sibling))));
    for port in 4_011..4_020 {
        two.shopper_calls(port, drained, HTTP);
        assert!(two.a.crossing.is_empty());
    }
}

#[test]
fn a_restarted_host_admits_anew_and_keeps_what_the_kernels_opened() {
    for restarted in ['a', 'b'] {
        let mut two = Two::with_the_shop();
        let to = two.b.called("1.web");
        let keys = call_all(&mut two, to, 4_000..4_010);
        let world: &mut World = match restarted {
            'a' => &mut two.a,
            _ => &mut two.b,
        };
        world.restart();
        two.meet();
        let more = call_all(&mut two, to, 4_010..4_020);
        assert_eq!(open_at_both(&two, &keys) + open_at_both(&two, &more), 20);
        assert!(returned(&two) <= 1);
    }
}

#[test]
fn only_the_servers_host_gives_packets_back() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    let keys = call_all(&mut two, to, 4_000..4_002);
    let source = (two.a.caller("1.shopper"), 4_001);
    let frame = ServiceFrame {
        attempt: Attempt(0),
        kind: FrameKind::Unadmitted {
            packet: packet(source, to, HTTP),
            policy_epoch: Epoch(9),
        },
    };
    let (from, frame) = (host('c'), frame.encode());
    two.a.tell(Input::Peer(PeerInput::Frame { from, frame }));
    assert_eq!(two.a.counted(DropReason::ForgedPeer), 1);
    assert_eq!(open_at_both(&two, &keys), 2);
}

/// As of a router that knows of no scope.
#[test]
fn a_host_that_accepts_flows_one_by_one_is_asked_for_each() {
    let mut two = Two::with_the_shop();
    two.accepts_as(|accept| accept.scope = Scope::Flow);
    let to = two.b.called("1.web");
    let keys = call_all(&mut two, to, 4_000..4_010);
    assert_eq!(open_at_both(&two, &keys), 10);
    assert_eq!(asked(&two), 10);
}

#[test]
fn a_client_that_calls_from_another_address_of_its_is_admitted_too() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_010);
    let source = (two.a.called("1.shopper"), 4_010);
    for port in 4_010..4_020 {
        let packet = packet((source.0, port), to, HTTP);
        two.a.send("1.shopper", &packet);
        two.talk();
        let key = Packet::parse(&packet).unwrap().key;
        assert_eq!(open_at_both(&two, &[key]), 1);
    }
    assert_eq!(returned(&two), 1);
}

#[test]
fn callers_of_other_sites_ask_for_each_flow() {
    let mut two = Two::with_the_shop();
    let mut called = two.remote('a', "1.shopper");
    called.known = Known::Called;
    two.b
        .tell(Input::Peer(PeerInput::Instance(Arc::new(called))));
    let to = two.b.called("1.web");
    let keys = call_all(&mut two, to, 4_000..4_010);
    assert_eq!((open_at_both(&two, &keys), asked(&two)), (10, 10));
}

#[test]
fn flows_that_the_kernel_opened_to_a_host_that_is_lost_end_with_it() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_010);
    two.a.tell(Input::Peer(PeerInput::Lost { host: host('b') }));
    assert!(two.a.flows.is_empty());
    two.b.tell(Input::Peer(PeerInput::Lost { host: host('a') }));
    assert!(two.b.flows.is_empty());
}

/// What it says is by then the word of the host that sent it back.
#[test]
fn a_datagram_that_comes_back_goes_to_no_other_host() {
    for is_elsewhere in [false, true] {
        let mut two = Two::with_the_shop();
        let to = two.b.called("1.store");
        let call = |two: &mut Two, port| two.shopper_calls(port, to, Kind::Udp(6_379));
        call(&mut two, 4_000);
        two.talk();
        let key = call(&mut two, 4_001);
        let mut moved = two.remote('b', "1.store");
        moved.host = host('c');
        let (_, packet) = two.a.crossing.pop().unwrap();
        let frame = ServiceFrame {
            attempt: Attempt(0),
            kind: FrameKind::Unadmitted {
                packet,
                policy_epoch: Epoch(9),
            },
        };
        if is_elsewhere {
            let (host, path) = (host('c'), path());
            two.a.tell(Input::Peer(PeerInput::Up { host, path }));
        }
        let (from, frame) = (host('b'), frame.encode());
        two.a.tell(Input::Peer(PeerInput::Frame { from, frame }));
        assert!(!two.a.flows.contains_key(&key));
        if is_elsewhere {
            two.a.take_frames();
            two.a
                .tell(Input::Peer(PeerInput::Instance(Arc::new(moved))));
            two.a.tell(Input::Peer(PeerInput::Down { host: host('b') }));
            assert_eq!(two.a.take_frames(), []);
        } else {
            two.talk();
            assert_eq!(open_at_both(&two, &[key]), 1);
        }
    }
}

#[test]
fn an_admission_that_the_kernel_did_not_take_is_made_again_with_the_next_request() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    call_all(&mut two, to, 4_000..4_001);
    two.b.kernel.forget_admissions();
    let keys = call_all(&mut two, to, 4_001..4_010);
    assert_eq!((open_at_both(&two, &keys), returned(&two)), (9, 1));
}

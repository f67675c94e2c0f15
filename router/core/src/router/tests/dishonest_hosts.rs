//! What a host of the network may say to another, and gets nowhere with.

use super::between_hosts::answer;
use super::hosts::host;
use super::two_hosts::Two;
use super::world::{Kind, World};
use crate::drop_reason::DropReason;
use crate::peer::PeerInput;
use crate::port::Input;
use crate::service_frame::{Accept, Attempt, FrameKind, Request, ServiceFrame};
use std::time::Duration;

fn says(world: &mut World, from: char, frame: &ServiceFrame) {
    let (from, frame) = (host(from), frame.encode());
    world.tell(Input::Peer(PeerInput::Frame { from, frame }));
}

/// The frame that `world` wants to send.
fn frame_of(world: &mut World) -> ServiceFrame {
    let [(_, frame)] = &world.take_frames()[..] else {
        panic!("one frame is sent");
    };
    ServiceFrame::decode(frame).unwrap()
}

fn request_of(frame: &mut ServiceFrame) -> &mut Request {
    match &mut frame.kind {
        FrameKind::Request(request) => request,
        other => panic!("{other:?} is no request"),
    }
}

fn accept_of(frame: &mut ServiceFrame) -> &mut Accept {
    match &mut frame.kind {
        FrameKind::Accept(accept) => accept,
        other => panic!("{other:?} is no accept"),
    }
}

#[test]
fn permission_for_one_service_is_none_for_an_instance_of_another() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    two.shopper_calls(4_000, to, Kind::Syn(80));
    let mut frame = frame_of(&mut two.a);
    request_of(&mut frame).called = Some(two.b.id("1.store"));
    says(&mut two.b, 'a', &frame);
    assert!(two.b.injected().is_empty());
    assert_eq!(two.b.counted(DropReason::NotPermitted), 1);
}

#[test]
fn an_attempt_is_of_one_flow_and_a_second_one_in_it_harms_nobody() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    two.shopper_calls(4_000, to, Kind::Syn(80));
    let first = frame_of(&mut two.a);
    two.shopper_calls(4_001, to, Kind::Syn(80));
    let mut second = frame_of(&mut two.a);
    second.attempt = first.attempt;
    says(&mut two.b, 'a', &first);
    two.b.pass(Duration::from_secs(1));
    says(&mut two.b, 'a', &second);
    assert_eq!(two.b.counted(DropReason::NotUnderstoodFrame), 1);

    two.pass(Duration::from_secs(20));
    two.a.take_frames();
    two.b.take_frames();
    let key = two.shopper_calls(4_002, to, Kind::Syn(80));
    two.talk();
    assert!(two.b.flows.contains_key(&key));
}

#[test]
fn one_host_takes_not_the_place_of_all_accepted_flows() {
    use crate::router::remote::ACCEPTED_PER_HOST_MAX;
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.web");
    let mut refused = 0;
    for port in 0..=ACCEPTED_PER_HOST_MAX as u16 {
        two.shopper_calls(4_000 + port, to, Kind::Syn(80));
        let frame = frame_of(&mut two.a);
        says(&mut two.b, 'a', &frame);
        let reject = |reason| FrameKind::Reject {
            reason,
            hops: vec![host('a')],
        };
        let told = reject(DropReason::HeldPackets);
        refused += usize::from(frame_of(&mut two.b).kind == told);
        // Its caller waits no longer, so that it can begin another.
        let given_up = ServiceFrame {
            attempt: frame.attempt,
            kind: reject(DropReason::NotPermitted),
        };
        says(&mut two.a, 'b', &given_up);
    }
    assert_eq!(refused, 1);
}

#[test]
fn replies_come_from_whom_the_flow_was_agreed_with_and_from_nobody_else() {
    let mut two = Two::with_the_shop();
    let to = two.b.called("1.store");
    two.shopper_calls(4_000, to, Kind::Udp(6_379));
    let request = frame_of(&mut two.a);
    says(&mut two.b, 'a', &request);
    let read = two.b.injected()[0].to_vec();
    let mut accept = frame_of(&mut two.b);
    says(&mut two.a, 'b', &accept);
    assert_eq!(two.a.flows.len(), 1);
    frame_of(&mut two.a);

    accept_of(&mut accept).reply = Some(answer(&read));
    let mut of_another_attempt = accept.clone();
    of_another_attempt.attempt.0 += 1;
    let mut of_another_host = accept.clone();
    accept_of(&mut of_another_host).host = host('c');
    for lie in [of_another_attempt, of_another_host] {
        says(&mut two.a, 'c', &lie);
        assert!(two.a.injected().is_empty() && two.a.take_frames().is_empty());
    }
    assert_eq!(two.a.counted(DropReason::NotUnderstoodFrame), 2);
    says(&mut two.a, 'b', &accept);
    assert_eq!(two.a.injected().len(), 1);
}

#[test]
fn answers_travel_back_only_where_their_request_came_through() {
    let mut two = Two::with_the_shop();
    let reject = ServiceFrame {
        attempt: Attempt(7),
        kind: FrameKind::Reject {
            reason: DropReason::NoInstance,
            hops: vec![host('d'), host('a')],
        },
    };
    says(&mut two.a, 'c', &reject);
    assert!(two.a.take_frames().is_empty());
    assert_eq!(two.a.counted(DropReason::NotUnderstoodFrame), 1);
}

//! Services that nobody here serves: what DNS says, who is asked, and first packets that wait.

use super::beyond_the_site::Far;
use super::world::{Kind, World, packet};
use crate::drop_reason::DropReason;
use crate::name::AutomatonName;
use crate::names::{Answer, Question, QuestionKind, answer};
use crate::peer::{Known, PeerInput};
use crate::port::{Input, Output};
use std::time::Duration;

fn web() -> AutomatonName {
    "web".parse().unwrap()
}

fn ask(world: &World, caller: &str, name: &str, kind: QuestionKind) -> Answer {
    let caller = world.newest(caller).unwrap();
    let name = name.to_owned();
    let question = Question { name, kind };
    answer(world.router.names_published(), caller, &question, 1)
}

/// Whether an answer is worth waiting for.
fn waits(answer: Answer) -> bool {
    answer.at_once().1 == Some(web())
}

fn seeks(world: &mut World) -> usize {
    let log = std::mem::take(&mut world.log);
    let seeks = log
        .iter()
        .filter(|output| matches!(output, Output::Seek { .. }));
    seeks.count()
}

fn say_sought(world: &mut World) {
    world.tell(Input::Peer(PeerInput::Sought { service: web() }));
}

fn want(world: &mut World) {
    world.tell(Input::Wanted { service: web() });
}

#[test]
fn questions_that_only_a_search_can_answer_say_so() {
    let mut far = Far::with_the_shop();
    let a = far.at('a');
    let asked = |name, kind| waits(ask(a, "1.shopper", name, kind));
    assert!(asked("web.matrix", QuestionKind::A));
    assert!(asked("web.matrix", QuestionKind::Aaaa));
    assert!(asked("2.web.matrix", QuestionKind::Aaaa));
    assert!(asked("_http._tcp.web.matrix", QuestionKind::Srv));
    assert!(!asked("_ftp._tcp.web.matrix", QuestionKind::Srv));
    assert!(!asked("web.matrix", QuestionKind::Txt));
    assert!(!asked("web.matrix", QuestionKind::Srv));
    assert!(!asked("nobody.matrix", QuestionKind::A));
    let (at_once, _) = ask(a, "1.shopper", "web.matrix", QuestionKind::A).at_once();
    assert!(matches!(at_once, Answer::NoData(..)));
    let hidden = ask(far.at('b'), "1.web", "shopper.matrix", QuestionKind::A);
    assert!(matches!(hidden, Answer::NameError(..)), "not permitted");
}

#[test]
fn one_search_is_asked_for_however_many_want_it() {
    let mut far = Far::with_the_shop();
    let a = far.at('a');
    a.log.clear();
    for _ in 0..3 {
        want(a);
    }
    assert_eq!(seeks(a), 1);
    a.pass(Duration::from_millis(250));
    want(a);
    assert_eq!(seeks(a), 1, "the first one may be lost");
}

#[test]
fn what_is_not_found_is_denied_for_two_seconds_and_sought_again_then() {
    let mut far = Far::with_the_shop();
    let a = far.at('a');
    want(a);
    say_sought(a);
    let denied = ask(a, "1.shopper", "web.matrix", QuestionKind::A);
    assert!(matches!(denied, Answer::NoData(..)));
    a.log.clear();
    want(a);
    assert_eq!(seeks(a), 0);

    a.pass(Duration::from_millis(2_000));
    assert!(waits(ask(a, "1.shopper", "web.matrix", QuestionKind::A)));
    want(a);
    assert_eq!(seeks(a), 1);
}

#[test]
fn search_that_nobody_ends_is_given_up() {
    let mut far = Far::with_the_shop();
    want(far.at('a'));
    far.at('a').pass(Duration::from_millis(1_800));
    let denied = ask(far.at('a'), "1.shopper", "web.matrix", QuestionKind::A);
    assert!(matches!(denied, Answer::NoData(..)));
}

#[test]
fn what_is_found_is_answered_and_not_sought() {
    let mut far = Far::with_the_shop();
    want(far.at('a'));
    far.tell('a', 'b', |_| Some(('g', Known::LookedUp)));
    say_sought(far.at('a'));
    let found = ask(far.at('a'), "1.shopper", "web.matrix", QuestionKind::A);
    assert!(matches!(found, Answer::V4(addrs) if addrs.len() == 2));
    far.at('a').log.clear();
    want(far.at('a'));
    assert_eq!(seeks(far.at('a')), 0);
}

#[test]
fn host_without_others_seeks_nothing() {
    let mut alone = World::with(super::SHOP);
    for name in ["1.web", "2.web", "3.web"] {
        let instance = alone.id(name);
        alone.tell(Input::ProcessExited {
            instance,
            status: "exit 1".into(),
            restart_after: Some(Duration::from_secs(1)),
        });
    }
    let denied = ask(&alone, "1.shopper", "web.matrix", QuestionKind::A);
    assert!(matches!(denied, Answer::NoData(..)));
    want(&mut alone);
    assert_eq!(seeks(&mut alone), 0);
}

/// The shopper's first packet to an instance that it knew and that is no more known here.
fn call_the_forgotten(far: &mut Far, port: u16) {
    let to = far.at('b').called("1.web");
    let source = (far.at('a').caller("1.shopper"), port);
    far.at('a')
        .send("1.shopper", &packet(source, to, Kind::Syn(80)));
}

fn forgotten() -> Far {
    let mut far = Far::with_the_shop();
    far.tell('a', 'b', |_| Some(('g', Known::LookedUp)));
    let ids = ["1.web", "2.web"].map(|name| far.at('b').id(name));
    for instance in ids {
        let gone = PeerInput::InstanceGone { instance };
        far.at('a').tell(Input::Peer(gone));
    }
    far.at('a').log.clear();
    far
}

#[test]
fn first_packet_to_a_cached_address_waits_for_the_search_and_goes_where_it_leads() {
    let mut far = forgotten();
    call_the_forgotten(&mut far, 4_000);
    call_the_forgotten(&mut far, 4_000);
    assert_eq!(seeks(far.at('a')), 1);
    assert_eq!(far.at('a').router.requests().requests_sent, 0);

    far.tell('a', 'b', |_| Some(('g', Known::LookedUp)));

    assert_eq!(far.at('a').router.requests().requests_sent, 1, "once");
    assert_eq!(far.at('a').counted(DropReason::NoInstance), 0);
}

#[test]
fn first_packet_is_refused_as_ever_when_nothing_is_found_or_nobody_answers() {
    for answered in [true, false] {
        let mut far = forgotten();
        call_the_forgotten(&mut far, 4_000);
        match answered {
            true => say_sought(far.at('a')),
            false => far.at('a').pass(Duration::from_millis(1_800)),
        }
        assert_eq!(far.at('a').counted(DropReason::NoInstance), 1);
        call_the_forgotten(&mut far, 4_001);
        assert_eq!(far.at('a').counted(DropReason::NoInstance), 2, "at once");
    }
}

#[test]
fn first_packets_wait_within_bounds() {
    let mut far = forgotten();
    for port in 0..130 {
        call_the_forgotten(&mut far, 4_000 + port);
    }
    assert_eq!(far.at('a').counted(DropReason::HeldPackets), 2);
    say_sought(far.at('a'));
    assert_eq!(far.at('a').counted(DropReason::NoInstance), 128);
}

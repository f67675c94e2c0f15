//! Why an instance is not chosen, or why nothing of ours takes the flow: each reason by its own name.

use super::explaining::{explain, reason, server, shop};
use super::trusting::put_out;
use super::world::World;
use super::{SHOP, probed};
use crate::explanation::{Explanation, Verdict};
use crate::port::Input;

/// One who may reach the outside, one who may not.
const WORLD: &str = r#"
[composition]
name = "world"
version = 1

[automaton.roamer]
command = ["sleep", "infinity"]
egress = "all"

[automaton.homebody]
command = ["sleep", "infinity"]
"#;

fn drain(world: &mut World, name: &str) {
    let instance = world.id(name);
    let drained = world.ask(|request| Input::Drain {
        request,
        instance,
        drained: true,
    });
    drained.unwrap();
}

fn choice(explanation: &Explanation) -> &str {
    match &explanation.verdict {
        Verdict::WouldOpen(route) => &route.choice,
        other => panic!("{other:?}"),
    }
}

/// What is said where the decision was refused.
fn refused_at(explanation: &Explanation) -> (&str, &str) {
    let mut steps = explanation.steps.iter();
    let step = steps.rfind(|step| !step.passed);
    let step = step.unwrap_or_else(|| panic!("{explanation}"));
    (&step.name, &step.detail)
}

#[test]
fn drained_instance_is_not_chosen_for_it_is_drained() {
    let mut world = shop(SHOP);
    drain(&mut world, "2.web");

    let called = explain(
        &world,
        "1.shopper",
        &format!("{}:80", world.called("2.web")),
    );

    assert_eq!(choice(&called), "sibling_of_drained");
    let text = called.to_string();
    assert!(text.contains("2.web of shop@1, drained"), "{text}");
    assert!(text.contains("2.web is drained; "), "{text}");
    assert!(called.next.contains("margay drain 2.web --cancel"));
}

#[test]
fn balanced_flow_tells_who_was_passed_over_and_why() {
    let text = SHOP.replace("[automaton.web]", "[automaton.web]\nanswer = \"service\"");
    let mut world = shop(&text);
    drain(&mut world, "2.web");

    let balanced = explain(&world, "1.shopper", "web.matrix");

    assert_eq!(choice(&balanced), "balanced");
    assert_ne!(server(&balanced), "2.web");
    let text = balanced.to_string();
    assert!(text.contains("; not 2.web (drained)"), "{text}");
}

#[test]
fn ejected_instance_is_not_chosen_for_its_connections_failed() {
    let mut world = shop(SHOP);
    put_out(&mut world, "2.web");

    let called = explain(
        &world,
        "1.shopper",
        &format!("{}:80", world.called("2.web")),
    );

    assert_eq!(choice(&called), "sibling_of_ejected");
    let text = called.to_string();
    assert!(text.contains("2.web of shop@1, ejected"), "{text}");
    assert!(text.contains("its last connections failed"), "{text}");
    assert!(
        called.next.starts_with("Wait: 2.web is tried again in "),
        "{text}"
    );
}

#[test]
fn service_whose_instances_are_all_drained_says_so_and_how_to_undo_it() {
    let mut world = shop(SHOP);
    for name in ["1.web", "2.web", "3.web"] {
        drain(&mut world, name);
    }
    let refused = explain(&world, "1.shopper", "web.matrix");
    assert_eq!(reason(&refused), "no_instance");
    let (_, detail) = refused_at(&refused);
    assert!(detail.contains("2.web is drained"), "{detail}");
    assert!(refused.next.contains("margay drain 1.web --cancel"));
}

#[test]
fn strict_instance_that_is_drained_serves_and_that_is_said() {
    let mut world = shop(SHOP);
    drain(&mut world, "1.store");
    let called = explain(
        &world,
        "1.web",
        &format!("{}:6379", world.called("1.store")),
    );
    assert_eq!(choice(&called), "called");
    let text = called.to_string();
    assert!(text.contains("serves, though it is drained"), "{text}");
}

#[test]
fn instance_whose_name_is_not_answered_is_reached_by_nobody_who_asks_for_it() {
    let mut world = shop(&probed());
    let instance = world.id("1.web");
    world.tell(Input::Readiness {
        instance,
        ready: true,
    });
    for (name, next) in [
        ("2.web.matrix", "2.web is running"),
        ("9.web.matrix", "no 9.web"),
    ] {
        let explanation = explain(&world, "1.shopper", name);
        let nowhere = matches!(explanation.verdict, Verdict::NoSuchName { .. });
        assert!(nowhere && explanation.next.contains(next), "{explanation}");
        assert_eq!(explanation.steps.len(), 1, "{explanation}");
    }
}

#[test]
fn outside_is_refused_to_those_whose_composition_gives_no_way_out() {
    let world = shop(WORLD);
    let refused = explain(&world, "1.homebody", "192.0.2.7:443");
    assert_eq!(reason(&refused), "no_egress");
    let (step, detail) = refused_at(&refused);
    assert_eq!(step, "egress");
    assert!(
        detail.contains("homebody of world says `egress = \"none\"`"),
        "{detail}"
    );
    assert!(refused.next.contains("Set `egress = \"all\"` for homebody"));
    let name = explain(&world, "1.homebody", "www.example.com");
    assert!(name.next.contains("egress = \"all\""), "{name}");
}

#[test]
fn outside_is_left_to_the_host_for_those_who_may() {
    let world = shop(WORLD);
    for target in ["192.0.2.7:443", "192.0.2.7:53/udp", "192.0.2.7/echo"] {
        let leaves = explain(&world, "1.roamer", target);
        assert_eq!(leaves.verdict, Verdict::Leaves, "{leaves}");
        assert!(leaves.next.contains("ip route get 192.0.2.7"), "{leaves}");
    }
    let name = explain(&world, "1.roamer", "www.example.com:443");
    assert_eq!(name.verdict, Verdict::Leaves, "{name}");
    assert!(name.to_string().contains("resolv.conf"), "{name}");
}

#[test]
fn what_stays_in_although_others_leave_is_refused_for_what_it_is() {
    let world = shop(WORLD);
    let called = world.called("1.roamer");
    let cases = [
        ("[2001:db8::7]:443", "no_egress", "IPv4 only"),
        ("169.254.169.254:80", "no_egress", "link-local"),
        (
            &format!("{called}:40000 192.0.2.7:443")[..],
            "no_egress",
            "from 100.",
        ),
        ("224.0.0.251:5353/udp", "local_control", ""),
        ("192.0.2.1:40000 192.0.2.7:443", "forged_source", ""),
        ("100.64.99.1:80", "no_such_address", ""),
    ];
    for (target, expected, detail) in cases {
        let refused = explain(&world, "1.roamer", target);
        assert_eq!(reason(&refused), expected, "{refused}");
        assert!(refused_at(&refused).1.contains(detail), "{refused}");
    }
}

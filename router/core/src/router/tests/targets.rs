//! What SRV records tell clients that choose by themselves: weights and priorities (RFC 2782).

use super::SHOP;
use super::explaining::{published, shop};
use super::world::World;
use crate::names::{Answer, Question, QuestionKind, ServiceTarget, answer};
use std::collections::BTreeMap;
use std::time::Duration;

/// The shop with more `keys` of its web servers.
fn with(keys: &str) -> String {
    SHOP.replace("replicas = 3", &format!("replicas = 3\n{keys}"))
}

/// The targets of web's port as `caller` is told them, best first.
fn targets(world: &World, caller: &str, draw: u64) -> Vec<ServiceTarget> {
    let question = Question {
        name: "_http._tcp.web.matrix".to_owned(),
        kind: QuestionKind::Srv,
    };
    match answer(&published(world), world.id(caller), &question, draw) {
        Answer::Targets(targets) => targets,
        other => panic!("{other:?}"),
    }
}

/// Priorities and weights by name.
fn numbers(world: &World, caller: &str) -> BTreeMap<String, (u16, u16)> {
    let targets = targets(world, caller, 0).into_iter();
    let numbers = targets.map(|it| (it.name, (it.priority, it.weight)));
    numbers.collect()
}

fn expected(numbers: [(u16, u16); 3]) -> BTreeMap<String, (u16, u16)> {
    let names = (1..).map(|ordinal| format!("{ordinal}.web.matrix"));
    names.zip(numbers).collect()
}

#[test]
fn weights_are_those_of_the_composition_and_follow_it_without_a_restart() {
    let mut world = shop(&with("weights = [300, 20]"));
    let weighted = expected([(0, 300), (0, 20), (0, 100)]);
    assert_eq!(numbers(&world, "1.shopper"), weighted);

    let next = with("weights = [1000, 1, 1]").replace("version = 1", "version = 2");
    world.apply(&next).unwrap();

    let weighted = expected([(0, 1000), (0, 1), (0, 1)]);
    assert_eq!(numbers(&world, "1.shopper"), weighted);
}

#[test]
fn weight_grows_with_a_slow_start() {
    let mut world = shop(&with("weights = [300, 20]\nslow_start_ms = 9000"));
    let cold = expected([(0, 30), (0, 2), (0, 10)]);
    assert_eq!(numbers(&world, "1.shopper"), cold);
    world.pass(Duration::from_secs(10));
    let warm = expected([(0, 300), (0, 20), (0, 100)]);
    assert_eq!(numbers(&world, "1.shopper"), warm);
}

#[test]
fn caller_with_an_instance_of_its_own_calls_others_only_when_that_one_is_away() {
    let world = shop(&with("balance = \"maglev\""));
    let first = targets(&world, "1.shopper", 0);
    assert_eq!(first.len(), 3);
    for draw in 0..9 {
        let targets = targets(&world, "1.shopper", draw);
        assert_eq!(targets[0].name, first[0].name);
        let priorities: Vec<u16> = targets.iter().map(|it| it.priority).collect();
        assert_eq!(priorities, [0, 1, 1]);
    }
}

#[test]
fn caller_that_is_itself_a_target_is_its_own_last_resort() {
    let text = with("").replace("needs = [\"store\"]", "needs = [\"store\", \"web\"]");
    let world = shop(&text);
    let own_last = expected([(0, 100), (1, 100), (0, 100)]);
    assert_eq!(numbers(&world, "2.web"), own_last);
}

#[test]
fn only_target_has_no_weight_for_there_is_nothing_to_choose() {
    let service = shop(&with("answer = \"service\"\nweights = [300, 20, 1]"));
    let only = BTreeMap::from([("web.matrix".to_owned(), (0, 0))]);
    assert_eq!(numbers(&service, "1.shopper"), only);
    let single = shop(&SHOP.replace("replicas = 3", "replicas = 1\nweights = [300]"));
    let only = BTreeMap::from([("1.web.matrix".to_owned(), (0, 0))]);
    assert_eq!(numbers(&single, "1.shopper"), only);
}

//! Tests of balancers: spread, order and shares, for every policy.

use super::*;
use proptest::prelude::*;
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use std::collections::BTreeSet;

/// Those that spread the flows of one caller.
const SPREADING: [Balance; 3] = [Balance::RoundRobin, Balance::TwoChoices, Balance::LeastLoad];

const ALL: [Balance; 4] = [SPREADING[0], SPREADING[1], SPREADING[2], Balance::Maglev];

/// A caller that is no candidate.
const CALLER: InstanceId = InstanceId(1_000);

/// A balancer over instances 0, 1, 2 and so on, with these weights and flows.
fn balancer(balance: Balance, given: &[(u32, u32)]) -> Balancer {
    let candidate = |(index, (weight, flows)): (u64, &(u32, u32))| Candidate {
        weight: NonZeroU32::new(*weight).unwrap(),
        flows: *flows,
        ..Candidate::idle(InstanceId(index))
    };
    over(balance, (0..).zip(given).map(candidate).collect())
}

fn over(balance: Balance, candidates: Vec<Candidate>) -> Balancer {
    if balance != Balance::Maglev {
        return Balancer::new(balance, candidates);
    }
    let lookup = Lookup::new(parts(&candidates).collect(), 16);
    Balancer::consistent(candidates, Arc::new(lookup))
}

fn equal(balance: Balance, count: usize) -> Balancer {
    balancer(balance, &vec![(100, 3); count])
}

/// Draws as the router makes them: turns that count, words of a generator.
fn draws(start: u64) -> impl Iterator<Item = Draw> {
    let mut random = SmallRng::seed_from_u64(start);
    (start..).map(move |turn| Draw {
        turn,
        random: random.next_u64(),
    })
}

/// How many of `draws` fall on each candidate while loads stay as they are.
fn spread(balancer: &Balancer, caller: InstanceId, count: usize, seed: u64) -> Vec<u32> {
    let mut hits = vec![0; balancer.candidates().len()];
    for draw in draws(seed).take(count) {
        hits[balancer.choose(caller, draw).unwrap()] += 1;
    }
    hits
}

/// Whether `hits` of `count` are what chance makes of a share, within six standard deviations.
fn fits(hits: u32, count: usize, share: f64) -> bool {
    let (count, hits) = (count as f64, f64::from(hits));
    let deviation = (count * share * (1.0 - share)).sqrt();
    (hits - count * share).abs() <= 6.0 * deviation + 1.0
}

#[test]
fn nobody_is_chosen_from_nobody() {
    for balance in ALL {
        let nobody = balancer(balance, &[]);
        let draw = draws(7).next().unwrap();
        assert_eq!(nobody.choose(CALLER, draw), None);
        assert_eq!(nobody.order(CALLER, draw, 8).count(), 0);
        assert_eq!(nobody.shares(CALLER), []);
    }
}

#[test]
fn two_choices_never_takes_the_most_loaded() {
    let loads = [(1, 5), (1, 5), (1, 9), (1, 5)];
    let hits = spread(&balancer(Balance::TwoChoices, &loads), CALLER, 4_000, 1);
    assert_eq!(hits[2], 0);
}

#[test]
fn two_choices_weighs_loads() {
    // 30 flows at weight 3 are as many as 10 at weight 1, 9 are fewer.
    let loads = [(3, 30), (1, 9)];
    let hits = spread(&balancer(Balance::TwoChoices, &loads), CALLER, 1_000, 1);
    assert_eq!(hits, [0, 1_000]);
}

#[test]
fn two_choices_keeps_loads_closer_than_one_random_choice() {
    let mut loads = [(1, 0); 32];
    let mut single = [0u32; 32];
    for draw in draws(2).take(32_000) {
        let index = balancer(Balance::TwoChoices, &loads).choose(CALLER, draw);
        loads[index.unwrap()].1 += 1;
        single[scale(draw.random, 32) as usize] += 1;
    }
    let two = loads.map(|(_, load)| load);
    let width = |all: &[u32]| all.iter().max().unwrap() - all.iter().min().unwrap();
    assert!(width(&two) <= 8, "{two:?}");
    assert!(width(&single) > 50);
}

#[test]
fn least_load_looks_at_flows_and_at_the_processor() {
    let candidates = |loads: [(u32, u32); 2]| {
        let candidate = |(index, (flows, processor)): (u64, (u32, u32))| Candidate {
            flows,
            processor,
            ..Candidate::idle(InstanceId(index))
        };
        (0..).zip(loads).map(candidate).collect::<Vec<_>>()
    };
    // Flows and processor time of either, and who takes all that is new.
    let cases = [
        ([(5, 100), (5, 900)], 0),
        ([(9, 500), (5, 500)], 1),
        ([(0, 700), (0, 200)], 1),
        ([(3, 0), (7, 0)], 0),
        // A fifth of the flows and half of the processor against the rest: the fifth wins.
        ([(2, 500), (8, 500)], 0),
        ([(6, 100), (4, 900)], 0),
    ];
    for (loads, least) in cases {
        let balancer = over(Balance::LeastLoad, candidates(loads));
        let hits = spread(&balancer, CALLER, 100, 5);
        assert_eq!(hits[least], 100, "{loads:?}");
    }
}

#[test]
fn maglev_sends_a_caller_to_one_and_callers_to_all() {
    let balancer = equal(Balance::Maglev, 4);
    let mut servers = BTreeSet::new();
    for caller in (100..200).map(InstanceId) {
        let hits = spread(&balancer, caller, 20, 1);
        assert!(hits.contains(&20), "{hits:?}");
        servers.insert(hits.iter().position(|hits| *hits > 0));
    }
    assert_eq!(servers.len(), 4);
}

#[test]
fn weights_make_turns_that_do_not_crowd() {
    let uneven = balancer(Balance::RoundRobin, &[(300, 0), (300, 0), (100, 0)]);
    let turns = draws(0).take(7).map(|draw| uneven.choose(CALLER, draw));
    let turns: Vec<_> = turns.flatten().collect();
    assert_eq!(turns, [0, 1, 0, 1, 0, 2, 1]);
}

#[test]
fn caller_takes_its_own_flow_only_when_alone() {
    for balance in ALL {
        let own = InstanceId(1);
        let three = equal(balance, 3);
        assert_eq!(spread(&three, own, 1_000, 3)[1], 0);
        let shares = three.shares(own);
        assert!(shares.iter().all(|share| share.instance != own));
        let order: Vec<_> = three.order(own, draws(1).next().unwrap(), 8).collect();
        assert_eq!(order.last(), Some(&1));

        let alone = InstanceId(0);
        assert_eq!(spread(&equal(balance, 1), alone, 1, 3), [1]);
        assert_eq!(equal(balance, 1).shares(alone).len(), 1);
    }
}

fn any_balance() -> impl Strategy<Value = Balance> {
    proptest::sample::select(&ALL[..])
}

fn any_parts() -> impl Strategy<Value = Vec<(u32, u32)>> {
    proptest::collection::vec((1u32..200, 0u32..9), 1..20)
}

proptest! {
    #[test]
    fn round_robin_takes_each_in_turn(count in 1usize..40, start in any::<u32>()) {
        let hits = spread(&equal(Balance::RoundRobin, count), CALLER, 3 * count, start.into());
        prop_assert_eq!(hits, vec![3; count]);
    }

    #[test]
    fn equal_instances_take_equal_parts(
        balance in proptest::sample::select(&SPREADING[..]), count in 1usize..20, seed in any::<u32>(),
    ) {
        let draws = 400 * count;
        let hits = spread(&equal(balance, count), CALLER, draws, seed.into());
        let share = 1.0 / count as f64;
        prop_assert!(hits.iter().all(|hits| fits(*hits, draws, share)), "{:?}", hits);
    }

    #[test]
    fn shares_say_how_choices_spread(
        balance in any_balance(), parts in any_parts(), caller in 0u64..30, seed in any::<u32>(),
    ) {
        let (balancer, caller, draws) = (balancer(balance, &parts), InstanceId(caller), 4_000);
        let hits = spread(&balancer, caller, draws, seed.into());
        let shares = balancer.shares(caller);
        let whole: u64 = shares.iter().map(|share| share.weight).sum();
        for (candidate, hits) in balancer.candidates().iter().zip(hits) {
            let of = |share: &&Share| share.instance == candidate.instance;
            let weight = shares.iter().find(of).map_or(0, |share| share.weight);
            let share = weight as f64 / whole as f64;
            prop_assert!(fits(hits, draws, share), "{} of {} for {}", hits, draws, share);
        }
    }

    #[test]
    fn order_begins_with_the_choice_and_repeats_nobody(
        balance in any_balance(), parts in any_parts(), caller in 0u64..30,
        turn in any::<u64>(), random in any::<u64>(), limit in 1usize..12,
    ) {
        let (balancer, caller, draw) = (balancer(balance, &parts), InstanceId(caller), Draw { turn, random });
        let order: Vec<_> = balancer.order(caller, draw, limit).collect();
        prop_assert_eq!(order.first().copied(), balancer.choose(caller, draw));
        prop_assert_eq!(order.len(), limit.min(parts.len()));
        prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len());
        prop_assert!(order.iter().all(|index| *index < parts.len()));
    }
}

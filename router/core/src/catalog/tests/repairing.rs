//! Repair: what was lost is found, in bounded answers, and lies are found out.

use super::*;

fn filled(count: u64) -> Catalog {
    let mut one = catalog(0);
    for number in 1..=count {
        one.handle_input(CatalogInput::State(says(&web(0, number, 5))), at(0));
    }
    flush_all(&mut one);
    one
}

#[test]
fn host_that_heard_nothing_learns_everything_in_bounded_answers() {
    let mut one = filled(3_000);
    let mut two = catalog(1);
    let answers = repair(&mut two, &mut one, at(100));
    assert!((3..10).contains(&answers), "{answers}");
    assert_eq!(shown(&two).len(), 3_000);
    assert!(two.origins().all(|(_, view)| view.sound));
    assert_eq!(two.repaired_at(), Some(at(100)));
    assert_eq!(repair(&mut two, &mut one, at(200)), 1);
}

#[test]
fn third_host_passes_on_what_another_wrote() {
    let (mut one, mut two, mut three) = (filled(5), catalog(1), catalog(2));
    repair(&mut two, &mut one, at(100));
    repair(&mut three, &mut two, at(200));
    assert_eq!(shown(&three).len(), 5);
}

/// Host 0 says two things, host 1 hears both; then one is taken back, unheard, and forgotten.
fn missed_and_forgotten() -> (Catalog, Catalog) {
    let config = CatalogConfig {
        key: key(0),
        epoch: OriginEpoch(1),
        limits: CatalogLimits {
            taken_back_kept: Duration::from_secs(1),
            ..CatalogLimits::default()
        },
    };
    let (mut one, mut two) = (with(config), catalog(1));
    let both = vec![says(&web(0, 1, 5)), says(&web(0, 2, 5))];
    let said = publish(&mut one, both, at(0));
    hear(&mut two, &said, at(0));
    one.handle_input(CatalogInput::TakeBack(says(&web(0, 1, 5)).key()), at(50));
    flush(&mut one, at(50));
    publish(&mut one, vec![says(&web(0, 3, 5))], at(100));
    one.repair.at = at(5_000);
    one.tick(at(5_000));
    outputs(&mut one);
    assert_eq!(one.said_at(&id(0), &says(&web(0, 1, 5)).key()), None);
    (one, two)
}

#[test]
fn sum_tells_what_was_taken_back_and_forgotten_meanwhile() {
    let (mut one, mut two) = missed_and_forgotten();
    repair(&mut two, &mut one, at(6_000));
    let view = two.origins().find(|(host, _)| *host == id(0)).unwrap().1;
    assert!(!view.sound && shown(&two).len() == 3, "{view:?}");
    repair(&mut two, &mut one, at(8_000));
    assert_eq!(shown(&two).len(), 2);
    assert!(two.origins().all(|(_, view)| view.sound));
}

#[test]
fn host_whose_records_do_not_add_up_answers_nobody_with_them() {
    let (mut one, mut two) = missed_and_forgotten();
    repair(&mut two, &mut one, at(6_000));
    let mut three = catalog(2);
    repair(&mut three, &mut two, at(7_000));
    assert_eq!(shown(&three), []);
}

#[test]
fn record_that_came_late_for_its_retraction_stays_out() {
    let (mut one, mut two) = (catalog(0), catalog(1));
    let web = says(&web(0, 1, 5));
    let said = publish(&mut one, vec![web.clone()], at(0));
    one.handle_input(CatalogInput::TakeBack(web.key()), at(50));
    let taken_back = flush(&mut one, at(50));
    hear(&mut two, &taken_back, at(60));
    hear(&mut two, &said, at(70));
    assert_eq!(shown(&two), []);
    // Not even once the retraction is forgotten.
    let later = publish(
        &mut one,
        vec![Statement::Host { credential: vec![] }],
        at(80),
    );
    hear(&mut two, &later, at(90));
    two.limits.taken_back_kept = Duration::ZERO;
    let kept = CatalogLimits::default().taken_back_kept;
    two.repair.at = at(0);
    two.tick(at(100) + kept);
    assert_eq!(two.said_at(&id(0), &web.key()), None);
    hear(&mut two, &said, at(200) + kept);
    assert_eq!(shown(&two), []);
}

#[test]
fn lie_in_a_second_look_brings_nothing_back() {
    let config = |number| CatalogConfig {
        key: key(number),
        epoch: OriginEpoch(1),
        limits: CatalogLimits {
            taken_back_kept: Duration::from_secs(1),
            ..CatalogLimits::default()
        },
    };
    let (mut one, mut two) = (with(config(0)), with(config(1)));
    let (first, second) = (says(&web(0, 1, 5)), says(&web(0, 2, 5)));
    let said = publish(&mut one, vec![first.clone()], at(0));
    let old = wire::Gossip::decode(said[0].as_slice()).unwrap().records;
    hear(&mut two, &said, at(0));
    let said = publish(&mut one, vec![second.clone()], at(10));
    hear(&mut two, &said, at(10));
    one.handle_input(CatalogInput::TakeBack(first.key()), at(50));
    let taken_back = flush(&mut one, at(50));
    hear(&mut two, &taken_back, at(50));
    // What it misses makes it take a second look, once the retraction is forgotten everywhere.
    one.handle_input(CatalogInput::TakeBack(second.key()), at(60));
    flush(&mut one, at(60));
    publish(&mut one, vec![says(&web(0, 3, 5))], at(70));
    for catalog in [&mut one, &mut two] {
        catalog.repair.at = at(5_000);
        catalog.tick(at(5_000));
        outputs(catalog);
    }
    repair(&mut two, &mut one, at(6_000));
    two.up = BTreeSet::from([id(0)]);
    two.repair.at = at(8_000);
    two.tick(at(8_000));
    assert_eq!(two.said_at(&id(0), &first.key()), None);
    let bytes = ask_of(&mut two).unwrap();
    one.handle_input(CatalogInput::Ask { from: id(1), bytes }, at(8_000));
    let Some(CatalogOutput::Answer { bytes, .. }) = one.poll_output() else {
        panic!("no answer");
    };
    let mut lie = wire::Answer::decode(bytes.as_slice()).unwrap();
    lie.sections[0].records.splice(0..0, [old[0].clone()]);
    let bytes = lie.encode_to_vec();
    two.handle_input(CatalogInput::Answer { from: id(0), bytes }, at(8_000));
    outputs(&mut two);
    assert_eq!(two.said_at(&id(0), &first.key()), None);
    repair(&mut two, &mut one, at(10_000));
    assert_eq!(shown(&two).len(), 1);
    assert!(two.origins().all(|(_, view)| view.sound));
}

#[test]
fn answer_that_leaves_records_out_is_found_out() {
    let (mut one, mut two) = (filled(20), catalog(1));
    two.up = BTreeSet::from([id(0)]);
    two.repair.at = at(0);
    two.tick(at(0));
    let bytes = ask_of(&mut two).unwrap();
    one.handle_input(CatalogInput::Ask { from: id(1), bytes }, at(0));
    let Some(CatalogOutput::Answer { bytes, .. }) = one.poll_output() else {
        panic!("no answer");
    };
    let mut lie = wire::Answer::decode(bytes.as_slice()).unwrap();
    lie.sections[0].records.remove(4);
    let bytes = lie.encode_to_vec();
    two.handle_input(CatalogInput::Answer { from: id(0), bytes }, at(0));
    outputs(&mut two);
    assert_eq!(shown(&two).len(), 19);
    repair(&mut two, &mut one, at(2_000));
    assert_eq!(shown(&two).len(), 20);
}

#[test]
fn answer_that_claims_more_than_was_signed_blocks_nothing() {
    let (mut one, mut two) = (filled(3), catalog(1));
    two.up = BTreeSet::from([id(0)]);
    two.repair.at = at(0);
    two.tick(at(0));
    let bytes = ask_of(&mut two).unwrap();
    one.handle_input(CatalogInput::Ask { from: id(1), bytes }, at(0));
    let Some(CatalogOutput::Answer { bytes, .. }) = one.poll_output() else {
        panic!("no answer");
    };
    let mut lie = wire::Answer::decode(bytes.as_slice()).unwrap();
    lie.sections[0].through = u64::MAX;
    let bytes = lie.encode_to_vec();
    two.handle_input(CatalogInput::Answer { from: id(0), bytes }, at(0));
    outputs(&mut two);
    let said = publish(&mut one, vec![says(&web(0, 9, 5))], at(10));
    hear(&mut two, &said, at(10));
    assert_eq!(shown(&two).len(), 4);
}

#[test]
fn answers_that_nobody_asked_for_and_askers_that_never_rest_are_refused() {
    let (mut one, mut two) = (filled(3), catalog(1));
    let answer = wire::Answer {
        version: 1,
        round: 5,
        ..wire::Answer::default()
    };
    let bytes = answer.encode_to_vec();
    two.handle_input(CatalogInput::Answer { from: id(0), bytes }, at(0));
    assert_eq!(drops(&two), [CatalogDrop::Unasked]);
    let ask = wire::Ask {
        version: 1,
        ..wire::Ask::default()
    };
    for _ in 0..ANSWERS_A_ROUND * 2 {
        let bytes = ask.encode_to_vec();
        one.handle_input(CatalogInput::Ask { from: id(1), bytes }, at(0));
        outputs(&mut one);
    }
    assert_eq!(drops(&one), [CatalogDrop::AskedTooOften]);
    let bytes = ask.encode_to_vec();
    one.handle_input(CatalogInput::Ask { from: id(8), bytes }, at(0));
    assert!(drops(&one).contains(&CatalogDrop::NotCertified));
}

#[test]
fn too_many_records_ahead_of_a_missing_one_wait_for_repair() {
    let mut one = filled(1);
    let mut two = catalog(1);
    for number in 2..u64::try_from(AHEAD_MAX).unwrap() + 10 {
        one.handle_input(CatalogInput::State(says(&web(0, number, 5))), at(0));
    }
    let all = flush_all(&mut one);
    hear(&mut two, &all, at(1));
    assert_eq!(drops(&two), [CatalogDrop::TooFarAhead]);
    repair(&mut two, &mut one, at(100));
    assert!(two.origins().all(|(_, view)| view.sound));
}

//! Records: who is believed, what is newer, and what is dropped under which name.

use super::*;

#[test]
fn what_a_host_says_shows_at_another_until_it_is_taken_back() {
    let (mut one, mut two) = (catalog(0), catalog(1));
    let said = publish(&mut one, vec![says(&web(0, 1, 5))], at(0));
    let seen = hear(&mut two, &said, at(0));
    let service = "web".parse().unwrap();
    assert!(seen.contains(&CatalogOutput::Changed(Change::Service(service))));
    assert_eq!(shown(&two), [(id(0), 5)]);
    let called: IpAddr = web(0, 1, 5).addresses.called.v4.into();
    assert_eq!(two.instances_at(called).len(), 1);
    one.handle_input(CatalogInput::TakeBack(says(&web(0, 1, 5)).key()), at(50));
    let taken_back = flush(&mut one, at(50));
    hear(&mut two, &taken_back, at(50));
    assert_eq!(shown(&two), []);
    assert_eq!(two.instances_at(called), []);
}

#[test]
fn later_word_wins_in_whatever_order_words_come() {
    for order in [[0, 1], [1, 0]] {
        let (mut one, mut two) = (catalog(0), catalog(1));
        let first = publish(&mut one, vec![says(&web(0, 1, 5))], at(0));
        let second = publish(&mut one, vec![says(&web(0, 1, 6))], at(50));
        let both = [first, second];
        for which in order {
            hear(&mut two, &both[which], at(60));
        }
        assert_eq!(shown(&two), [(id(0), 6)]);
        let view = two.origins().find(|(host, _)| *host == id(0)).unwrap().1;
        assert!(view.sound && view.complete == 2, "{view:?}");
    }
}

#[test]
fn what_is_said_again_unchanged_is_not_written_again() {
    let mut one = catalog(0);
    let web = says(&web(0, 1, 5));
    assert_eq!(publish(&mut one, vec![web.clone()], at(0)).len(), 1);
    assert_eq!(publish(&mut one, vec![web.clone()], at(50)).len(), 0);
    one.handle_input(CatalogInput::TakeBack(web.key()), at(99));
    assert_eq!(publish(&mut one, vec![web], at(100)).len(), 0);
}

#[test]
fn host_that_is_down_is_hidden_and_comes_back_whole() {
    let (mut one, mut two) = (catalog(0), catalog(1));
    let said = publish(&mut one, vec![says(&web(0, 1, 5))], at(0));
    hear(&mut two, &said, at(0));
    two.handle_input(CatalogInput::Down(id(0)), at(1));
    assert_eq!(shown(&two), []);
    two.handle_input(CatalogInput::Up(id(0)), at(2));
    assert_eq!(shown(&two), [(id(0), 5)]);
    two.handle_input(CatalogInput::Uncertified(id(0)), at(3));
    assert_eq!((shown(&two), two.bytes()), (vec![], 0));
}

#[test]
fn later_life_makes_everything_before_it_void() {
    let (mut one, mut two) = (catalog(0), catalog(1));
    let both = vec![says(&web(0, 1, 5)), says(&web(0, 2, 5))];
    let first = publish(&mut one, both, at(0));
    hear(&mut two, &first, at(0));
    let mut config = CatalogConfig {
        key: key(0),
        epoch: OriginEpoch(2),
        limits: CatalogLimits::default(),
    };
    let mut again = with(config.clone());
    let second = publish(&mut again, vec![says(&web(0, 2, 6))], at(0));
    hear(&mut two, &second, at(1_000));
    // For a moment both lives show, so that a restart hides nothing.
    assert_eq!(shown(&two), [(id(0), 5), (id(0), 6)]);
    two.settle(&id(0), at(1_000) + EARLIER_SETTLES);
    assert_eq!(shown(&two), [(id(0), 6)]);
    hear(&mut two, &first, at(9_000));
    assert_eq!(shown(&two), [(id(0), 6)]);
    config.epoch = OriginEpoch(1);
    assert_eq!(drops(&two), [CatalogDrop::Known]);
}

#[test]
fn restored_host_is_told_and_says_everything_again() {
    let (mut one, mut two) = (catalog(0), catalog(1));
    let mut config = CatalogConfig {
        key: key(0),
        epoch: OriginEpoch(7),
        limits: CatalogLimits::default(),
    };
    let said = publish(&mut with(config.clone()), vec![says(&web(0, 1, 5))], at(0));
    hear(&mut two, &said, at(0));
    publish(&mut one, vec![says(&web(0, 2, 6))], at(0));
    repair(&mut one, &mut two, at(10));
    // What it is told is only asked for once.
    one.handle_input(
        CatalogInput::Gossip {
            bytes: said[0].clone(),
        },
        at(11),
    );
    assert_eq!(outputs(&mut one), [CatalogOutput::Outlived(OriginEpoch(7))]);
    one.handle_input(CatalogInput::Epoch(OriginEpoch(8)), at(20));
    let again = flush(&mut one, at(20));
    hear(&mut two, &again, at(30));
    two.settle(&id(0), at(30) + EARLIER_SETTLES);
    assert_eq!(shown(&two), [(id(0), 6)]);
    config.epoch = OriginEpoch(8);
}

#[test]
fn every_bad_record_is_dropped_by_name_and_stops_nothing() {
    let body = write_body(&Statement::Host {
        credential: vec![1],
    });
    let host_key = write_key(&id(0), &Key::Host);
    let good = record(0, 1, host_key.clone(), Some(body.clone()));
    let mut forged = good.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let someone = record(2, 1, host_key.clone(), Some(body.clone()));
    let long = record(0, 1, host_key.clone(), Some(vec![0; RECORD_BYTES_MAX]));
    let version = wire::Record {
        version: 2,
        ..wire::Record::default()
    };
    let version = key(0).sign(record::RECORD, &version).encode_to_vec();
    for (bad, reason) in [
        (forged, CatalogDrop::Forged),
        (someone, CatalogDrop::Forged),
        (long, CatalogDrop::TooLong),
        (version, CatalogDrop::UnknownVersion),
        (b"\xff\xff".to_vec(), CatalogDrop::Unreadable),
        (
            record(0, 0, host_key.clone(), None),
            CatalogDrop::Unreadable,
        ),
    ] {
        let mut two = catalog(1);
        hear(&mut two, &[gossip(id(0), vec![bad, good.clone()])], at(0));
        assert_eq!(drops(&two), [reason]);
        assert_eq!(two.credential_of(&id(0)), Some(vec![1]), "{reason:?}");
    }
}

#[test]
fn what_is_not_understood_is_carried_and_not_believed() {
    let service_key = write_key(&id(0), &says(&web(0, 1, 5)).key());
    let host_body = write_body(&Statement::Host { credential: vec![] });
    for (key_bytes, body) in [
        (
            b"\x7a\x02\x08\x01".to_vec(),
            b"from a later version".to_vec(),
        ),
        (service_key, host_body),
    ] {
        let strange = record(0, 1, key_bytes, Some(body));
        let mut two = catalog(1);
        hear(&mut two, &[gossip(id(0), vec![strange])], at(0));
        assert_eq!(drops(&two), [CatalogDrop::Unread]);
        assert_eq!(shown(&two), []);
        let mut three = catalog(2);
        repair(&mut three, &mut two, at(10));
        assert_eq!(drops(&three), [CatalogDrop::Unread]);
    }
}

#[test]
fn host_without_a_certificate_is_introduced_and_not_believed() {
    let mut stranger = catalog(7);
    let credential = vec![7; 40];
    let statements = vec![
        Statement::Host {
            credential: credential.clone(),
        },
        says(&web(7, 1, 5)),
    ];
    let said = publish(&mut stranger, statements, at(0));
    let mut two = catalog(1);
    let host = id(7);
    assert_eq!(
        hear(&mut two, &said, at(0)),
        [CatalogOutput::Introduced { host, credential }]
    );
    assert_eq!(
        (shown(&two), drops(&two)),
        (vec![], vec![CatalogDrop::NotCertified])
    );
    two.handle_input(CatalogInput::Up(host), at(1));
    two.handle_input(CatalogInput::Certified(host), at(1));
    hear(&mut two, &said, at(2));
    assert_eq!(shown(&two), [(host, 5)]);
}

#[test]
fn origin_that_fills_its_part_does_not_take_that_of_others() {
    let config = CatalogConfig {
        key: key(1),
        epoch: OriginEpoch(1),
        limits: CatalogLimits {
            bytes: 64 << 10,
            bytes_of_one_origin: 8 << 10,
            ..CatalogLimits::default()
        },
    };
    let mut two = with(config);
    let many = (1..100).map(|number| says(&web(0, number, 5))).collect();
    let said = publish(&mut catalog(0), many, at(0));
    hear(&mut two, &said, at(0));
    let shown_of_one = shown(&two).len();
    assert!((5..50).contains(&shown_of_one), "{shown_of_one}");
    assert_eq!(drops(&two), [CatalogDrop::OriginFull]);
    let said = publish(&mut catalog(2), vec![says(&web(2, 1, 6))], at(0));
    hear(&mut two, &said, at(0));
    assert_eq!(shown(&two).len(), shown_of_one + 1);
    assert!(two.bytes() < 16 << 10);
}

#[test]
fn many_changes_make_few_messages_none_too_long() {
    let mut one = catalog(0);
    let many: Vec<Statement> = (1..400).map(|number| says(&web(0, number, 5))).collect();
    let said = publish(&mut one, many, at(0));
    assert!(said.len() < 4, "{}", said.len());
    assert!(said.iter().all(|bytes| bytes.len() <= GOSSIP_BYTES_MAX));
    let mut two = catalog(1);
    hear(&mut two, &said, at(0));
    assert_eq!(shown(&two).len(), 399);
}

#[test]
fn generation_is_raised_by_its_holder_alone() {
    let identity = web(0, 1, 5).identity;
    let binding = |generation, given_by| {
        Statement::Binding(Binding {
            identity,
            generation: Generation(generation),
            given_by,
        })
    };
    let given = |from: u8, generation, to: u8| {
        let generation = Generation(generation);
        Some(GivenBy::sign(&key(from), &identity, generation, &id(to)))
    };
    let mut seen = catalog(3);
    let mut say = |number: u8, epoch, statement| {
        let config = CatalogConfig {
            key: key(number),
            epoch: OriginEpoch(epoch),
            limits: CatalogLimits::default(),
        };
        let said = publish(&mut with(config), vec![statement], at(0));
        hear(&mut seen, &said, at(0));
        seen.holder(&identity).map(|it| (it.host, it.generation.0))
    };
    assert_eq!(say(1, 1, binding(1, None)), None, "not born there");
    let born = say(0, 1, binding(1, None));
    assert_eq!(born, Some((id(0), 1)));
    assert_eq!(say(1, 2, binding(2, None)), born, "given by nobody");
    assert_eq!(
        say(2, 2, binding(2, given(2, 2, 2))),
        born,
        "not its to give"
    );
    assert_eq!(
        say(1, 3, binding(2, given(0, 2, 2))),
        born,
        "given to another"
    );
    assert_eq!(say(1, 4, binding(2, given(0, 2, 1))), Some((id(1), 2)));
    assert_eq!(say(0, 2, binding(1, None)), Some((id(1), 2)), "given away");
    assert_eq!(say(2, 3, binding(3, given(1, 3, 2))), Some((id(2), 3)));
}

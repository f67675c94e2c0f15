//! What other hosts say, damaged: whatever comes, no bound breaks and good hosts stay believed.

#![allow(
    clippy::disallowed_methods,
    reason = "what core may not do itself, its test does: it reads the corpus"
)]

#[allow(
    dead_code,
    reason = "shared with the fuzz targets, which need less of it"
)]
#[path = "../fuzz/site_check.rs"]
mod site_check;

use margay_core::host::OriginEpoch;
use margay_core::membership::{Membership, MembershipConfig, MembershipInput, MembershipOutput};
use margay_core::moment::Moment;
use margay_core::wire::margay::catalog as wire;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message;
use site_check::{check_catalog, check_membership, good_gossip, key};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Good messages, each behind the byte that says its kind.
fn messages() -> Vec<Vec<u8>> {
    let gossip = good_gossip();
    let records = wire::Gossip::decode(gossip.as_slice())
        .expect("it is one")
        .records;
    let origin = key(3).public().as_bytes().to_vec();
    let mark = wire::Mark {
        origin: origin.clone(),
        epoch: 1,
        complete: 7,
        checked: Some(3),
    };
    let held = wire::Held {
        name: "shop".to_owned(),
        version: 3,
        content: vec![1; 16],
    };
    let ask = wire::Ask {
        version: 1,
        round: 5,
        marks: vec![mark],
        compositions: vec![0; 16],
        inventory: Some(wire::Inventory { held: vec![held] }),
    };
    let section = wire::Section {
        origin,
        epoch: 1,
        after: 0,
        through: 9,
        complete: 12,
        records,
    };
    let answer = wire::Answer {
        version: 1,
        round: 5,
        sections: vec![section],
        more: true,
        inventory: true,
        ..wire::Answer::default()
    };
    let record = |key: wire::key::About, content| wire::Record {
        version: 1,
        epoch: 1,
        sequence: 1,
        key: wire::Key { about: Some(key) }.encode_to_vec(),
        body: Some(
            wire::Body {
                content: Some(content),
            }
            .encode_to_vec(),
        ),
        digest: vec![0; 16],
    };
    let composition = wire::Composition {
        version: 1,
        name: "shop".to_owned(),
        number: 1,
        text: Some("[composition]\nname = \"shop\"\nversion = 1\n".to_owned()),
        applied_at: "a".to_owned(),
    };
    let mut messages = vec![
        [vec![0], gossip].concat(),
        [vec![1], ask.encode_to_vec()].concat(),
        [vec![2], answer.encode_to_vec()].concat(),
        [vec![4], composition.encode_to_vec()].concat(),
    ];
    for (key, content) in statements() {
        messages.push([vec![3], record(key, content).encode_to_vec()].concat());
    }
    messages
}

fn statements() -> Vec<(wire::key::About, wire::body::Content)> {
    use wire::body::Content;
    use wire::key::About;
    let identity = wire::Identity {
        born_at: Vec::new(),
        number: 3,
    };
    let service = wire::Service {
        composition: "shop".to_owned(),
        automaton: "web".to_owned(),
    };
    let instance = wire::Instance {
        service: Some(service.clone()),
        called_v4: vec![1; 4],
        called_v6: vec![1; 16],
        caller_v4: vec![2; 4],
        caller_v6: vec![2; 16],
        ports: vec![wire::Port {
            name: "http".to_owned(),
            port: 80,
            transport: wire::Transport::Tcp.into(),
        }],
        generation: 1,
        ordinal: 1,
        ..wire::Instance::default()
    };
    let vip = wire::ServiceVip {
        v4: vec![1; 4],
        v6: vec![1; 16],
        version: 1,
    };
    let given_by = wire::GivenBy {
        from: key(3).public().as_bytes().to_vec(),
        transfer: vec![10, 1, 1],
    };
    let binding = wire::Binding {
        generation: 2,
        given_by: Some(given_by),
    };
    let host = wire::Host {
        credential: vec![1; 9],
    };
    vec![
        (About::Host(wire::Nothing {}), Content::Host(host)),
        (
            About::Instance(identity.clone()),
            Content::Instance(instance),
        ),
        (About::ServiceVip(service), Content::ServiceVip(vip)),
        (About::Binding(identity), Content::Binding(binding)),
    ]
}

/// Datagrams of a host that greets and probes, to the host that the check is.
fn datagrams() -> Vec<Vec<u8>> {
    let mut now = Moment::ORIGIN;
    let member = |of: u8| {
        let config = MembershipConfig {
            host: key(of).public(),
            epoch: OriginEpoch(1),
        };
        let mut member = Membership::new(config, of.into(), Moment::ORIGIN);
        let peers = BTreeSet::from([1, 2, 3].map(|of| key(of).public()));
        member.handle_input(MembershipInput::Peers(peers), Moment::ORIGIN);
        member
    };
    let mut members = [member(1), member(2)];
    let mut datagrams = Vec::new();
    for _ in 0..200 {
        now = now + Duration::from_millis(20);
        for index in [0, 1] {
            members[index].handle_timeout(now);
            while let Some(output) = members[index].poll_output() {
                let MembershipOutput::Datagram { to, bytes } = output else {
                    continue;
                };
                let other = 1 - index;
                if to == key(u8::try_from(other).expect("0 or 1") + 1).public() {
                    if index == 1 {
                        datagrams.push(bytes.clone());
                    }
                    let from = key(u8::try_from(index).expect("0 or 1") + 1).public();
                    let input = MembershipInput::Datagram { from, bytes };
                    members[other].handle_input(input, now);
                }
            }
        }
    }
    datagrams
}

/// One of `inputs` with a few bytes changed, cut somewhere.
fn damaged(inputs: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6);
    let cut = prop_oneof![3 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (select(inputs), changes, cut).prop_map(|(mut bytes, changes, cut)| {
        for (at, byte) in changes {
            // The first says what it is.
            let at = 1 + at.index(bytes.len() - 1);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_to_what_hosts_say_breaks_a_bound_or_stops_another(bytes in damaged(messages())) {
        check_catalog(&bytes);
    }

    #[test]
    fn no_damage_to_a_datagram_breaks_a_bound(bytes in damaged(datagrams())) {
        check_membership(&bytes);
    }

    #[test]
    fn any_bytes_at_all_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_catalog(&bytes);
        check_membership(&bytes);
    }
}

/// The inputs of a fuzz target's corpus.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files = std::fs::read_dir(corpus).expect("it is there");
    let read = files.map(|file| std::fs::read(file.expect("a file").path()).expect("readable"));
    read.collect()
}

#[test]
fn every_input_of_the_corpus_is_taken_in_peace() {
    let (catalog, membership) = (corpus("catalog"), corpus("membership"));
    assert!(catalog.len() >= 8 && membership.len() >= 4);
    catalog.iter().for_each(|bytes| check_catalog(bytes));
    membership.iter().for_each(|bytes| check_membership(bytes));
}

//! What gateways of other sites say, as it is written and damaged: no bound breaks, and nothing is
//! believed that nobody signed.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "what core may not do itself, its test does: it reads the corpus"
)]

mod damage;
#[path = "../fuzz/sites_check.rs"]
mod sites_check;

use damage::{Damage, FEW};
use margay_core::sites::SitesDrop;
use margay_core::wire::margay::sites as wire;
use proptest::prelude::*;
use prost::Message;
use sites_check::{check_sites, key};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One of each message, by what it is, behind the byte that says its kind.
fn messages() -> BTreeMap<&'static str, Vec<u8>> {
    let mut messages = BTreeMap::new();
    for (name, what) in questions() {
        let question = wire::Question {
            version: 1,
            what: Some(what),
        };
        messages.insert(name, [vec![0], question.encode_to_vec()].concat());
    }
    for (name, what) in answers() {
        let answer = wire::Answer {
            version: 1,
            what: Some(what),
        };
        messages.insert(name, [vec![1], answer.encode_to_vec()].concat());
    }
    messages.extend(others());
    messages
}

fn origin() -> wire::Origin {
    wire::Origin {
        host: key(2).public().as_bytes().to_vec(),
        record: vec![10, 2, 8, 1, 18, 1, 7],
    }
}

fn questions() -> [(&'static str, wire::question::What); 3] {
    use wire::question::What;
    let seek = wire::Seek {
        service: "web".to_owned(),
        passes: 3,
        held: vec![7, 8],
    };
    let inventory = wire::Inventory {
        sum: vec![1; 16],
        after: "shop".to_owned(),
    };
    let fetch = wire::Fetch {
        name: "shop".to_owned(),
        offset: 9,
    };
    [
        ("question-seek", What::Seek(seek)),
        ("question-inventory", What::Inventory(inventory)),
        ("question-fetch", What::Fetch(fetch)),
    ]
}

fn answers() -> [(&'static str, wire::answer::What); 3] {
    use wire::answer::What;
    let found = wire::Found {
        instances: vec![origin()],
        way: wire::Way::Site.into(),
    };
    let held = wire::Held {
        compositions: vec![wire::Composition {
            name: "shop".to_owned(),
            number: 4,
            content: vec![2; 16],
        }],
        more: true,
    };
    let piece = wire::Piece {
        offset: 0,
        total: 5,
        bytes: vec![1, 2, 3],
    };
    [
        ("answer-found", What::Found(found)),
        ("answer-held", What::Held(held)),
        ("answer-piece", What::Piece(piece)),
    ]
}

fn others() -> [(&'static str, Vec<u8>); 4] {
    let summary = wire::Summary {
        version: 1,
        of: "rack2.paris".to_owned(),
        epoch: 1,
        sequence: 1,
        part: 0,
        parts: 1,
        services: vec![wire::Service {
            name: "web".to_owned(),
            instances: 3,
            cost: 0,
        }],
    };
    let signed = wire::SignedSummary {
        gateway: key(2).public().as_bytes().to_vec(),
        signed: vec![10, 2, 8, 1, 18, 1, 7],
    };
    let frame = wire::IntroducedFrame {
        version: 1,
        caller: Some(origin()),
        frame: vec![8, 1],
    };
    let message = |kind: u8, bytes: Vec<u8>| [vec![kind], bytes].concat();
    [
        ("composition", message(4, vec![10, 1, 1])),
        ("introduced-frame", message(5, frame.encode_to_vec())),
        ("summary", message(3, summary.encode_to_vec())),
        ("summary-signed", message(2, signed.encode_to_vec())),
    ]
}

fn file(name: &str) -> PathBuf {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/sites");
    PathBuf::from(corpus).join(name)
}

/// Other versions of Margay read what this one writes: a message changes by new fields only.
#[test]
fn messages_are_written_as_the_corpus_has_them() {
    for (name, bytes) in messages() {
        if std::env::var_os("MARGAY_REWRITE_DOCUMENTS").is_some() {
            std::fs::write(file(name), &bytes).unwrap();
        }
        let pinned = std::fs::read(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(bytes == pinned, "{name} is written in another way");
    }
    let files = std::fs::read_dir(file("")).unwrap();
    assert_eq!(
        files.count(),
        messages().len(),
        "files that nobody speaks of"
    );
}

#[test]
fn every_input_of_the_corpus_is_taken_in_peace() {
    messages()
        .into_values()
        .for_each(|bytes| check_sites(&bytes));
}

#[test]
fn every_reason_to_drop_something_is_in_the_protocols_page() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol/sites.md");
    let page = std::fs::read_to_string(page).unwrap();
    for reason in SitesDrop::ALL {
        let row = format!("| `{}` | {} |", reason.name(), reason.explanation());
        assert!(page.contains(&row), "docs/protocol/sites.md lacks: {row}");
    }
}

/// A message with a few bytes changed, cut somewhere; the first says what it is.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    damage::damaged(
        messages().into_values().collect(),
        Damage { spared: 1, ..FEW },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_to_what_gateways_say_breaks_a_bound(bytes in damaged()) {
        check_sites(&bytes);
    }

    #[test]
    fn any_bytes_at_all_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_sites(&bytes);
    }
}

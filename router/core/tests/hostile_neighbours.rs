//! Datagrams of other hosts of the site, as they are written and damaged: no bound breaks, and other
//! hosts are heard.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "what core may not do itself, its test does: it reads the corpus"
)]

mod damage;
#[path = "../fuzz/neighbourhood_check.rs"]
mod neighbourhood_check;

use damage::{Damage, FEW};
use margay_core::composition::Composition;
use margay_core::moment::Moment;
use margay_core::neighbourhood::{DatagramKind, Neighbourhood, NeighbourhoodInput};
use margay_core::wire::margay::neighbourhood as wire;
use neighbourhood_check::{HERE, HOSTILE, check_neighbourhood, host, input, sent, tell};
use proptest::prelude::*;
use prost::Message;
use std::path::PathBuf;
use std::time::Duration;

/// A composition whose record takes several datagrams, and one part of nothing.
fn long_text() -> String {
    let arguments = (0..2_000).map(|number| format!("\"{number}\""));
    let arguments = arguments.collect::<Vec<_>>().join(", ");
    format!(
        "[composition]\nname = \"shop\"\nversion = 1\n[automaton.web]\ncommand = [\"echo\", {arguments}]\n"
    )
}

/// What the hostile host says while it still means well: greetings and questions, a long composition;
/// and parts of messages that never end.
fn inputs() -> Vec<(&'static str, Vec<u8>)> {
    let (mut here, mut hostile) = (host(HERE), host(HOSTILE));
    let mut now = Moment::ORIGIN;
    let calm = talk(&mut hostile, &mut here, &mut now);
    let text = long_text();
    let composition = Composition::parse(&text).unwrap();
    hostile.handle_input(NeighbourhoodInput::Composed { composition, text }, now);
    let long = talk(&mut hostile, &mut here, &mut now);
    let long: Vec<_> = long
        .into_iter()
        .filter(|(_, bytes)| bytes.len() > 1_000)
        .collect();
    assert!(long.len() > 2, "it takes several parts");
    let unfinished = (0..8).map(|message| {
        let part = wire::Part {
            version: 1,
            kind: wire::Kind::Answer.into(),
            message,
            index: 0,
            count: 9,
            content: vec![1; 4_000],
        };
        (DatagramKind::Catalog, part.encode_to_vec())
    });
    let unfinished: Vec<_> = unfinished.collect();
    vec![
        ("calm", input(&calm)),
        ("long-composition", input(&long)),
        ("unfinished", input(&unfinished)),
    ]
}

/// Lets the two speak for a few seconds; what the hostile host said.
fn talk(
    hostile: &mut Neighbourhood,
    here: &mut Neighbourhood,
    now: &mut Moment,
) -> Vec<(DatagramKind, Vec<u8>)> {
    let mut said = Vec::new();
    for _ in 0..100 {
        *now = *now + Duration::from_millis(60);
        let from_hostile = sent(hostile, HERE, *now);
        tell(here, HOSTILE, from_hostile.clone(), *now);
        said.extend(from_hostile);
        let from_here = sent(here, HOSTILE, *now);
        tell(hostile, HERE, from_here, *now);
    }
    said
}

fn file(name: &str) -> PathBuf {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/neighbourhood");
    PathBuf::from(corpus).join(name)
}

#[test]
fn every_input_of_the_corpus_is_taken_in_peace() {
    if std::env::var_os("MARGAY_REWRITE_DOCUMENTS").is_some() {
        for (name, bytes) in inputs() {
            std::fs::write(file(name), &bytes).unwrap();
        }
    }
    let files: Vec<_> = std::fs::read_dir(file("")).unwrap().collect();
    assert!(files.len() >= inputs().len());
    for file in files {
        check_neighbourhood(&std::fs::read(file.unwrap().path()).unwrap());
    }
}

/// An input with a few bytes changed, cut somewhere.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    damage::damaged(
        inputs().into_iter().map(|(_, bytes)| bytes).collect(),
        Damage { changes: 19, ..FEW },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_to_datagrams_keeps_other_hosts_from_being_heard(bytes in damaged()) {
        check_neighbourhood(&bytes);
    }
}

//! The fuzz target's corpus, replayed: hostile bytes by name, and what each may be.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

#[path = "../fuzz/check.rs"]
mod check;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::collections::BTreeMap;
use std::path::Path;

/// Every input of the corpus by its name.
fn corpus() -> BTreeMap<String, Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/host_link");
    let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}"));
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        (name, std::fs::read(file.path()).unwrap())
    };
    files.map(read).collect()
}

/// An input of the corpus with a few bytes changed, cut somewhere or made longer.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let inputs: Vec<Vec<u8>> = corpus().into_values().collect();
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6);
    let length = proptest::option::of(any::<Index>());
    (select(inputs), changes, length).prop_map(|(mut bytes, changes, length)| {
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        if let Some(length) = length {
            bytes.resize(length.index(bytes.len() + 9), 0);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_reading_or_answering_break_a_rule(bytes in damaged()) {
        check::check(&bytes);
    }
}

#[test]
fn every_input_of_the_corpus_is_read_as_its_name_says() {
    let inputs = corpus().into_iter();
    let replayed: BTreeMap<String, String> = inputs
        .map(|(name, bytes)| (name, check::check(&bytes)))
        .collect();
    let expected = [
        ("initiation", "initiation"),
        ("response", "response-shortest response-longest"),
        ("cookie reply", "cookie-reply"),
        ("keeper's answer", "keeper-answer"),
        ("data", "data-shortest data-longest data-last-counter"),
        (
            "malformed",
            "empty header-cut-short header-only initiation-cut-short initiation-too-long \
             response-too-short response-too-long cookie-reply-cut-short cookie-reply-too-long \
             data-without-content data-too-long reserved-bytes-used \
             farewell-with-more content-unknown keeper-answer-cut-short keeper-answer-too-long",
        ),
        (
            "unknown_version",
            "version-zero version-two admission-too-long refusal-too-long refusal-no-text \
             verdict-unknown echo-cut-short payload-too-long",
        ),
        ("unknown_type", "type-five keeper-question"),
        (
            "unknown_version, opening, payload",
            "opening opening-longest",
        ),
        (
            "unknown_version, payload",
            "opening-hides-bytes opening-length-lies opening-cut-short payload payload-longest",
        ),
        ("unknown_version, admission", "admission admission-empty"),
        ("unknown_version, refusal", "refusal"),
        ("unknown_version, echo", "echo"),
        ("unknown_version, echo answer", "echo-answer"),
        ("malformed, farewell", "farewell"),
    ];
    let mut named = 0;
    for (what, inputs) in expected {
        for input in inputs.split_whitespace() {
            assert_eq!(
                replayed.get(input).map(String::as_str),
                Some(what),
                "{input}"
            );
            named += 1;
        }
    }
    assert_eq!(named, replayed.len(), "{replayed:?}");
}

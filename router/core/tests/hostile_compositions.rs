//! Texts of compositions, good and damaged: each is read or refused in words.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "what core may not do itself, its test does: it reads the corpus"
)]

#[path = "../fuzz/composition_check.rs"]
mod composition_check;

use composition_check::check_composition;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Good texts, by their names.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/composition");
    let files = std::fs::read_dir(corpus).unwrap();
    let read = files.map(|file| {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        (name, std::fs::read(file.path()).unwrap())
    });
    read.collect()
}

#[test]
fn every_text_of_the_corpus_is_read_unless_its_name_says_otherwise() {
    let corpus = corpus();
    assert!(corpus.len() >= 2);
    for (name, text) in corpus {
        assert_eq!(
            check_composition(&text),
            !name.starts_with("wrong"),
            "{name}"
        );
    }
}

/// A text with pieces of others, or a few bytes changed, cut somewhere.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let inputs: Vec<Vec<u8>> = corpus().into_iter().map(|(_, text)| text).collect();
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6);
    let pieces = proptest::collection::vec((any::<Index>(), any::<Index>(), 0..40usize), 0..3);
    let cut = prop_oneof![3 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (select(inputs), changes, pieces, cut).prop_map(|(mut bytes, changes, pieces, cut)| {
        for (from, to, length) in pieces {
            let from = from.index(bytes.len());
            let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
            let to = to.index(bytes.len());
            bytes.splice(to..to, piece);
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
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
    fn no_damage_to_a_text_goes_without_a_word(bytes in damaged()) {
        check_composition(&bytes);
    }
}

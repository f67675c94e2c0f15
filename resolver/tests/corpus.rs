//! The fuzz target's corpus, replayed: hostile bytes by name, and what each gets.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

#[path = "../fuzz/check.rs"]
mod check;

use margay_resolver::{Disposition, Outcome, Silence};
use std::collections::BTreeMap;
use std::path::Path;

/// Every input of the corpus with what the permitted caller got over UDP.
fn replayed() -> BTreeMap<String, Disposition> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/reply");
    let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}"));
    let replay = |file: std::io::Result<std::fs::DirEntry>| {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        (name, check::check(&std::fs::read(file.path()).unwrap()))
    };
    files.map(replay).collect()
}

#[test]
fn every_input_of_the_corpus_gets_what_its_name_says() {
    let replayed = replayed();

    let expected = [
        (
            Disposition::Silent(Silence::TooShort),
            "empty header-cut-short",
        ),
        (Disposition::Silent(Silence::NotAQuery), "response"),
        (
            replied(Outcome::Addresses),
            "a aaaa all-flags authentic-and-checking-disabled edns \
            edns-cookie-subnet-padding edns-huge-payload-dnssec \
            edns-small-payload mixed-case trailing-bytes",
        ),
        (replied(Outcome::Records), "reverse service-record zone"),
        (replied(Outcome::NoData), "any soa-in-authority transfer"),
        (
            replied(Outcome::NameError),
            "binary-labels class-any class-chaos dot-inside-label \
            longest-name longest-name-edns name-points-into-header records-many-pointers \
            root search-list",
        ),
        (
            replied(Outcome::NotImplemented),
            "opcode-15 opcode-notify opcode-update",
        ),
        (replied(Outcome::BadVersion), "edns-version-1"),
        (
            replied(Outcome::FormatError),
            "counts-all-ones edns-bad-subnet edns-in-answer-section \
            edns-option-cut-short edns-owner-not-root edns-twice label-of-reserved-kind name-points-at-itself \
            name-points-beyond-end name-too-long no-question question-cut-short question-missing \
            soa-cut-short two-questions",
        ),
    ];
    for (disposition, inputs) in expected {
        for input in inputs.split_whitespace() {
            assert_eq!(replayed.get(input), Some(&disposition), "{input}");
        }
    }
}

fn replied(outcome: Outcome) -> Disposition {
    Disposition::Replied {
        outcome,
        truncated: false,
    }
}

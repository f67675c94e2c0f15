//! The fuzz target's corpus, replayed: hostile bytes by name, and what each is read as.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "what core may not do itself, its test does: it reads the corpus"
)]

#[path = "../fuzz/check.rs"]
mod check;
mod damage;

use damage::FEW;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Every input of the corpus by its name.
fn corpus() -> BTreeMap<String, Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/packet");
    let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}"));
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        (name, std::fs::read(file.path()).unwrap())
    };
    files.map(read).collect()
}

/// An input of the corpus with a few bytes changed, cut somewhere.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    damage::damaged(corpus().into_values().collect(), FEW)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50_000, failure_persistence: None, ..ProptestConfig::default() })]

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
        (
            "tcp packet",
            "tcp-syn-v4 tcp-syn-v6 tcp-options tcp-atomic-fragment-v6",
        ),
        (
            "udp packet",
            "udp-v4 udp-v6 udp-first-fragment-v4 udp-first-fragment-v6 udp-options-v4 \
             udp-hop-by-hop-v6 udp-total-length-zero udp-length-lies",
        ),
        (
            "echo packet",
            "echo-request-v4 echo-reply-v4 echo-request-v6",
        ),
        (
            "later fragment",
            "later-fragment-v4 later-fragment-v6 later-fragment-of-options-v6",
        ),
        (
            "error about udp",
            "error-v4 error-v6 error-cut-to-eight error-too-big-v6 error-zero-checksum error-checksum-all-ones \
             error-about-first-fragment error-about-options-v6 error-with-extension",
        ),
        ("error about tcp", "error-about-tcp-v4 error-about-tcp-v6"),
        (
            "error about echo",
            "error-about-request error-about-reply-v6",
        ),
        (
            "error_without_flow",
            "error-about-error error-about-later-fragment error-about-sctp",
        ),
        (
            "truncated",
            "empty header-cut-short tcp-cut-short udp-cut-short error-about-nothing \
             error-cut-to-seven options-cut-short-v6 error-about-options-cut-short",
        ),
        (
            "unknown_protocol",
            "sctp redirect-v4 no-next-header-v6 icmp-over-v6 icmpv6-over-v4",
        ),
        ("extension_headers", "udp-sixty-four-options-v6"),
        (
            "not_understood",
            "version-five header-length-four error-about-other-family",
        ),
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

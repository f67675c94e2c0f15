//! The corpus of admission's fuzz target, replayed, and compared with what this version writes.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "what core may not do itself, its test does: it reads the corpus"
)]

#[path = "../fuzz/admission_check.rs"]
mod admission_check;
mod damage;

use admission_check::{LINK_KEY, NOW, root};
use damage::FEW;
use margay_core::admission::{
    BLOCK_PREFIX, Contact, Counter, Issuer, IssuerConfig, MEMBERSHIP_LIFETIME, Membership, Place,
    Reason, Root, Terms, answer, ask_to_join, ask_to_renew, introduce,
};
use margay_core::signature::PrivateKey;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One of each message, under fixed keys at a fixed time, by what it is.
fn messages() -> BTreeMap<&'static str, Vec<u8>> {
    let root = Root::new(root());
    let mut known = Membership::new(root.network());
    let desk = PrivateKey::from_bytes(&[101; 32]);
    let range = "100.64.0.0/12".parse().unwrap();
    let config = IssuerConfig {
        key: desk.clone(),
        credential: root.certify(desk.public(), range, &known, NOW).unwrap(),
        network: root.network(),
        block_prefix: BLOCK_PREFIX,
        lifetime: MEMBERSHIP_LIFETIME,
    };
    let mut issuer = Issuer::new(config, []).unwrap();
    let host = PrivateKey::from_bytes(&[1; 32]);
    let place = Place {
        name: "web1".parse().unwrap(),
        site: "rack1.paris".parse().unwrap(),
        roles: ["gateway".parse().unwrap()].into(),
    };
    let issued = issuer.admit(host.public(), place, &known, NOW).unwrap();
    let contact = Contact {
        link_key: LINK_KEY,
        addresses: vec![
            "192.0.2.1:4600".parse().unwrap(),
            "[2001:db8::1]:4600".parse().unwrap(),
        ],
        sequence: 3,
    };
    let introduction = introduce(&host, &issued.credential, &issued.certificate, &contact);
    known.learn(&introduction, NOW).unwrap();
    let terms = Terms {
        site: "paris".parse().unwrap(),
        roles: [].into(),
        lifetime: Duration::from_secs(3_600),
        uses: 1,
    };
    let counter = Counter {
        link_key: LINK_KEY,
        addresses: contact.addresses.clone(),
    };
    let (token, _) = issuer.invite(&terms, &counter, &[9; 32], NOW).unwrap();
    let newcomer = PrivateKey::from_bytes(&[2; 32]);
    let asked = ask_to_join(&newcomer, LINK_KEY, &token, &"web2".parse().unwrap());
    let (revocation, _) = issuer.revoke(host.public(), &known, NOW);
    BTreeMap::from([
        ("answer-credential", answer(Ok(&issued.credential))),
        ("answer-refused", answer(Err(Reason::TokenUsedUp))),
        ("credential", issued.credential.to_bytes()),
        ("introduction", introduction),
        ("join-request", asked),
        ("renewal-request", ask_to_renew()),
        ("revocation-by-issuer", revocation.bytes),
        ("revocation-by-root", root.revoke(host.public(), NOW).bytes),
        ("token", token.to_string().into_bytes()),
    ])
}

/// A file of the corpus.
fn file(name: &str) -> PathBuf {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/admission");
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
}

#[test]
fn every_input_of_the_corpus_is_read_as_its_name_says() {
    let expected = BTreeMap::from([
        ("answer-credential", "credential"),
        ("answer-refused", "refusal"),
        ("credential", ""),
        ("introduction", "member"),
        ("join-request", "join request"),
        ("renewal-request", ""),
        ("revocation-by-issuer", "revocation"),
        ("revocation-by-root", "revocation"),
        ("token", "token"),
    ]);
    let read: BTreeMap<_, _> = messages()
        .into_keys()
        .map(|name| {
            (
                name,
                admission_check::check(&std::fs::read(file(name)).unwrap()),
            )
        })
        .collect();
    for (name, what) in &read {
        assert_eq!(what, expected[name], "{name}");
    }
    let files = std::fs::read_dir(file("")).unwrap();
    assert_eq!(files.count(), expected.len(), "files that nobody speaks of");
}

/// A message with a few bytes changed, cut somewhere.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    damage::damaged(messages().into_values().collect(), FEW)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_reading_break_a_rule(bytes in damaged()) {
        admission_check::check(&bytes);
    }
}

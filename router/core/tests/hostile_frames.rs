//! Service frames of other hosts, as they are written and damaged: no bound breaks, and other hosts are
//! served.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "what core may not do itself, its test does: it reads the corpus"
)]

mod damage;
#[path = "../fuzz/frame_check.rs"]
mod frame_check;

use damage::FEW;
use frame_check::{HOSTILE, check_frame, request};
use margay_core::aggregate::Epoch;
use margay_core::drop_reason::DropReason;
use margay_core::host::HostId;
use margay_core::id::InstanceId;
use margay_core::service_frame::{Accept, Attempt, FrameKind, Scope, ServiceFrame};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One of each frame, by what it is.
fn frames() -> BTreeMap<&'static str, Vec<u8>> {
    let frame = |kind| ServiceFrame {
        attempt: Attempt(7),
        kind,
    };
    let hops = vec![HostId::from_bytes([1; 32])];
    let packet = vec![0x45; 40];
    let accept = Accept {
        server: InstanceId(9),
        address: "100.64.0.1".parse().unwrap(),
        host: HostId::from_bytes([2; 32]),
        hops: hops.clone(),
        reply: Some(packet.clone()),
        scope: Scope::Flow,
    };
    let policy_epoch = Epoch(3);
    let of_all = Accept {
        scope: Scope::Aggregate { policy_epoch },
        ..accept.clone()
    };
    let unadmitted = FrameKind::Unadmitted {
        packet: packet.clone(),
        policy_epoch,
    };
    let reason = DropReason::NotPermitted;
    let frames = [
        ("request", request(HOSTILE, 7)),
        ("accept", frame(FrameKind::Accept(accept))),
        ("accept.aggregate", frame(FrameKind::Accept(of_all))),
        ("unadmitted", frame(unadmitted)),
        ("acknowledge", frame(FrameKind::Acknowledge)),
        ("reject", frame(FrameKind::Reject { reason, hops })),
        ("problem", frame(FrameKind::Problem { packet })),
    ];
    frames.map(|(name, frame)| (name, frame.encode())).into()
}

fn file(name: &str) -> PathBuf {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/service_frame");
    PathBuf::from(corpus).join(name)
}

/// Other versions of Margay read what this one writes: a frame changes by new fields only.
#[test]
fn frames_are_written_as_the_corpus_has_them() {
    for (name, bytes) in frames() {
        if std::env::var_os("MARGAY_REWRITE_DOCUMENTS").is_some() {
            std::fs::create_dir_all(file("")).unwrap();
            std::fs::write(file(name), &bytes).unwrap();
        }
        let pinned = std::fs::read(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(bytes == pinned, "{name} is written in another way");
    }
}

#[test]
fn every_input_of_the_corpus_is_read_as_its_name_says() {
    for entry in std::fs::read_dir(file("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let read = check_frame(&std::fs::read(&path).unwrap());
        assert!(name.starts_with(read), "{name} is read as {read}");
    }
}

/// A frame with a few bytes changed, cut somewhere.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    damage::damaged(frames().into_values().collect(), FEW)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_to_a_frame_breaks_a_bound_or_keeps_others_from_being_served(bytes in damaged()) {
        check_frame(&bytes);
    }
}

//! Bytes in, replies out: a table of faults, and properties over any bytes.

use super::*;
use crate::sample::{parsed, query, query_with_edns};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use proptest::prelude::*;

const CALLER: InstanceId = InstanceId(7);

fn asked(bytes: &[u8], transport: Transport) -> (Disposition, Vec<u8>) {
    let mut out = b"left over from the last reply".to_vec();
    let snapshot = NamesSnapshot::default();
    let disposition = reply(&snapshot, CALLER, bytes, transport, 0, &mut out);
    (disposition, out)
}

/// The reply over UDP, which there must be.
fn replied(bytes: &[u8]) -> (Outcome, Message) {
    match asked(bytes, Transport::Udp) {
        (Disposition::Replied { outcome, .. }, out) => (outcome, parsed(&out)),
        (silent, _) => panic!("{silent:?}"),
    }
}

fn sample() -> Vec<u8> {
    query("web.matrix", RecordType::A).to_vec().unwrap()
}

fn sample_with_edns() -> Vec<u8> {
    let query = query_with_edns("web.matrix", RecordType::AAAA, 1232);
    query.to_vec().unwrap()
}

/// `bytes` with some of them replaced.
fn with<const N: usize>(mut bytes: Vec<u8>, at: usize, new: [u8; N]) -> Vec<u8> {
    bytes[at..at + N].copy_from_slice(&new);
    bytes
}

#[test]
fn id_and_the_callers_flags_come_back() {
    for (flags, expected) in [(0x01, [0x85, 0x80]), (0x00, [0x84, 0x80])] {
        let (_, out) = asked(&with(sample(), 2, [flags]), Transport::Udp);

        assert_eq!(out[..2], sample()[..2]);
        // QR, AA, RD as asked; RA, and NXDOMAIN in the low bits.
        assert_eq!(
            out[2..4],
            [expected[0], expected[1] | 3],
            "flags {flags:#x}"
        );
    }
}

#[test]
fn checking_disabled_comes_back_and_authentic_data_does_not() {
    let (_, out) = asked(&with(sample(), 3, [0x30]), Transport::Udp);

    assert_eq!(out[3] & 0x30, 0x10);
}

#[test]
fn what_has_no_whole_header_is_met_with_silence() {
    for length in 0..12 {
        let (disposition, out) = asked(&sample()[..length], Transport::Udp);

        assert_eq!(disposition, Disposition::Silent(Silence::TooShort));
        assert!(out.is_empty());
    }
}

#[test]
fn a_response_is_met_with_silence() {
    let (disposition, out) = asked(&with(sample(), 2, [0x81]), Transport::Udp);

    assert_eq!(disposition, Disposition::Silent(Silence::NotAQuery));
    assert!(out.is_empty());
}

#[test]
fn no_reply_of_ours_is_replied_to() {
    let (_, out) = asked(&sample(), Transport::Udp);

    let (disposition, _) = asked(&out, Transport::Udp);

    assert_eq!(disposition, Disposition::Silent(Silence::NotAQuery));
}

#[test]
fn other_operations_are_not_implemented() {
    for op_code in 1..16_u8 {
        let (outcome, reply) = replied(&with(sample(), 2, [op_code << 3 | 1]));

        assert_eq!(outcome, Outcome::NotImplemented);
        assert_eq!(reply.metadata.response_code, ResponseCode::NotImp);
        assert_eq!(u8::from(reply.metadata.op_code), op_code);
        assert!(reply.metadata.recursion_desired && !reply.metadata.authoritative);
    }
}

#[test]
fn malformed_queries_get_a_format_error_with_their_id() {
    let edns_record = sample_with_edns()[sample().len()..].to_vec();
    let with_two_edns_records = {
        let bytes = with(sample_with_edns(), 10, [0, 2]);
        [bytes, edns_record].concat()
    };
    let name_pointing_at_itself = with(sample(), 12, [0xc0, 12]);
    let reserved_label_kind = with(sample(), 12, [0x80]);
    let rows = [
        ("no question", with(sample(), 4, [0, 0])),
        ("two questions claimed", with(sample(), 4, [0, 2])),
        ("all questions claimed", with(sample(), 4, [0xff, 0xff])),
        ("a record claimed", with(sample(), 6, [0, 1])),
        ("all records claimed", with(sample(), 6, [0xff; 6])),
        (
            "a question cut short",
            sample()[..sample().len() - 1].to_vec(),
        ),
        ("only a header", sample()[..12].to_vec()),
        ("a name that points at itself", name_pointing_at_itself),
        ("a reserved kind of label", reserved_label_kind),
        ("two edns records", with_two_edns_records),
    ];
    for (fault, bytes) in rows {
        let (outcome, reply) = replied(&bytes);

        assert_eq!(outcome, Outcome::FormatError, "{fault}");
        assert_eq!(
            reply.metadata.response_code,
            ResponseCode::FormErr,
            "{fault}"
        );
        assert_eq!(reply.metadata.id, 0x4d47, "{fault}");
    }
}

#[test]
fn names_of_other_classes_do_not_exist() {
    for class in [3_u16, 4, 255, 0xfe00] {
        let class_at = sample().len() - 2;
        let (outcome, reply) = replied(&with(sample(), class_at, class.to_be_bytes()));

        assert_eq!(outcome, Outcome::NameError);
        assert_eq!(u16::from(reply.queries[0].query_class), class);
        assert!(reply.authorities.is_empty());
    }
}

#[test]
fn an_unknown_version_of_edns_is_named_bad() {
    let mut query = query_with_edns("web.matrix", RecordType::A, 1232);
    query.edns.as_mut().unwrap().set_version(1);

    let (outcome, reply) = replied(&query.to_vec().unwrap());

    assert_eq!(outcome, Outcome::BadVersion);
    assert_eq!(u16::from(reply.metadata.response_code), 16);
    assert_eq!(reply.edns.unwrap().version(), 0);
}

#[test]
fn what_search_lists_and_ndots_append_does_not_exist() {
    let appended = [
        "web.matrix.corp.local.",
        "web.",
        "web.matrix.matrix.",
        "example.com.",
    ];
    for name in appended {
        for record_type in [RecordType::A, RecordType::AAAA] {
            let (outcome, reply) = replied(&query(name, record_type).to_vec().unwrap());

            assert_eq!(outcome, Outcome::NameError, "{name}");
            assert_eq!(
                reply.authorities.len(),
                1,
                "{name}: cached for a second only"
            );
        }
    }
}

#[test]
fn udp_replies_stay_within_the_callers_size_and_ours() {
    let payloads = [
        (0, 512),
        (511, 512),
        (600, 600),
        (1232, 1232),
        (65535, 1232),
    ];
    for (theirs, expected) in payloads {
        let payload_at = sample().len() + 3;
        let bytes = with(sample_with_edns(), payload_at, u16::to_be_bytes(theirs));
        let (asked, _) = read(&bytes).unwrap();

        assert_eq!(bytes_max(&asked, Transport::Udp), expected, "{theirs}");
        assert_eq!(bytes_max(&asked, Transport::Tcp), u16::MAX);
    }
    let (asked, _) = read(&sample()).unwrap();
    assert_eq!(bytes_max(&asked, Transport::Udp), 512);
}

#[test]
fn a_cookie_changes_nothing() {
    let mut query = query_with_edns("web.matrix", RecordType::A, 1232);
    let (outcome_without, _) = replied(&query.to_vec().unwrap());
    let options = query.edns.as_mut().unwrap().options_mut();
    options.insert(EdnsOption::Unknown(10, vec![1; 8]));

    let (outcome, _) = replied(&query.to_vec().unwrap());

    assert_eq!(outcome, outcome_without);
}

#[test]
fn a_name_reads_in_lower_case_and_foreign_bytes_cannot_pose_as_dots() {
    let rows: [(&[&[u8]], &str); 5] = [
        (&[b"WeB", b"MATRIX"], "web.matrix"),
        (&[b"2", b"web", b"matrix"], "2.web.matrix"),
        (&[b"_http", b"_tcp", b"web"], "_http._tcp.web"),
        (&[b"web.matrix"], "web\\046matrix"),
        (&[b"\xff\\", b"\0"], "\\255\\092.\\000"),
    ];
    for (labels, expected) in rows {
        let name = Name::from_labels(labels.iter().copied()).unwrap();

        assert_eq!(lower_case_text(&name), expected);
    }
    assert_eq!(lower_case_text(&Name::root()), "");
}

/// Any bytes, or a valid query with some bytes changed and its end cut or extended.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..600);
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let changes = prop::collection::vec(change, 0..6);
    let mutated = (any::<bool>(), changes, 0..80_usize, bytes());
    let mutated = mutated.prop_map(|(edns, changes, keep, tail)| {
        let mut query = if edns { sample_with_edns() } else { sample() };
        for (at, byte) in changes {
            let at = at.index(query.len());
            query[at] = byte;
        }
        if keep < query.len() {
            query.truncate(keep);
        } else if keep > 70 {
            query.extend(tail);
        }
        query
    });
    prop_oneof![bytes(), mutated]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_get_silence_or_a_bounded_reply_that_parses(bytes in hostile(), tcp: bool) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let (disposition, out) = asked(&bytes, transport);

        match disposition {
            Disposition::Elsewhere => prop_assert!(false, "nobody is let out"),
            Disposition::Silent(silence) => {
                prop_assert!(out.is_empty());
                prop_assert_ne!(silence, Silence::NotEncodable);
            }
            Disposition::Replied { .. } => {
                prop_assert!(tcp || out.len() <= usize::from(UDP_REPLY_BYTES_MAX));
                prop_assert_eq!(&out[..2], &bytes[..2]);
                prop_assert_eq!(out[2] & 0x80, 0x80);
                prop_assert_ne!(out[3] & 0xf, 5, "never REFUSED");
                prop_assert!(Message::from_vec(&out).is_ok());
            }
        }
    }

    #[test]
    fn any_case_of_letters_comes_back_to_the_letter(upper in prop::collection::vec(any::<bool>(), 17)) {
        let letters = "store.shop.matrix".chars().zip(&upper);
        let cased = |(letter, upper): (char, &bool)| {
            if *upper { letter.to_ascii_uppercase() } else { letter }
        };
        let name: String = letters.map(cased).collect();
        let query = query(&name, RecordType::A).to_vec().unwrap();

        let (_, out) = asked(&query, Transport::Udp);

        prop_assert_eq!(&out[12..query.len()], &query[12..]);
    }
}

//! Hand-made answers in, replies out, read back by the codec.

mod other_kinds;

use super::*;
use crate::sample::{parsed, query, query_with_edns};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::EdnsCode;
use std::net::{Ipv4Addr, Ipv6Addr};

fn asked(query: Message) -> Asked {
    Asked {
        metadata: query.metadata,
        question: query.queries.into_iter().next(),
        edns: query.edns,
    }
}

fn encoded(query: Message, answer: Answer, bytes_max: u16) -> (Vec<u8>, bool) {
    let mut out = b"left over from the last reply".to_vec();
    let truncated = encode(&asked(query), &Verdict::Answer(answer), bytes_max, &mut out).unwrap();
    (out, truncated)
}

fn v4(count: u8) -> Vec<Ipv4Addr> {
    let addr = |last| Ipv4Addr::new(100, 64, 1, last);
    (0..count).rev().map(addr).collect()
}

fn v6(count: u16) -> Vec<Ipv6Addr> {
    let addr = |last| Ipv6Addr::new(0xfd4d, 0, 0, 0, 0, 0, 0, last);
    (0..count).rev().map(addr).collect()
}

fn no_such_name(text: &'static str) -> Answer {
    Answer::NameError(Zone::SERVICES, ExtendedError { code: 20, text })
}

/// The longest name under the zone that the codec reads.
fn longest_name() -> String {
    let label = |bytes| "x".repeat(bytes);
    format!("{0}.{0}.{0}.{1}.matrix.", label(63), label(53))
}

fn extended_error_of(reply: &Message) -> Option<(u16, String)> {
    let edns = reply.edns.as_ref()?;
    match edns.option(EdnsCode::Unknown(EXTENDED_ERROR_OPTION))? {
        EdnsOption::Unknown(_, data) => {
            let (code, text) = data.split_first_chunk().unwrap();
            Some((
                u16::from_be_bytes(*code),
                String::from_utf8(text.to_vec()).unwrap(),
            ))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn v4_addresses_keep_their_order_and_live_one_second() {
    let (bytes, _) = encoded(query("web.matrix.", RecordType::A), Answer::V4(v4(8)), 512);

    let reply = parsed(&bytes);
    let addrs: Vec<_> = reply
        .answers
        .iter()
        .map(|record| record.data.clone())
        .collect();
    let expected: Vec<_> = v4(8).into_iter().map(|addr| RData::A(A(addr))).collect();
    assert_eq!(addrs, expected);
    assert!(reply.answers.iter().all(|record| record.ttl == 1));
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
    assert!(reply.authorities.is_empty());
}

#[test]
fn v6_addresses_keep_their_order_and_live_one_second() {
    let (bytes, _) = encoded(
        query("web.matrix.", RecordType::AAAA),
        Answer::V6(v6(8)),
        512,
    );

    let reply = parsed(&bytes);
    let addrs: Vec<_> = reply
        .answers
        .iter()
        .map(|record| record.data.clone())
        .collect();
    let expected: Vec<_> = v6(8)
        .into_iter()
        .map(|addr| RData::AAAA(AAAA(addr)))
        .collect();
    assert_eq!(addrs, expected);
    assert!(reply.answers.iter().all(|record| record.ttl == 1));
}

#[test]
fn the_question_comes_back_to_the_letter_and_records_point_at_it() {
    let query = query("wEb.MaTRiX.", RecordType::A);
    let sent = query.to_vec().unwrap();

    let (bytes, _) = encoded(query, Answer::V4(v4(2)), 512);

    assert_eq!(bytes[12..sent.len()], sent[12..]);
    let first_record = &bytes[sent.len()..];
    assert_eq!(
        first_record[..2],
        [0xc0, 12],
        "a pointer to the question's name"
    );
    assert_eq!(first_record.len(), 2 * (2 + 10 + 4));
}

#[test]
fn a_missing_kind_is_no_error_under_the_zone_with_a_second_of_negative_caching() {
    let (bytes, _) = encoded(
        query("web.matrix.", RecordType::MX),
        Answer::NoData(Zone::SERVICES, None),
        512,
    );

    let reply = parsed(&bytes);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    let [authority] = reply.authorities.as_slice() else {
        panic!("{reply}")
    };
    assert_eq!(
        (authority.name.to_ascii().as_str(), authority.ttl),
        ("matrix.", 1)
    );
    let RData::SOA(soa) = &authority.data else {
        panic!("{authority}")
    };
    assert_eq!(soa.minimum, 1);
}

#[test]
fn a_denial_comes_from_the_zone_that_core_says_the_name_lies_in() {
    let v6_zone = "3.2.1.0.d.c.b.a.e.b.d.f.ip6.arpa.";
    let v6_name = format!("0.0.0.0.{v6_zone}");
    let zones = [
        ("nobody.matrix.", 1, "matrix."),
        ("NOBODY.MATRIX.", 1, "matrix."),
        ("web.matrix.corp.local.", 0, "."),
        (".", 0, "."),
        ("9.9.64.100.IN-ADDR.arpa.", 4, "64.100.in-addr.arpa."),
        (&v6_name, 14, v6_zone),
    ];
    for (name, labels, zone) in zones {
        let error = ExtendedError { code: 0, text: "" };
        let denial = Answer::NameError(Zone { labels }, error);
        let (bytes, _) = encoded(query(name, RecordType::A), denial, 512);

        let reply = parsed(&bytes);
        assert_eq!(
            reply.metadata.response_code,
            ResponseCode::NXDomain,
            "{name}"
        );
        assert_eq!(reply.authorities[0].name.to_ascii(), zone, "{name}");
    }
}

#[test]
fn an_extended_error_is_told_only_to_those_who_speak_edns() {
    let plain = encoded(
        query("web.matrix.", RecordType::A),
        no_such_name("why"),
        512,
    )
    .0;
    let with_edns = query_with_edns("web.matrix.", RecordType::A, 4096);
    let extended = encoded(with_edns, no_such_name("why"), 1232).0;

    assert_eq!(parsed(&plain).edns, None);
    let extended = parsed(&extended);
    assert_eq!(extended_error_of(&extended), Some((20, "why".to_owned())));
    assert_eq!(extended.edns.unwrap().max_payload(), UDP_REPLY_BYTES_MAX);
}

#[test]
fn a_long_text_of_an_error_is_cut_between_characters() {
    const TEXT: &str = concat!(
        "x",
        "ääääääääääääääääääääääääääääääääääääääääääääääääää\
        ääääääääääääääääääääääääääääääääääääääääääääääääää"
    );
    let query = query_with_edns("web.matrix.", RecordType::A, 1232);

    let (bytes, _) = encoded(query, no_such_name(TEXT), 1232);

    let (_, text) = extended_error_of(&parsed(&bytes)).unwrap();
    assert!(TEXT.starts_with(&text));
    assert_eq!(text.len(), EXTENDED_ERROR_TEXT_BYTES_MAX - 1);
}

#[test]
fn a_wish_for_dnssec_is_repeated_and_a_cookie_is_not() {
    let mut query = query_with_edns("web.matrix.", RecordType::A, 1232);
    let edns = query.edns.as_mut().unwrap();
    edns.set_dnssec_ok(true);
    edns.options_mut()
        .insert(EdnsOption::Unknown(10, vec![7; 8]));

    let (bytes, _) = encoded(query, Answer::V4(v4(1)), 1232);

    let edns = parsed(&bytes).edns.unwrap();
    assert!(edns.flags().dnssec_ok);
    assert!(edns.options().options.is_empty());
}

#[test]
fn what_does_not_fit_is_truncated_to_no_record_at_all() {
    let plain = query("web.matrix.", RecordType::AAAA);
    let with_edns = query_with_edns("web.matrix.", RecordType::AAAA, 1232);
    // (query, limit, the most v6 addresses that fit: 28 bytes each after header, question, EDNS)
    let rows = [(plain, 512_u16, 17_u16), (with_edns, 1232, 42)];
    for (query, bytes_max, fits) in rows {
        let edns = query.edns.is_some();
        let (whole, truncated) = encoded(query.clone(), Answer::V6(v6(fits)), bytes_max);
        assert!(!truncated && !parsed(&whole).metadata.truncation);
        assert_eq!(parsed(&whole).answers.len(), usize::from(fits));

        let (bytes, truncated) = encoded(query.clone(), Answer::V6(v6(fits + 1)), bytes_max);

        let reply = parsed(&bytes);
        assert!(truncated && reply.metadata.truncation);
        assert!(reply.answers.is_empty());
        assert_eq!(reply.queries, query.queries);
        assert_eq!(reply.edns.is_some(), edns);
    }
}

#[test]
fn every_answer_that_core_may_give_fits_the_smallest_datagram() {
    const LONG_TEXT: &str = concat!(
        "0123456789012345678901234567890123456789012345678901234567890123",
        "0123456789012345678901234567890123456789012345678901234567890123!",
    );
    let answers = [
        Answer::V6(v6(8)),
        no_such_name(LONG_TEXT),
        Answer::NoData(
            Zone::SERVICES,
            Some(ExtendedError {
                code: 20,
                text: LONG_TEXT,
            }),
        ),
    ];
    for answer in answers {
        let plain = query(&longest_name(), RecordType::AAAA);
        let with_edns = query_with_edns(&longest_name(), RecordType::AAAA, 512);
        for query in [plain, with_edns] {
            let (bytes, truncated) = encoded(query, answer.clone(), 512);

            assert!(!truncated && bytes.len() <= 512, "{} bytes", bytes.len());
        }
    }
}

//! Records other than addresses.

use super::*;

fn targets(count: u8, name: &str) -> Answer {
    let target = |last: u8| ServiceTarget {
        name: format!("{last}.{name}.matrix"),
        priority: u16::from(last > 1),
        weight: 100 * u16::from(last),
        port: 80,
        called: VirtualIp {
            v4: v4(last + 1)[0],
            v6: v6(u16::from(last) + 1)[0],
        },
    };
    Answer::Targets((1..=count).map(target).collect())
}

fn lines(records: &[Record]) -> Vec<String> {
    let line =
        |record: &Record| format!("{} {} {}", record.name, record.record_type(), record.data);
    records.iter().map(line).collect()
}

#[test]
fn targets_of_a_port_keep_their_order_and_bring_their_addresses() {
    let query = query("_http._tcp.web.matrix.", RecordType::SRV);

    let (bytes, truncated) = encoded(query, targets(2, "web"), 512);

    let reply = parsed(&bytes);
    let owner = "_http._tcp.web.matrix.";
    let expected = ["0 100 80 1", "1 200 80 2"].map(|it| format!("{owner} SRV {it}.web.matrix."));
    assert_eq!(lines(&reply.answers), expected);
    let addresses = [1, 2].map(|last| {
        [
            format!("{last}.web.matrix. A 100.64.1.{last}"),
            format!("{last}.web.matrix. AAAA fd4d::{last}"),
        ]
    });
    assert_eq!(lines(&reply.additionals), addresses.concat());
    let records = reply.answers.iter().chain(&reply.additionals);
    assert!(records.into_iter().all(|record| record.ttl == 1));
    assert!(!truncated);
}

#[test]
fn what_fits_only_without_its_additional_records_goes_without_them() {
    let question = || query("_http._tcp.web.matrix.", RecordType::SRV);
    let whole = encoded(question(), targets(8, "web"), u16::MAX).0;

    let (plain, truncated) = encoded(question(), targets(8, "web"), 512);

    assert!(whole.len() > 512);
    let reply = parsed(&plain);
    assert_eq!((reply.answers.len(), reply.additionals.len()), (8, 0));
    assert!(!truncated && !reply.metadata.truncation);
}

#[test]
fn targets_that_do_not_fit_alone_are_asked_for_over_tcp() {
    let name = "x".repeat(63);
    let question = query(&format!("_http._tcp.{name}.matrix."), RecordType::SRV);

    let (bytes, truncated) = encoded(question, targets(8, &name), 512);

    let reply = parsed(&bytes);
    assert!(truncated && reply.metadata.truncation);
    assert!(reply.answers.is_empty() && reply.additionals.is_empty());
}

#[test]
fn texts_are_the_strings_of_one_record() {
    let texts = Answer::Texts(vec!["composition=shop".into(), "version=3".into()]);

    let (bytes, _) = encoded(query("web.matrix.", RecordType::TXT), texts, 512);

    let reply = parsed(&bytes);
    let [record] = reply.answers.as_slice() else {
        panic!("{reply}")
    };
    let RData::TXT(txt) = &record.data else {
        panic!("{record}")
    };
    let strings: Vec<&[u8]> = txt.txt_data.iter().map(|string| &**string).collect();
    assert_eq!(strings, [b"composition=shop".as_slice(), b"version=3"]);
}

#[test]
fn an_address_points_at_a_whole_name() {
    let query = query("1.0.64.100.in-addr.arpa.", RecordType::PTR);

    let (bytes, _) = encoded(query, Answer::Pointer("2.web.matrix".into()), 512);

    let expected = "1.0.64.100.in-addr.arpa. PTR 2.web.matrix.";
    assert_eq!(lines(&parsed(&bytes).answers), [expected]);
}

#[test]
fn a_zone_begins_with_its_authority_and_its_server_can_be_reached() {
    let (bytes, _) = encoded(
        query("matrix.", RecordType::SOA),
        Answer::Authority(Zone::SERVICES),
        512,
    );
    let soa = parsed(&bytes);
    assert_eq!(
        lines(&soa.answers),
        ["matrix. SOA matrix. matrix. 1 1 1 1 1"]
    );
    assert!(soa.authorities.is_empty());

    let (bytes, _) = encoded(
        query("matrix.", RecordType::NS),
        Answer::NameServer(Some([169, 254, 53, 53].into())),
        512,
    );
    let ns = parsed(&bytes);
    assert_eq!(lines(&ns.answers), ["matrix. NS matrix."]);
    assert_eq!(lines(&ns.additionals), ["matrix. A 169.254.53.53"]);
}

//! What is read and written by hand against what the codec makes of the same bytes.

use super::*;
use crate::reply::{Disposition, Outcome, Transport, lower_case_text, read, reply, reply_by_codec};
use crate::sample::query;
use hickory_proto::rr::RecordType;
use margay_core::address::{AddressPlan, InstanceAddresses, Ipv4Block, VirtualIp};
use margay_core::balance::{Balancer, Candidate};
use margay_core::composition::Balance;
use margay_core::id::{InstanceId, Version};
use margay_core::names::{Declaration, NamedInstance, NamedService, NamesSnapshot};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

const CALLER: InstanceId = InstanceId(1);

/// The longest label there can be.
const LONGEST: &str = "longest-longest-longest-longest-longest-longest-longest-longest";

/// Services of one, of nine and of no instances.
static NAMES: LazyLock<NamesSnapshot> = LazyLock::new(|| {
    let services = [("one", 1), (LONGEST, 9), ("none", 0)];
    let services = services.map(|(name, instances)| service(name, instances));
    NamesSnapshot::new(AddressPlan::new(&[0; 32], Ipv4Block::DEFAULT), services)
});

fn service(name: &str, instances: u8) -> NamedService {
    let vip = |last: u8| VirtualIp {
        v4: [100, 64, 1, last].into(),
        v6: [0xfd4d, 0, 0, 0, 0, 0, 0, u16::from(last)].into(),
    };
    let instance = |last: u8| NamedInstance {
        instance: InstanceId(100 + u64::from(last)),
        ordinal: last.into(),
        version: Version(1),
        addresses: InstanceAddresses {
            called: vip(last),
            caller: vip(last + 100),
        },
        ready: true,
    };
    let instances: Vec<_> = (1..=instances).map(instance).collect();
    let candidates = instances
        .iter()
        .map(|named| Candidate::idle(named.instance));
    NamedService {
        name: name.parse().unwrap(),
        balancer: Balancer::new(Balance::TwoChoices, candidates.collect()),
        declaration: Arc::new(Declaration {
            composition: "shop".parse().unwrap(),
            version: Version(1),
            ports: [].into(),
        }),
        vip: None,
        instances,
        callers: [CALLER].into(),
    }
}

fn replied(query: &[u8], transport: Transport) -> (Disposition, Vec<u8>) {
    let mut out = b"left over from the last reply".to_vec();
    let disposition = reply(&NAMES, CALLER, query, transport, 7, &mut out);
    (disposition, out)
}

fn replied_by_codec(query: &[u8], transport: Transport) -> (Disposition, Vec<u8>) {
    let mut out = Vec::new();
    let disposition = reply_by_codec(&NAMES, CALLER, query, transport, 7, &mut out);
    (disposition, out)
}

/// A query as stubs send it, with this for its third and fourth byte.
fn sample(name: &str, record_type: RecordType, flags: [u8; 2]) -> Vec<u8> {
    let mut bytes = query(name, record_type).to_vec().unwrap();
    bytes[2..4].copy_from_slice(&flags);
    bytes
}

#[test]
fn what_stubs_send_for_addresses_is_read_by_hand() {
    // glibc; one that wants no recursion; musl, and glibc with `trust-ad`.
    for flags in [[1, 0], [0, 0], [1, 0x20]] {
        for kind in [RecordType::A, RecordType::AAAA] {
            let query = sample("WWW.Some-where.example_1.com.", kind, flags);

            let plain = PlainQuery::read(&query).unwrap();

            assert_eq!(plain.question.name, "www.some-where.example_1.com");
        }
    }
}

#[test]
fn what_is_of_another_shape_is_left_to_the_codec() {
    let plain = sample("one.matrix.", RecordType::A, [1, 0]);
    let with = |at: usize, byte: u8| {
        let mut bytes = plain.clone();
        bytes[at] = byte;
        bytes
    };
    let last = plain.len() - 1;
    let rows = [
        ("a response", with(2, 0x81)),
        ("an update", with(2, 0x29)),
        ("truncated", with(2, 0x03)),
        ("checking disabled", with(3, 0x10)),
        ("two questions", with(5, 2)),
        ("an answer", with(7, 1)),
        ("edns", with(11, 1)),
        ("a dot in a label", with(13, b'.')),
        ("a label that points", with(12, 0xc0)),
        ("a label beyond the end", with(12, 60)),
        ("another class", with(last, 3)),
        ("another type", with(last - 2, 16)),
        ("cut short", plain[..last].to_vec()),
        ("longer", [plain.as_slice(), &[0]].concat()),
        ("a label too long", asking_for(&[64])),
        ("a name too long", asking_for(&[63, 63, 63, 62])),
    ];
    for (shape, bytes) in rows {
        assert!(PlainQuery::read(&bytes).is_none(), "{shape}");
    }
    for query in [plain, asking_for(&[63]), asking_for(&[63, 63, 63, 61])] {
        assert!(PlainQuery::read(&query).is_some());
    }
}

/// A query for a name whose labels have these lengths.
fn asking_for(lengths: &[usize]) -> Vec<u8> {
    let labels: Vec<_> = lengths.iter().map(|length| vec![b'a'; *length]).collect();
    written(1, [1, 0], &labels, 1, &[])
}

/// Names that exist and names that do not, in letters of either case, up to the longest and beyond.
fn names() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let label = prop_oneof![
        4 => "[a-zA-Z0-9_-]{1,63}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..64),
    ];
    let any_labels = prop::collection::vec(label, 0..6);
    let ours = prop_oneof![
        Just("one"),
        Just("oNe"),
        Just(LONGEST),
        Just("none"),
        Just("2.one")
    ];
    let ours = ours.prop_map(|name| {
        let labels = name.split('.').chain(["Matrix"]);
        labels.map(|label| label.as_bytes().to_vec()).collect()
    });
    prop_oneof![any_labels, ours]
}

/// A query for `labels`, well made or not.
fn written(id: u16, flags: [u8; 2], labels: &[Vec<u8>], kind: u16, tail: &[u8]) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend(flags);
    bytes.extend(ONE_QUESTION);
    for label in labels {
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(tail);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn replies_by_hand_are_the_codecs_to_the_byte(
        id: u16,
        flags in prop_oneof![4 => Just([1, 0]), 2 => Just([1, 0x20]), 1 => any::<[u8; 2]>()],
        labels in names(),
        kind in prop_oneof![4 => Just(1), 4 => Just(28), 1 => any::<u16>()],
        tail in prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 0..4)],
        changed in prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>())),
        tcp: bool,
    ) {
        let mut query = written(id, flags, &labels, kind, &tail);
        if let Some((at, byte)) = changed {
            let at = at.index(query.len());
            query[at] = byte;
        }
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };

        prop_assert_eq!(replied(&query, transport), replied_by_codec(&query, transport));
        if let Some(plain) = PlainQuery::read(&query) {
            let (asked, fault) = read(&query).unwrap();
            prop_assert!(fault.is_none() && asked.edns.is_none());
            let name = lower_case_text(&asked.question.unwrap().name);
            prop_assert_eq!(plain.question.name, name);
        }
    }
}

#[test]
fn comparison_covers_addresses_and_denials() {
    let outcome = |name: &str| {
        let query = sample(&format!("{name}.matrix."), RecordType::AAAA, [1, 0]);
        match replied(&query, Transport::Udp).0 {
            Disposition::Replied { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(outcome("one"), Outcome::Addresses);
    assert_eq!(outcome(LONGEST), Outcome::Addresses);
    assert_eq!(outcome("none"), Outcome::NoData);
    assert_eq!(outcome("other"), Outcome::NameError);
}

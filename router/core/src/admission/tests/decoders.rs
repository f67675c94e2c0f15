//! No bytes make a decoder panic, and whatever is written reads back.

use super::*;
use crate::wire::margay::admission as wire;
use proptest::prelude::*;
use prost::Message;

/// Reads `bytes` as everything that comes from outside.
fn read_as_everything(world: &mut World, bytes: &[u8]) {
    let network = world.root.network();
    let _ = world.check(bytes, FOUNDED);
    let _ = world.known.learn(bytes, FOUNDED);
    let _ = world.known.revoke(bytes, FOUNDED);
    let _ = JoinRequest::open(bytes, network, LinkKey([1; 32]));
    let _ = is_newcomer(bytes);
    let _ = read_answer(bytes);
    let _ = read_renewal_request(bytes);
    let _ = Credential::from_bytes(bytes);
    let _ = IssuerCredential::from_bytes(bytes);
}

fn any_bytes(lengths: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), lengths)
}

fn any_block() -> impl Strategy<Value = wire::Block> {
    (any::<u32>(), 0u32..40).prop_map(|(base, prefix)| wire::Block { base, prefix })
}

/// What a mad issuer could sign: mostly near the truth, so that each check is met.
fn any_certificate() -> impl Strategy<Value = wire::Certificate> {
    let keys = (
        prop_oneof![
            Just(Host::new(1).id().as_bytes().to_vec()),
            any_bytes(0..40)
        ],
        any::<bool>(),
    );
    let names = ("[a-z0-9.-]{0,12}", "[a-z0-9.-]{0,12}");
    let lists = (
        proptest::collection::vec(any::<i32>(), 0..10),
        proptest::collection::vec(any_block(), 0..6),
    );
    let times = (
        any::<u64>(),
        1_799_000_000u64..1_801_000_000,
        0u64..4_000_000,
        any::<bool>(),
    );
    (keys, names, lists, times).prop_map(|(keys, names, lists, times)| {
        let network = if keys.1 { root(100) } else { root(200) }.network();
        let (serial, not_before, lasts, mad) = times;
        wire::Certificate {
            network: network.root().as_bytes().to_vec(),
            host: keys.0,
            name: names.0,
            site: names.1,
            roles: lists.0,
            blocks: lists.1,
            serial,
            not_before,
            not_after: if mad { serial } else { not_before + lasts },
        }
    })
}

fn any_record() -> impl Strategy<Value = wire::HostRecord> {
    let address = (any_bytes(0..18), any::<u32>());
    let address = address.prop_map(|(ip, port)| wire::UnderlayAddress { ip, port });
    let addresses = proptest::collection::vec(address, 0..9);
    (any_bytes(31..33), addresses, any::<u64>(), any::<u64>()).prop_map(
        |(link_key, addresses, sequence, serial)| wire::HostRecord {
            link_key,
            addresses,
            sequence,
            serial,
        },
    )
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in any_bytes(0..1_100)) {
        read_as_everything(&mut World::new(), &bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = text.parse::<Token>();
        let _ = format!("margay1{text}").parse::<Token>();
    }

    #[test]
    fn no_damage_makes_a_decoder_panic(
        which in 0usize..5, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new();
        let (host, introduction) = world.member(1, "web1");
        let token = world.invite(1, HOUR, 1);
        let issued = world.admit(&host, "web1");
        let mut bytes = [
            introduction,
            ask_to_join(&host.key, host.link_key, &token, &"web2".parse().unwrap()),
            answer(Ok(&issued.credential)),
            world.root.revoke(host.id(), FOUNDED).bytes,
            world.issuer.revoke(host.id(), &world.known, FOUNDED).0.bytes,
        ][which].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() * 2).min(bytes.len()));
        read_as_everything(&mut world, &bytes);
    }

    #[test]
    fn nothing_that_a_mad_issuer_signs_makes_a_host_panic(
        certificate in any_certificate(), mut record in any_record(), matching: bool,
    ) {
        let mut world = World::new();
        if matching {
            record.serial = certificate.serial;
        }
        let member = wire::Member {
            credential: Some(world.desk_signs(&certificate).to_wire()),
            record: Some(Host::new(1).key.sign(crate::signature::Purpose("host record"), &record)),
        };
        let introduction = wire::Introduction {
            version: 1,
            who: Some(wire::introduction::Who::Member(member)),
        };
        read_as_everything(&mut world, &introduction.encode_to_vec());
    }

    #[test]
    fn what_a_host_says_is_read_as_it_was_said(
        sequence: u64, link_key: [u8; 32], ports in proptest::collection::vec(1u16.., 0..=ADDRESSES_MAX), v6: u64,
    ) {
        let mut world = World::new();
        let host = Host::new(1);
        let issued = world.admit(&host, "web1");
        let address = |(index, port): (usize, u16)| {
            let v6 = u128::from(v6) << 48 | 1;
            let v6 = std::net::Ipv6Addr::from_bits(0xfd << 120 | v6);
            match index % 2 {
                0 => (v6, port).into(),
                _ => ([192, 0, 2, 1], port).into(),
            }
        };
        let contact = Contact {
            link_key: LinkKey(link_key),
            addresses: ports.into_iter().enumerate().map(address).collect(),
            sequence,
        };
        let said = introduce(&host.key, &issued.credential, &issued.certificate, &contact);
        let member = world.check(&said, FOUNDED).unwrap();
        prop_assert_eq!(member.contact, contact);
        prop_assert_eq!(member.certificate, issued.certificate);
    }
}

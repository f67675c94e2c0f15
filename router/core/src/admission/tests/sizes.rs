//! Everything fits where it must at its largest.

use super::*;
use crate::wire::margay::admission as wire;
use prost::Message;
use std::net::{Ipv6Addr, SocketAddr};

/// The last time that a certificate may name.
const LAST: WallTime = WallTime::from_unix_seconds(253_402_300_799);

/// A certificate whose every field is as long as it may be.
fn largest(host: HostId, network: NetworkId) -> Certificate {
    let tiers = [63, 63, 43].map(|length| "s".repeat(length));
    let blocks = ["/29"; BLOCKS_MAX].into_iter().enumerate();
    Certificate {
        network,
        issuer: Host::new(101).id(),
        host,
        name: "n".repeat(63).parse().unwrap(),
        site: tiers.join(".").parse().unwrap(),
        roles: Role::ALL.iter().copied().collect(),
        blocks: blocks
            .map(|(index, length)| block(&format!("100.64.0.{}{length}", index * 8)))
            .collect(),
        serial: Serial(u64::MAX),
        validity: Validity::lasting(LAST - DAY, DAY),
    }
}

#[test]
fn introduction_fits_at_its_largest() {
    let world = World::new();
    let host = Host::new(1);
    let certificate = largest(host.id(), world.root.network());
    let mut wire = certificate.to_wire();
    assert_eq!(wire.site.len(), 171, "the longest site path");
    wire.roles = vec![8; 8];
    let mut credential = world.desk_signs(&wire);
    let content = credential.issuer.0.content.clone();
    let mut issuer = wire::IssuerCertificate::decode(content.as_slice()).unwrap();
    issuer.serial = u64::MAX;
    (issuer.not_before, issuer.not_after) = (u64::MAX >> 26, u64::MAX >> 26);
    credential.issuer.0.content = issuer.encode_to_vec();
    let address = |port| SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let contact = Contact {
        link_key: LinkKey([0xff; 32]),
        addresses: (65_000..65_100).map(address).collect(),
        sequence: u64::MAX,
    };
    let introduction = introduce(&host.key, &credential, &certificate, &contact);
    assert_eq!(introduction.len(), 903);
    assert!(introduction.len() <= INTRODUCTION_BYTES_MAX);
    let answer = answer(Ok(&credential));
    assert!(answer.len() <= ANSWER_BYTES_MAX, "{}", answer.len());
}

#[test]
fn join_request_fits_at_its_largest() {
    let mut world = World::new();
    let host = Host::new(1);
    let token = world.invite(1, HOUR, 1);
    let name = "n".repeat(63).parse().unwrap();
    let asked = ask_to_join(&host.key, host.link_key, &token, &name);
    assert!(asked.len() <= INTRODUCTION_BYTES_MAX, "{}", asked.len());
}

#[test]
fn revocation_fits_at_its_largest() {
    let mut world = World::new();
    let now = LAST - DAY;
    let (revocation, _) = world.issuer.revoke(Host::new(1).id(), &world.known, now);
    // The numbers in it grow by a few bytes at most.
    let room = REVOCATION_BYTES_MAX - revocation.bytes.len();
    assert!(room >= 40, "{room} bytes are left");
}

/// What the protocol's page says of each reason and size.
#[test]
fn page_of_the_protocol_names_every_reason_and_size() {
    let page = include_str!("../../../../../docs/protocol/admission.md");
    for reason in Reason::ALL {
        assert!(
            page.contains(&format!("`{}`", reason.name())),
            "{}",
            reason.name()
        );
    }
    let token = World::new().invite(1, HOUR, 1).to_string();
    assert!(
        page.contains(&format!("one word of {} characters", token.len())),
        "{token}"
    );
    assert!(page.contains("1,000 (903 at its largest)"));
}

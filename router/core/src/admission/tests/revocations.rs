//! Revocations: believed when signed by whom they must be, and the same everywhere in the end.

use super::*;
use crate::wire::margay::admission as wire;
use proptest::prelude::*;
use prost::Message;

/// A revocation of host `number` by the world's issuer.
fn revoked(world: &mut World, number: u8, now: WallTime) -> Vec<u8> {
    let host = Host::new(number).id();
    world.issuer.revoke(host, &world.known, now).0.bytes
}

#[test]
fn revocation_is_news_once() {
    let mut world = World::new();
    let bytes = revoked(&mut world, 1, FOUNDED);
    assert_eq!(world.known.revoke(&bytes, FOUNDED), Ok(Heard::News));
    assert_eq!(world.known.revoke(&bytes, FOUNDED), Ok(Heard::Known));
    let later = revoked(&mut world, 1, FOUNDED + DAY);
    assert_eq!(world.known.revoke(&later, FOUNDED + DAY), Ok(Heard::News));
    assert_eq!(
        world.known.revoke(&bytes, FOUNDED + DAY),
        Ok(Heard::Known),
        "an older one"
    );
    assert_eq!(world.known.revocations().iter().count(), 1);
}

#[test]
fn what_an_issuer_says_it_made_is_what_others_read() {
    let mut world = World::new();
    let host = Host::new(1).id();
    let (by_issuer, _) = world.issuer.revoke(host, &world.known, FOUNDED);
    let by_root = world.root.revoke(host, FOUNDED);
    for made in [by_issuer, by_root] {
        let mut void = Revocations::new(world.root.network());
        void.hear(&made.bytes, FOUNDED).unwrap();
        assert_eq!(void.iter().collect::<Vec<_>>(), [&made]);
    }
}

#[test]
fn forged_revocation_is_ignored_with_a_reason() {
    let mut world = World::new();
    let mut thief = World::of(root(100), Host::new(9), "100.80.0.0/12");
    // The thief is no issuer of the network: it signs beside the true issuer's certificate.
    let bytes = revoked(&mut thief, 1, FOUNDED);
    let mut message = wire::SignedRevocation::decode(bytes.as_slice()).unwrap();
    message.issuer = Some(world.issuer_credential().0);
    let refused = world
        .known
        .revoke(&message.encode_to_vec(), FOUNDED)
        .unwrap_err();
    assert_eq!(refused.name(), "forged");
    message.issuer = None;
    let refused = world
        .known
        .revoke(&message.encode_to_vec(), FOUNDED)
        .unwrap_err();
    assert_eq!(refused.name(), "forged");
    assert!(
        refused.to_string().contains("ignored a revocation"),
        "{refused}"
    );
    assert_eq!(world.known.revocations().iter().count(), 0);
}

#[test]
fn revocation_of_another_network_or_version_is_ignored() {
    let mut world = World::new();
    let mut other = World::of(root(200), Host::new(101), "100.64.0.0/12");
    let bytes = revoked(&mut other, 1, FOUNDED);
    assert_eq!(
        world.known.revoke(&bytes, FOUNDED).unwrap_err().name(),
        "other_network"
    );
    let by_root = root(200).revoke(Host::new(1).id(), FOUNDED).bytes;
    assert_eq!(
        world.known.revoke(&by_root, FOUNDED).unwrap_err().name(),
        "forged"
    );
    let mut newer = wire::SignedRevocation::decode(bytes.as_slice()).unwrap();
    newer.version = 2;
    let refused = world
        .known
        .revoke(&newer.encode_to_vec(), FOUNDED)
        .unwrap_err();
    assert_eq!(refused.name(), "unknown_version");
    for bytes in [&[][..], &[0xff; 7], &[0; REVOCATION_BYTES_MAX + 1]] {
        assert_eq!(
            world.known.revoke(bytes, FOUNDED).unwrap_err().name(),
            "unreadable"
        );
    }
}

#[test]
fn revocation_outlives_every_certificate_that_it_is_about_and_is_then_forgotten() {
    let mut world = World::new();
    let bytes = revoked(&mut world, 1, FOUNDED);
    world.known.revoke(&bytes, FOUNDED).unwrap();
    let kept = MEMBERSHIP_LIFETIME_MAX + CLOCK_LEEWAY * 2;
    world.known.sweep(FOUNDED + kept);
    assert_eq!(world.known.revocations().iter().count(), 1);
    world.known.sweep(FOUNDED + kept + HOUR);
    assert_eq!(world.known.revocations().iter().count(), 0);
    let refused = world.known.revoke(&bytes, FOUNDED + kept + HOUR);
    assert_eq!(refused, Err(RevocationError::Outdated(FOUNDED)));
}

#[test]
fn revocation_from_tomorrow_waits_and_one_from_an_hour_ahead_does_not() {
    let mut world = World::new();
    let soon = revoked(&mut world, 1, FOUNDED + HOUR);
    assert_eq!(world.known.revoke(&soon, FOUNDED), Ok(Heard::News));
    let tomorrow = revoked(&mut world, 2, FOUNDED + DAY);
    let refused = world.known.revoke(&tomorrow, FOUNDED);
    assert_eq!(refused, Err(RevocationError::FromTheFuture(FOUNDED + DAY)));
}

#[test]
fn issuer_revokes_only_while_its_own_certificate_counts() {
    let mut world = World::new();
    let end = FOUNDED + ISSUER_LIFETIME;
    let bytes = revoked(&mut world, 1, end + DAY);
    let refused = world.known.revoke(&bytes, end + DAY).unwrap_err();
    assert_eq!(refused.name(), "issuer_not_valid");
    // What it signed in time counts when it has expired.
    let bytes = revoked(&mut world, 1, end);
    assert_eq!(world.known.revoke(&bytes, end + DAY), Ok(Heard::News));
}

#[test]
fn stolen_issuers_revocations_end_with_it() {
    let mut world = World::new();
    let bytes = revoked(&mut world, 1, FOUNDED);
    world.known.revoke(&bytes, FOUNDED).unwrap();
    let by_root = world.root.revoke(world.desk.id(), FOUNDED).bytes;
    world.known.revoke(&by_root, FOUNDED).unwrap();
    let void = world.known.revocations();
    assert_eq!(
        void.membership_revoked(&Host::new(1).id(), Serial::at(FOUNDED)),
        None
    );
    let refused = world.known.revoke(&bytes, FOUNDED);
    assert_eq!(
        refused,
        Err(RevocationError::IssuerRevoked(world.desk.id()))
    );
}

#[test]
fn issuer_cannot_take_out_another_issuer_as_an_issuer() {
    let mut world = World::new();
    let other = Host::new(103);
    let (revocation, _) = world.issuer.revoke(other.id(), &world.known, FOUNDED);
    world.known.revoke(&revocation.bytes, FOUNDED).unwrap();
    let void = world.known.revocations();
    let serial = Serial::at(FOUNDED);
    assert_eq!(void.issuer_revoked(&other.id(), serial), None);
    assert_eq!(void.membership_revoked(&other.id(), serial), Some(FOUNDED));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was said by two issuers and the root, in any order, and some of it twice.
    #[test]
    fn hosts_that_hear_the_same_in_any_order_know_the_same(
        order in Just((0usize..20).collect::<Vec<_>>()).prop_shuffle(), repeated in 0usize..20,
    ) {
        let mut one = World::new();
        let mut two = World::of(root(100), Host::new(103), "100.80.0.0/12");
        let mut said = Vec::new();
        for number in 1..=4 {
            let now = FOUNDED + HOUR * u32::from(number);
            said.extend([now, now + DAY].map(|now| revoked(&mut one, number, now)));
            said.push(revoked(&mut two, number, now));
            said.push(one.root.revoke(Host::new(number).id(), now).bytes);
        }
        for now in [FOUNDED, FOUNDED + DAY] {
            said.push(one.root.revoke(two.desk.id(), now).bytes);
            said.push(revoked(&mut one, 9, now));
        }
        let now = FOUNDED + DAY * 2;
        let hear = |order: &[usize]| {
            let mut void = Revocations::new(one.root.network());
            for index in order {
                let _ = void.hear(&said[*index], now);
            }
            void
        };
        let mut second = order.clone();
        second.push(repeated);
        let (straight, shuffled) = (hear(&(0..20).collect::<Vec<_>>()), hear(&second));
        prop_assert_eq!(straight.digest(), shuffled.digest());
        prop_assert_eq!(straight.iter().count(), 4 + 4 + 1 + 1);
        prop_assert_ne!(straight.digest(), hear(&order[..10]).digest());
    }
}

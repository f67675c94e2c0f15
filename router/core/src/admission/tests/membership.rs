//! Who is known to belong, and who came first.

use super::*;

#[test]
fn member_is_found_by_host_name_and_address() {
    let mut world = World::new();
    let (host, introduction) = world.member(1, "web1");
    let (who, learned) = world
        .known
        .admit(&introduction, host.link_key, FOUNDED)
        .unwrap();
    assert_eq!((who, learned), (host.id(), Learned::New));
    let known = &world.known;
    let member = known.member(&host.id()).unwrap();
    assert_eq!(known.named(&"web1".parse().unwrap()), Some(member));
    assert_eq!(known.holder("100.64.15.255".parse().unwrap()), Some(member));
    assert_eq!(known.holder("100.64.16.0".parse().unwrap()), None);
    assert_eq!(known.members().count(), 1);
}

#[test]
fn introduction_by_anothers_host_link_is_refused() {
    let mut world = World::new();
    let (host, introduction) = world.member(1, "web1");
    let refused = world.known.admit(&introduction, LinkKey([9; 32]), FOUNDED);
    assert_eq!(refused, Err(Refusal::OtherLinkKey));
    assert_eq!(world.known.member(&host.id()), None);
    assert!(
        world.known.learn(&introduction, FOUNDED).is_ok(),
        "passed on, it counts"
    );
}

#[test]
fn newest_contact_counts_in_whatever_order_they_come() {
    let mut world = World::new();
    let host = Host::new(1);
    let issued = world.admit(&host, "web1");
    let [first, second] = [1, 2].map(|sequence| host.introduce(&issued, sequence));
    let mut learn = |introduction: &[u8]| world.known.learn(introduction, FOUNDED).unwrap().1;
    assert_eq!(learn(&second), Learned::New);
    assert_eq!(learn(&first), Learned::Nothing);
    assert_eq!(learn(&second), Learned::Nothing);
    assert_eq!(learn(&host.introduce(&issued, 3)), Learned::Newer);
    let member = world.known.member(&host.id()).unwrap();
    assert_eq!(member.contact.sequence, 3);
}

#[test]
fn host_that_was_admitted_anew_has_its_new_name_only() {
    let mut world = World::new();
    let host = Host::new(1);
    for (sequence, name) in [(1, "web1"), (2, "web2")] {
        let issued = world.admit(&host, name);
        world
            .known
            .learn(&host.introduce(&issued, sequence), FOUNDED)
            .unwrap();
    }
    assert_eq!(world.known.named(&"web1".parse().unwrap()), None);
    assert!(world.known.named(&"web2".parse().unwrap()).is_some());
    assert_eq!(world.known.members().count(), 1);
}

#[test]
fn second_host_of_a_name_is_refused_until_the_first_is_gone() {
    let mut world = World::new();
    let (first, introduction) = world.member(1, "web1");
    world.known.learn(&introduction, FOUNDED).unwrap();
    let other = Host::new(2);
    let mut issued = world.admit(&other, "web2");
    issued.certificate.name = "web1".parse().unwrap();
    issued.credential = world.forge(&issued.certificate);
    let second = other.introduce(&issued, 1);
    let refused = world.known.learn(&second, FOUNDED).unwrap_err();
    assert_eq!(refused.reason(), Reason::NameTaken);
    assert!(
        refused.to_string().contains(&first.id().short()),
        "{refused}"
    );
    let (revocation, _) = world.issuer.revoke(first.id(), &world.known, FOUNDED);
    world.known.revoke(&revocation.bytes, FOUNDED).unwrap();
    assert_eq!(world.known.sweep(FOUNDED).len(), 1);
    assert!(world.known.learn(&second, FOUNDED).is_ok());
}

#[test]
fn host_whose_certificate_names_anothers_block_is_refused() {
    let mut world = World::new();
    let (_, introduction) = world.member(1, "web1");
    world.known.learn(&introduction, FOUNDED).unwrap();
    let other = Host::new(2);
    let mut issued = world.admit(&other, "web2");
    let own = issued.certificate.blocks[0];
    for taken in ["100.64.0.0/20", "100.64.0.0/24", "100.64.0.0/18"] {
        issued.certificate.blocks = vec![block(taken)];
        issued.credential = world.forge(&issued.certificate);
        let refused = world
            .known
            .learn(&other.introduce(&issued, 1), FOUNDED)
            .unwrap_err();
        assert_eq!(refused.reason(), Reason::BlockTaken);
        let words = refused.to_string();
        assert!(words.contains("100.64.0.0/20 of host web1"), "{words}");
    }
    issued.certificate.blocks = vec![own];
    issued.credential = world.forge(&issued.certificate);
    assert!(
        world
            .known
            .learn(&other.introduce(&issued, 1), FOUNDED)
            .is_ok()
    );
}

#[test]
fn expired_and_revoked_members_are_told_with_the_reason() {
    let mut world = World::new();
    let (first, introduction) = world.member(1, "web1");
    let (second, other) = world.member(2, "web2");
    world.known.learn(&introduction, FOUNDED).unwrap();
    world.known.learn(&other, FOUNDED).unwrap();
    assert_eq!(world.known.sweep(FOUNDED + DAY), []);
    let (revocation, _) = world
        .issuer
        .revoke(second.id(), &world.known, FOUNDED + DAY);
    world
        .known
        .revoke(&revocation.bytes, FOUNDED + DAY)
        .unwrap();
    let told = |departed: &[Departed]| -> Vec<_> {
        let tell = |gone: &Departed| (gone.member.certificate.host, gone.why.reason());
        departed.iter().map(tell).collect()
    };
    let departed = world.known.sweep(FOUNDED + DAY);
    assert_eq!(told(&departed), [(second.id(), Reason::Revoked)]);
    let departed = world.known.sweep(FOUNDED + DAY * 8);
    assert_eq!(told(&departed), [(first.id(), Reason::Expired)]);
    assert_eq!(world.known.holder("100.64.0.1".parse().unwrap()), None);
}

#[test]
fn forged_introduction_changes_nothing() {
    let mut world = World::new();
    let host = Host::new(1);
    let issued = world.admit(&host, "web1");
    world
        .known
        .learn(&host.introduce(&issued, 1), FOUNDED)
        .unwrap();
    let thief = Host::new(2);
    let forged = introduce(
        &thief.key,
        &issued.credential,
        &issued.certificate,
        &thief.contact(2),
    );
    assert!(world.known.learn(&forged, FOUNDED).is_err());
    assert_eq!(
        world.known.member(&host.id()).unwrap().contact,
        host.contact(1)
    );
}

//! Whoever is no member is refused, each for its own reason.

use super::*;
use crate::admission::introduction::read;
use crate::wire::margay::admission as wire;
use prost::Message;

fn reason(refused: Result<Member, Refusal>) -> Reason {
    refused.expect_err("it is refused").reason()
}

#[test]
fn member_is_known_by_all_that_was_certified_and_said() {
    let mut world = World::new();
    let (host, introduction) = world.member(1, "web1");
    let member = world.check(&introduction, FOUNDED).unwrap();
    assert_eq!(member.certificate.host, host.id());
    assert_eq!(member.certificate.name.as_str(), "web1");
    assert_eq!(member.certificate.site.to_string(), "rack1.paris");
    assert_eq!(member.certificate.blocks, [block("100.64.0.0/20")]);
    assert_eq!(member.issuer, *world.issuer.certificate());
    assert_eq!(member.contact, host.contact(1));
    assert_eq!(member.introduction, introduction);
}

#[test]
fn host_without_a_certificate_is_no_member() {
    let mut world = World::new();
    assert_eq!(reason(world.check(&[], FOUNDED)), Reason::NotAMember);
    let empty = wire::Introduction {
        version: 1,
        who: Some(wire::introduction::Who::Member(wire::Member::default())),
    };
    assert_eq!(
        reason(world.check(&empty.encode_to_vec(), FOUNDED)),
        Reason::NotAMember
    );
    let host = Host::new(1);
    let token = world.invite(1, HOUR, 1);
    let newcomer = ask_to_join(&host.key, host.link_key, &token, &"web1".parse().unwrap());
    assert!(is_newcomer(&newcomer));
    assert_eq!(reason(world.check(&newcomer, FOUNDED)), Reason::NotAMember);
}

#[test]
fn expired_certificate_is_refused_and_an_hour_is_forgiven() {
    let mut world = World::new();
    let (_, introduction) = world.member(1, "web1");
    let end = FOUNDED + MEMBERSHIP_LIFETIME;
    assert!(world.check(&introduction, end + HOUR).is_ok());
    assert!(world.check(&introduction, end + CLOCK_LEEWAY).is_ok());
    let late = end + CLOCK_LEEWAY + Duration::from_secs(1);
    let refused = world.check(&introduction, late).unwrap_err();
    assert_eq!(refused.reason(), Reason::Expired);
    let words = refused.to_string();
    assert!(words.contains("ended at 2027-01-22T08:00:00Z"), "{words}");
    assert!(words.contains("here it is 2027-01-22T10:00:01Z"), "{words}");
    assert!(words.contains("120 minutes apart"), "{words}");
}

#[test]
fn certificate_of_tomorrow_is_refused_and_an_hour_is_forgiven() {
    let mut world = World::new();
    let (_, introduction) = world.member(1, "web1");
    assert!(world.check(&introduction, FOUNDED - HOUR).is_ok());
    assert!(world.check(&introduction, FOUNDED - CLOCK_LEEWAY).is_ok());
    let early = FOUNDED - CLOCK_LEEWAY - Duration::from_secs(1);
    // By such a clock the issuer has not begun, either, which is found first.
    assert_eq!(
        reason(world.check(&introduction, early)),
        Reason::IssuerExpired
    );
    let issued = {
        let (known, host) = (&world.known, Host::new(2));
        let tomorrow = world
            .issuer
            .admit(host.id(), place("web2"), known, FOUNDED + DAY);
        host.introduce(&tomorrow.unwrap(), 1)
    };
    let refused = world.check(&issued, FOUNDED).unwrap_err();
    assert_eq!(refused.reason(), Reason::NotYetValid);
    assert!(
        refused.to_string().contains("compare the clocks"),
        "{refused}"
    );
}

#[test]
fn member_of_another_network_is_refused_and_named() {
    let world = World::new();
    let mut other = World::of(root(200), Host::new(101), "100.64.0.0/12");
    let (_, introduction) = other.member(1, "web1");
    let refused = world.check(&introduction, FOUNDED).unwrap_err();
    assert_eq!(refused, Refusal::OtherNetwork(other.root.network()));
}

#[test]
fn certificate_of_an_issuer_that_the_root_never_made_is_forged() {
    let world = World::new();
    // The thief signs as a root of its own and claims to be the network's.
    let mut thief = World::of(root(200), Host::new(102), "100.64.0.0/12");
    let host = Host::new(1);
    let mut issued = thief.admit(&host, "web1");
    let content = issued.credential.issuer.0.content.clone();
    let mut claimed = wire::IssuerCertificate::decode(content.as_slice()).unwrap();
    claimed.network = world.root.network().root().as_bytes().to_vec();
    issued.credential.issuer.0.content = claimed.encode_to_vec();
    let refused = world.check(&host.introduce(&issued, 1), FOUNDED);
    assert_eq!(refused, Err(Refusal::Forged("issuer certificate")));
}

#[test]
fn certificate_that_another_than_its_issuer_signed_is_forged() {
    let mut world = World::new();
    let host = Host::new(1);
    let mut issued = world.admit(&host, "web1");
    let wire = issued.certificate.to_wire();
    issued.credential.certificate = host.key.sign(MEMBERSHIP_CERTIFICATE, &wire);
    let refused = world.check(&host.introduce(&issued, 1), FOUNDED);
    assert_eq!(refused, Err(Refusal::Forged("membership certificate")));
}

#[test]
fn certificate_of_another_host_is_of_no_use_to_a_thief() {
    let mut world = World::new();
    let (host, thief) = (Host::new(1), Host::new(2));
    let issued = world.admit(&host, "web1");
    let refused = world.check(&thief.introduce(&issued, 9), FOUNDED);
    assert_eq!(refused, Err(Refusal::Forged("host record")));
}

#[test]
fn record_of_one_certificate_beside_another_is_forged() {
    let mut world = World::new();
    let host = Host::new(1);
    let [old, new] = [(); 2].map(|()| world.admit(&host, "web1"));
    assert!(old.certificate.serial < new.certificate.serial);
    let mixed = introduce(
        &host.key,
        &old.credential,
        &new.certificate,
        &host.contact(2),
    );
    assert_eq!(reason(world.check(&mixed, FOUNDED)), Reason::Forged);
}

#[test]
fn no_single_changed_byte_passes() {
    let mut world = World::new();
    let (_, introduction) = world.member(1, "web1");
    let honest = world.check(&introduction, FOUNDED).unwrap();
    for at in 0..introduction.len() {
        let mut changed = introduction.clone();
        changed[at] ^= 1;
        if let Ok(member) = world.check(&changed, FOUNDED) {
            panic!(
                "byte {at} is free to be {}: {member:?}, {honest:?}",
                changed[at]
            );
        }
    }
}

#[test]
fn revoked_host_is_refused_and_one_that_joined_again_is_not() {
    let mut world = World::new();
    let (host, introduction) = world.member(1, "web1");
    let (revocation, _) = world.issuer.revoke(host.id(), &world.known, FOUNDED + HOUR);
    world
        .known
        .revoke(&revocation.bytes, FOUNDED + HOUR)
        .unwrap();
    let refused = world.check(&introduction, FOUNDED + HOUR).unwrap_err();
    let at = FOUNDED + HOUR;
    assert_eq!(
        refused,
        Refusal::Revoked {
            host: host.id(),
            at
        }
    );
    let again = world
        .issuer
        .admit(host.id(), place("web1"), &world.known, at)
        .unwrap();
    assert!(world.check(&host.introduce(&again, 2), at).is_ok());
}

#[test]
fn block_that_is_not_its_issuers_is_refused() {
    let mut world = World::new();
    let host = Host::new(1);
    let mut issued = world.admit(&host, "web1");
    for outside in ["100.80.0.0/20", "100.64.0.0/11"] {
        issued.certificate.blocks = vec![block(outside)];
        issued.credential = world.forge(&issued.certificate);
        let refused = world
            .check(&host.introduce(&issued, 1), FOUNDED)
            .unwrap_err();
        assert_eq!(refused.reason(), Reason::BlockOutsideRange);
        let words = refused.to_string();
        assert!(
            words.contains(outside) && words.contains("100.64.0.0/12"),
            "{words}"
        );
    }
}

#[test]
fn members_of_an_issuer_that_expired_are_refused() {
    let mut world = World::new();
    let host = Host::new(1);
    let end = FOUNDED + ISSUER_LIFETIME;
    let last = world
        .issuer
        .admit(host.id(), place("web1"), &world.known, end - HOUR)
        .unwrap();
    assert_eq!(
        last.certificate.validity.not_after(),
        end,
        "no longer than its issuer"
    );
    let introduction = host.introduce(&last, 1);
    assert!(world.check(&introduction, end + HOUR).is_ok());
    assert_eq!(
        reason(world.check(&introduction, end + DAY)),
        Reason::IssuerExpired
    );
    let after = world
        .issuer
        .admit(host.id(), place("web1"), &world.known, end);
    assert_eq!(after.unwrap_err().reason(), Reason::IssuerExpired);
}

#[test]
fn issuer_that_the_root_revoked_takes_its_members_with_it() {
    let mut world = World::new();
    let (_, introduction) = world.member(1, "web1");
    let revocation = world.root.revoke(world.desk.id(), FOUNDED);
    world.known.revoke(&revocation.bytes, FOUNDED).unwrap();
    assert_eq!(
        reason(world.check(&introduction, FOUNDED)),
        Reason::IssuerRevoked
    );
    let refused = world
        .issuer
        .admit(Host::new(2).id(), place("web2"), &world.known, FOUNDED);
    assert_eq!(refused.unwrap_err().reason(), Reason::IssuerRevoked);
    // Certified anew at once, it works again: above what is void.
    let range = block("100.64.0.0/12");
    let again = world
        .root
        .certify(world.desk.id(), range, &world.known, FOUNDED)
        .unwrap();
    let again = again.open(world.root.network()).unwrap();
    let void = world.known.revocations();
    assert_eq!(void.issuer_revoked(&again.issuer, again.serial), None);
}

#[test]
fn newer_versions_are_refused_in_words_and_unknown_fields_are_not() {
    let mut world = World::new();
    let (_, introduction) = world.member(1, "web1");
    let mut newer = wire::Introduction::decode(introduction.as_slice()).unwrap();
    newer.version = 2;
    let refused = world.check(&newer.encode_to_vec(), FOUNDED).unwrap_err();
    assert_eq!(refused, Refusal::UnknownVersion(2));
    assert!(
        refused.to_string().contains("upgrade this host"),
        "{refused}"
    );
    // Field 15, a string of three bytes.
    let longer = [introduction.as_slice(), &[0x7a, 3, b'n', b'e', b'w']].concat();
    assert!(world.check(&longer, FOUNDED).is_ok());
}

#[test]
fn certificates_that_no_issuer_may_make_are_unreadable() {
    let mut world = World::new();
    let host = Host::new(1);
    let issued = world.admit(&host, "web1");
    let good = issued.certificate.to_wire();
    let blocks = |texts: &[&str]| {
        let mut certificate = issued.certificate.clone();
        certificate.blocks = texts.iter().map(|text| block(text)).collect();
        certificate.to_wire()
    };
    let with = |change: fn(&mut wire::Certificate)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let wrong = [
        with(|it| it.name = "Not A Name".into()),
        with(|it| it.site = "..".into()),
        with(|it| it.host.truncate(31)),
        with(|it| it.not_after = it.not_before),
        with(|it| it.not_after += 31 * 86_400),
        with(|it| it.not_after = u64::MAX),
        with(|it| it.blocks[0].prefix = 33),
        with(|it| it.blocks[0].base += 1),
        with(|it| it.roles = vec![1; 9]),
        blocks(&["100.64.0.0/20", "100.64.8.0/21"]),
        blocks(&["100.64.0.0/29"; 5]),
    ];
    for message in &wrong {
        let mut issued = issued.clone();
        issued.credential = world.desk_signs(message);
        let refused = reason(world.check(&host.introduce(&issued, 1), FOUNDED));
        assert_eq!(refused, Reason::Unreadable, "{message:?}");
    }
    // A role of a newer version is no role here, and no reason to refuse.
    let mut newer = issued.clone();
    newer.credential = world.desk_signs(&with(|it| it.roles = vec![1, 77]));
    let member = world.check(&host.introduce(&newer, 1), FOUNDED).unwrap();
    assert_eq!(member.certificate.roles, BTreeSet::from([Role::Gateway]));
}

#[test]
fn refused_side_learns_a_reason_and_nothing_else() {
    let mut world = World::new();
    let (host, _) = world.member(1, "web1");
    let refusal = Refusal::NameTaken {
        name: "web1".parse().unwrap(),
        holder: host.id(),
    };
    let bytes = answer(Err(refusal.reason()));
    assert_eq!(bytes.len(), 4, "a version and a number");
    let told = read_answer(&bytes).unwrap_err();
    assert_eq!(told, AnswerError::Refused(Reason::NameTaken));
    assert!(told.to_string().contains("--name OTHER"), "{told}");
    let newer = wire::Answer {
        version: 1,
        what: Some(wire::answer::What::Refused(999)),
    };
    let told = read_answer(&newer.encode_to_vec()).unwrap_err();
    assert!(
        told.to_string().contains("(999) of a newer version"),
        "{told}"
    );
}

#[test]
fn introduction_that_is_too_long_is_not_even_decoded() {
    let world = World::new();
    let long = vec![0; INTRODUCTION_BYTES_MAX + 1];
    assert_eq!(reason(world.check(&long, FOUNDED)), Reason::Unreadable);
    assert!(read(&long).unwrap_err().to_string().contains("1,000 bytes"));
}

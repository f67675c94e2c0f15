//! What an issuer gives, to whom, and how often.

use super::*;

fn reason(refused: Result<Issued, Refusal>) -> Reason {
    refused.expect_err("it is refused").reason()
}

#[test]
fn token_makes_its_holder_a_member_on_the_terms_of_the_invitation() {
    let mut world = World::new();
    let token = world.invite(1, HOUR, 1);
    let host = Host::new(1);
    let issued = world.redeem(&host, &token, "web1", FOUNDED).unwrap();
    let told = read_answer(&answer(Ok(&issued.credential))).unwrap();
    let void = world.known.revocations();
    let certificate = told.verify(token.network, void, FOUNDED).unwrap();
    assert_eq!(certificate, issued.certificate);
    assert_eq!(certificate.host, host.id());
    assert_eq!(certificate.name.as_str(), "web1");
    assert_eq!(certificate.site.to_string(), "rack1.paris");
    assert_eq!(certificate.roles, BTreeSet::from([Role::Gateway]));
    assert_eq!(certificate.blocks, [block("100.64.0.0/20")]);
}

#[test]
fn token_is_good_for_as_many_hosts_as_it_says() {
    let mut world = World::new();
    let token = world.invite(2, HOUR, 1);
    for number in [1, 2] {
        let name = format!("web{number}");
        assert!(
            world
                .redeem(&Host::new(number), &token, &name, FOUNDED)
                .is_ok()
        );
    }
    let refused = world.redeem(&Host::new(3), &token, "web3", FOUNDED);
    assert_eq!(reason(refused), Reason::TokenUsedUp);
}

#[test]
fn host_whose_answer_was_lost_asks_again_without_a_further_use() {
    let mut world = World::new();
    let token = world.invite(1, HOUR, 1);
    let host = Host::new(1);
    let first = world.redeem(&host, &token, "web1", FOUNDED).unwrap();
    let again = world
        .redeem(&host, &token, "web1", FOUNDED + HOUR * 2)
        .unwrap();
    assert_eq!(again.certificate.blocks, first.certificate.blocks);
    assert!(again.certificate.serial > first.certificate.serial);
}

#[test]
fn expired_token_is_refused() {
    let mut world = World::new();
    let token = world.invite(1, HOUR, 1);
    let late = FOUNDED + HOUR + Duration::from_secs(1);
    let refused = world
        .redeem(&Host::new(1), &token, "web1", late)
        .unwrap_err();
    assert_eq!(refused, Refusal::TokenExpired(FOUNDED + HOUR));
    assert!(
        world
            .redeem(&Host::new(1), &token, "web1", FOUNDED + HOUR)
            .is_ok()
    );
}

#[test]
fn token_of_another_network_is_refused() {
    let mut world = World::new();
    let token = World::of(root(200), Host::new(101), "100.64.0.0/12").invite(1, HOUR, 1);
    let refused = world.redeem(&Host::new(1), &token, "web1", FOUNDED);
    assert_eq!(reason(refused), Reason::OtherNetwork);
}

#[test]
fn token_with_a_wrong_secret_learns_nothing_of_the_invitation() {
    let mut world = World::new();
    let token = world.invite(1, HOUR, 1);
    let mut guessed = World::new().invite(1, HOUR, 2);
    let unknown = world.redeem(&Host::new(1), &guessed, "web1", FOUNDED);
    guessed.id = token.id;
    let wrong = world.redeem(&Host::new(1), &guessed, "web1", FOUNDED + DAY);
    assert_eq!(reason(unknown), Reason::TokenUnknown);
    assert_eq!(
        reason(wrong),
        Reason::TokenUnknown,
        "not that it has expired"
    );
}

#[test]
fn withdrawn_token_is_unknown() {
    let mut world = World::new();
    let token = world.invite(1, HOUR, 1);
    assert!(world.issuer.withdraw(token.id).is_some());
    assert_eq!(world.issuer.withdraw(token.id), None);
    let refused = world.redeem(&Host::new(1), &token, "web1", FOUNDED);
    assert_eq!(reason(refused), Reason::TokenUnknown);
}

#[test]
fn join_request_through_anothers_host_link_is_refused() {
    let mut world = World::new();
    let token = world.invite(1, HOUR, 1);
    let host = Host::new(1);
    let asked = ask_to_join(&host.key, host.link_key, &token, &"web1".parse().unwrap());
    let relayed = JoinRequest::open(&asked, token.network, LinkKey([9; 32]));
    assert_eq!(relayed, Err(Refusal::OtherLinkKey));
}

#[test]
fn name_that_another_host_has_is_refused_wherever_it_was_given() {
    let mut world = World::new();
    world.admit(&Host::new(1), "web1");
    let token = world.invite(1, HOUR, 1);
    let refused = world.redeem(&Host::new(2), &token, "web1", FOUNDED);
    assert_eq!(reason(refused), Reason::NameTaken);
    // Given by another issuer of the network.
    let mut other = World::of(root(100), Host::new(103), "100.80.0.0/12");
    let (_, introduction) = other.member(3, "db1");
    world.known.learn(&introduction, FOUNDED).unwrap();
    let refused = world.redeem(&Host::new(2), &token, "db1", FOUNDED);
    assert_eq!(reason(refused), Reason::NameTaken);
    let taken = world.redeem(&Host::new(2), &token, "web2", FOUNDED);
    assert!(taken.is_ok(), "the refusals were no use of the token");
}

#[test]
fn invitations_have_bounds() {
    let mut world = World::new();
    let counter = Counter {
        link_key: LinkKey([1; 32]),
        addresses: Vec::new(),
    };
    let terms = |lifetime, uses| Terms {
        site: "".parse().unwrap(),
        roles: BTreeSet::new(),
        lifetime,
        uses,
    };
    let mut seeds = (0u32..).map(|number| {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        seed
    });
    let mut invite = |terms: &Terms, now| {
        let seed = seeds.next().unwrap();
        world
            .issuer
            .invite(terms, &counter, &seed, now)
            .map(|(_, records)| records.len())
    };
    assert_eq!(
        invite(&terms(Duration::ZERO, 1), FOUNDED),
        Err(InviteError::Lifetime)
    );
    assert_eq!(
        invite(&terms(DAY * 31, 1), FOUNDED),
        Err(InviteError::Lifetime)
    );
    assert_eq!(invite(&terms(DAY, 0), FOUNDED), Err(InviteError::Uses));
    assert_eq!(invite(&terms(DAY, 1_001), FOUNDED), Err(InviteError::Uses));
    for _ in 0..1_024 {
        assert_eq!(invite(&terms(DAY, 1), FOUNDED), Ok(1));
    }
    assert_eq!(
        invite(&terms(DAY, 1), FOUNDED),
        Err(InviteError::TooMany(1_024))
    );
    let expired = invite(&terms(DAY, 1), FOUNDED + DAY * 2);
    assert_eq!(expired, Ok(1_025), "what has expired makes room");
}

#[test]
fn renewed_certificate_is_the_same_but_for_its_time() {
    let mut world = World::new();
    let (_, introduction) = world.member(1, "web1");
    let now = FOUNDED + DAY * 4;
    let member = world.check(&introduction, now).unwrap();
    let renewed = world.issuer.renew(&member, &world.known, now).unwrap();
    let mut expected = member.certificate.clone();
    expected.serial = Serial::at(now);
    expected.validity = Validity::lasting(now, MEMBERSHIP_LIFETIME);
    assert_eq!(renewed.certificate, expected);
}

#[test]
fn renewal_is_asked_for_in_the_third_quarter_and_not_by_all_at_once() {
    let mut world = World::new();
    let mut moments = BTreeSet::new();
    for number in 1..=40 {
        let issued = world.admit(&Host::new(number), &format!("web{number}"));
        let renews = issued.certificate.renews_at();
        assert!(renews >= FOUNDED + MEMBERSHIP_LIFETIME / 2, "{renews}");
        assert!(renews < FOUNDED + MEMBERSHIP_LIFETIME * 3 / 4, "{renews}");
        moments.insert(renews);
    }
    assert!(moments.len() > 35, "{moments:?}");
    let spread = moments.last().unwrap().since(*moments.first().unwrap());
    assert!(spread > MEMBERSHIP_LIFETIME / 8, "{spread:?}");
}

#[test]
fn request_to_renew_is_read_and_a_newer_one_refused_in_words() {
    assert_eq!(read_renewal_request(&ask_to_renew()), Ok(()));
    let newer = read_renewal_request(&[8, 2]).unwrap_err();
    assert_eq!(newer, Refusal::UnknownVersion(2));
    assert!(read_renewal_request(&[]).is_err());
}

#[test]
fn revoked_host_is_not_renewed_and_its_invitation_is_over() {
    let mut world = World::new();
    let token = world.invite(5, HOUR, 1);
    let host = Host::new(1);
    let issued = world.redeem(&host, &token, "web1", FOUNDED).unwrap();
    let member = world.check(&host.introduce(&issued, 1), FOUNDED).unwrap();
    world.issuer.revoke(host.id(), &world.known, FOUNDED);
    let renewed = world.issuer.renew(&member, &world.known, FOUNDED);
    assert_eq!(reason(renewed), Reason::NotGranted);
    let refused = world.redeem(&host, &token, "web1", FOUNDED);
    assert_eq!(reason(refused), Reason::TokenUnknown);
}

#[test]
fn host_that_another_issuer_revoked_is_not_renewed() {
    let mut world = World::new();
    let (host, introduction) = world.member(1, "web1");
    let member = world.check(&introduction, FOUNDED).unwrap();
    let mut other = World::of(root(100), Host::new(103), "100.80.0.0/12");
    let (revocation, records) = other.issuer.revoke(host.id(), &other.known, FOUNDED);
    assert!(records.is_empty(), "it granted nothing to that host");
    world.known.revoke(&revocation.bytes, FOUNDED).unwrap();
    let renewed = world.issuer.renew(&member, &world.known, FOUNDED);
    assert_eq!(reason(renewed), Reason::Revoked);
}

#[test]
fn member_of_another_issuer_is_not_renewed() {
    let mut world = World::new();
    let mut other = World::of(root(100), Host::new(103), "100.80.0.0/12");
    let (_, introduction) = other.member(1, "web1");
    let member = world.check(&introduction, FOUNDED).unwrap();
    let renewed = world.issuer.renew(&member, &world.known, FOUNDED);
    assert_eq!(reason(renewed), Reason::NotGranted);
}

#[test]
fn blocks_go_round_and_rest_until_they_are_released() {
    let mut world = World::of(root(100), Host::new(101), "10.0.0.0/18");
    let hosts: Vec<Host> = (1..=6).map(Host::new).collect();
    let given: Vec<_> = hosts[..4]
        .iter()
        .map(|host| world.admit(host, &format!("h{}", host.link_key.0[0])))
        .map(|issued| issued.certificate.blocks[0].to_string())
        .collect();
    assert_eq!(
        given,
        [
            "10.0.0.0/20",
            "10.0.16.0/20",
            "10.0.32.0/20",
            "10.0.48.0/20"
        ]
    );
    let admit = |world: &mut World, now| {
        let (known, issuer) = (&world.known, &mut world.issuer);
        issuer.admit(hosts[4].id(), place("late"), known, now)
    };
    let refused = admit(&mut world, FOUNDED).unwrap_err();
    assert_eq!(refused, Refusal::NoBlockLeft(block("10.0.0.0/18")));
    assert_eq!(
        world.issuer.release(hosts[1].id(), FOUNDED),
        None,
        "it is in use"
    );
    world.issuer.revoke(hosts[1].id(), &world.known, FOUNDED);
    assert!(admit(&mut world, FOUNDED).is_err(), "it rests");
    let resting: Vec<_> = world
        .issuer
        .resting(FOUNDED)
        .map(|grant| grant.host)
        .collect();
    assert_eq!(resting, [hosts[1].id()]);
    assert!(world.issuer.release(hosts[1].id(), FOUNDED).is_some());
    let issued = admit(&mut world, FOUNDED).unwrap();
    assert_eq!(issued.certificate.blocks, [block("10.0.16.0/20")]);
}

#[test]
fn block_of_a_host_that_did_not_renew_rests_and_comes_back_with_it() {
    let mut world = World::new();
    let host = Host::new(1);
    let first = world.admit(&host, "web1");
    let end = FOUNDED + MEMBERSHIP_LIFETIME + CLOCK_LEEWAY * 2;
    assert_eq!(world.issuer.resting(end).count(), 0);
    let later = end + HOUR;
    assert_eq!(world.issuer.resting(later).count(), 1);
    let token = world.invite(1, DAY * 20, 1);
    let again = world.redeem(&host, &token, "web1", later).unwrap();
    assert_eq!(again.certificate.blocks, first.certificate.blocks);
    assert_eq!(world.issuer.resting(later).count(), 0);
}

#[test]
fn block_that_another_issuers_member_holds_is_not_given() {
    let mut world = World::new();
    // The root made a mistake: two issuers of one range.
    let mut twin = World::of(root(100), Host::new(103), "100.64.0.0/12");
    let (_, introduction) = twin.member(2, "db1");
    world.known.learn(&introduction, FOUNDED).unwrap();
    let issued = world.admit(&Host::new(1), "web1");
    assert_eq!(issued.certificate.blocks, [block("100.64.16.0/20")]);
}

#[test]
fn root_gives_no_two_issuers_overlapping_ranges() {
    let mut world = World::new();
    let (_, introduction) = world.member(1, "web1");
    world.known.learn(&introduction, FOUNDED).unwrap();
    let certify = |host: &Host, range| {
        world
            .root
            .certify(host.id(), block(range), &world.known, FOUNDED)
    };
    let other = Host::new(103);
    let error = certify(&other, "100.72.0.0/16").unwrap_err().to_string();
    assert!(
        error.contains("100.64.0.0/12") && error.contains("range of its own"),
        "{error}"
    );
    assert!(certify(&other, "100.64.0.0/10").is_err());
    assert!(certify(&other, "100.80.0.0/12").is_ok());
    assert!(
        certify(&world.desk, "100.64.0.0/11").is_ok(),
        "its own can grow"
    );
}

#[test]
fn issuer_takes_no_certificate_but_its_own() {
    let world = World::new();
    let mut config = config(&world.root, &world.desk, "100.64.0.0/12", &world.known);
    config.key = Host::new(9).key;
    let refused = Issuer::new(config, []).unwrap_err();
    assert_eq!(refused, Refusal::NotAnIssuer);
}

#[test]
fn credentials_read_back_from_where_they_are_kept() {
    let mut world = World::new();
    let issued = world.admit(&Host::new(1), "web1");
    let read = Credential::from_bytes(&issued.credential.to_bytes()).unwrap();
    assert_eq!(read, issued.credential);
    let own = world.issuer_credential();
    assert_eq!(IssuerCredential::from_bytes(&own.to_bytes()), Ok(own));
}

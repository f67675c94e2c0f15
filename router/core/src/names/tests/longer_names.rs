//! Names beyond a service's own: the zone's, of instances, of ports, of addresses.

use super::*;
use std::net::IpAddr;

const ALL: [QuestionKind; 8] = [
    QuestionKind::A,
    QuestionKind::Aaaa,
    QuestionKind::Srv,
    QuestionKind::Txt,
    QuestionKind::Ptr,
    QuestionKind::Soa,
    QuestionKind::Ns,
    QuestionKind::Other,
];

/// Asks for every kind of record; answers those that are there.
fn records(snapshot: &NamesSnapshot, name: &str) -> Vec<(QuestionKind, Vec<String>)> {
    let asked = ALL.map(|kind| (kind, ask(snapshot, name, kind, 0).records()));
    let found = asked.into_iter().filter(|(_, records)| !records.is_empty());
    found.collect()
}

fn texts(records: &[&str]) -> Vec<String> {
    records.iter().copied().map(str::to_owned).collect()
}

/// Asks who holds an address.
fn holder(snapshot: &NamesSnapshot, addr: IpAddr, caller: u64) -> Answer {
    let question = Question {
        name: reverse_name(addr),
        kind: QuestionKind::Ptr,
    };
    answer(snapshot, InstanceId(caller), &question, 0)
}

fn addresses(named: NamedInstance) -> [IpAddr; 4] {
    let InstanceAddresses { called, caller } = named.addresses;
    [
        called.v4.into(),
        called.v6.into(),
        caller.v4.into(),
        caller.v6.into(),
    ]
}

#[test]
fn zone_itself_has_its_authority_and_a_name_server_that_can_be_reached() {
    let found = records(&snapshot(), "matrix");
    let matrix = || texts(&["matrix"]);
    let expected = [
        (QuestionKind::A, texts(&["169.254.53.53"])),
        (QuestionKind::Soa, matrix()),
        (QuestionKind::Ns, matrix()),
    ];
    assert_eq!(found, expected);
    let missing = ask(&snapshot(), "matrix", QuestionKind::Txt, 0);
    assert_eq!(missing, Answer::NoData(Zone::SERVICES, None));
}

#[test]
fn instance_has_its_own_addresses_and_tells_what_it_is() {
    let second = instance(2).addresses.called;
    let found = records(&snapshot(), "2.web.matrix");
    let expected = [
        (QuestionKind::A, texts(&[&second.v4.to_string()])),
        (QuestionKind::Aaaa, texts(&[&second.v6.to_string()])),
        (
            QuestionKind::Txt,
            texts(&["composition=shop", "version=2", "instance=2.web"]),
        ),
    ];
    assert_eq!(found, expected);
}

#[test]
fn number_that_no_instance_has_does_not_exist_and_no_number_has_two_forms() {
    for kind in ALL {
        for (name, error) in [
            ("4.web.matrix", ExtendedError::NO_SUCH_INSTANCE),
            ("4294967296.web.matrix", ExtendedError::NOT_FOR_CALLER),
            ("0.web.matrix", ExtendedError::NOT_FOR_CALLER),
            ("02.web.matrix", ExtendedError::NOT_FOR_CALLER),
            ("2.2.web.matrix", ExtendedError::NOT_FOR_CALLER),
            ("2.secret.matrix", ExtendedError::NOT_FOR_CALLER),
        ] {
            let denied = Answer::NameError(Zone::SERVICES, error);
            assert_eq!(ask(&snapshot(), name, kind, 0), denied, "{name}");
        }
    }
}

#[test]
fn instance_that_is_not_ready_exists_and_is_in_no_answer_of_its_service() {
    let mut web = service("web", Balance::RoundRobin, 2, &[7]);
    web.instances[1].ready = false;
    web.balancer = balancer(Balance::RoundRobin, 1..=1);
    let names = NamesSnapshot::new(plan(), [web]);
    let waits = Answer::NoData(Zone::SERVICES, Some(ExtendedError::NOT_READY));
    assert_eq!(ask(&names, "2.web.matrix", QuestionKind::A, 0), waits);
    for draw in 0..4 {
        let all = ask(&names, "web.matrix", QuestionKind::A, draw).records();
        assert_eq!(all, [instance(1).addresses.called.v4.to_string()]);
        let targets = ask(&names, "_http._tcp.web.matrix", QuestionKind::Srv, draw);
        assert_eq!(targets.records(), ["1.web.matrix:80 priority 0 weight 0"]);
    }
}

#[test]
fn first_of_two_instances_of_one_name_is_the_one_that_is_answered() {
    let mut web = service("web", Balance::RoundRobin, 2, &[7]);
    web.instances[1].ordinal = 1;
    let names = NamesSnapshot::new(plan(), [web]);
    let answered = ask(&names, "1.web.matrix", QuestionKind::A, 0).records();
    assert_eq!(answered, [instance(1).addresses.called.v4.to_string()]);
}

#[test]
fn service_tells_its_composition_and_version() {
    let found = ask(&snapshot(), "idle.matrix", QuestionKind::Txt, 0);
    assert_eq!(found.records(), ["composition=shop", "version=3"]);
}

#[test]
fn port_leads_to_every_ready_instance_with_its_addresses() {
    let found = ask(&snapshot(), "_http._tcp.web.matrix", QuestionKind::Srv, 0);
    let Answer::Targets(mut targets) = found else {
        panic!("{found:?}")
    };
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    let expected: Vec<_> = (1..=3)
        .map(|id| ServiceTarget {
            name: format!("{id}.web.matrix"),
            priority: 0,
            weight: 1,
            port: 80,
            called: instance(id).addresses.called,
        })
        .collect();
    assert_eq!(targets, expected);
    let idle = ask(&snapshot(), "_dns._udp.idle.matrix", QuestionKind::Srv, 0);
    let none_ready = Answer::NoData(Zone::SERVICES, Some(ExtendedError::NONE_READY));
    assert_eq!(idle, none_ready);
}

#[test]
fn ports_exist_as_declared_and_so_does_what_lies_above_them() {
    let no_data = Answer::NoData(Zone::SERVICES, None);
    let denied = |error| Answer::NameError(Zone::SERVICES, error);
    for (name, expected) in [
        ("_http._tcp.web.matrix", no_data.clone()),
        ("_tcp.web.matrix", no_data.clone()),
        ("_udp.web.matrix", no_data),
        ("_http._udp.web.matrix", denied(ExtendedError::NO_SUCH_PORT)),
        (
            "_gopher._tcp.web.matrix",
            denied(ExtendedError::NO_SUCH_PORT),
        ),
        (
            "http._tcp.web.matrix",
            denied(ExtendedError::NOT_FOR_CALLER),
        ),
        (
            "_http._sctp.web.matrix",
            denied(ExtendedError::NOT_FOR_CALLER),
        ),
        (
            "_http._tcp.secret.matrix",
            denied(ExtendedError::NOT_FOR_CALLER),
        ),
        ("_tcp.secret.matrix", denied(ExtendedError::NOT_FOR_CALLER)),
        ("_tcp.matrix", denied(ExtendedError::NOT_FOR_CALLER)),
    ] {
        assert_eq!(
            ask(&snapshot(), name, QuestionKind::A, 0),
            expected,
            "{name}"
        );
    }
}

#[test]
fn address_has_a_name_for_those_who_may_see_its_holder_and_for_itself() {
    let web = service("web", Balance::RoundRobin, 3, &[7]);
    let names = NamesSnapshot::new(plan(), [web]);
    let zones = [4, 14, 4, 14].map(|labels| Zone { labels });
    for (addr, zone) in addresses(instance(2)).into_iter().zip(zones) {
        let name = Answer::Pointer("2.web.matrix".to_owned());
        assert_eq!(holder(&names, addr, 7), name);
        assert_eq!(holder(&names, addr, 2), name, "its own");
        let hidden = Answer::NameError(zone, ExtendedError::NO_HOLDER);
        assert_eq!(holder(&names, addr, 1), hidden, "{addr} is a sibling's");
        assert_eq!(holder(&names, addr, 8), hidden, "{addr} is a stranger's");
    }
}

#[test]
fn reverse_zones_deny_what_nobody_holds_and_nothing_above_it() {
    let names = NamesSnapshot::new(plan(), [service("web", Balance::RoundRobin, 3, &[7])]);
    let v4 = Zone { labels: 4 };
    let apex = records(&names, "64.100.in-addr.arpa");
    let kinds: Vec<_> = apex.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [QuestionKind::Soa, QuestionKind::Ns]);
    let no_holder = Answer::NameError(v4, ExtendedError::NO_HOLDER);
    for (name, expected) in [
        ("9.9.64.100.in-addr.arpa", no_holder.clone()),
        ("256.9.64.100.in-addr.arpa", no_holder.clone()),
        ("09.9.64.100.in-addr.arpa", no_holder.clone()),
        ("+9.9.64.100.in-addr.arpa", no_holder.clone()),
        ("1.9.9.64.100.in-addr.arpa", no_holder),
        ("9.64.100.in-addr.arpa", Answer::NoData(v4, None)),
        ("64.100.in-addr.arpa", Answer::NoData(v4, None)),
    ] {
        assert_eq!(ask(&names, name, QuestionKind::Ptr, 0), expected, "{name}");
    }
    let held = reverse_name(instance(1).addresses.called.v4.into());
    assert_eq!(
        ask(&names, &held, QuestionKind::A, 0),
        Answer::NoData(v4, None)
    );
}

#[test]
fn reverse_zone_of_the_v6_prefix_begins_at_its_48th_bit() {
    let names = snapshot();
    let whole = reverse_name(instance(1).addresses.called.v6.into());
    let apex = whole.splitn(33 - 12, '.').last().unwrap();
    assert_eq!(apex.split('.').count(), 14);
    assert_eq!(
        ask(&names, apex, QuestionKind::Soa, 0),
        Answer::Authority(Zone { labels: 14 })
    );
    let (_, above) = apex.split_once('.').unwrap();
    let foreign = Answer::NameError(Zone::ROOT, ExtendedError::FOREIGN);
    assert_eq!(ask(&names, above, QuestionKind::Soa, 0), foreign);
    assert_eq!(holder(&names, "2001:db8::1".parse().unwrap(), 7), foreign);
    assert_eq!(holder(&names, "192.0.2.1".parse().unwrap(), 7), foreign);
}

#[test]
fn pool_of_odd_length_has_only_zones_that_are_wholly_its_own() {
    for (block, zone_labels) in [("10.0.0.0/8", 3), ("10.9.0.0/16", 4), ("10.9.8.0/29", 6)] {
        let plan = AddressPlan::new(&[7; 32], block.parse().unwrap());
        let names = NamesSnapshot::new(plan, []);
        let base = reverse_name(plan.v4_block().base().into());
        let labels: Vec<_> = base.split('.').collect();
        let apex = labels[labels.len() - zone_labels..].join(".");
        let zone = Zone {
            labels: u8::try_from(zone_labels).unwrap(),
        };
        let authority = Answer::Authority(zone);
        assert_eq!(
            ask(&names, &apex, QuestionKind::Soa, 0),
            authority,
            "{block}"
        );
    }
}

#[test]
fn host_sees_what_it_may_is_sent_elsewhere_for_the_rest_and_finds_its_server_itself() {
    let names = NamesSnapshot::new(
        plan(),
        [
            service("web", Balance::RoundRobin, 1, &[InstanceId::HOST.0]),
            service("store", Balance::RoundRobin, 1, &[7]),
        ],
    );
    let ask = |name: &str, kind| {
        let name = name.to_owned();
        answer(&names, InstanceId::HOST, &Question { name, kind }, 0)
    };
    let web = ask("web.matrix", QuestionKind::A).records();
    assert_eq!(web, [instance(1).addresses.called.v4.to_string()]);
    let hidden = Answer::NameError(Zone::SERVICES, ExtendedError::NOT_FOR_CALLER);
    assert_eq!(ask("store.matrix", QuestionKind::A), hidden);
    let elsewhere = Answer::Refused(ExtendedError::FOREIGN);
    assert_eq!(ask("example.com", QuestionKind::A), elsewhere);
    let nothing = Answer::NoData(Zone::SERVICES, None);
    assert_eq!(ask("matrix", QuestionKind::A), nothing);
    assert_eq!(ask("matrix", QuestionKind::Ns), Answer::NameServer(None));
}

#[test]
fn names_of_other_zones_are_asked_elsewhere_for_those_who_are_let_out_and_for_no_one_else() {
    let names = snapshot().with_outgoing([InstanceId(7)].into());
    for kind in ALL {
        assert_eq!(ask(&names, "example.com", kind, 0), Answer::Elsewhere);
        let public = "8.8.8.8.in-addr.arpa";
        assert_eq!(ask(&names, public, kind, 0), Answer::Elsewhere);
        let ours = ask(&names, "9.9.64.100.in-addr.arpa", kind, 0);
        let hidden = ask(&names, "secret.matrix", kind, 0);
        let short = ask(&names, "web", kind, 0);
        for inside in [ours, hidden, short] {
            assert!(matches!(inside, Answer::NameError(..)), "{inside:?}");
        }
    }
    let foreign = Answer::NameError(Zone::ROOT, ExtendedError::FOREIGN);
    let question = Question {
        name: "example.com".to_owned(),
        kind: QuestionKind::A,
    };
    assert_eq!(answer(&names, InstanceId(8), &question, 0), foreign);
}

proptest! {
    #[test]
    fn any_name_in_any_zone_gets_an_answer(
        name in "([a-f0-9_]{1,4}\\.){0,6}(web\\.matrix|in-addr\\.arpa|64\\.100\\.in-addr\\.arpa|ip6\\.arpa)",
    ) {
        for kind in ALL {
            if let Answer::NoData(zone, _) | Answer::NameError(zone, _) = ask(&snapshot(), &name, kind, 0) {
                prop_assert!(usize::from(zone.labels) <= name.split('.').count());
            }
        }
    }

    #[test]
    fn every_address_reads_back_from_its_name(v4: u32, v6: u128, held in 1u64..=3) {
        let names = snapshot();
        for addr in [IpAddr::from(v4.to_be_bytes()), IpAddr::from(v6.to_be_bytes())] {
            prop_assert!(!matches!(holder(&names, addr, 7), Answer::NoData(..)));
        }
        for addr in addresses(instance(held)) {
            prop_assert!(matches!(holder(&names, addr, held), Answer::Pointer(_)));
        }
    }
}

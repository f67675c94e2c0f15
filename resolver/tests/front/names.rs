//! Names end to end: who asks decides what exists, and the latest snapshot counts.

use crate::lab::{client_of, next_reply, query_for, resolver_over};
use arc_swap::ArcSwap;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use margay_core::address::{AddressPlan, InstanceAddresses, Ipv4Block, VirtualIp};
use margay_core::balance::{Balancer, Candidate};
use margay_core::composition::{Balance, Port};
use margay_core::id::{InstanceId, Version};
use margay_core::names::{Declaration, NamedInstance, NamedService, NamesSnapshot};
use margay_resolver::Limits;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;

const PERMITTED: InstanceId = InstanceId(0);

/// `web` with this many instances, open to one caller.
pub(crate) fn web(instances: u8) -> NamesSnapshot {
    web_for(PERMITTED, instances)
}

/// The same, for another caller to see.
pub(crate) fn web_for(caller: InstanceId, instances: u8) -> NamesSnapshot {
    let vip = |network: u8, last: u8| VirtualIp {
        v4: [100, network, 1, last].into(),
        v6: [0xfd4d, 0, 0, u16::from(network), 0, 0, 0, u16::from(last)].into(),
    };
    let instance = |last: u8| NamedInstance {
        instance: InstanceId(100 + u64::from(last)),
        ordinal: last.into(),
        version: Version(1),
        addresses: InstanceAddresses {
            called: vip(64, last),
            caller: vip(96, last),
        },
        ready: true,
    };
    let candidate = |last: u8| Candidate::idle(InstanceId(100 + u64::from(last)));
    let http = Port {
        port: 80,
        protocol: margay_core::composition::Transport::Tcp,
    };
    let plan = AddressPlan::new(&[0; 32], Ipv4Block::DEFAULT);
    let web = NamedService {
        name: "web".parse().unwrap(),
        balancer: Balancer::new(
            Balance::RoundRobin,
            (1..=instances).map(candidate).collect(),
        ),
        declaration: Arc::new(Declaration {
            composition: "shop".parse().unwrap(),
            version: Version(1),
            ports: [("http".to_owned(), http)].into(),
        }),
        vip: None,
        instances: (1..=instances).map(instance).collect(),
        callers: [caller].into(),
    };
    NamesSnapshot::new(plan, [web])
}

fn ask(client: &UdpSocket, name: &str, record_type: RecordType) -> Message {
    client.send(&query_for(1, name, record_type)).unwrap();
    next_reply(client)
}

#[test]
fn the_socket_says_who_asks_and_so_what_exists() {
    let names = Arc::new(ArcSwap::from_pointee(web(3)));
    let (_resolver, instances) = resolver_over(names, 2, Limits::default());
    let (permitted, other) = (client_of(&instances[0]), client_of(&instances[1]));

    for record_type in [RecordType::A, RecordType::AAAA] {
        let reply = ask(&permitted, "wEb.Matrix.", record_type);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert_eq!(reply.answers.len(), 3);
        assert!(
            reply
                .answers
                .iter()
                .all(|record| record.record_type() == record_type)
        );

        let reply = ask(&other, "wEb.Matrix.", record_type);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert!(reply.answers.is_empty());
    }
    let reply = ask(&permitted, "web.matrix.", RecordType::MX);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.answers.is_empty());
    let reply = ask(&permitted, "2.1.64.100.in-addr.arpa.", RecordType::PTR);
    assert_eq!(reply.answers[0].data.to_string(), "2.web.matrix.");
    let reply = ask(&other, "2.1.64.100.in-addr.arpa.", RecordType::PTR);
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn a_new_snapshot_is_answered_from_at_the_next_query() {
    let names = Arc::new(ArcSwap::from_pointee(web(1)));
    let (_resolver, instances) = resolver_over(Arc::clone(&names), 1, Limits::default());
    let client = client_of(&instances[0]);
    assert_eq!(ask(&client, "web.matrix.", RecordType::A).answers.len(), 1);

    names.store(Arc::new(web(2)));

    assert_eq!(ask(&client, "web.matrix.", RecordType::A).answers.len(), 2);
}

#[test]
fn parallel_questions_for_both_families_each_see_every_instance_first() {
    const ROUNDS: u16 = 300;
    let names = Arc::new(ArcSwap::from_pointee(web(2)));
    let (_resolver, instances) = resolver_over(names, 1, Limits::default());
    let client = client_of(&instances[0]);

    let mut firsts: BTreeMap<String, u16> = BTreeMap::new();
    for id in 0..ROUNDS {
        client
            .send(&query_for(id, "web.matrix.", RecordType::A))
            .unwrap();
        client
            .send(&query_for(id, "web.matrix.", RecordType::AAAA))
            .unwrap();
        for _ in 0..2 {
            let first = next_reply(&client).answers[0].data.to_string();
            *firsts.entry(first).or_default() += 1;
        }
    }

    assert_eq!(firsts.len(), 4, "two instances in two families: {firsts:?}");
    assert!(
        firsts.values().all(|count| *count > ROUNDS / 3),
        "{firsts:?}"
    );
}

//! Statements and keys read back, and what is not one of them does not.

use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

const HERE: HostId = HostId::from_bytes([1; 32]);

fn any_identity() -> impl Strategy<Value = Identity> {
    let born_at = prop_oneof![Just(HERE), any::<[u8; 32]>().prop_map(HostId::from_bytes)];
    (born_at, any::<u64>()).prop_map(|(born_at, number)| Identity {
        born_at,
        number: InstanceId(number),
    })
}

fn any_vip() -> impl Strategy<Value = VirtualIp> {
    (any::<u32>(), any::<u128>()).prop_map(|(v4, v6)| VirtualIp {
        v4: Ipv4Addr::from_bits(v4),
        v6: Ipv6Addr::from_bits(v6),
    })
}

fn any_service() -> impl Strategy<Value = Service> {
    prop::sample::select(vec!["web", "a", "store-2"]).prop_map(|name| Service {
        composition: "shop".parse().unwrap(),
        automaton: name.parse().unwrap(),
    })
}

fn any_instance() -> impl Strategy<Value = Instance> {
    let ports = prop::collection::btree_map("[a-z]{1,15}", (any::<u16>(), any::<bool>()), 0..5);
    let numbers = any::<(u64, bool, u32, u32, u64, NonZeroU32, u32)>();
    (
        any_identity(),
        any_service(),
        any_vip(),
        any_vip(),
        ports,
        numbers,
    )
        .prop_map(|(identity, service, called, caller, ports, numbers)| {
            let (version, takes_flows, weight, flows, generation, ordinal, processor) = numbers;
            let port = |(name, (port, tcp))| {
                let protocol = if tcp { Transport::Tcp } else { Transport::Udp };
                (name, Port { port, protocol })
            };
            Instance {
                identity,
                service,
                ordinal,
                version: Version(version),
                addresses: InstanceAddresses { called, caller },
                ports: ports.into_iter().map(port).collect(),
                takes_flows,
                weight,
                flows,
                processor,
                generation: Generation(generation),
            }
        })
}

fn any_statement() -> impl Strategy<Value = Statement> {
    let credential = prop::collection::vec(any::<u8>(), 0..64);
    let vip = (any_service(), any_vip(), any::<u64>());
    let binding = (any_identity(), any::<u64>(), any::<[u8; 32]>());
    prop_oneof![
        credential.prop_map(|credential| Statement::Host { credential }),
        any_instance().prop_map(Statement::Instance),
        vip.prop_map(|(service, vip, version)| Statement::ServiceVip(ServiceVip {
            service,
            vip,
            version: Version(version),
        })),
        binding.prop_map(|(identity, generation, from)| Statement::Binding(Binding {
            identity,
            generation: Generation(generation),
            given_by: (generation > 1).then(|| GivenBy {
                from: HostId::from_bytes(from),
                transfer: Signed {
                    content: vec![1, 2],
                    signature: vec![3; 64],
                },
            }),
        })),
    ]
}

proptest! {
    #[test]
    fn statements_read_back(statement in any_statement()) {
        let key = statement.key();
        prop_assert_eq!(read_key(&HERE, &write_key(&HERE, &key)), Some(key.clone()));
        prop_assert_eq!(read_body(&key, &write_body(&statement)), Some(statement));
    }

    #[test]
    fn statement_about_one_thing_is_not_read_as_about_another(
        one in any_statement(), other in any_statement(),
    ) {
        let alike = std::mem::discriminant(&one) == std::mem::discriminant(&other);
        prop_assume!(!alike);
        prop_assert_eq!(read_body(&one.key(), &write_body(&other)), None);
    }

    #[test]
    fn any_bytes_are_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(key) = read_key(&HERE, &bytes) {
            prop_assert_eq!(write_key(&HERE, &key), bytes.clone());
            let _ = read_body(&key, &bytes);
        }
    }
}

#[test]
fn key_has_one_way_to_be_written() {
    let identity = Identity {
        born_at: HERE,
        number: InstanceId(3),
    };
    // The own host in full, where nothing would do.
    let whole = wire::Key {
        about: Some(wire::key::About::Instance(write_whole_identity(&identity))),
    };
    assert_eq!(read_key(&HERE, &whole.encode_to_vec()), None);
    let mut trailing = write_key(&HERE, &Key::Instance(identity));
    trailing.extend([0x98, 0x06, 0x01]);
    assert_eq!(read_key(&HERE, &trailing), None);
}

#[test]
fn statements_beyond_their_bounds_are_not_read() {
    let long = Statement::Host {
        credential: vec![0; CREDENTIAL_BYTES_MAX + 1],
    };
    assert_eq!(read_body(&Key::Host, &write_body(&long)), None);
    let identity = Identity {
        born_at: HERE,
        number: InstanceId(3),
    };
    let key = Key::Instance(identity);
    let written = |ports: Vec<wire::Port>, v4: usize| {
        let instance = wire::Instance {
            service: Some(wire::Service {
                composition: "shop".into(),
                automaton: "web".into(),
            }),
            called_v4: vec![0; v4],
            called_v6: vec![0; 16],
            caller_v4: vec![0; 4],
            caller_v6: vec![0; 16],
            ports,
            ordinal: 1,
            ..wire::Instance::default()
        };
        let content = Some(wire::body::Content::Instance(instance));
        read_body(&key, &wire::Body { content }.encode_to_vec())
    };
    let port = |name: &str, port, transport: wire::Transport| wire::Port {
        name: name.into(),
        port,
        transport: transport.into(),
    };
    let http = port("http", 80, wire::Transport::Tcp);
    assert!(written(vec![http.clone()], 4).is_some());
    assert!(written(vec![http; PORTS_MAX + 1], 4).is_none());
    assert!(written(vec![], 5).is_none());
    for wrong in [
        port("", 80, wire::Transport::Tcp),
        port(&"a".repeat(64), 80, wire::Transport::Tcp),
        port("http", 65_536, wire::Transport::Tcp),
        port("http", 80, wire::Transport::Unknown),
    ] {
        assert!(written(vec![wrong], 4).is_none());
    }
}

//! What must hold of the reply to any bytes: shared by the fuzz target and the corpus's replay.

use hickory_proto::op::Message;
use margay_core::address::{AddressPlan, InstanceAddresses, Ipv4Block, VirtualIp};
use margay_core::balance::{Balancer, Candidate};
use margay_core::composition::{Balance, Port};
use margay_core::id::{InstanceId, Version};
use margay_core::names::{Declaration, NamedInstance, NamedService, NamesSnapshot};
use margay_resolver::{Disposition, Outcome, Silence, Transport, reply};
use std::sync::{Arc, LazyLock};

/// May see `web`.
const PERMITTED: InstanceId = InstanceId(1);

/// Sees nothing.
const STRANGER: InstanceId = InstanceId(2);

static NAMES: LazyLock<NamesSnapshot> = LazyLock::new(|| {
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
    let candidate = |last: u8| Candidate {
        flows: u32::from(last),
        ..Candidate::idle(InstanceId(100 + u64::from(last)))
    };
    let http = Port {
        port: 80,
        protocol: margay_core::composition::Transport::Tcp,
    };
    let plan = AddressPlan::new(&[0; 32], Ipv4Block::DEFAULT);
    let web = NamedService {
        name: "web".parse().expect("a label"),
        balancer: Balancer::new(Balance::TwoChoices, (1..=9).map(candidate).collect()),
        declaration: Arc::new(Declaration {
            composition: "shop".parse().expect("a label"),
            version: Version(1),
            ports: [("http".to_owned(), http)].into(),
        }),
        vip: None,
        instances: (1..=9).map(instance).collect(),
        callers: [PERMITTED].into(),
    };
    NamesSnapshot::new(plan, [web])
});

/// Replies to `query` in every way and panics where a reply breaks a rule; returns what the
/// permitted caller got over UDP.
pub(crate) fn check(query: &[u8]) -> Disposition {
    for transport in [Transport::Tcp, Transport::Udp] {
        check_one(STRANGER, query, transport);
    }
    check_one(PERMITTED, query, Transport::Tcp);
    check_one(PERMITTED, query, Transport::Udp)
}

fn check_one(caller: InstanceId, query: &[u8], transport: Transport) -> Disposition {
    let mut out = Vec::new();
    let disposition = reply(&NAMES, caller, query, transport, 7, &mut out);
    let Disposition::Replied { outcome, truncated } = disposition else {
        assert!(out.is_empty());
        assert_ne!(disposition, Disposition::Silent(Silence::NotEncodable));
        return disposition;
    };
    assert!(out.len() <= 1232, "{} bytes", out.len());
    assert!(!truncated, "core's answers fit");
    assert_eq!(out[..2], query[..2], "the id");
    let parsed = Message::from_vec(&out).expect("a reply that parses");
    assert_ne!(u16::from(parsed.metadata.response_code), 5, "never REFUSED");
    if outcome == Outcome::Addresses {
        match parsed.queries[0].name.num_labels() {
            1 => assert_eq!(parsed.answers.len(), 1, "the zone's name server"),
            labels => {
                assert_eq!(caller, PERMITTED);
                // A service's own name, or one of its instances'.
                let expected = if labels == 2 { 8 } else { 1 };
                assert_eq!(parsed.answers.len(), expected);
            }
        }
    }
    disposition
}

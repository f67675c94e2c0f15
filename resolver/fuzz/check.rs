//! What must hold of the reply to any bytes: shared by the fuzz target and the corpus's replay.

use hickory_proto::op::Message;
use margay_core::address::VirtualIp;
use margay_core::composition::Balance;
use margay_core::id::InstanceId;
use margay_core::names::{NamedInstance, NamedService, NamesSnapshot};
use margay_resolver::{Disposition, Outcome, Silence, Transport, reply};
use std::sync::LazyLock;

/// May see `web`.
const PERMITTED: InstanceId = InstanceId(1);

/// Sees nothing.
const STRANGER: InstanceId = InstanceId(2);

static NAMES: LazyLock<NamesSnapshot> = LazyLock::new(|| {
    let instance = |last: u8| NamedInstance {
        instance: InstanceId(100 + u64::from(last)),
        called: VirtualIp {
            v4: [100, 64, 1, last].into(),
            v6: [0xfd4d, 0, 0, 0, 0, 0, 0, u16::from(last)].into(),
        },
        load: u32::from(last),
    };
    let name = "web".parse().expect("a label");
    NamesSnapshot::new([NamedService {
        name,
        balance: Balance::TwoChoices,
        instances: (1..=9).map(instance).collect(),
        callers: [PERMITTED].into(),
    }])
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
        assert_eq!(caller, PERMITTED);
        assert_eq!(parsed.answers.len(), 8);
    }
    disposition
}

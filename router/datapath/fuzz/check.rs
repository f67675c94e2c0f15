//! What must hold of any bytes that reach the host link, as datagram or out of a seal: shared by the
//! fuzz target and the corpus's replay.

use margay_core::host::{HostId, OriginEpoch};
use margay_core::moment::Moment;
use margay_datapath::host_link::message::Message;
use margay_datapath::host_link::sealed::{Answer, Content, Opening, Statement, Verdict};
use margay_datapath::host_link::{
    HostLink, HostLinkConfig, HostLinkLimits, Input, LinkDrop, NetworkSecret, NoiseKey,
    NoisePrivateKey,
};
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};

thread_local! {
    static LINK: RefCell<HostLink> = RefCell::new(busy_link());
}

/// Reads `bytes` in every way; panics where a reading breaks a rule. Returns what they may be, in
/// words.
pub(crate) fn check(bytes: &[u8]) -> String {
    let mut read_as: Vec<&str> = Vec::new();
    match Message::parse(bytes) {
        Ok(message) => {
            assert_eq!(message.to_bytes(), bytes, "{message:?}");
            read_as.push(name(&message));
        }
        Err(reason) => read_as.push(reason.name()),
    }
    if let Some(opening) = Opening::parse(bytes) {
        assert_eq!(opening.to_bytes(), bytes, "{opening:?}");
        read_as.push("opening");
    }
    if let Some(answer) = Answer::parse(bytes) {
        assert_eq!(answer.to_bytes(), bytes, "{answer:?}");
        read_as.push(match answer.verdict {
            Verdict::Admitted(_) => "admission",
            Verdict::Refused(_) => "refusal",
        });
    }
    if let Some(content) = Content::parse(bytes) {
        assert_eq!(content.to_bytes(), bytes, "{content:?}");
        read_as.push(match content {
            Content::Payload(_) => "payload",
            Content::Echo(_) => "echo",
            Content::EchoAnswer(_) => "echo answer",
            Content::Farewell => "farewell",
        });
    }
    LINK.with_borrow_mut(|link| check_link(link, bytes));
    read_as.join(", ")
}

fn name(message: &Message<'_>) -> &'static str {
    match message {
        Message::Initiation { .. } => "initiation",
        Message::Response { .. } => "response",
        Message::CookieReply { .. } => "cookie reply",
        Message::EchoAnswer(_) => "keeper's answer",
        Message::Data { .. } => "data",
    }
}

/// Whoever knows no key gets nothing out of a link, not even an answer.
fn check_link(link: &mut HostLink, datagram: &[u8]) {
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let dropped = |link: &HostLink| {
        LinkDrop::ALL
            .iter()
            .map(|it| link.drops().of(*it))
            .sum::<u64>()
    };
    let before = dropped(link);
    let timeout = link.poll_timeout();
    link.handle_input(Input::Received { from, datagram }, Moment::ORIGIN);
    assert_eq!(link.poll_output(), None);
    assert_eq!(link.poll_timeout(), timeout);
    assert_eq!(dropped(link), before + 1, "a drop without a name");
}

/// A link that calls a peer.
fn busy_link() -> HostLink {
    let config = HostLinkConfig {
        private_key: NoisePrivateKey::from_bytes([1; 32]),
        network: NetworkSecret([2; 32]),
        epoch: OriginEpoch(1),
        introduction: Statement::default(),
        limits: HostLinkLimits::default(),
    };
    let mut link = HostLink::new(config, [3; 32], Moment::ORIGIN);
    let set = Input::SetPeer {
        host: HostId::from_bytes([4; 32]),
        noise_key: NoiseKey::from_bytes([9; 32]),
        addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 10))],
    };
    link.handle_input(set, Moment::ORIGIN);
    link.handle_timeout(Moment::ORIGIN);
    while link.poll_output().is_some() {}
    link
}

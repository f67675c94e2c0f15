//! What the rogue says of others in membership: that they have ended, in a life that they never had.

use margay_core::host::HostId;
use margay_core::wire::margay::membership as wire;
use prost::Message;

/// A datagram to whom `honest` goes, that says so of `victim`; `None` if that greets a host in whatever
/// life it is, as it is none then that the other takes further news in.
pub fn slander(honest: &[u8], victim: HostId) -> Option<Vec<u8>> {
    let heading = wire::Heading::decode_length_delimited(honest).expect("core wrote it");
    if let Some(wire::heading::Message::Announce(_)) = heading.message {
        return None;
    }
    let heading = wire::Heading {
        message: Some(wire::heading::Message::Gossip(wire::Nothing {})),
        ..heading
    };
    let last = wire::Member {
        host: victim.as_bytes().to_vec(),
        epoch: u64::MAX,
        renewal: u64::MAX,
    };
    let update = wire::Update {
        member: Some(last),
        incarnation: 0,
        state: wire::State::Down.into(),
    };
    let mut datagram = heading.encode_length_delimited_to_vec();
    datagram.extend(1u16.to_be_bytes());
    datagram.extend(update.encode_length_delimited_to_vec());
    Some(datagram)
}

//! One member as the failure detector knows it, and how its datagrams are written and read.

use crate::host::{HostId, OriginEpoch};
use crate::wire::margay::membership::heading::Message as WireMessage;
use crate::wire::margay::membership::{self as wire, Heading, Indirect, Nothing};
use foca::{Codec, Header, Message, State};
use prost::Message as _;
use prost::bytes::{Buf, BufMut};

/// The only form of datagrams so far.
const VERSION: u32 = 1;

/// A host in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pub(super) host: HostId,
    pub(super) epoch: OriginEpoch,
    /// How often it came back within the epoch, after others had held it for dead.
    pub(super) renewal: u64,
}

impl Member {
    pub(super) fn new(host: HostId, epoch: OriginEpoch) -> Self {
        Member {
            host,
            epoch,
            renewal: 0,
        }
    }
}

impl foca::Identity for Member {
    type Addr = HostId;

    fn renew(&self) -> Option<Self> {
        let renewal = self.renewal.checked_add(1)?;
        Some(Member { renewal, ..*self })
    }

    fn addr(&self) -> HostId {
        self.host
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.epoch, self.renewal) > (adversary.epoch, adversary.renewal)
    }
}

/// A datagram is not in the form that `proto/membership.proto` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the datagram has another form than expected")]
pub(super) struct Malformed;

/// Writes and reads as `proto/membership.proto` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireCodec;

impl Codec<Member> for WireCodec {
    type Error = Malformed;

    fn encode_header(
        &mut self,
        header: &Header<Member>,
        buf: impl BufMut,
    ) -> Result<(), Malformed> {
        write(&heading(header), buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Member>, Malformed> {
        let heading = Heading::decode_length_delimited(buf).map_err(|_| Malformed)?;
        if heading.version != VERSION {
            return Err(Malformed);
        }
        Ok(Header {
            src: member(heading.source)?,
            src_incarnation: small(heading.incarnation)?,
            dst: member(heading.destination)?,
            message: message(heading.message.ok_or(Malformed)?)?,
        })
    }

    fn encode_member(
        &mut self,
        update: &foca::Member<Member>,
        buf: impl BufMut,
    ) -> Result<(), Malformed> {
        let state = match update.state() {
            State::Alive => wire::State::Alive,
            State::Suspect => wire::State::Suspect,
            State::Down => wire::State::Down,
        };
        let update = wire::Update {
            member: Some(wire_member(update.id())),
            incarnation: update.incarnation().into(),
            state: state.into(),
        };
        write(&update, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<foca::Member<Member>, Malformed> {
        let update = wire::Update::decode_length_delimited(buf).map_err(|_| Malformed)?;
        let state = match update.state() {
            wire::State::Alive => State::Alive,
            wire::State::Suspect => State::Suspect,
            wire::State::Down => State::Down,
            wire::State::Unknown => return Err(Malformed),
        };
        let incarnation = small(update.incarnation)?;
        Ok(foca::Member::new(
            member(update.member)?,
            incarnation,
            state,
        ))
    }
}

/// Writes nothing at all if there is no room for all of it.
fn write(message: &impl prost::Message, mut buf: impl BufMut) -> Result<(), Malformed> {
    let written = message.encode_length_delimited(&mut buf);
    written.map_err(|_| Malformed)
}

fn heading(header: &Header<Member>) -> Heading {
    let indirect = |member: &Member, probe: &u8| Indirect {
        member: Some(wire_member(member)),
        probe: (*probe).into(),
    };
    let message = match &header.message {
        Message::Ping(probe) => WireMessage::Ping((*probe).into()),
        Message::Ack(probe) => WireMessage::Ack((*probe).into()),
        Message::PingReq {
            target,
            probe_number,
        } => WireMessage::PingRequest(indirect(target, probe_number)),
        Message::IndirectPing {
            origin,
            probe_number,
        } => WireMessage::IndirectPing(indirect(origin, probe_number)),
        Message::IndirectAck {
            target,
            probe_number,
        } => WireMessage::IndirectAck(indirect(target, probe_number)),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => WireMessage::ForwardedAck(indirect(origin, probe_number)),
        Message::Announce => WireMessage::Announce(Nothing {}),
        Message::Feed => WireMessage::Feed(Nothing {}),
        // We attach nothing of our own, so there is never a broadcast without updates.
        Message::Gossip | Message::Broadcast => WireMessage::Gossip(Nothing {}),
        Message::TurnUndead => WireMessage::TurnUndead(Nothing {}),
    };
    Heading {
        version: VERSION,
        source: Some(wire_member(&header.src)),
        incarnation: header.src_incarnation.into(),
        destination: Some(wire_member(&header.dst)),
        message: Some(message),
    }
}

fn message(message: WireMessage) -> Result<Message<Member>, Malformed> {
    let indirect = |it: Indirect| Ok((member(it.member)?, small(it.probe)?));
    Ok(match message {
        WireMessage::Ping(probe) => Message::Ping(small(probe)?),
        WireMessage::Ack(probe) => Message::Ack(small(probe)?),
        WireMessage::PingRequest(it) => {
            let (target, probe_number) = indirect(it)?;
            Message::PingReq {
                target,
                probe_number,
            }
        }
        WireMessage::IndirectPing(it) => {
            let (origin, probe_number) = indirect(it)?;
            Message::IndirectPing {
                origin,
                probe_number,
            }
        }
        WireMessage::IndirectAck(it) => {
            let (target, probe_number) = indirect(it)?;
            Message::IndirectAck {
                target,
                probe_number,
            }
        }
        WireMessage::ForwardedAck(it) => {
            let (origin, probe_number) = indirect(it)?;
            Message::ForwardedAck {
                origin,
                probe_number,
            }
        }
        WireMessage::Announce(Nothing {}) => Message::Announce,
        WireMessage::Feed(Nothing {}) => Message::Feed,
        WireMessage::Gossip(Nothing {}) => Message::Gossip,
        WireMessage::TurnUndead(Nothing {}) => Message::TurnUndead,
    })
}

fn wire_member(member: &Member) -> wire::Member {
    wire::Member {
        host: member.host.as_bytes().to_vec(),
        epoch: member.epoch.0,
        renewal: member.renewal,
    }
}

fn member(member: Option<wire::Member>) -> Result<Member, Malformed> {
    let member = member.ok_or(Malformed)?;
    let host = <[u8; 32]>::try_from(member.host).map_err(|_| Malformed)?;
    Ok(Member {
        host: HostId::from_bytes(host),
        epoch: OriginEpoch(member.epoch),
        renewal: member.renewal,
    })
}

fn small<T: TryFrom<u32>>(number: u32) -> Result<T, Malformed> {
    T::try_from(number).map_err(|_| Malformed)
}

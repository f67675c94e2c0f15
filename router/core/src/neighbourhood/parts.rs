//! Messages of the catalog in datagrams: one where it fits, else its parts.

use super::drops::NeighbourhoodDrop;
use crate::catalog::ANSWER_BYTES_MAX;
use crate::host::HostId;
use crate::moment::Moment;
use crate::wire::margay::neighbourhood as wire;
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The longest payload of the host link, less the byte that says its kind.
pub const DATAGRAM_BYTES_MAX: usize = 4_062;

/// What a part holds of its message: the rest of the datagram is enough for what stands before it.
const CONTENT_BYTES_MAX: usize = 4_000;

/// The most parts: those of the longest answer.
const PARTS_MAX: u32 = ANSWER_BYTES_MAX.div_ceil(CONTENT_BYTES_MAX) as u32;

/// Unfinished messages of one host: an answer, and what it publishes meanwhile.
const UNFINISHED_MAX: usize = 3;

/// What all parts that wait may hold: a few of the longest answers.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// After so long no further part comes.
const UNFINISHED_FOR: Duration = Duration::from_secs(5);

/// The only form of parts so far.
const VERSION: u32 = 1;

/// Which message of the catalog it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageKind {
    Gossip,
    Ask,
    Answer,
}

impl MessageKind {
    fn to_wire(self) -> wire::Kind {
        match self {
            MessageKind::Gossip => wire::Kind::Gossip,
            MessageKind::Ask => wire::Kind::Ask,
            MessageKind::Answer => wire::Kind::Answer,
        }
    }

    fn from_wire(kind: wire::Kind) -> Option<Self> {
        match kind {
            wire::Kind::Gossip => Some(MessageKind::Gossip),
            wire::Kind::Ask => Some(MessageKind::Ask),
            wire::Kind::Answer => Some(MessageKind::Answer),
            wire::Kind::Unknown => None,
        }
    }
}

/// The datagrams in which a message travels.
pub(super) fn split(
    kind: MessageKind,
    message: u64,
    bytes: &[u8],
) -> impl Iterator<Item = Vec<u8>> {
    let count = bytes.len().div_ceil(CONTENT_BYTES_MAX) as u32;
    (0..)
        .zip(bytes.chunks(CONTENT_BYTES_MAX))
        .map(move |(index, content)| {
            let part = wire::Part {
                version: VERSION,
                kind: kind.to_wire().into(),
                message,
                index,
                count,
                content: content.to_vec(),
            };
            part.encode_to_vec()
        })
}

/// A message of which parts are missing.
#[derive(Debug)]
struct Unfinished {
    kind: MessageKind,
    message: u64,
    count: u32,
    parts: BTreeMap<u32, Vec<u8>>,
    bytes: usize,
    began: Moment,
}

/// What came in parts.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// Of each host, the oldest message first.
    unfinished: BTreeMap<HostId, VecDeque<Unfinished>>,
    bytes: usize,
    /// Messages that were given up for later ones.
    pub(super) given_up: u64,
}

impl Assembly {
    /// Takes a datagram; the message that it completes.
    pub(super) fn take(
        &mut self,
        from: HostId,
        datagram: &[u8],
        now: Moment,
    ) -> Result<Option<(MessageKind, Vec<u8>)>, NeighbourhoodDrop> {
        let part = wire::Part::decode(datagram).map_err(|_| NeighbourhoodDrop::UnreadablePart)?;
        let kind = MessageKind::from_wire(part.kind());
        let kind = kind.ok_or(NeighbourhoodDrop::UnreadablePart)?;
        let sound = part.version == VERSION
            && part.index < part.count
            && part.count <= PARTS_MAX
            && (1..=CONTENT_BYTES_MAX).contains(&part.content.len());
        if !sound {
            return Err(NeighbourhoodDrop::UnreadablePart);
        }
        if part.count == 1 {
            return Ok(Some((kind, part.content)));
        }
        if self.bytes + part.content.len() > WAITING_BYTES_MAX {
            self.give_up_stale(now);
        }
        if self.bytes + part.content.len() > WAITING_BYTES_MAX {
            return Err(NeighbourhoodDrop::NoRoomForParts);
        }
        self.add(from, kind, part, now)
    }

    /// Forgets what came of a host.
    pub(super) fn forget(&mut self, host: &HostId) {
        let gone = self.unfinished.remove(host).into_iter().flatten();
        self.bytes -= gone.map(|message| message.bytes).sum::<usize>();
    }

    fn add(
        &mut self,
        from: HostId,
        kind: MessageKind,
        part: wire::Part,
        now: Moment,
    ) -> Result<Option<(MessageKind, Vec<u8>)>, NeighbourhoodDrop> {
        let messages = self.unfinished.entry(from).or_default();
        let known = messages.iter().position(|it| it.message == part.message);
        let place = known.unwrap_or(messages.len());
        if known.is_none() {
            messages.push_back(Unfinished {
                kind,
                message: part.message,
                count: part.count,
                parts: BTreeMap::new(),
                bytes: 0,
                began: now,
            });
        }
        let message = &mut messages[place];
        if (message.kind, message.count) != (kind, part.count) {
            return Err(NeighbourhoodDrop::UnreadablePart);
        }
        let bytes = part.content.len();
        if message.parts.contains_key(&part.index) {
            return Ok(None);
        }
        message.parts.insert(part.index, part.content);
        message.bytes += bytes;
        self.bytes += bytes;
        if message.parts.len() == message.count as usize {
            return Ok(messages.remove(place).map(|whole| self.finish(whole)));
        }
        if messages.len() > UNFINISHED_MAX {
            self.bytes -= messages.pop_front().map_or(0, |oldest| oldest.bytes);
            self.given_up += 1;
        }
        Ok(None)
    }

    fn finish(&mut self, message: Unfinished) -> (MessageKind, Vec<u8>) {
        self.bytes -= message.bytes;
        let parts: Vec<Vec<u8>> = message.parts.into_values().collect();
        (message.kind, parts.concat())
    }

    fn give_up_stale(&mut self, now: Moment) {
        let mut given_up = (0, 0);
        for messages in self.unfinished.values_mut() {
            messages.retain(|message| {
                let fresh = now.since(message.began) < UNFINISHED_FOR;
                if !fresh {
                    given_up.0 += 1;
                    given_up.1 += message.bytes;
                }
                fresh
            });
        }
        self.unfinished.retain(|_, messages| !messages.is_empty());
        self.given_up += given_up.0;
        self.bytes -= given_up.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HostId = HostId::from_bytes([1; 32]);

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at % 251) as u8).collect()
    }

    fn parts(message: u64, count: usize) -> Vec<Vec<u8>> {
        split(MessageKind::Answer, message, &bytes(count)).collect()
    }

    #[test]
    fn messages_come_together_in_whatever_order_their_parts_come() {
        for count in [
            1,
            CONTENT_BYTES_MAX,
            CONTENT_BYTES_MAX + 1,
            3 * CONTENT_BYTES_MAX,
        ] {
            let mut assembly = Assembly::default();
            let sent = parts(u64::MAX, count);
            assert!(sent.iter().all(|part| part.len() <= DATAGRAM_BYTES_MAX));
            let mut whole = None;
            for part in sent.iter().rev() {
                assert_eq!(whole, None, "not before the last one");
                whole = assembly.take(A, part, Moment::ORIGIN).unwrap();
            }
            assert_eq!(whole, Some((MessageKind::Answer, bytes(count))));
            assert_eq!(assembly.bytes, 0);
        }
    }

    #[test]
    fn the_longest_answer_has_as_many_parts_as_there_may_be() {
        let sent = parts(1, ANSWER_BYTES_MAX);
        assert_eq!(sent.len(), PARTS_MAX as usize);
    }

    #[test]
    fn unfinished_messages_give_way_to_later_ones() {
        let mut assembly = Assembly::default();
        for message in 0..10 {
            let first = &parts(message, 2 * CONTENT_BYTES_MAX)[0];
            assert_eq!(assembly.take(A, first, Moment::ORIGIN), Ok(None));
        }
        assert_eq!(assembly.bytes, UNFINISHED_MAX * CONTENT_BYTES_MAX);
        assert_eq!(assembly.given_up, 10 - UNFINISHED_MAX as u64);
        assembly.forget(&A);
        assert_eq!(assembly.bytes, 0);
    }

    #[test]
    fn many_hosts_take_no_more_room_than_there_is() {
        let mut assembly = Assembly::default();
        let sent = parts(1, ANSWER_BYTES_MAX);
        let mut refused = 0;
        for host in 0..20 {
            let host = HostId::from_bytes([host; 32]);
            for part in &sent[1..] {
                let taken = assembly.take(host, part, Moment::ORIGIN);
                refused += u32::from(taken == Err(NeighbourhoodDrop::NoRoomForParts));
            }
        }
        assert!(refused > 0 && assembly.bytes <= WAITING_BYTES_MAX);
        let later = Moment::ORIGIN + UNFINISHED_FOR;
        assert_eq!(assembly.take(A, &sent[0], later), Ok(None));
    }

    #[test]
    fn what_is_no_part_is_told_apart() {
        let mut assembly = Assembly::default();
        let sound = wire::Part {
            version: VERSION,
            kind: wire::Kind::Ask.into(),
            message: 1,
            index: 0,
            count: 1,
            content: vec![7],
        };
        let mut take = |change: fn(&mut wire::Part)| {
            let mut part = sound.clone();
            change(&mut part);
            assembly.take(A, &part.encode_to_vec(), Moment::ORIGIN)
        };
        assert!(take(|_| {}).is_ok());
        let wrong = Err(NeighbourhoodDrop::UnreadablePart);
        assert_eq!(take(|part| part.version = 2), wrong);
        assert_eq!(take(|part| part.kind = 0), wrong);
        assert_eq!(take(|part| part.index = 1), wrong);
        assert_eq!(take(|part| part.count = PARTS_MAX + 1), wrong);
        assert_eq!(take(|part| part.content.clear()), wrong);
    }
}

//! What the own host says: gathered for a moment, numbered, signed and published.

use super::compositions::SignedComposition;
use super::form::{read_body, read_host, write_body};
use super::read::read;
use super::record::{Draft, Record, Sum, VERSION};
use super::statement::{Key, Statement};
use super::{Catalog, CatalogDrop, CatalogOutput, Change};
use crate::host::{HostId, OriginEpoch};
use crate::moment::Moment;
use crate::wire::margay::catalog as wire;
use prost::Message;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long changes are gathered: a hundred instances that start together make one message, and
/// nobody feels the wait beside a second of gossip.
pub const FLUSH_AFTER: Duration = Duration::from_millis(20);

/// The longest message that is published: gossipsub's own default is 64 KiB.
pub const GOSSIP_BYTES_MAX: usize = 60 << 10;

/// How many records are signed at once, at some 20 µs each; the next follow after [`FLUSH_AFTER`].
const FLUSHED_AT_ONCE: usize = 500;

/// What protobuf writes before each record.
const RECORD_FRAME_BYTES: usize = 8;

/// What is to be said, each thing once; as many as the host has things to say.
#[derive(Debug, Default)]
pub(super) struct Pending {
    statements: BTreeMap<Key, Option<Statement>>,
    flush_at: Option<Moment>,
}

impl Pending {
    pub(super) fn due(&self) -> Option<Moment> {
        self.flush_at
    }

    fn put(&mut self, key: Key, statement: Option<Statement>, now: Moment) {
        self.statements.insert(key, statement);
        self.flush_at.get_or_insert(now + FLUSH_AFTER);
    }
}

impl Catalog {
    /// Says something soon, unless it is so already.
    pub(super) fn state(&mut self, statement: Statement, now: Moment) {
        let key = statement.key();
        // What others would not read is not said.
        if read_body(&key, &write_body(&statement)).as_ref() != Some(&statement) {
            self.count(CatalogDrop::Unreadable);
            return;
        }
        if self.written(&key).as_ref() == Some(&statement) {
            self.pending.statements.remove(&key);
            return;
        }
        self.pending.put(key, Some(statement), now);
    }

    /// Takes something back soon, if it was ever said.
    pub(super) fn take_back(&mut self, key: Key, now: Moment) {
        if self.written(&key).is_none() {
            self.pending.statements.remove(&key);
            return;
        }
        self.pending.put(key, None, now);
    }

    /// Takes a composition that came from outside, and publishes it.
    pub(super) fn apply(&mut self, composition: SignedComposition) {
        let wire = composition.to_wire();
        if self.take_composition(composition) {
            let gossip = wire::Gossip {
                version: VERSION,
                compositions: vec![wire],
                ..wire::Gossip::default()
            };
            // A longer one is found by repair.
            if gossip.encoded_len() <= GOSSIP_BYTES_MAX {
                self.publish(&gossip);
            }
        }
    }

    /// Takes a composition if it is news.
    pub(super) fn take_composition(&mut self, composition: SignedComposition) -> bool {
        match self.compositions.take(composition) {
            Ok(name) => {
                self.changes.insert(Change::Composition(name));
                true
            }
            Err(reason) => {
                self.count(reason);
                false
            }
        }
    }

    /// Says everything anew, in a later life.
    pub(super) fn begin_own_epoch(&mut self, epoch: OriginEpoch, now: Moment) {
        let host = self.host;
        let Some(own) = self.origins.get_mut(&host) else {
            return;
        };
        if epoch <= own.life.epoch {
            return;
        }
        let said = own.range(0, own.highest);
        let said = said.filter_map(|(_, it)| Record::read_again(&host, &it.wire).statement());
        let said: Vec<Statement> = said.collect();
        let void = own.begin_life(epoch, now);
        for stored in void {
            self.strike(&host, &stored, now);
        }
        for statement in said {
            let key = statement.key();
            if !self.pending.statements.contains_key(&key) {
                self.pending.put(key, Some(statement), now);
            }
        }
    }

    /// Signs and publishes what was gathered, if it is time.
    pub(super) fn flush(&mut self, now: Moment) {
        if self.pending.flush_at.is_none_or(|at| at > now) {
            return;
        }
        let mut gossip = self.empty_gossip();
        for _ in 0..FLUSHED_AT_ONCE {
            let Some((key, statement)) = self.pending.statements.pop_first() else {
                break;
            };
            match self.write(&key, statement.as_ref(), now) {
                Ok(wire) => {
                    let grown = gossip.encoded_len() + wire.len() + RECORD_FRAME_BYTES;
                    if grown > self.limits.published_bytes && !gossip.records.is_empty() {
                        self.publish(&gossip);
                        gossip = self.empty_gossip();
                    }
                    gossip.records.push(wire);
                }
                Err(reason) => self.count(reason),
            }
        }
        if !gossip.records.is_empty() {
            self.publish(&gossip);
        }
        let more = !self.pending.statements.is_empty();
        self.pending.flush_at = more.then_some(now + FLUSH_AFTER);
    }

    /// Hears what a host published.
    pub(super) fn hear(&mut self, bytes: &[u8], now: Moment) {
        let gossip = match read::<wire::Gossip>(bytes, GOSSIP_BYTES_MAX) {
            Ok(gossip) => gossip,
            Err(reason) => return self.count(reason),
        };
        if !gossip.records.is_empty() {
            match read_host(&gossip.origin) {
                Some(origin) => self.hear_records(&origin, &gossip.records, now),
                None => self.count(CatalogDrop::Unreadable),
            }
        }
        for composition in gossip.compositions {
            self.hear_composition(composition);
        }
    }

    /// Takes a composition that came from another host.
    pub(super) fn hear_composition(&mut self, composition: wire::SignedComposition) {
        match SignedComposition::from_wire(composition) {
            Some(composition) => {
                self.take_composition(composition);
            }
            None => self.count(CatalogDrop::Unreadable),
        }
    }

    fn hear_records(&mut self, origin: &HostId, records: &[Vec<u8>], now: Moment) {
        for record in records {
            if let Err(reason) = self.believe(origin, record, false, now) {
                self.count(reason);
            }
        }
    }

    /// Numbers, signs and believes one statement of this host.
    fn write(
        &mut self,
        key: &Key,
        statement: Option<&Statement>,
        now: Moment,
    ) -> Result<Vec<u8>, CatalogDrop> {
        let host = self.host;
        let own = &self.origins[&host];
        let place = (own.life.epoch, own.highest + 1);
        let draft = Draft::new(&host, place, key, statement);
        let before = own.about(&draft.key);
        let before = before.map_or(Sum::default(), |it| {
            Record::read_again(&host, &it.wire).part
        });
        let sum_after = own.sum.minus(before).plus(draft.part());
        let wire = draft.sign(&self.key, sum_after);
        let record = Record::open(&host, &wire)?;
        self.check_room(&host, &record, &wire)?;
        self.write_down(&host, record, &wire, now);
        Ok(wire)
    }

    /// What this host last wrote about `key`.
    fn written(&self, key: &Key) -> Option<Statement> {
        self.said(&self.host, key)
    }

    fn empty_gossip(&self) -> wire::Gossip {
        wire::Gossip {
            version: VERSION,
            origin: self.host.as_bytes().to_vec(),
            ..wire::Gossip::default()
        }
    }

    fn publish(&mut self, gossip: &wire::Gossip) {
        let bytes = gossip.encode_to_vec();
        debug_assert!(bytes.len() <= GOSSIP_BYTES_MAX);
        self.outputs.push_back(CatalogOutput::Publish { bytes });
    }
}

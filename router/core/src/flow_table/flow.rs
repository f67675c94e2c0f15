//! A flow, and what must be known to open one.

use super::age;
use super::pairs::Pair;
use crate::choice::Choice;
use crate::flow_key::FlowKey;
use crate::id::{InstanceId, LocationIndex};
use crate::moment::Moment;
use crate::port::{
    AdoptedFlow, DirectionEntry, FlowEntries, FlowSlots, SlotReading, SpentFlow, TakenFlow,
};
use crate::way::Ingress;
use std::time::Duration;

/// How long a connection's first segment may go unanswered before its server counts as silent: by
/// then it was repeated once (RFC 6298), and on one host an answer takes microseconds.
const UNANSWERED_AFTER: Duration = Duration::from_secs(1);

/// A flow to open.
#[derive(Clone, Copy, Debug)]
pub struct OpenRequest {
    /// The first packet as its sender wrote it.
    pub key: FlowKey,
    /// The same as its receiver shall see it; the source port may be moved on a collision.
    pub delivered: FlowKey,
    /// Who opens it.
    pub client: Party,
    /// Who serves it.
    pub server: Party,
    /// Why it is served by that one.
    pub choice: Choice,
    /// How many routers between the two hosts passed its first packet on.
    pub hops: u8,
}

/// One side of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// Who.
    pub instance: InstanceId,
    /// Where its packets come from.
    pub ingress: Ingress,
    /// Its location cell.
    pub location: LocationIndex,
}

impl OpenRequest {
    /// Both directions of the requested flow in the slots of `pair`.
    pub(super) fn entries(&self, delivered: FlowKey, pair: Pair) -> FlowEntries {
        let (client, server) = (self.client, self.server);
        FlowEntries {
            client: client.instance,
            server: server.instance,
            forward: DirectionEntry {
                key: self.key,
                delivered,
                slot: pair.forward(),
                ingress: client.ingress,
                location: server.location,
            },
            reverse: DirectionEntry {
                key: delivered.reversed(),
                delivered: self.key.reversed(),
                slot: pair.reverse(),
                ingress: server.ingress,
                location: client.location,
            },
        }
    }
}

/// An open flow.
#[derive(Clone, Debug)]
pub struct Flow {
    /// What the kernel executes.
    pub entries: FlowEntries,
    /// Why it has its server.
    pub choice: Choice,
    /// How many routers between the two hosts passed its first packet on, as far as this run knows.
    pub hops: u8,
    /// When it was opened.
    pub opened: Moment,
    /// Client to server, when last read.
    pub forward: SlotReading,
    /// Server to client, when last read.
    pub reverse: SlotReading,
    /// Its place in the queue of what to look at.
    pub(super) due: Moment,
    /// Since when it may have lived: closed connections' entries are used again by the next.
    pub(super) paced_from: Moment,
    /// Whether it is closed when due, whatever its counters say.
    pub(super) doomed: bool,
    /// Whether what its server made of it was told.
    pub(super) judged: bool,
}

impl Flow {
    /// Where the kernel counts it.
    pub fn slots(&self) -> FlowSlots {
        FlowSlots {
            forward_key: self.entries.forward.key,
            forward: self.entries.forward.slot,
            reverse: self.entries.reverse.slot,
        }
    }

    /// What the kernel must know to close it only if nothing passed since it was read.
    pub(super) fn spent(&self) -> SpentFlow {
        SpentFlow {
            keys: self.entries.keys(),
            forward: self.entries.forward.slot,
            reverse: self.entries.reverse.slot,
            read: (self.forward, self.reverse),
        }
    }

    /// The slots that it holds.
    pub(super) fn pair(&self) -> Pair {
        Pair::with(self.entries.forward.slot)
    }

    /// Whether its server answered it, for connections, as soon as that is certain.
    pub(super) fn answered(&self, now: Moment) -> Option<bool> {
        let (there, back) = (self.forward, self.reverse);
        let silent = there.packets > 0 && now.since(self.opened) >= UNANSWERED_AFTER;
        match back.packets {
            _ if !self.closes_by_itself() => None,
            0 => silent.then_some(false),
            // All that came back was a refusal.
            1 if back.rst_seen => Some(false),
            _ => Some(true),
        }
    }

    /// Whether `instance` opened it or serves it.
    pub(super) fn concerns(&self, instance: InstanceId) -> bool {
        self.entries.client == instance || self.entries.server == instance
    }

    /// A flow that nothing is known of but its entries.
    pub(super) fn new(entries: FlowEntries, choice: Choice, opened: Moment, now: Moment) -> Self {
        Flow {
            due: age::first_look(entries.forward.key.protocol, now),
            entries,
            choice,
            hops: 0,
            opened,
            forward: SlotReading::default(),
            reverse: SlotReading::default(),
            paced_from: opened,
            doomed: false,
            judged: false,
        }
    }

    /// A flow that the kernel opened, as it was read.
    pub(super) fn taken(taken: TakenFlow, now: Moment) -> Self {
        let AdoptedFlow { entries, opened } = taken.flow;
        Flow {
            forward: taken.forward,
            reverse: taken.reverse,
            ..Flow::new(entries, Choice::Aggregate, opened, now)
        }
    }
}

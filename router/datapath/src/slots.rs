//! Rows of the slot array: describing a direction of a flow to the kernel, and reading it back.

use crate::layout::{
    ForeignKey, RawKey, SLOT_CLOSING, SLOT_FORWARD, SLOT_REWRITE, Slot, TCP_SEEN_FIN, TCP_SEEN_RST,
};
use margay_core::flow_key::FlowKey;
use margay_core::id::{InstanceId, LocationIndex, SlotIndex};
use margay_core::moment::Moment;
use margay_core::port::{DirectionEntry, FlowEntries, SlotReading};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Which way a slot leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Client to server.
    Forward,
    /// Server to client.
    Reverse,
}

/// What a slot says of its flow, without what the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotDescription {
    location: u32,
    ingress_ifindex: u32,
    flags: u32,
    key_fold: u64,
    peer: u32,
    delivered: RawKey,
    client: u64,
    server: u64,
}

impl SlotDescription {
    /// Describes one direction of `entries`.
    pub(crate) fn new(entries: &FlowEntries, direction: Direction) -> Self {
        let (entry, peer, forward) = match direction {
            Direction::Forward => (&entries.forward, &entries.reverse, SLOT_FORWARD),
            Direction::Reverse => (&entries.reverse, &entries.forward, 0),
        };
        let rewrite = if entry.delivered == entry.key {
            0
        } else {
            SLOT_REWRITE
        };
        SlotDescription {
            location: entry.location.0,
            ingress_ifindex: entry.ingress_ifindex,
            flags: forward | rewrite,
            key_fold: RawKey::from(entry.key).fold(),
            peer: peer.slot.0,
            delivered: entry.delivered.into(),
            client: entries.client.0,
            server: entries.server.0,
        }
    }

    pub(crate) fn of(slot: &Slot) -> Self {
        SlotDescription {
            location: slot.location.load(Relaxed),
            ingress_ifindex: slot.ingress_ifindex.load(Relaxed),
            flags: slot.flags.load(Relaxed),
            key_fold: slot.key_fold.load(Relaxed),
            peer: slot.peer.load(Relaxed),
            delivered: slot.delivered(),
            client: slot.client.load(Relaxed),
            server: slot.server.load(Relaxed),
        }
    }

    /// Fills `slot`, which no key may name yet, and sets its counters to zero.
    pub(crate) fn write(self, slot: &Slot, opened: Moment) {
        slot.location.store(self.location, Relaxed);
        slot.ingress_ifindex.store(self.ingress_ifindex, Relaxed);
        slot.flags.store(self.flags, Relaxed);
        slot.tcp_seen.store(0, Relaxed);
        slot.packets.store(0, Relaxed);
        slot.bytes.store(0, Relaxed);
        slot.last_seen_ns.store(0, Relaxed);
        slot.key_fold.store(self.key_fold, Relaxed);
        slot.peer.store(self.peer, Relaxed);
        slot.set_delivered(self.delivered);
        slot.client.store(self.client, Relaxed);
        slot.server.store(self.server, Relaxed);
        slot.opened_ns.store(opened.as_nanos(), Relaxed);
    }

    pub(crate) fn direction(self) -> Direction {
        if self.flags & SLOT_FORWARD != 0 {
            Direction::Forward
        } else {
            Direction::Reverse
        }
    }

    /// The slot of the other direction.
    pub(crate) fn peer(self) -> SlotIndex {
        SlotIndex(self.peer)
    }

    /// Whether the row was written for `key`.
    pub(crate) fn belongs_to(self, key: RawKey) -> bool {
        self.key_fold == key.fold()
    }

    pub(crate) fn client(self) -> InstanceId {
        InstanceId(self.client)
    }

    pub(crate) fn server(self) -> InstanceId {
        InstanceId(self.server)
    }

    /// The packet as its receiver shall see it.
    pub(crate) fn delivered_key(self) -> Result<FlowKey, ForeignKey> {
        self.delivered.flow_key()
    }

    /// The direction as core writes it, given the `key` that names the slot.
    pub(crate) fn entry(self, key: FlowKey, slot: SlotIndex) -> Result<DirectionEntry, ForeignKey> {
        Ok(DirectionEntry {
            key,
            delivered: self.delivered_key()?,
            slot,
            ingress_ifindex: self.ingress_ifindex,
            location: LocationIndex(self.location),
        })
    }
}

/// Has packets that come from now on go up, since their flow is being closed.
pub(crate) fn mark_closing(slot: &Slot) {
    slot.flags.fetch_or(SLOT_CLOSING, SeqCst);
}

/// Takes the mark off a row whose flow stays.
pub(crate) fn unmark_closing(slot: &Slot) {
    slot.flags.fetch_and(!SLOT_CLOSING, SeqCst);
}

/// Whether no packet was counted since `read` was.
pub(crate) fn counts_only(slot: &Slot, read: &SlotReading) -> bool {
    slot.packets.load(SeqCst) == read.packets
}

/// Has a row count, as of a flow that was opened now, only what it counted since `read` was.
pub(crate) fn begin_anew(slot: &Slot, read: &SlotReading, now: Moment) {
    slot.packets.fetch_sub(read.packets, Relaxed);
    slot.bytes.fetch_sub(read.bytes, Relaxed);
    slot.opened_ns.store(now.as_nanos(), Relaxed);
    unmark_closing(slot);
}

/// What the kernel counted in `slot`.
pub(crate) fn read(slot: &Slot) -> SlotReading {
    let tcp_seen = slot.tcp_seen.load(Relaxed);
    SlotReading {
        packets: slot.packets.load(Relaxed),
        bytes: slot.bytes.load(Relaxed),
        last_seen: Moment::from_nanos(slot.last_seen_ns.load(Relaxed)),
        fin_seen: tcp_seen & TCP_SEEN_FIN != 0,
        rst_seen: tcp_seen & TCP_SEEN_RST != 0,
    }
}

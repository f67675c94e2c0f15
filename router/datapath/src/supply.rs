//! Slots that the kernel may open flows with by itself, and what became of them.

use crate::flow_maps::FlowMaps;
use crate::layout::{
    SUPPLIED_OPENED, SUPPLIED_UNUSED, SUPPLIED_WAITING, SUPPLY_MAX, Slot, SupplyRow,
};
use crate::mapped_array::MappedArray;
use margay_core::id::{InstanceId, SlotIndex};
use margay_core::port::{Supplied, TakenPair};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Looks at a pair that was just taken: some hundred microseconds, and the kernel needs two, unless
/// the host of a virtual machine stopped its CPU. The next look finds it then.
const LOOKS_MAX: usize = 10_000;

/// The queue of slots: user space fills it, the kernel takes from it.
#[derive(Debug)]
pub(crate) struct Supply {
    queue: MappedArray<SupplyRow>,
    /// Positions below were reported as taken.
    seen: u64,
}

impl Supply {
    /// Empties the queue that an earlier run filled.
    pub(crate) fn emptied(queue: MappedArray<SupplyRow>) -> Self {
        let supply = Supply { queue, seen: 0 };
        supply.row().granted.store(0, Release);
        supply
    }

    /// Begins anew. Programs that ran while the queue was emptied have ended: what they took was
    /// opened, and stands in the flow table.
    pub(crate) fn begin(&mut self) {
        let taken = self.row().taken.load(Acquire);
        self.row().granted.store(taken, Release);
        self.seen = taken;
    }

    /// Lets the kernel open flows with these pairs, named by their forward slots.
    pub(crate) fn grant(&self, flows: &FlowMaps, pairs: &[SlotIndex]) {
        let row = self.row();
        let granted = row.granted.load(Relaxed);
        let room = SUPPLY_MAX as u64 - (granted - self.seen);
        debug_assert!(pairs.len() as u64 <= room, "core keeps to the queue's room");
        for (position, pair) in (granted..).zip(pairs) {
            if let Some(slot) = flows.slots.row(pair.0) {
                slot.supplied.store(SUPPLIED_WAITING, Relaxed);
            }
            row.slots[position as usize % SUPPLY_MAX].store(pair.0, Relaxed);
        }
        row.granted.store(granted + pairs.len() as u64, Release);
    }

    /// Takes back what the kernel has not taken; [`Supply::taken`] tells of it.
    pub(crate) fn reclaim(&self, flows: &FlowMaps) {
        let row = self.row();
        let granted = row.granted.load(Relaxed);
        let all = |taken| (taken < granted).then_some(granted);
        let Ok(taken) = row.taken.fetch_update(AcqRel, Acquire, all) else {
            return;
        };
        for position in taken..granted {
            let pair = row.slots[position as usize % SUPPLY_MAX].load(Relaxed);
            if let Some(slot) = flows.slots.row(pair) {
                slot.supplied.store(SUPPLIED_UNUSED, Release);
            }
        }
    }

    /// What the kernel took since it was asked last, in order, without a system call.
    pub(crate) fn taken(&mut self, flows: &FlowMaps) -> Vec<TakenPair> {
        let mut all = Vec::new();
        let taken = self.row().taken.load(Acquire);
        while self.seen < taken {
            let pair = SlotIndex(self.row().slots[self.seen as usize % SUPPLY_MAX].load(Relaxed));
            let Some(slot) = flows.slots.row(pair.0) else {
                break;
            };
            let supplied = match settled(slot) {
                SUPPLIED_WAITING => break,
                SUPPLIED_OPENED => Supplied::Opened {
                    client: InstanceId(slot.client.load(Relaxed)),
                    server: InstanceId(slot.server.load(Relaxed)),
                },
                SUPPLIED_UNUSED => Supplied::Unused,
                _ => Supplied::Void,
            };
            all.push(TakenPair { pair, supplied });
            self.seen += 1;
        }
        all
    }

    fn row(&self) -> &SupplyRow {
        self.queue.row(0).expect("the array has one row")
    }
}

/// What became of a pair that was taken; for a moment the kernel may still be at it.
fn settled(slot: &Slot) -> u32 {
    let look = || slot.supplied.load(Acquire);
    let mut looks = std::iter::repeat_with(look).take(LOOKS_MAX);
    let settled = looks.find(|supplied| {
        std::hint::spin_loop();
        *supplied != SUPPLIED_WAITING
    });
    settled.unwrap_or(SUPPLIED_WAITING)
}

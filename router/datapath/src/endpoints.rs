//! Instances' attachments as the kernel knows them: addresses, devices, upcall credits.

use crate::flow_maps::is_absent;
use crate::layout::{Endpoint, raw_block};
use crate::mapped_array::MappedArray;
use aya::maps::{HashMap, MapData, MapError};
use margay_core::address::{InstanceAddresses, Ipv4Block};
use margay_core::id::{EndpointIndex, InstanceId};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// One instance's attachment to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Whose it is.
    pub instance: InstanceId,
    /// The host side of its veth.
    pub ifindex: u32,
    /// What it may send from.
    pub addresses: InstanceAddresses,
    /// The host's number for its network namespace; `None`: unknown, and every RST counts.
    pub netns_id: Option<u32>,
    /// How many of its first packets may wait for a decision at a time.
    pub upcall_quota: u32,
    /// The IPv4 pool, to all but which it may go by the host's routing; `None`: nowhere.
    pub leaves: Option<Ipv4Block>,
}

/// The map from device to endpoint, and the endpoints' rows.
#[derive(Debug)]
pub(crate) struct Endpoints {
    pub(crate) by_ifindex: HashMap<MapData, u32, u32>,
    pub(crate) rows: MappedArray<Endpoint>,
}

impl Endpoints {
    /// The device that `endpoint` is attached to.
    pub(crate) fn ifindex(&self, endpoint: EndpointIndex) -> Option<u32> {
        let ifindex = self.rows.row(endpoint.0)?.ifindex.load(Acquire);
        (ifindex != 0).then_some(ifindex)
    }

    /// Writes the row, then makes the device lead to it. A new tenant starts without debt.
    pub(crate) fn insert(
        &mut self,
        endpoint: EndpointIndex,
        config: &EndpointConfig,
    ) -> Result<(), MapError> {
        let row = self.rows.row(endpoint.0).ok_or(MapError::OutOfBounds {
            index: endpoint.0,
            max_entries: self.rows.len() as u32,
        })?;
        let InstanceAddresses { called, caller } = config.addresses;
        if row.instance.load(Relaxed) != config.instance.0 {
            settle(row);
        }
        row.set_addresses([
            called.v4.into(),
            caller.v4.into(),
            called.v6.into(),
            caller.v6.into(),
        ]);
        row.upcall_quota.store(config.upcall_quota, Relaxed);
        let netns = config.netns_id.map_or(0, |id| id + 1);
        row.netns.store(netns, Relaxed);
        let (pool, mask) = config.leaves.map_or((0, 0), raw_block);
        row.pool_mask.store(0, Relaxed);
        row.pool.store(pool, Release);
        row.pool_mask.store(mask, Release);
        row.instance.store(config.instance.0, Relaxed);
        row.ifindex.store(config.ifindex, Release);
        self.by_ifindex.insert(config.ifindex, endpoint.0, 0)
    }

    /// Frees the row and forgets its device.
    pub(crate) fn remove(&mut self, endpoint: EndpointIndex) -> Result<(), MapError> {
        let Some(ifindex) = self.ifindex(endpoint) else {
            return Ok(());
        };
        match self.by_ifindex.remove(&ifindex) {
            Err(error) if !is_absent(&error) => return Err(error),
            _ => {}
        }
        if let Some(row) = self.rows.row(endpoint.0) {
            row.ifindex.store(0, Release);
        }
        Ok(())
    }

    /// Every endpoint in use, with its instance and device.
    pub(crate) fn list(&self) -> Vec<(EndpointIndex, InstanceId, u32)> {
        let mut list = Vec::new();
        self.rows.each(|index, row| {
            let ifindex = row.ifindex.load(Acquire);
            if ifindex != 0 {
                let instance = InstanceId(row.instance.load(Relaxed));
                list.push((EndpointIndex(index), instance, ifindex));
            }
        });
        list
    }

    /// Returns one credit: user space is done with one upcalled packet.
    pub(crate) fn upcall_done(&self, endpoint: EndpointIndex) {
        if let Some(row) = self.rows.row(endpoint.0) {
            row.upcalls_done.fetch_add(1, Relaxed);
        }
    }

    /// Returns all credits: nothing of this endpoint waits any more.
    pub(crate) fn upcalls_reset(&self, endpoint: EndpointIndex) {
        if let Some(row) = self.rows.row(endpoint.0) {
            settle(row);
        }
    }

    /// How many packets the kernel handed up for this endpoint, ever.
    pub(crate) fn upcalls_sent(&self, endpoint: EndpointIndex) -> u64 {
        self.rows
            .row(endpoint.0)
            .map_or(0, |row| row.upcalls_sent.load(Relaxed))
    }
}

fn settle(row: &Endpoint) {
    let sent = row.upcalls_sent.load(Relaxed);
    row.upcalls_done.store(sent, Relaxed);
}

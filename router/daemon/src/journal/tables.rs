//! The journal's tables: what each record writes, and all that is read from them at a start.

use super::membership::{self, RecordedMembership};
use super::random;
use anyhow::{Context, Result};
use margay_core::address::InstanceAddresses;
use margay_core::composition::Composition;
use margay_core::host::HostId;
use margay_core::id::{InstanceId, LocationIndex};
use margay_core::name::AutomatonName;
use margay_core::peer::PeerLocation;
use margay_core::port::{InstancePlan, Record, RemovedInstance, ServiceVip};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What there is one of.
pub const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const COMPOSITIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("compositions");
const INSTANCES: TableDefinition<u64, &[u8]> = TableDefinition::new("instances");
/// Instances that an operator drained.
pub const DRAINED: TableDefinition<u64, ()> = TableDefinition::new("drained");
/// Addresses of removed instances, until their quarantine is over.
pub(super) const QUARANTINE: TableDefinition<u64, &[u8]> = TableDefinition::new("quarantine");
/// Virtual IPs of services themselves, held or given up lately.
pub const SERVICE_VIPS: TableDefinition<&str, &[u8]> = TableDefinition::new("service_vips");
/// Where other hosts are among the location cells, by their keys.
pub const PEERS: TableDefinition<[u8; 32], u32> = TableDefinition::new("peers");
/// The key from which the network's IPv6 prefix is drawn.
pub const NETWORK_KEY: &str = "network_key";
const HOST_TAG: &str = "host_tag";
/// One above every instance number ever used.
pub(super) const NEXT_INSTANCE: &str = "next_instance";
/// How long a removed instance's addresses are remembered; no shorter than core's quarantine.
const QUARANTINE_REMEMBERED: Duration = Duration::from_secs(3600);

/// What the journal held at start.
#[derive(Debug)]
pub struct Recorded {
    /// The key from which the network's IPv6 prefix is drawn.
    pub network_key: [u8; 32],
    /// Tells this host from others on the same machine.
    pub host_tag: u32,
    /// Applied compositions.
    pub compositions: Vec<Composition>,
    /// Instances that were made and not removed.
    pub instances: Vec<InstancePlan>,
    /// Those of them that an operator wants to take no new flow.
    pub drained: Vec<InstanceId>,
    /// One above every instance number ever used.
    pub next_instance: u64,
    /// Instances that were removed lately.
    pub quarantined: Vec<RemovedInstance>,
    /// Virtual IPs that services hold, or gave up lately.
    pub service_vips: Vec<ServiceVip>,
    /// Where other hosts are among the location cells.
    pub peers: Vec<PeerLocation>,
    /// The network that this host belongs to, if it does.
    pub membership: Option<RecordedMembership>,
}

/// An instance that was removed, and when.
#[derive(Debug, Serialize, Deserialize)]
struct Freed {
    automaton: AutomatonName,
    addresses: InstanceAddresses,
    unix_s: u64,
}

/// A service's virtual IP, and when it was given up.
#[derive(Debug, Serialize, Deserialize)]
struct Vip {
    v4: Ipv4Addr,
    freed_unix_s: Option<u64>,
}

/// Makes what is not there yet: the tables, and what a host draws once.
pub(super) fn make(transaction: &WriteTransaction) -> Result<()> {
    transaction.open_table(COMPOSITIONS)?;
    transaction.open_table(INSTANCES)?;
    transaction.open_table(QUARANTINE)?;
    let mut meta = transaction.open_table(META)?;
    if meta.get(NETWORK_KEY)?.is_none() {
        meta.insert(NETWORK_KEY, random::<32>()?.as_slice())?;
    }
    if meta.get(HOST_TAG)?.is_none() {
        meta.insert(HOST_TAG, random::<4>()?.as_slice())?;
    }
    Ok(())
}

/// Reads all that was recorded.
pub(super) fn read(transaction: &ReadTransaction) -> Result<Recorded> {
    let meta = transaction.open_table(META)?;
    let network_key = drawn(&meta, NETWORK_KEY)?;
    let tag = drawn(&meta, HOST_TAG)?;
    let next = meta
        .get(NEXT_INSTANCE)?
        .map(|v| decode(v.value()))
        .transpose()?;
    let mut recorded = Recorded {
        network_key,
        host_tag: u32::from_be_bytes(tag),
        compositions: Vec::new(),
        instances: Vec::new(),
        drained: Vec::new(),
        next_instance: next.unwrap_or(1),
        quarantined: Vec::new(),
        service_vips: Vec::new(),
        peers: Vec::new(),
        membership: membership::read(transaction)?,
    };
    for row in transaction.open_table(COMPOSITIONS)?.iter()? {
        recorded.compositions.push(decode(row?.1.value())?);
    }
    for row in transaction.open_table(INSTANCES)?.iter()? {
        recorded.instances.push(decode(row?.1.value())?);
    }
    for row in transaction.open_table(DRAINED)?.iter()? {
        recorded.drained.push(InstanceId(row?.0.value()));
    }
    for row in transaction.open_table(QUARANTINE)?.iter()? {
        let (instance, freed) = row?;
        let Freed {
            automaton,
            addresses,
            unix_s: freed_at,
        } = decode(freed.value())?;
        recorded.quarantined.push(RemovedInstance {
            instance: InstanceId(instance.value()),
            automaton,
            addresses,
            free_for: Duration::from_secs(unix_s().saturating_sub(freed_at)),
        });
    }
    for row in transaction.open_table(SERVICE_VIPS)?.iter()? {
        let (service, vip) = row?;
        let Vip { v4, freed_unix_s } = decode(vip.value())?;
        let since = |freed_at| Duration::from_secs(unix_s().saturating_sub(freed_at));
        recorded.service_vips.push(ServiceVip {
            service: service.value().parse()?,
            v4,
            free_for: freed_unix_s.map(since),
        });
    }
    for row in transaction.open_table(PEERS)?.iter()? {
        let (host, location) = row?;
        recorded.peers.push(PeerLocation {
            host: HostId::from_bytes(host.value()),
            location: LocationIndex(location.value()),
        });
    }
    Ok(recorded)
}

/// What this host drew once.
fn drawn<const N: usize>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<[u8; N]> {
    let drawn = meta.get(name)?;
    let drawn = drawn.with_context(|| format!("the journal holds no {name}"))?;
    let drawn = drawn.value().try_into();
    drawn.with_context(|| format!("the journal's {name} is not {N} bytes"))
}

/// Writes one record down.
pub(super) fn apply(transaction: &WriteTransaction, record: &Record) -> Result<()> {
    match record {
        Record::Composition(composition) => {
            let bytes = serde_json::to_vec(composition)?;
            transaction
                .open_table(COMPOSITIONS)?
                .insert(composition.name.as_str(), bytes.as_slice())?;
        }
        Record::CompositionDeleted(name) => {
            transaction
                .open_table(COMPOSITIONS)?
                .remove(name.as_str())?;
        }
        Record::Instance(plan) => {
            let bytes = serde_json::to_vec(plan)?;
            transaction
                .open_table(INSTANCES)?
                .insert(plan.instance.0, bytes.as_slice())?;
            let next = serde_json::to_vec(&(plan.instance.0 + 1))?;
            let mut meta = transaction.open_table(META)?;
            let known = meta
                .get(NEXT_INSTANCE)?
                .map(|v| decode::<u64>(v.value()))
                .transpose()?;
            if known.is_none_or(|known| known <= plan.instance.0) {
                meta.insert(NEXT_INSTANCE, next.as_slice())?;
            }
        }
        Record::Drained { instance, drained } => {
            let mut table = transaction.open_table(DRAINED)?;
            if *drained {
                table.insert(instance.0, ())?;
            } else {
                table.remove(instance.0)?;
            }
        }
        Record::InstanceRemoved { instance } => remove_instance(transaction, *instance)?,
        Record::ServiceVip { service, v4 } => {
            let held = Vip {
                v4: *v4,
                freed_unix_s: None,
            };
            record_vip(transaction, service, &held)?;
        }
        Record::ServiceVipFreed { service } => free_vip(transaction, service)?,
        Record::PeerLocation(peer) => {
            let mut peers = transaction.open_table(PEERS)?;
            peers.insert(peer.host.as_bytes(), peer.location.0)?;
        }
    }
    Ok(())
}

fn record_vip(transaction: &WriteTransaction, service: &AutomatonName, vip: &Vip) -> Result<()> {
    let bytes = serde_json::to_vec(vip)?;
    let mut vips = transaction.open_table(SERVICE_VIPS)?;
    vips.insert(service.as_str(), bytes.as_slice())?;
    Ok(())
}

fn free_vip(transaction: &WriteTransaction, service: &AutomatonName) -> Result<()> {
    let now = unix_s();
    let mut vips = transaction.open_table(SERVICE_VIPS)?;
    let remembered = |freed_at: u64| now.saturating_sub(freed_at) < QUARANTINE_REMEMBERED.as_secs();
    vips.retain(|_, bytes| {
        decode::<Vip>(bytes).is_ok_and(|vip| vip.freed_unix_s.is_none_or(remembered))
    })?;
    let held = vips.remove(service.as_str())?;
    let held = held.map(|bytes| decode::<Vip>(bytes.value())).transpose()?;
    drop(vips);
    match held {
        Some(Vip { v4, .. }) => {
            let freed_unix_s = Some(now);
            record_vip(transaction, service, &Vip { v4, freed_unix_s })
        }
        None => Ok(()),
    }
}

fn remove_instance(transaction: &WriteTransaction, instance: InstanceId) -> Result<()> {
    let mut instances = transaction.open_table(INSTANCES)?;
    transaction.open_table(DRAINED)?.remove(instance.0)?;
    let Some(plan) = instances.remove(instance.0)? else {
        return Ok(());
    };
    let plan: InstancePlan = decode(plan.value())?;
    let now = unix_s();
    let mut quarantine = transaction.open_table(QUARANTINE)?;
    quarantine.retain(|_, bytes| {
        decode::<Freed>(bytes)
            .is_ok_and(|freed| now.saturating_sub(freed.unix_s) < QUARANTINE_REMEMBERED.as_secs())
    })?;
    let freed = serde_json::to_vec(&Freed {
        automaton: plan.name.automaton,
        addresses: plan.addresses,
        unix_s: now,
    })?;
    quarantine.insert(instance.0, freed.as_slice())?;
    Ok(())
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).context("the journal holds a row that this version cannot read")
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

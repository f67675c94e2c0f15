//! The journal's tables of the network that this host belongs to.

use super::tables::{META, NEXT_INSTANCE, PEERS, QUARANTINE, SERVICE_VIPS, decode};
use anyhow::{Context, Result};
use margay_core::address::Ipv4Block;
use margay_core::admission::{IssuerRecord, NetworkId, Role};
use margay_core::composition::CompositionName;
use margay_core::host::{HostId, OriginEpoch};
use margay_core::name::{HostName, SitePath};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// What there is one of.
const MEMBERSHIP: TableDefinition<&str, &[u8]> = TableDefinition::new("membership");
/// What this host, as an issuer, gave out, in its order.
const ISSUED: TableDefinition<u64, &[u8]> = TableDefinition::new("issued");
/// Revocations in the order in which they were heard.
const REVOCATIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("revocations");
/// How other members introduced themselves last.
const INTRODUCTIONS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("introductions");
/// Compositions of the site, as their operators signed them.
const KEPT: TableDefinition<&str, &[u8]> = TableDefinition::new("kept");
const ENTRY: &str = "entry";
const CREDENTIAL: &str = "credential";
const EPOCH: &str = "epoch";

/// As what a host belongs to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which network.
    pub network: NetworkId,
    /// The host's name in it.
    pub name: HostName,
    /// Where it is.
    pub site: SitePath,
    /// What it does for others.
    pub roles: BTreeSet<Role>,
    /// Where its IPv4 addresses come from.
    pub block: Ipv4Block,
    /// What shows that it is an issuer, if it is.
    pub issuer: Option<Vec<u8>>,
    /// Whom it knows before it knows anybody else.
    pub sponsor: Option<Sponsor>,
}

/// The issuer that admitted this host, as the token said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sponsor {
    /// Which host.
    pub host: HostId,
    /// The key of its host link.
    pub link_key: [u8; 32],
    /// Where that listens.
    pub addresses: Vec<SocketAddr>,
}

/// What the journal held of the network at start.
#[derive(Clone, Debug)]
pub struct RecordedMembership {
    /// As what this host belongs to it.
    pub entry: Entry,
    /// What shows that it does.
    pub credential: Vec<u8>,
    /// What it gave out as an issuer.
    pub issued: Vec<IssuerRecord>,
    /// Who was taken out.
    pub revocations: Vec<Vec<u8>>,
    /// Other members.
    pub introductions: Vec<Vec<u8>>,
    /// Compositions of the site.
    pub kept: Vec<Vec<u8>>,
}

/// A change that must survive the daemon.
#[derive(Clone, Debug)]
pub enum MembershipRecord {
    /// This host belongs to a network from now on, with this credential; what was known of another
    /// is forgotten.
    Entered(Box<Entry>, Vec<u8>),
    /// Its credential is another from now on.
    Renewed(Vec<u8>),
    /// It gave something out as an issuer.
    Issued(IssuerRecord),
    /// It gave all this out as an issuer, and nothing else counts any more.
    IssuedInAll(Vec<IssuerRecord>),
    /// A host was taken out.
    Revoked(Vec<u8>),
    /// A member introduced itself.
    Introduced(HostId, Vec<u8>),
    /// A host is no member any more.
    Departed(HostId),
    /// A composition of the site is this from now on.
    Kept(CompositionName, Vec<u8>),
    /// This host's life is this one from now on.
    Epoch(OriginEpoch),
}

/// Makes the tables.
pub fn make(transaction: &WriteTransaction) -> Result<()> {
    transaction.open_table(MEMBERSHIP)?;
    transaction.open_table(ISSUED)?;
    transaction.open_table(REVOCATIONS)?;
    transaction.open_table(INTRODUCTIONS)?;
    transaction.open_table(KEPT)?;
    Ok(())
}

/// Reads what was recorded, if this host belongs to a network.
pub(super) fn read(transaction: &ReadTransaction) -> Result<Option<RecordedMembership>> {
    let membership = transaction.open_table(MEMBERSHIP)?;
    let Some(entry) = membership.get(ENTRY)? else {
        return Ok(None);
    };
    let credential = membership.get(CREDENTIAL)?;
    let credential = credential.context("the journal holds no credential")?;
    let mut recorded = RecordedMembership {
        entry: decode(entry.value())?,
        credential: credential.value().to_vec(),
        issued: Vec::new(),
        revocations: Vec::new(),
        introductions: Vec::new(),
        kept: Vec::new(),
    };
    for row in transaction.open_table(ISSUED)?.iter()? {
        recorded.issued.push(decode(row?.1.value())?);
    }
    for row in transaction.open_table(REVOCATIONS)?.iter()? {
        recorded.revocations.push(row?.1.value().to_vec());
    }
    for row in transaction.open_table(INTRODUCTIONS)?.iter()? {
        recorded.introductions.push(row?.1.value().to_vec());
    }
    for row in transaction.open_table(KEPT)?.iter()? {
        recorded.kept.push(row?.1.value().to_vec());
    }
    Ok(Some(recorded))
}

/// Writes one record down.
pub(super) fn apply(transaction: &WriteTransaction, record: &MembershipRecord) -> Result<()> {
    match record {
        MembershipRecord::Entered(entry, credential) => enter(transaction, entry, credential)?,
        MembershipRecord::Renewed(credential) => {
            let mut membership = transaction.open_table(MEMBERSHIP)?;
            membership.insert(CREDENTIAL, credential.as_slice())?;
        }
        MembershipRecord::Issued(issued) => {
            append(transaction, ISSUED, &serde_json::to_vec(issued)?)?;
        }
        MembershipRecord::IssuedInAll(all) => {
            transaction.delete_table(ISSUED)?;
            transaction.open_table(ISSUED)?;
            for issued in all {
                append(transaction, ISSUED, &serde_json::to_vec(issued)?)?;
            }
        }
        MembershipRecord::Revoked(revocation) => append(transaction, REVOCATIONS, revocation)?,
        MembershipRecord::Introduced(host, introduction) => {
            let mut introductions = transaction.open_table(INTRODUCTIONS)?;
            introductions.insert(host.as_bytes(), introduction.as_slice())?;
        }
        MembershipRecord::Departed(host) => {
            transaction
                .open_table(INTRODUCTIONS)?
                .remove(host.as_bytes())?;
        }
        MembershipRecord::Kept(composition, bytes) => {
            let mut kept = transaction.open_table(KEPT)?;
            kept.insert(composition.as_str(), bytes.as_slice())?;
        }
        MembershipRecord::Epoch(epoch) => {
            let mut membership = transaction.open_table(MEMBERSHIP)?;
            membership.insert(EPOCH, serde_json::to_vec(epoch)?.as_slice())?;
        }
    }
    Ok(())
}

/// Raises the number of this host's life.
pub(super) fn raise_epoch(transaction: &WriteTransaction, draw: u16) -> Result<OriginEpoch> {
    let mut membership = transaction.open_table(MEMBERSHIP)?;
    let last: Option<OriginEpoch> = membership
        .get(EPOCH)?
        .map(|epoch| decode(epoch.value()))
        .transpose()?;
    let epoch = last.unwrap_or_default().next(draw);
    membership.insert(EPOCH, serde_json::to_vec(&epoch)?.as_slice())?;
    Ok(epoch)
}

/// Addresses, numbers and other hosts of before mean something else in another network.
fn enter(transaction: &WriteTransaction, entry: &Entry, credential: &[u8]) -> Result<()> {
    transaction.delete_table(ISSUED)?;
    transaction.delete_table(REVOCATIONS)?;
    transaction.delete_table(INTRODUCTIONS)?;
    transaction.delete_table(KEPT)?;
    transaction.delete_table(QUARANTINE)?;
    transaction.delete_table(SERVICE_VIPS)?;
    transaction.delete_table(PEERS)?;
    make(transaction)?;
    transaction.open_table(QUARANTINE)?;
    transaction.open_table(SERVICE_VIPS)?;
    transaction.open_table(PEERS)?;
    transaction.open_table(META)?.remove(NEXT_INSTANCE)?;
    let mut membership = transaction.open_table(MEMBERSHIP)?;
    membership.insert(ENTRY, serde_json::to_vec(entry)?.as_slice())?;
    membership.insert(CREDENTIAL, credential)?;
    Ok(())
}

fn append(
    transaction: &WriteTransaction,
    table: TableDefinition<u64, &[u8]>,
    row: &[u8],
) -> Result<()> {
    let mut table = transaction.open_table(table)?;
    let next = table.last()?.map_or(0, |(last, _)| last.value() + 1);
    table.insert(next, row)?;
    Ok(())
}

//! A signed record: opened once when it comes in, kept as the bytes that were signed, and read again
//! when it is asked for.

use super::drops::CatalogDrop;
use super::form::{read_body, read_key, write_body, write_key};
use super::statement::{Key, Statement};
use crate::host::{HostId, OriginEpoch};
use crate::signature::{self, PrivateKey, Purpose, SignatureError};
use crate::wire::margay::catalog as wire;
use crate::wire::margay::signed::Signed;
use prost::Message;
use sha2::{Digest, Sha256};

/// What an origin signs.
pub(super) const RECORD: Purpose = Purpose("catalog record");

/// The only form of messages and records so far.
pub(super) const VERSION: u32 = 1;

/// The longest record, signature included: the longest credential fits twice.
pub const RECORD_BYTES_MAX: usize = 8_192;

/// The sum of records: the same at all hosts that have the same ones, in whatever order they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u128);

impl Sum {
    pub(super) fn plus(self, other: Sum) -> Sum {
        Sum(self.0.wrapping_add(other.0))
    }

    pub(super) fn minus(self, other: Sum) -> Sum {
        Sum(self.0.wrapping_sub(other.0))
    }

    /// The first half of SHA-256 of `parts`, which alone say where each of them ends.
    pub(super) fn of(parts: &[&[u8]]) -> Sum {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        let hash: [u8; 32] = hasher.finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        Sum(u128::from_le_bytes(half))
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Sum> {
        let bytes = <[u8; 16]>::try_from(bytes).ok()?;
        Some(Sum(u128::from_le_bytes(bytes)))
    }
}

/// What a record says, as far as it is understood here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// This.
    So(Statement),
    /// That what was said before about the key is no longer so.
    TakenBack,
    /// Something that is unknown here, or breaks a rule.
    Unread,
}

/// A record that was read.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) epoch: OriginEpoch,
    pub(super) sequence: u64,
    pub(super) key: Box<[u8]>,
    pub(super) said: Said,
    /// Of all that is so once this record is written.
    pub(super) sum_after: Sum,
    /// This record's own part of it.
    pub(super) part: Sum,
}

impl Record {
    /// Where `bytes` says that it stands among its origin's records; nobody has vouched for it yet.
    pub(super) fn place(bytes: &[u8]) -> Result<(OriginEpoch, u64), CatalogDrop> {
        let (_, record) = split(bytes)?;
        Ok((OriginEpoch(record.epoch), record.sequence))
    }

    /// Checks that `origin` signed `bytes`, and reads them.
    pub(super) fn open(origin: &HostId, bytes: &[u8]) -> Result<Record, CatalogDrop> {
        let (signed, _) = split(bytes)?;
        let record: wire::Record =
            signature::open(RECORD, origin, &signed).map_err(|error| match error {
                SignatureError::Forged => CatalogDrop::Forged,
                SignatureError::Unreadable => CatalogDrop::Unreadable,
            })?;
        read(origin, record)
    }

    /// Reads what was opened when it came in.
    pub(super) fn read_again(origin: &HostId, bytes: &[u8]) -> Record {
        let record = split(bytes).and_then(|(_, record)| read(origin, record));
        record.expect("kept only after it was read")
    }

    /// What it says, if it can be understood.
    pub(super) fn statement(self) -> Option<Statement> {
        match self.said {
            Said::So(statement) => Some(statement),
            Said::TakenBack | Said::Unread => None,
        }
    }
}

/// What an origin writes next.
pub(super) struct Draft {
    pub(super) epoch: OriginEpoch,
    pub(super) sequence: u64,
    pub(super) key: Vec<u8>,
    /// None to take back.
    pub(super) body: Option<Vec<u8>>,
}

impl Draft {
    /// About `key`: `statement`, or that it is no longer so.
    pub(super) fn new(
        origin: &HostId,
        (epoch, sequence): (OriginEpoch, u64),
        key: &Key,
        statement: Option<&Statement>,
    ) -> Self {
        Draft {
            epoch,
            sequence,
            key: write_key(origin, key),
            body: statement.map(write_body),
        }
    }

    /// Its part of the sum.
    pub(super) fn part(&self) -> Sum {
        part(self.sequence, &self.key, self.body.as_deref())
    }

    /// Signs it, with the sum of all that is so then.
    pub(super) fn sign(self, key: &PrivateKey, sum_after: Sum) -> Vec<u8> {
        let record = wire::Record {
            version: VERSION,
            epoch: self.epoch.0,
            sequence: self.sequence,
            key: self.key,
            body: self.body,
            digest: sum_after.to_bytes(),
        };
        key.sign(RECORD, &record).encode_to_vec()
    }
}

/// The key of a record that was opened when it came in.
pub(super) fn key(bytes: &[u8]) -> Box<[u8]> {
    let record = split(bytes).map(|(_, record)| record.key.into_boxed_slice());
    record.expect("kept only after it was read")
}

fn split(bytes: &[u8]) -> Result<(Signed, wire::Record), CatalogDrop> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(CatalogDrop::TooLong);
    }
    let unreadable = |_| CatalogDrop::Unreadable;
    let signed = Signed::decode(bytes).map_err(unreadable)?;
    let record = wire::Record::decode(signed.content.as_slice()).map_err(unreadable)?;
    if record.version != VERSION {
        return Err(CatalogDrop::UnknownVersion);
    }
    Ok((signed, record))
}

fn read(origin: &HostId, record: wire::Record) -> Result<Record, CatalogDrop> {
    let sum_after = Sum::from_bytes(&record.digest).ok_or(CatalogDrop::Unreadable)?;
    if record.sequence == 0 {
        return Err(CatalogDrop::Unreadable);
    }
    let body = record.body.as_deref();
    let said = match (read_key(origin, &record.key), body) {
        (_, None) => Said::TakenBack,
        (None, Some(_)) => Said::Unread,
        (Some(key), Some(body)) => read_body(&key, body).map_or(Said::Unread, Said::So),
    };
    Ok(Record {
        epoch: OriginEpoch(record.epoch),
        sequence: record.sequence,
        said,
        sum_after,
        part: part(record.sequence, &record.key, body),
        key: record.key.into_boxed_slice(),
    })
}

fn part(sequence: u64, key: &[u8], body: Option<&[u8]>) -> Sum {
    let Some(body) = body else {
        return Sum::default();
    };
    let key_bytes = u64::try_from(key.len()).unwrap_or(u64::MAX);
    Sum::of(&[&sequence.to_be_bytes(), &key_bytes.to_be_bytes(), key, body])
}

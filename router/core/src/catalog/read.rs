//! How messages come in: bounded, and of a version that is known here.

use super::drops::CatalogDrop;
use super::record::VERSION;
use crate::wire::margay::catalog::{Answer, Ask, Gossip};
use prost::Message;

/// A message that says its version.
pub(super) trait Versioned: Message + Default {
    fn version(&self) -> u32;
}

impl Versioned for Gossip {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for Ask {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for Answer {
    fn version(&self) -> u32 {
        self.version
    }
}

/// Reads a message of at most `bytes_max`.
pub(super) fn read<M: Versioned>(bytes: &[u8], bytes_max: usize) -> Result<M, CatalogDrop> {
    if bytes.len() > bytes_max {
        return Err(CatalogDrop::TooLong);
    }
    let message = M::decode(bytes).map_err(|_| CatalogDrop::Unreadable)?;
    if message.version() != VERSION {
        return Err(CatalogDrop::UnknownVersion);
    }
    Ok(message)
}

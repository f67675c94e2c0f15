//! An instance in its host's own signed words: whoever passes them on can forge nothing.

use super::Catalog;
use super::drops::CatalogDrop;
use super::form::write_key;
use super::record::{Record, Said};
use super::statement::{Identity, Instance, Key, Statement};
use crate::host::{HostId, OriginEpoch};
use crate::name::AutomatonName;

/// An instance as the host where it runs signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedInstance {
    /// Whose words.
    pub origin: HostId,
    /// In which life of that host, and as which of its words; later ones are above earlier ones.
    pub spoken: (OriginEpoch, u64),
    /// What they say.
    pub instance: Instance,
    bytes: Box<[u8]>,
}

impl SignedInstance {
    /// Checks that `origin` said this, and that it speaks of an instance.
    pub fn open(origin: HostId, bytes: &[u8]) -> Result<Self, CatalogDrop> {
        SignedInstance::of(origin, Record::open(&origin, bytes)?, bytes)
    }

    /// The words, to be passed on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn of(origin: HostId, record: Record, bytes: &[u8]) -> Result<Self, CatalogDrop> {
        match record.said {
            Said::So(Statement::Instance(instance)) => Ok(SignedInstance {
                origin,
                spoken: (record.epoch, record.sequence),
                instance,
                bytes: bytes.into(),
            }),
            Said::So(_) | Said::TakenBack | Said::Unread => Err(CatalogDrop::Unread),
        }
    }
}

impl Catalog {
    /// What a host says of an instance, in its own words.
    pub fn signed_instance(&self, origin: &HostId, identity: Identity) -> Option<SignedInstance> {
        let key = write_key(origin, &Key::Instance(identity));
        let wire = &self.origins.get(origin)?.about(&key)?.wire;
        SignedInstance::of(*origin, Record::read_again(origin, wire), wire).ok()
    }

    /// The instances of `service` in this site, each in its host's own words; as
    /// [`instances_of`](Self::instances_of) finds them.
    pub fn signed_instances_of(&self, service: &AutomatonName) -> Vec<SignedInstance> {
        let found = self.instances_of(service).into_iter();
        let signed = found.filter_map(|(host, it)| self.signed_instance(&host, it.identity));
        signed.collect()
    }
}

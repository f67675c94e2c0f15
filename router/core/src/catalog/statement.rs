//! What a host says of itself in the catalog, one thing at a time.

use crate::address::{InstanceAddresses, VirtualIp};
use crate::composition::Port;
use crate::host::HostId;
use crate::id::{InstanceId, Version};
use crate::name::{AutomatonName, CompositionName};
use crate::wire::margay::signed::Signed;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// The most ports of one instance: a composition's own bound is no higher.
pub const PORTS_MAX: usize = 64;

/// The longest credential: a membership certificate with its issuers', several times over.
pub const CREDENTIAL_BYTES_MAX: usize = 4_096;

/// An instance wherever it is: the host where it was born, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Where it was born.
    pub born_at: HostId,
    /// Its number there, which is never used twice.
    pub number: InstanceId,
}

/// A service as a composition declares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// In which composition.
    pub composition: CompositionName,
    /// By which name.
    pub automaton: AutomatonName,
}

/// How often an identity was given to another host; only its holder raises it. 1 at birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// What a statement is about; of two statements of one host about one thing the later is so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The host itself.
    Host,
    /// An instance that runs on the host.
    Instance(Identity),
    /// A virtual IP of a service.
    ServiceVip(Service),
    /// The host's hold of an identity.
    Binding(Identity),
}

/// One thing that a host says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Who it is.
    Host {
        /// What it shows for it, opaque to the catalog; at most [`CREDENTIAL_BYTES_MAX`].
        credential: Vec<u8>,
    },
    /// An instance runs here.
    Instance(Instance),
    /// A service has a virtual IP.
    ServiceVip(ServiceVip),
    /// An identity is held here.
    Binding(Binding),
}

/// An instance of a service, as the host where it runs sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Which.
    pub identity: Identity,
    /// Of what.
    pub service: Service,
    /// Which of the service's, from 1 on.
    pub ordinal: NonZeroU32,
    /// Of which version of its composition.
    pub version: Version,
    /// Its addresses, which it keeps when it moves.
    pub addresses: InstanceAddresses,
    /// What others may call, by name; at most [`PORTS_MAX`].
    pub ports: BTreeMap<String, Port>,
    /// Whether it takes new flows: ready, and not withdrawn.
    pub takes_flows: bool,
    /// Its part beside those of its siblings.
    pub weight: u32,
    /// How many flows it serves.
    pub flows: u32,
    /// How much of the processor it uses, in thousandths of a core.
    pub processor: u32,
    /// Under which generation it runs.
    pub generation: Generation,
}

/// A virtual IP of a service itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceVip {
    /// Whose.
    pub service: Service,
    /// The address.
    pub vip: VirtualIp,
    /// The version of the composition that first asked for it.
    pub version: Version,
}

/// A host's hold of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Of which.
    pub identity: Identity,
    /// Since which move.
    pub generation: Generation,
    /// Who gave it, from generation 2 on.
    pub given_by: Option<GivenBy>,
}

/// The former holder of an identity, with its word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenBy {
    /// Who it was.
    pub from: HostId,
    /// Its signed word that the new holder holds it now.
    pub(super) transfer: Signed,
}

impl Statement {
    /// What it is about.
    pub fn key(&self) -> Key {
        match self {
            Statement::Host { .. } => Key::Host,
            Statement::Instance(instance) => Key::Instance(instance.identity),
            Statement::ServiceVip(vip) => Key::ServiceVip(vip.service.clone()),
            Statement::Binding(binding) => Key::Binding(binding.identity),
        }
    }
}

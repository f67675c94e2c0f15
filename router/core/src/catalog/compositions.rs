//! Compositions: signed by an operator, ordered by version, carried by any host and never hidden.

use super::drops::CatalogDrop;
use super::form::read_host;
use super::record::{Sum, VERSION};
use crate::composition::{Composition, CompositionName};
use crate::host::HostId;
use crate::id::Version;
use crate::name::HostName;
use crate::signature::{self, PrivateKey, Purpose, SignatureError};
use crate::wire::margay::catalog as wire;
use crate::wire::margay::signed::Signed;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// What an operator signs.
const COMPOSITION: Purpose = Purpose("composition");

/// The longest signed composition: a text's own bound is 1 MiB.
pub const COMPOSITION_BYTES_MAX: usize = (1 << 20) + 4_096;

/// The most compositions of a site, withdrawn ones too: an inventory of all of them is no longer
/// than the longest composition.
pub const COMPOSITIONS_MAX: usize = 4_096;

/// A version of a composition, or its withdrawal, with its operator's signature.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedComposition {
    /// Who signed.
    pub operator: HostId,
    signed: Signed,
}

impl SignedComposition {
    /// Signs a composition; `text` is what it was parsed from, `applied_at` where its automatons run
    /// for which it names no host.
    pub fn new(
        key: &PrivateKey,
        composition: &Composition,
        text: &str,
        applied_at: &HostName,
    ) -> Self {
        let composition = wire::Composition {
            version: VERSION,
            name: composition.name.to_string(),
            number: composition.version.0,
            text: Some(text.to_owned()),
            applied_at: applied_at.to_string(),
        };
        SignedComposition::sign(key, &composition)
    }

    /// Signs that a composition is no longer so: neither `version` nor any before it.
    pub fn withdrawal(key: &PrivateKey, name: &CompositionName, version: Version) -> Self {
        let withdrawal = wire::Composition {
            version: VERSION,
            name: name.to_string(),
            number: version.0,
            text: None,
            applied_at: String::new(),
        };
        SignedComposition::sign(key, &withdrawal)
    }

    /// Its bytes, as a host keeps them.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; whether the signature holds shows when a
    /// catalog takes it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        SignedComposition::from_wire(wire::SignedComposition::decode(bytes).ok()?)
    }

    pub(super) fn to_wire(&self) -> wire::SignedComposition {
        wire::SignedComposition {
            operator: self.operator.as_bytes().to_vec(),
            signed: self.signed.encode_to_vec(),
        }
    }

    pub(super) fn from_wire(composition: wire::SignedComposition) -> Option<Self> {
        Some(SignedComposition {
            operator: read_host(&composition.operator)?,
            signed: Signed::decode(composition.signed.as_slice()).ok()?,
        })
    }

    fn sign(key: &PrivateKey, composition: &wire::Composition) -> Self {
        SignedComposition {
            operator: key.public(),
            signed: key.sign(COMPOSITION, composition),
        }
    }
}

/// Of two words about one composition the higher is so: a withdrawal is above the version that it
/// ends, and below the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    version: Version,
    withdrawn: bool,
}

struct Held {
    rank: Rank,
    signed: SignedComposition,
    content: Sum,
    bytes: usize,
    /// The newest version that can be read here; none once it is withdrawn.
    read: Option<Arc<Composition>>,
}

/// The newest version of every composition.
#[derive(Default)]
pub(super) struct Compositions {
    pub(super) operators: BTreeSet<HostId>,
    held: BTreeMap<CompositionName, Held>,
    /// Tells two hosts with the same compositions.
    pub(super) sum: Sum,
    pub(super) bytes: usize,
}

impl Compositions {
    /// Takes a composition that is newer than what is here; says which.
    pub(super) fn take(
        &mut self,
        signed: SignedComposition,
    ) -> Result<CompositionName, CatalogDrop> {
        let bytes = signed.signed.content.len();
        if bytes > COMPOSITION_BYTES_MAX {
            return Err(CatalogDrop::TooLong);
        }
        let composition = self.open(&signed)?;
        let Ok(name) = composition.name.parse::<CompositionName>() else {
            return Err(CatalogDrop::Unreadable);
        };
        let rank = Rank {
            version: Version(composition.number),
            withdrawn: composition.text.is_none(),
        };
        let content = Sum::of(&[&signed.signed.content]);
        let known = self.held.get(&name);
        if let Some(known) = known.filter(|known| known.rank >= rank) {
            let same = known.rank > rank || known.content == content;
            return Err(match same {
                true => CatalogDrop::Known,
                false => CatalogDrop::TwoContents,
            });
        }
        if known.is_none() && self.held.len() >= COMPOSITIONS_MAX {
            return Err(CatalogDrop::TooManyCompositions);
        }
        let before = known.and_then(|known| known.read.clone());
        let read = match rank.withdrawn {
            true => None,
            false => read(&composition, &name).or(before),
        };
        let held = Held {
            rank,
            signed,
            content,
            bytes,
            read,
        };
        self.sum = self.sum.plus(part(&name, &held));
        self.bytes += bytes;
        if let Some(old) = self.held.insert(name.clone(), held) {
            self.sum = self.sum.minus(part(&name, &old));
            self.bytes -= old.bytes;
        }
        Ok(name)
    }

    /// The newest version of `name` that can be read here.
    pub(super) fn get(&self, name: &CompositionName) -> Option<&Arc<Composition>> {
        self.held.get(name)?.read.as_ref()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Composition>> {
        self.held.values().filter_map(|held| held.read.as_ref())
    }

    /// The version that is so, and whether it is withdrawn.
    pub(super) fn rank(&self, name: &CompositionName) -> Option<(Version, bool)> {
        let rank = self.held.get(name)?.rank;
        Some((rank.version, rank.withdrawn))
    }

    /// What a host keeps over a restart.
    pub(super) fn signed(&self, name: &CompositionName) -> Option<&SignedComposition> {
        self.held.get(name).map(|held| &held.signed)
    }

    /// Which versions are here.
    pub(super) fn inventory(&self) -> wire::Inventory {
        let held = self.held.iter().map(|(name, held)| entry(name, held));
        wire::Inventory {
            held: held.collect(),
        }
    }

    /// Which versions are here whose names come behind `after`, in the order of their names.
    pub(super) fn held_after(&self, after: &str) -> impl Iterator<Item = wire::Held> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let held = self.held.range::<str, _>(behind);
        held.map(|(name, held)| entry(name, held))
    }

    /// Whether another content than `content`, or none, is here under `version`, and nothing later.
    pub(super) fn lacks(&self, name: &str, version: Version, content: &[u8]) -> bool {
        self.held.get(name).is_none_or(|held| {
            let other = held.content.to_bytes() != content;
            version > held.rank.version || version == held.rank.version && other
        })
    }

    /// What somebody with `inventory` lacks, and how long each is. Another content of a version is
    /// told too, so that both hosts see it and somebody hears of it.
    pub(super) fn lacking<'a>(
        &'a self,
        inventory: &wire::Inventory,
    ) -> impl Iterator<Item = (&'a SignedComposition, usize)> + use<'a> {
        let theirs = inventory.held.iter();
        let theirs: BTreeMap<String, (Version, Vec<u8>)> = theirs
            .map(|it| (it.name.clone(), (Version(it.version), it.content.clone())))
            .collect();
        let lacks = move |name: &CompositionName, held: &Held| {
            let theirs = theirs.get(name.as_str());
            theirs.is_none_or(|(version, content)| {
                let other = *content != held.content.to_bytes();
                *version < held.rank.version || *version == held.rank.version && other
            })
        };
        let lacking = self
            .held
            .iter()
            .filter(move |(name, held)| lacks(name, held));
        lacking.map(|(_, held)| (&held.signed, held.bytes))
    }

    fn open(&self, signed: &SignedComposition) -> Result<wire::Composition, CatalogDrop> {
        if !self.operators.contains(&signed.operator) {
            return Err(CatalogDrop::NotAnOperator);
        }
        let opened = signature::open(COMPOSITION, &signed.operator, &signed.signed);
        let composition: wire::Composition = opened.map_err(|error| match error {
            SignatureError::Forged => CatalogDrop::Forged,
            SignatureError::Unreadable => CatalogDrop::Unreadable,
        })?;
        if composition.version != VERSION {
            return Err(CatalogDrop::UnknownVersion);
        }
        Ok(composition)
    }
}

/// Reads a text that must say the same name and version as its envelope.
fn read(composition: &wire::Composition, name: &CompositionName) -> Option<Arc<Composition>> {
    let applied_at = composition.applied_at.parse().ok()?;
    let read = Composition::parse(composition.text.as_ref()?).ok()?;
    let same = read.name == *name && read.version.0 == composition.number;
    same.then(|| Arc::new(read.placed_at(&applied_at)))
}

fn entry(name: &CompositionName, held: &Held) -> wire::Held {
    wire::Held {
        name: name.to_string(),
        version: held.rank.version.0,
        content: held.content.to_bytes(),
    }
}

fn part(name: &CompositionName, held: &Held) -> Sum {
    Sum::of(&[&entry(name, held).encode_to_vec()])
}

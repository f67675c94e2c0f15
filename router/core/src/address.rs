//! The addresses of an identity, and the plan they are drawn from.

use crate::id::InstanceId;
use crate::service_id::ServiceId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Where an instance's DNS answers from: link-local (RFC 3927), so no pool can ever hold it, and the
/// same everywhere, so that a moved instance finds it.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 53);

/// One virtual IP in both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VirtualIp {
    /// The IPv4 half.
    pub v4: Ipv4Addr,
    /// The IPv6 half.
    pub v6: Ipv6Addr,
}

/// The addresses that an identity holds for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceAddresses {
    /// What others call.
    pub called: VirtualIp,
    /// What the instance calls from: the other half of each pool.
    pub caller: VirtualIp,
}

/// A block of IPv4 addresses: `100.64.0.0/10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Block {
    base: Ipv4Addr,
    prefix: u8,
}

/// Why a text or a pair is no block that a plan can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ipv4BlockError {
    /// Not `ADDRESS/LENGTH`.
    #[error("`{0}` is no block of IPv4 addresses; write ADDRESS/LENGTH, for example 100.64.0.0/10")]
    Form(String),
    /// Bits are set behind the prefix.
    #[error("{0}/{1} has bits behind its prefix; write {2}/{1}")]
    BitsBehindPrefix(Ipv4Addr, u8, Ipv4Addr),
    /// Too small to be halved, or larger than any private range.
    #[error("a block of /{0} cannot be used; choose a length from /{MIN} to /{MAX}",
        MIN = Ipv4Block::PREFIX_MIN, MAX = Ipv4Block::PREFIX_MAX)]
    Length(u8),
}

impl Ipv4Block {
    /// The shared address space (RFC 6598), which neither hosts nor home routers use.
    pub const DEFAULT: Ipv4Block = Ipv4Block {
        base: Ipv4Addr::new(100, 64, 0, 0),
        prefix: 10,
    };

    /// The largest block: no private range (RFC 1918) is larger.
    const PREFIX_MIN: u8 = 8;

    /// The smallest block: each half still has two addresses that are neither first nor last.
    const PREFIX_MAX: u8 = 29;

    /// Checks that `base` begins a block of length `prefix` that can be halved.
    pub fn new(base: Ipv4Addr, prefix: u8) -> Result<Self, Ipv4BlockError> {
        if !(Self::PREFIX_MIN..=Self::PREFIX_MAX).contains(&prefix) {
            return Err(Ipv4BlockError::Length(prefix));
        }
        let begin = Ipv4Addr::from_bits(base.to_bits() & (u32::MAX << (32 - prefix)));
        if begin != base {
            return Err(Ipv4BlockError::BitsBehindPrefix(base, prefix, begin));
        }
        Ok(Ipv4Block { base, prefix })
    }

    /// Its first address.
    pub fn base(self) -> Ipv4Addr {
        self.base
    }

    /// The length of its prefix, in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `addr` lies in it.
    pub fn contains(self, addr: Ipv4Addr) -> bool {
        (addr.to_bits() ^ self.base.to_bits()) >> (32 - self.prefix) == 0
    }

    /// Whether every address of `other` lies in it.
    pub fn covers(self, other: Ipv4Block) -> bool {
        other.prefix >= self.prefix && self.contains(other.base)
    }

    /// Whether any address lies in both.
    pub fn overlaps(self, other: Ipv4Block) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Its last address.
    pub fn last(self) -> Ipv4Addr {
        self.at(self.span())
    }

    /// The blocks of length `prefix` that it consists of, from the first on; none if they were
    /// larger than itself.
    pub fn parts(self, prefix: u8) -> impl DoubleEndedIterator<Item = Ipv4Block> {
        let whole = prefix >= self.prefix && prefix <= Self::PREFIX_MAX;
        let count = if whole {
            1 << (prefix - self.prefix)
        } else {
            0
        };
        let size = 1 << (32 - u32::from(prefix.max(1)));
        (0..count).map(move |index: u32| Ipv4Block {
            base: self.at(index * size),
            prefix,
        })
    }

    /// Its last address's distance from the first.
    fn span(self) -> u32 {
        u32::MAX >> self.prefix
    }

    fn at(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + number)
    }

    /// Both halves, the lower first.
    fn halves(self) -> [Ipv4Block; 2] {
        let prefix = self.prefix + 1;
        let upper = self.at(self.span() / 2 + 1);
        [self.base, upper].map(|base| Ipv4Block { base, prefix })
    }
}

impl fmt::Display for Ipv4Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Ipv4Block {
    type Err = Ipv4BlockError;
    fn from_str(text: &str) -> Result<Self, Ipv4BlockError> {
        let parts = text.split_once('/');
        let parsed = parts.and_then(|(base, prefix)| base.parse().ok().zip(prefix.parse().ok()));
        let (base, prefix) = parsed.ok_or_else(|| Ipv4BlockError::Form(text.to_owned()))?;
        Ipv4Block::new(base, prefix)
    }
}

impl TryFrom<String> for Ipv4Block {
    type Error = Ipv4BlockError;
    fn try_from(text: String) -> Result<Self, Ipv4BlockError> {
        text.parse()
    }
}

impl From<Ipv4Block> for String {
    fn from(block: Ipv4Block) -> String {
        block.to_string()
    }
}

/// Which addresses this host gives to its identities.
///
/// Called and caller addresses lie in different halves of each pool: all answers of one question
/// then share equally many leading bits with the asker's source address, so that clients which sort
/// by that (RFC 6724 rule 9) keep the order in which DNS gave them.
///
/// | IPv6 bits | content |
/// |---|---|
/// | 0..8 | `fd`: a unique local address (RFC 4193) |
/// | 8..48 | hash of the network's key |
/// | 48 | the half: 0 called, 1 caller |
/// | 49..64 | zero |
/// | 64..128 | hash of the identity: the host's IPv4 block and the instance's number, or the service |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPlan {
    /// Where called addresses come from: the lower half.
    pub v4_called: Ipv4Block,
    /// Where caller addresses come from: the upper half.
    pub v4_caller: Ipv4Block,
    /// The first address of the network's /48.
    pub v6: Ipv6Addr,
    /// What every identity's hash starts from.
    identity_key: [u8; 32],
    /// What every service's hash starts from: the same at all hosts of the network.
    service_key: [u8; 32],
}

/// The length of the network's IPv6 prefix, in bits.
pub(crate) const V6_PREFIX: u8 = 48;

/// The bit of an IPv6 address that is set in caller addresses: the subnet field's first.
const V6_CALLER: u128 = 1 << (127 - V6_PREFIX);

impl AddressPlan {
    /// Plans for a host that holds `v4_block` of the network whose key is `network_key`.
    pub fn new(network_key: &[u8; 32], v4_block: Ipv4Block) -> Self {
        let [v4_called, v4_caller] = v4_block.halves();
        let [a, b, c, d, e, ..] = hash("margay network prefix", &[network_key]);
        let block = v4_block.to_string();
        AddressPlan {
            v4_called,
            v4_caller,
            v6: Ipv6Addr::from_bits(u128::from_be_bytes([
                0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ])),
            identity_key: hash("margay identities", &[network_key, block.as_bytes()]),
            service_key: hash("margay services", &[network_key]),
        }
    }

    /// The IPv6 addresses of an identity: called, caller.
    pub fn v6_of(&self, instance: InstanceId) -> (Ipv6Addr, Ipv6Addr) {
        let number = instance.0.to_be_bytes();
        let called = self.hashed(hash("margay identity", &[&self.identity_key, &number]));
        (called.into(), (called | V6_CALLER).into())
    }

    /// The IPv6 address of a service itself; it is called only.
    pub fn v6_of_service(&self, service: ServiceId) -> Ipv6Addr {
        let service = hash("margay service", &[&self.service_key, service.as_bytes()]);
        self.hashed(service).into()
    }

    /// A called address by the first half of a hash.
    fn hashed(&self, hash: [u8; 32]) -> u128 {
        let [a, b, c, d, e, f, g, h, ..] = hash;
        self.v6.to_bits() | u128::from(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Whether `addr` lies in one of the halves.
    pub fn holds_v4(&self, addr: Ipv4Addr) -> bool {
        self.v4_called.contains(addr) || self.v4_caller.contains(addr)
    }

    /// Whether `addr` lies in the network's /48.
    pub fn holds_v6(&self, addr: Ipv6Addr) -> bool {
        (addr.to_bits() ^ self.v6.to_bits()) >> (128 - V6_PREFIX) == 0
    }

    /// The whole block, both halves together.
    pub fn v4_block(&self) -> Ipv4Block {
        Ipv4Block {
            base: self.v4_called.base,
            prefix: self.v4_called.prefix - 1,
        }
    }

    /// How many identities have IPv4 addresses; they are numbered from 1.
    ///
    /// The first and the last address of each half stay unused: much software takes them for a
    /// network's and for its broadcast address.
    pub(crate) fn identities_max(&self) -> u32 {
        self.v4_called.span() - 1
    }

    /// The IPv4 addresses of the `number`th identity: called, caller.
    pub(crate) fn v4_of(&self, number: u32) -> (Ipv4Addr, Ipv4Addr) {
        debug_assert!((1..=self.identities_max()).contains(&number));
        (self.v4_called.at(number), self.v4_caller.at(number))
    }

    /// The number that `addr` belongs to, in either half.
    pub(crate) fn number_of(&self, addr: Ipv4Addr) -> Option<u32> {
        let halves = [self.v4_called, self.v4_caller];
        let half = halves.into_iter().find(|half| half.contains(addr))?;
        Some(addr.to_bits() - half.base.to_bits())
    }
}

/// SHA-256 of a purpose and of parts of which only the last may vary in length.
pub(crate) fn hash(purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(purpose);
    hasher.update([0]);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn plan(block: &str) -> AddressPlan {
        AddressPlan::new(&[7; 32], block.parse().unwrap())
    }

    fn any_block() -> impl Strategy<Value = Ipv4Block> {
        (any::<u32>(), Ipv4Block::PREFIX_MIN..=Ipv4Block::PREFIX_MAX).prop_map(|(base, prefix)| {
            let base = base & (u32::MAX << (32 - prefix));
            Ipv4Block::new(base.into(), prefix).unwrap()
        })
    }

    #[test]
    fn default_block_is_halved_as_documented() {
        let plan = AddressPlan::new(&[0; 32], Ipv4Block::DEFAULT);
        assert_eq!(plan.v4_called.to_string(), "100.64.0.0/11");
        assert_eq!(plan.v4_caller.to_string(), "100.96.0.0/11");
        assert_eq!(plan.v4_block(), Ipv4Block::DEFAULT);
        assert_eq!(plan.identities_max(), (1 << 21) - 2);
    }

    /// Identities keep their addresses for life, so the hashes must never change.
    #[test]
    fn v6_addresses_are_pinned() {
        let (called, caller) = plan("100.64.0.0/10").v6_of(InstanceId(1));
        assert_eq!(called.to_string(), "fd84:cfa8:bcff:0:af13:10c2:bf62:37a3");
        assert_eq!(
            caller.to_string(),
            "fd84:cfa8:bcff:8000:af13:10c2:bf62:37a3"
        );
    }

    #[test]
    fn wrong_blocks_are_refused_with_what_to_write() {
        let error = |text: &str| text.parse::<Ipv4Block>().unwrap_err().to_string();
        assert!(error("100.64.0.0").contains("write ADDRESS/LENGTH"));
        assert!(error("100.64.0/10").contains("write ADDRESS/LENGTH"));
        assert!(error("100.65.0.0/10").contains("write 100.64.0.0/10"));
        for text in ["0.0.0.0/0", "10.0.0.0/7", "10.0.0.0/30", "10.0.0.0/32"] {
            assert!(error(text).contains("from /8 to /29"), "{text}");
        }
    }

    #[test]
    fn hosts_with_different_blocks_give_different_v6_addresses() {
        let (one, other) = (plan("100.64.0.0/16"), plan("100.65.0.0/16"));
        assert_eq!(one.v6, other.v6);
        assert_ne!(one.v6_of(InstanceId(1)), other.v6_of(InstanceId(1)));
    }

    #[test]
    fn different_identities_have_different_v6_addresses() {
        let plan = plan("100.64.0.0/10");
        let all: BTreeSet<_> = (0..10_000).map(|id| plan.v6_of(InstanceId(id))).collect();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn blocks_cover_their_parts_and_parts_do_not_overlap() {
        let block: Ipv4Block = "10.1.0.0/16".parse().unwrap();
        let parts: Vec<_> = block.parts(18).collect();
        let texts: Vec<_> = parts.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "10.1.0.0/18",
                "10.1.64.0/18",
                "10.1.128.0/18",
                "10.1.192.0/18"
            ]
        );
        for (index, part) in parts.iter().enumerate() {
            assert!(block.covers(*part) && !part.covers(block) && part.overlaps(block));
            let overlapping = parts.iter().filter(|other| other.overlaps(*part)).count();
            assert_eq!(overlapping, 1, "{index}");
        }
        assert_eq!(block.last(), Ipv4Addr::new(10, 1, 255, 255));
        assert_eq!(block.parts(16).collect::<Vec<_>>(), [block]);
        assert_eq!(block.parts(15).chain(block.parts(30)).count(), 0);
    }

    proptest! {
        #[test]
        fn all_called_addresses_tie_for_every_caller(
            block in any_block(), key in any::<[u8; 32]>(), asker in any::<u64>(), ids in any::<[u64; 2]>(),
        ) {
            let plan = AddressPlan::new(&key, block);
            let (_, source) = plan.v6_of(InstanceId(asker));
            let shared = |called: Ipv6Addr| (called.to_bits() ^ source.to_bits()).leading_zeros();
            for id in ids {
                prop_assert_eq!(shared(plan.v6_of(InstanceId(id)).0), 48);
            }
            let numbers = [1, plan.identities_max()];
            let (_, source) = plan.v4_of(numbers[asker as usize % 2]);
            for number in numbers {
                let called = plan.v4_of(number).0;
                let shared = (called.to_bits() ^ source.to_bits()).leading_zeros();
                prop_assert_eq!(shared, u32::from(block.prefix()));
            }
        }

        #[test]
        fn numbers_and_addresses_are_one_to_one(block in any_block(), draw in any::<u32>()) {
            let plan = AddressPlan::new(&[0; 32], block);
            let number = 1 + draw % plan.identities_max();
            let (called, caller) = plan.v4_of(number);
            prop_assert!(plan.v4_called.contains(called) && !plan.v4_called.contains(caller));
            prop_assert!(plan.v4_caller.contains(caller) && plan.holds_v4(called));
            prop_assert_eq!(plan.number_of(called), Some(number));
            prop_assert_eq!(plan.number_of(caller), Some(number));
        }

        #[test]
        fn blocks_read_back(block in any_block()) {
            prop_assert_eq!(block.to_string().parse(), Ok(block));
        }
    }
}

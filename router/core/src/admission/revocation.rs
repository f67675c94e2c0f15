//! Revocations: which hosts were taken out, as a set that hosts gossip.

use crate::admission::certificate::{
    CLOCK_LEEWAY, ISSUER_LIFETIME_MAX, IssuerCertificate, IssuerCredential,
    MEMBERSHIP_LIFETIME_MAX, Phase, Serial, host_from_wire, opened, same_network,
};
use crate::admission::network::NetworkId;
use crate::admission::refusal::{Refusal, VERSION, check_version};
use crate::host::HostId;
use crate::signature::{PrivateKey, Purpose};
use crate::wall_time::WallTime;
use crate::wire::margay::admission as wire;
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const REVOCATION: Purpose = Purpose("revocation");

/// The longest revocation, in bytes: two signatures, their contents, and room for later fields.
pub const REVOCATION_BYTES_MAX: usize = 400;

/// How many revocations are kept: a month's, of a network that loses a hundred hosts a day.
pub const REVOCATIONS_MAX: usize = 4_096;

/// Who signs a revocation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Signer<'a> {
    /// The root: what it takes out is an issuer no longer, either.
    Root,
    /// An issuer, with what shows that it is one.
    Issuer(&'a IssuerCredential),
}

/// That a host was taken out: all its certificates up to a serial are void.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revocation {
    /// Which host.
    pub host: HostId,
    /// Up to which certificate.
    pub serial_max: Serial,
    /// When.
    pub at: WallTime,
    /// By which issuer; `None` if by the root.
    pub issuer: Option<IssuerCertificate>,
    /// The very bytes, to be passed on.
    pub bytes: Vec<u8>,
}

impl Revocation {
    /// Takes out `host`: its certificates up to `known`, and all that clocks may have made by `now`.
    pub(super) fn sign(
        key: &PrivateKey,
        signer: Signer<'_>,
        network: NetworkId,
        host: HostId,
        known: Serial,
        now: WallTime,
    ) -> Revocation {
        let serial_max = known.max(Serial::at(now + CLOCK_LEEWAY));
        let revocation = wire::Revocation {
            network: network.root().as_bytes().to_vec(),
            host: host.as_bytes().to_vec(),
            serial_max: serial_max.0,
            at: now.as_unix_seconds(),
        };
        let issuer = match signer {
            Signer::Root => None,
            Signer::Issuer(credential) => Some(credential),
        };
        let message = wire::SignedRevocation {
            version: VERSION,
            revocation: Some(key.sign(REVOCATION, &revocation)),
            issuer: issuer.map(|credential| credential.0.clone()),
        };
        Revocation {
            host,
            serial_max,
            at: now,
            issuer: issuer.and_then(|credential| credential.open(network).ok()),
            bytes: message.encode_to_vec(),
        }
    }

    /// Checks that the root of `network`, or an issuer of it, signed, and reads it.
    fn open(bytes: &[u8], network: NetworkId) -> Result<Revocation, Refusal> {
        if bytes.len() > REVOCATION_BYTES_MAX {
            return Err(Refusal::Unreadable("a revocation of more than 400 bytes"));
        }
        let message = wire::SignedRevocation::decode(bytes);
        let message = message.map_err(|_| Refusal::Unreadable("a revocation"))?;
        check_version(message.version)?;
        let signed = message.revocation;
        let signed = signed.ok_or(Refusal::Unreadable("a revocation without content"))?;
        let issuer = message
            .issuer
            .map(|signed| IssuerCredential(signed).open(network));
        let issuer = issuer.transpose()?;
        let signer = issuer
            .as_ref()
            .map_or(network.root(), |issuer| &issuer.issuer);
        let content: wire::Revocation = opened(REVOCATION, signer, &signed)?;
        same_network(&content.network, network)?;
        Ok(Revocation {
            host: host_from_wire(&content.host)?,
            serial_max: Serial(content.serial_max),
            at: WallTime::from_unix_seconds(content.at),
            issuer,
            bytes: bytes.to_vec(),
        })
    }

    /// After when nothing that it makes void could still count.
    fn outdated_after(&self) -> WallTime {
        let longest = match self.issuer {
            Some(_) => MEMBERSHIP_LIFETIME_MAX,
            // A revoked issuer's members must stay out, too.
            None => ISSUER_LIFETIME_MAX + MEMBERSHIP_LIFETIME_MAX,
        };
        self.at + longest + CLOCK_LEEWAY * SIDES
    }
}

/// Whom a revocation is about, if it is one: gossip repeats itself, and a look spares a signature.
fn claimed_host(bytes: &[u8]) -> Option<HostId> {
    let message = wire::SignedRevocation::decode(bytes).ok()?;
    let content = wire::Revocation::decode(message.revocation?.content.as_slice()).ok()?;
    host_from_wire(&content.host).ok()
}

/// The leeway counts on both sides of a certificate.
const SIDES: u32 = 2;

/// What a revocation was to a host that it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something new, to be passed on and journalled.
    News,
    /// Nothing new.
    Known,
}

/// Why a revocation was ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// It is none of this network's.
    #[error("ignored a revocation: {0}")]
    Refused(#[from] Refusal),
    /// Its issuer could not issue when it signed.
    #[error("ignored a revocation by issuer {}, whose certificate did not count at {at}", .issuer.short())]
    IssuerNotValid {
        /// Who signed.
        issuer: HostId,
        /// When.
        at: WallTime,
    },
    /// Its issuer was itself taken out by the root.
    #[error("ignored a revocation by issuer {}, which the root revoked", .0.short())]
    IssuerRevoked(HostId),
    /// From a time that has not come.
    #[error("ignored a revocation of {0}, which has not come here; compare the clocks")]
    FromTheFuture(WallTime),
    /// Whatever it makes void has expired.
    #[error("ignored a revocation of {0}: what it takes out has expired since")]
    Outdated(WallTime),
    /// No room.
    #[error("ignored a revocation: {REVOCATIONS_MAX} are known, which is the most")]
    Full,
}

impl RevocationError {
    /// The name in counters and logs.
    pub fn name(&self) -> &'static str {
        match self {
            RevocationError::Refused(refusal) => refusal.reason().name(),
            RevocationError::IssuerNotValid { .. } => "issuer_not_valid",
            RevocationError::IssuerRevoked(_) => "issuer_revoked",
            RevocationError::FromTheFuture(_) => "from_the_future",
            RevocationError::Outdated(_) => "outdated",
            RevocationError::Full => "full",
        }
    }
}

/// Every revocation that may still matter.
///
/// It only grows, but for what is outdated and what a revoked issuer signed, so that hosts that
/// exchange theirs in any order come to know the same.
#[derive(Clone, Debug)]
pub struct Revocations {
    network: NetworkId,
    /// By host and by who signed, the root or an issuer: what a thief of one issuer's key signs
    /// stands beside what others said and not in its place.
    kept: BTreeMap<(HostId, HostId), Revocation>,
}

impl Revocations {
    /// Nobody was taken out of `network` yet.
    pub fn new(network: NetworkId) -> Self {
        Revocations {
            network,
            kept: BTreeMap::new(),
        }
    }

    /// Takes note of a revocation that came from anywhere.
    pub fn hear(&mut self, bytes: &[u8], now: WallTime) -> Result<Heard, RevocationError> {
        let host = claimed_host(bytes);
        if host.is_some_and(|host| self.of(&host).any(|known| known.bytes == bytes)) {
            return Ok(Heard::Known);
        }
        let revocation = Revocation::open(bytes, self.network)?;
        self.check(&revocation, now)?;
        let signer = revocation.issuer.as_ref();
        let signer = signer.map_or(*self.network.root(), |issuer| issuer.issuer);
        let key = (revocation.host, signer);
        let newer = |known: &Revocation| known.serial_max < revocation.serial_max;
        match self.kept.get(&key).map(newer) {
            Some(false) => return Ok(Heard::Known),
            None if self.kept.len() >= REVOCATIONS_MAX => return Err(RevocationError::Full),
            Some(true) | None => {}
        }
        if revocation.issuer.is_none() {
            self.forget_signed_by(&revocation);
        }
        self.kept.insert(key, revocation);
        Ok(Heard::News)
    }

    fn check(&self, revocation: &Revocation, now: WallTime) -> Result<(), RevocationError> {
        let at = revocation.at;
        if at > now + CLOCK_LEEWAY {
            return Err(RevocationError::FromTheFuture(at));
        }
        if revocation.outdated_after() < now {
            return Err(RevocationError::Outdated(at));
        }
        let Some(IssuerCertificate {
            issuer,
            serial,
            validity,
            ..
        }) = revocation.issuer
        else {
            return Ok(());
        };
        if validity.phase(at) != Phase::Current {
            return Err(RevocationError::IssuerNotValid { issuer, at });
        }
        match self.issuer_revoked(&issuer, serial) {
            Some(_) => Err(RevocationError::IssuerRevoked(issuer)),
            None => Ok(()),
        }
    }

    /// Forgets what an issuer signed that the root takes out: whoever stole its key could take out
    /// everyone.
    fn forget_signed_by(&mut self, revoked: &Revocation) {
        self.kept.retain(|_, other| {
            let issuer = other.issuer.as_ref();
            !issuer.is_some_and(|it| it.issuer == revoked.host && it.serial <= revoked.serial_max)
        });
    }

    /// Forgets what nobody needs any more.
    pub fn forget_outdated(&mut self, now: WallTime) {
        self.kept.retain(|_, known| known.outdated_after() >= now);
    }

    /// When the membership certificate of `serial` was made void, if it was.
    pub fn membership_revoked(&self, host: &HostId, serial: Serial) -> Option<WallTime> {
        let of_host = self.of(host).filter(|known| known.serial_max >= serial);
        of_host.map(|known| known.at).min()
    }

    /// When the root made the issuer's certificate of `serial` void, if it did.
    pub fn issuer_revoked(&self, issuer: &HostId, serial: Serial) -> Option<WallTime> {
        let by_root = self.kept.get(&(*issuer, *self.network.root()));
        by_root
            .filter(|known| known.serial_max >= serial)
            .map(|known| known.at)
    }

    /// The highest serial of `host` that is void: the next certificate's must lie above.
    pub fn serial_max(&self, host: &HostId) -> Serial {
        let serials = self.of(host).map(|known| known.serial_max);
        serials.max().unwrap_or(Serial::NONE)
    }

    fn of(&self, host: &HostId) -> impl Iterator<Item = &Revocation> {
        let first = HostId::from_bytes([0; 32]);
        let last = HostId::from_bytes([0xff; 32]);
        self.kept
            .range((*host, first)..=(*host, last))
            .map(|(_, known)| known)
    }

    /// Each of them, in an order that is the same at all hosts.
    pub fn iter(&self) -> impl Iterator<Item = &Revocation> {
        self.kept.values()
    }

    /// The same at hosts that know the same: those whose digests differ exchange what they have.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for known in self.iter() {
            hasher.update(Sha256::digest(&known.bytes));
        }
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_set_says_so_and_still_takes_what_it_knows() {
        let now = WallTime::from_unix_seconds(1_800_000_000);
        let key = PrivateKey::from_bytes(&[1; 32]);
        let network = NetworkId::from_root(key.public());
        let revoke = |number: usize, now| {
            let mut id = [7; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let host = HostId::from_bytes(id);
            Revocation::sign(&key, Signer::Root, network, host, Serial::NONE, now)
        };
        let one = revoke(0, now);
        let mut void = Revocations::new(network);
        for number in 1..REVOCATIONS_MAX {
            let mut id = [8; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let key = (HostId::from_bytes(id), *network.root());
            void.kept.insert(key, one.clone());
        }
        assert_eq!(void.hear(&one.bytes, now), Ok(Heard::News));
        let other = revoke(1, now).bytes;
        assert_eq!(void.hear(&other, now), Err(RevocationError::Full));
        assert_eq!(void.hear(&one.bytes, now), Ok(Heard::Known));
        let newer = revoke(0, now + CLOCK_LEEWAY).bytes;
        assert_eq!(void.hear(&newer, now), Ok(Heard::News), "in its own place");
    }
}

//! A network: the key at its root, what follows from it, and the roles that hosts play in it.

use crate::address::{Ipv4Block, hash};
use crate::admission::certificate::{
    ISSUER_CERTIFICATE, IssuerCertificate, IssuerCredential, Serial, Validity,
};
use crate::admission::membership::Membership;
use crate::admission::revocation::{Revocation, Signer};
use crate::host::{HostId, HostIdError};
use crate::signature::PrivateKey;
use crate::wall_time::WallTime;
use crate::wire::margay::admission as wire;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// For how long the root lets an issuer work: a year, so that the root key stays in its drawer.
pub const ISSUER_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// Which network: the public key of its root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkId(HostId);

impl NetworkId {
    /// Takes the root's public key.
    pub const fn from_root(root: HostId) -> Self {
        NetworkId(root)
    }

    /// The root's public key.
    pub const fn root(&self) -> &HostId {
        &self.0
    }

    /// The key from which the network's virtual IPs are hashed
    /// ([`AddressPlan`](crate::address::AddressPlan)).
    pub fn address_key(&self) -> [u8; 32] {
        hash("margay network addresses", &[self.0.as_bytes()])
    }

    /// What hosts mix into the host link's handshake before they know each other: it keeps out who
    /// has never heard of this network. Members and tokens know it, so it proves nothing else.
    pub fn link_psk(&self) -> [u8; 32] {
        hash("margay network link", &[self.0.as_bytes()])
    }

    /// The first digits, enough to tell networks apart by eye.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkId({})", self.short())
    }
}

impl FromStr for NetworkId {
    type Err = HostIdError;
    fn from_str(text: &str) -> Result<Self, HostIdError> {
        text.parse().map(NetworkId)
    }
}

/// The root of a network: the key that is kept offline, and what it is taken out for.
#[derive(Debug)]
pub struct Root(PrivateKey);

/// Why the root makes no issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{range} overlaps {other}, from which issuer {issuer:?} grants; choose a range of its own, as \
     `margay members` shows them"
)]
pub struct RangeTaken {
    /// What was asked for.
    pub range: Ipv4Block,
    /// What it overlaps.
    pub other: Ipv4Block,
    /// Who holds that.
    pub issuer: HostId,
}

impl Root {
    /// Founds a network, or takes its root key out again.
    pub fn new(key: PrivateKey) -> Self {
        Root(key)
    }

    /// The network.
    pub fn network(&self) -> NetworkId {
        NetworkId(self.0.public())
    }

    /// Lets `issuer` grant blocks out of `range` for [`ISSUER_LIFETIME`], beside the issuers of the
    /// `known` members; its own earlier range may be another.
    pub fn certify(
        &self,
        issuer: HostId,
        range: Ipv4Block,
        known: &Membership,
        now: WallTime,
    ) -> Result<IssuerCredential, RangeTaken> {
        let mut others = known.issuers().filter(|other| other.issuer != issuer);
        if let Some(other) = others.find(|other| other.range.overlaps(range)) {
            return Err(RangeTaken {
                range,
                other: other.range,
                issuer: other.issuer,
            });
        }
        let void = known.revocations().serial_max(&issuer);
        let certificate = IssuerCertificate {
            network: self.network(),
            issuer,
            range,
            serial: Serial::at(now).max(void.next()),
            validity: Validity::lasting(now, ISSUER_LIFETIME),
        };
        let signed = self.0.sign(ISSUER_CERTIFICATE, &certificate.to_wire());
        Ok(IssuerCredential(signed))
    }

    /// Makes every certificate void that `host` holds now, also the one by which it is an issuer,
    /// and thereby all that it issued.
    pub fn revoke(&self, host: HostId, now: WallTime) -> Revocation {
        Revocation::sign(
            &self.0,
            Signer::Root,
            self.network(),
            host,
            Serial::NONE,
            now,
        )
    }
}

/// What a host does for others, beside running instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Speaks for its site one tier up.
    Gateway,
    /// Admits hosts: says whom to ask, while the right to do so is in an issuer certificate.
    Issuer,
    /// Applies and deletes compositions of the whole network.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Role] = &[Role::Gateway, Role::Issuer, Role::Operator];

    /// Its name in the CLI.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Issuer => "issuer",
            Role::Operator => "operator",
        }
    }

    pub(super) fn to_wire(self) -> i32 {
        match self {
            Role::Gateway => wire::Role::Gateway.into(),
            Role::Issuer => wire::Role::Issuer.into(),
            Role::Operator => wire::Role::Operator.into(),
        }
    }

    /// `None` for a role of a newer version, which this one has no use for.
    pub(super) fn from_wire(number: i32) -> Option<Role> {
        Role::ALL
            .iter()
            .copied()
            .find(|role| role.to_wire() == number)
    }
}

/// Why a text is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role; there are gateway, issuer and operator")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Self, RoleError> {
        let role = Role::ALL.iter().copied().find(|role| role.name() == text);
        role.ok_or_else(|| RoleError(text.to_owned()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root::new(PrivateKey::from_bytes(&[1; 32]))
    }

    #[test]
    fn keys_of_a_network_differ_by_purpose_and_by_network() {
        let one = root().network();
        let other = Root::new(PrivateKey::from_bytes(&[2; 32])).network();
        assert_ne!(one.address_key(), one.link_psk());
        assert_ne!(one.address_key(), other.address_key());
        assert_ne!(one.link_psk(), other.link_psk());
        assert_eq!(one.to_string().parse(), Ok(one));
    }

    /// Hosts keep their addresses across versions, so the hashes must never change.
    #[test]
    fn keys_of_a_network_are_pinned() {
        let network = root().network();
        assert_eq!(network.address_key()[..4], [96, 249, 84, 155]);
        assert_eq!(network.link_psk()[..4], [182, 199, 123, 177]);
    }

    #[test]
    fn roles_read_back_and_unknown_ones_are_not_for_us() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(*role));
            assert_eq!(Role::from_wire(role.to_wire()), Some(*role));
        }
        assert_eq!(Role::from_wire(0), None);
        assert_eq!(Role::from_wire(77), None);
        let error = "king".parse::<Role>().unwrap_err().to_string();
        assert!(error.contains("gateway, issuer and operator"), "{error}");
    }
}

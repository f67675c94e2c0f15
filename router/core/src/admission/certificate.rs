//! Certificates: what the root says of an issuer, and an issuer of a host.

use crate::address::Ipv4Block;
use crate::admission::network::{NetworkId, Role};
use crate::admission::refusal::Refusal;
use crate::host::HostId;
use crate::name::{HostName, SitePath};
use crate::signature::{Purpose, SignatureError, open};
use crate::wall_time::WallTime;
use crate::wire::margay::admission as wire;
use crate::wire::margay::signed::Signed;
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) const ISSUER_CERTIFICATE: Purpose = Purpose("issuer certificate");
pub(super) const MEMBERSHIP_CERTIFICATE: Purpose = Purpose("membership certificate");

/// How far two hosts' clocks may be apart: two hours, for each may be an hour off, as one is that
/// took daylight saving time for time.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(2 * 3_600);

/// How long a membership certificate may last: thirty days, after which a revocation can be
/// forgotten.
pub const MEMBERSHIP_LIFETIME_MAX: Duration = Duration::from_secs(30 * 86_400);

/// How long an issuer's certificate may last: two years, as the root's revocations are kept so long.
pub const ISSUER_LIFETIME_MAX: Duration = Duration::from_secs(2 * 365 * 86_400);

/// How long a host waits before it asks again for a renewal that failed; a quarter of a certificate's
/// lifetime has room for hundreds of attempts.
pub const RENEWAL_RETRY: Duration = Duration::from_secs(300);

/// How many blocks one host may hold: an introduction has room for so many, and a host that needs
/// more needs a larger one.
pub const BLOCKS_MAX: usize = 4;

/// How many roles are read: more than there are, so that newer versions can add some.
const ROLES_MAX: usize = 8;

/// The end of the year 9999, where the written form of time ends.
const LAST_TIME: WallTime = WallTime::from_unix_seconds(253_402_300_799);

/// Which of several certificates is the newer: the second in which it was issued, or one more than
/// its issuer's last, whichever is higher, so that serials of several issuers can be compared too.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Serial(pub u64);

impl Serial {
    /// Below every certificate's.
    pub const NONE: Serial = Serial(0);

    /// The lowest that is given at `now`.
    pub const fn at(now: WallTime) -> Serial {
        Serial(now.as_unix_seconds())
    }

    /// The next one.
    pub const fn next(self) -> Serial {
        Serial(self.0.saturating_add(1))
    }
}

/// From when to when a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    not_before: WallTime,
    not_after: WallTime,
}

/// Where a moment lies beside a [`Validity`], with [`CLOCK_LEEWAY`] on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before it.
    Early,
    /// In it.
    Current,
    /// After it.
    Over,
}

impl Validity {
    /// Begins at `now` and ends after `lifetime`, which is longer than nothing.
    pub(super) fn lasting(now: WallTime, lifetime: Duration) -> Self {
        Validity {
            not_before: now,
            not_after: now + lifetime,
        }
    }

    /// Ends at `limit` at the latest.
    pub(super) fn ending_by(self, limit: WallTime) -> Self {
        Validity {
            not_after: self.not_after.min(limit),
            ..self
        }
    }

    /// The first second in which it counts.
    pub fn not_before(self) -> WallTime {
        self.not_before
    }

    /// The last second in which it counts.
    pub fn not_after(self) -> WallTime {
        self.not_after
    }

    /// Where `now` lies.
    pub(super) fn phase(self, now: WallTime) -> Phase {
        if now + CLOCK_LEEWAY < self.not_before {
            Phase::Early
        } else if now > self.not_after + CLOCK_LEEWAY {
            Phase::Over
        } else {
            Phase::Current
        }
    }

    fn read(not_before: u64, not_after: u64, lifetime_max: Duration) -> Result<Self, Refusal> {
        let [not_before, not_after] = [not_before, not_after].map(WallTime::from_unix_seconds);
        let ordered = not_before < not_after && not_after <= LAST_TIME;
        if ordered && not_after.since(not_before) <= lifetime_max {
            Ok(Validity {
                not_before,
                not_after,
            })
        } else {
            Err(Refusal::Unreadable(
                "a certificate that lasts too long, or ends before it begins",
            ))
        }
    }
}

/// What the root says of an issuer: that it may admit hosts and grant them blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuerCertificate {
    /// Of which network.
    pub network: NetworkId,
    /// Which host.
    pub issuer: HostId,
    /// Out of which addresses it grants.
    pub range: Ipv4Block,
    /// Which of this issuer's certificates.
    pub serial: Serial,
    /// For how long.
    pub validity: Validity,
}

impl IssuerCertificate {
    pub(super) fn to_wire(&self) -> wire::IssuerCertificate {
        wire::IssuerCertificate {
            network: self.network.root().as_bytes().to_vec(),
            issuer: self.issuer.as_bytes().to_vec(),
            range: Some(block_to_wire(self.range)),
            serial: self.serial.0,
            not_before: self.validity.not_before.as_unix_seconds(),
            not_after: self.validity.not_after.as_unix_seconds(),
        }
    }

    fn from_wire(message: &wire::IssuerCertificate) -> Result<Self, Refusal> {
        let range = message.range.as_ref();
        Ok(IssuerCertificate {
            network: network_from_wire(&message.network)?,
            issuer: host_from_wire(&message.issuer)?,
            range: block_from_wire(range.ok_or(Refusal::Unreadable("an issuer without a range"))?)?,
            serial: Serial(message.serial),
            validity: Validity::read(message.not_before, message.not_after, ISSUER_LIFETIME_MAX)?,
        })
    }
}

/// An [`IssuerCertificate`] as the root signed it; not believed before it is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerCredential(pub(super) Signed);

impl IssuerCredential {
    /// Checks that the root of `network` signed it, and reads it.
    pub fn open(&self, network: NetworkId) -> Result<IssuerCertificate, Refusal> {
        // What it claims is looked at first: another network's would otherwise seem forged.
        let claimed = wire::IssuerCertificate::decode(self.0.content.as_slice());
        let claimed = claimed.map_err(|_| Refusal::Unreadable("an issuer's certificate"))?;
        same_network(&claimed.network, network)?;
        let message = opened(ISSUER_CERTIFICATE, network.root(), &self.0)?;
        IssuerCertificate::from_wire(&message)
    }

    /// What [`IssuerCredential::from_bytes`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    /// Reads what [`IssuerCredential::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let signed = Signed::decode(bytes);
        let signed = signed.map_err(|_| Refusal::Unreadable("an issuer's certificate"))?;
        Ok(IssuerCredential(signed))
    }
}

/// What an issuer says of a host: that it belongs to the network, as what, and with which addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// Of which network.
    pub network: NetworkId,
    /// By which issuer, which also renews it.
    pub issuer: HostId,
    /// Which host.
    pub host: HostId,
    /// Its name, which no other host of the network has.
    pub name: HostName,
    /// Where it is.
    pub site: SitePath,
    /// What it does for others.
    pub roles: BTreeSet<Role>,
    /// The addresses that it gives to its identities; nobody else's.
    pub blocks: Vec<Ipv4Block>,
    /// Which of this host's certificates.
    pub serial: Serial,
    /// For how long.
    pub validity: Validity,
}

impl Certificate {
    /// Whether its host may apply and delete compositions of the whole network: who may let hosts in
    /// may also say what runs on them.
    pub fn is_operator(&self) -> bool {
        let may = |role: &Role| matches!(role, Role::Operator | Role::Issuer);
        self.roles.iter().any(may)
    }

    /// When its host asks for the next one: a moment of the third quarter of its lifetime that
    /// follows from host and serial, so that hosts admitted together do not come back together, a
    /// restart draws no other, and a quarter is left to find the issuer.
    pub fn renews_at(&self) -> WallTime {
        let seconds = self
            .validity
            .not_after
            .since(self.validity.not_before)
            .as_secs();
        let serial = self.serial.0.to_be_bytes();
        let [a, b, c, d, ..] =
            crate::address::hash("margay renewal", &[self.host.as_bytes(), &serial]);
        let draw = u64::from(u32::from_be_bytes([a, b, c, d]));
        let third_quarter = (u128::from(seconds / 4) * u128::from(draw)) >> 32;
        let third_quarter =
            u64::try_from(third_quarter).expect("no more than the quarter it is of");
        self.validity.not_before + Duration::from_secs(seconds / 2 + third_quarter)
    }

    pub(super) fn to_wire(&self) -> wire::Certificate {
        wire::Certificate {
            network: self.network.root().as_bytes().to_vec(),
            host: self.host.as_bytes().to_vec(),
            name: self.name.to_string(),
            site: self.site.to_string(),
            roles: self.roles.iter().map(|role| role.to_wire()).collect(),
            blocks: self.blocks.iter().copied().map(block_to_wire).collect(),
            serial: self.serial.0,
            not_before: self.validity.not_before.as_unix_seconds(),
            not_after: self.validity.not_after.as_unix_seconds(),
        }
    }

    fn from_wire(message: &wire::Certificate, issuer: HostId) -> Result<Self, Refusal> {
        if message.blocks.len() > BLOCKS_MAX || message.roles.len() > ROLES_MAX {
            return Err(Refusal::Unreadable(
                "a certificate of too many blocks or roles",
            ));
        }
        let name = message.name.parse();
        let site = message.site.parse();
        let blocks: Result<Vec<_>, Refusal> = message.blocks.iter().map(block_from_wire).collect();
        let blocks = blocks?;
        let twice = |(index, block): (usize, &Ipv4Block)| {
            blocks[..index].iter().any(|other| other.overlaps(*block))
        };
        if blocks.iter().enumerate().any(twice) {
            return Err(Refusal::Unreadable("a certificate whose blocks overlap"));
        }
        Ok(Certificate {
            network: network_from_wire(&message.network)?,
            issuer,
            host: host_from_wire(&message.host)?,
            name: name.map_err(|_| Refusal::Unreadable("a host's name"))?,
            site: site.map_err(|_| Refusal::Unreadable("a site's path"))?,
            roles: message
                .roles
                .iter()
                .copied()
                .filter_map(Role::from_wire)
                .collect(),
            blocks,
            serial: Serial(message.serial),
            validity: Validity::read(
                message.not_before,
                message.not_after,
                MEMBERSHIP_LIFETIME_MAX,
            )?,
        })
    }
}

/// A [`Certificate`] as an issuer signed it, and the issuer's own; not believed before they are
/// opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    pub(super) issuer: IssuerCredential,
    pub(super) certificate: Signed,
}

impl Credential {
    /// Checks that the root of `network` signed for the issuer and the issuer for the host, and reads
    /// both; times, revocations and blocks are not looked at.
    pub(super) fn open(
        &self,
        network: NetworkId,
    ) -> Result<(IssuerCertificate, Certificate), Refusal> {
        let issuer = self.issuer.open(network)?;
        let message: wire::Certificate =
            opened(MEMBERSHIP_CERTIFICATE, &issuer.issuer, &self.certificate)?;
        let certificate = Certificate::from_wire(&message, issuer.issuer)?;
        same_network(&message.network, network)?;
        Ok((issuer, certificate))
    }

    /// What [`Credential::from_bytes`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// Reads what [`Credential::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let message = wire::Credential::decode(bytes);
        let message = message.map_err(|_| Refusal::Unreadable("a credential"))?;
        Credential::from_wire(message)
    }

    pub(super) fn to_wire(&self) -> wire::Credential {
        wire::Credential {
            issuer: Some(self.issuer.0.clone()),
            certificate: Some(self.certificate.clone()),
        }
    }

    /// A credential without its halves is none.
    pub(super) fn from_wire(message: wire::Credential) -> Result<Self, Refusal> {
        let halves = message.issuer.zip(message.certificate);
        let (issuer, certificate) = halves.ok_or(Refusal::NotAMember)?;
        Ok(Credential {
            issuer: IssuerCredential(issuer),
            certificate,
        })
    }
}

/// Opens what is signed, with the refusal of admission.
pub(super) fn opened<M: Message + Default>(
    purpose: Purpose,
    signer: &HostId,
    signed: &Signed,
) -> Result<M, Refusal> {
    open(purpose, signer, signed).map_err(|error| match error {
        SignatureError::Forged => Refusal::Forged(purpose.0),
        SignatureError::Unreadable => Refusal::Unreadable(purpose.0),
    })
}

/// Refuses what was signed for another network.
pub(super) fn same_network(claimed: &[u8], network: NetworkId) -> Result<(), Refusal> {
    let claimed = network_from_wire(claimed)?;
    if claimed == network {
        Ok(())
    } else {
        Err(Refusal::OtherNetwork(claimed))
    }
}

pub(super) fn host_from_wire(bytes: &[u8]) -> Result<HostId, Refusal> {
    let bytes = bytes.try_into();
    let bytes = bytes.map_err(|_| Refusal::Unreadable("a public key"))?;
    Ok(HostId::from_bytes(bytes))
}

fn network_from_wire(bytes: &[u8]) -> Result<NetworkId, Refusal> {
    host_from_wire(bytes).map(NetworkId::from_root)
}

fn block_to_wire(block: Ipv4Block) -> wire::Block {
    wire::Block {
        base: block.base().to_bits(),
        prefix: block.prefix().into(),
    }
}

fn block_from_wire(message: &wire::Block) -> Result<Ipv4Block, Refusal> {
    let prefix = u8::try_from(message.prefix).ok();
    let block = prefix.and_then(|prefix| Ipv4Block::new(message.base.into(), prefix).ok());
    block.ok_or(Refusal::Unreadable("a block of addresses"))
}

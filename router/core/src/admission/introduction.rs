//! Introductions: what a member shows before anything else, and all the checks of it in their order.

use crate::admission::certificate::{
    Certificate, Credential, IssuerCertificate, Phase, host_from_wire, opened,
};
use crate::admission::network::NetworkId;
use crate::admission::refusal::{Refusal, VERSION, check_version};
use crate::admission::revocation::Revocations;
use crate::signature::{PrivateKey, Purpose};
use crate::wall_time::WallTime;
use crate::wire::margay::admission as wire;
use prost::Message;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The longest introduction, in bytes: it must fit into the first datagram of a handshake, with the
/// handshake's own bytes, on every path (1,280, RFC 8200 section 5).
pub const INTRODUCTION_BYTES_MAX: usize = 1_000;

/// How many addresses a host names for its link: an introduction has room for so many.
pub const ADDRESSES_MAX: usize = 6;

const HOST_RECORD: Purpose = Purpose("host record");

/// A host link's public X25519 key (RFC 7748).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey(pub [u8; 32]);

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "LinkKey({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// How a host is reached, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The key of its host link.
    pub link_key: LinkKey,
    /// Where its host link listens, the best first; at most [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    /// Higher than in every contact that the host has signed before, in earlier lives too.
    pub sequence: u64,
}

/// A host that belongs to the network: its introduction passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// What its issuer says of it.
    pub certificate: Certificate,
    /// What the root says of its issuer.
    pub issuer: IssuerCertificate,
    /// What it says of itself.
    pub contact: Contact,
    /// The very bytes, to be passed on.
    pub introduction: Vec<u8>,
}

/// Makes the introduction of the host with `key`, whose `certificate` was read from `credential`.
///
/// Addresses that nobody could reach, and those beyond [`ADDRESSES_MAX`], are left out.
pub fn introduce(
    key: &PrivateKey,
    credential: &Credential,
    certificate: &Certificate,
    contact: &Contact,
) -> Vec<u8> {
    let record = wire::HostRecord {
        link_key: contact.link_key.0.to_vec(),
        addresses: addresses_to_wire(&contact.addresses, ADDRESSES_MAX),
        sequence: contact.sequence,
        serial: certificate.serial.0,
    };
    let member = wire::Member {
        credential: Some(credential.to_wire()),
        record: Some(key.sign(HOST_RECORD, &record)),
    };
    let introduction = wire::Introduction {
        version: VERSION,
        who: Some(wire::introduction::Who::Member(member)),
    };
    introduction.encode_to_vec()
}

/// Checks whether an introduction is that of a member of `network`.
///
/// | check | refusal |
/// |---|---|
/// | it can be read, by this version | [`Refusal::Unreadable`], [`Refusal::UnknownVersion`] |
/// | there is a certificate | [`Refusal::NotAMember`] |
/// | it is of this network | [`Refusal::OtherNetwork`] |
/// | root, issuer and host signed | [`Refusal::Forged`] |
/// | the issuer could issue | [`Refusal::IssuerExpired`], [`Refusal::IssuerRevoked`] |
/// | it counts now | [`Refusal::NotYetValid`], [`Refusal::Expired`] |
/// | nobody took the host out | [`Refusal::Revoked`] |
/// | its blocks are its issuer's | [`Refusal::BlockOutsideRange`] |
///
/// That no other host has its name and its blocks, [`Membership`](crate::admission::Membership)
/// checks, and that it came by its own host link.
pub fn verify(
    introduction: &[u8],
    network: NetworkId,
    revocations: &Revocations,
    now: WallTime,
) -> Result<Member, Refusal> {
    let (credential, signed) = match read(introduction)? {
        wire::introduction::Who::Newcomer(_) => return Err(Refusal::NotAMember),
        wire::introduction::Who::Member(member) => {
            let credential = member.credential.ok_or(Refusal::NotAMember)?;
            (Credential::from_wire(credential)?, member.record)
        }
    };
    let (issuer, certificate) = credential.open(network)?;
    let signed = signed.ok_or(Refusal::Unreadable("a member without a record"))?;
    let record: wire::HostRecord = opened(HOST_RECORD, &certificate.host, &signed)?;
    // A record of one certificate beside another was put together by somebody else.
    if record.serial != certificate.serial.0 {
        return Err(Refusal::Forged(HOST_RECORD.0));
    }
    let contact = contact_from_wire(&record)?;
    check_standing(&issuer, &certificate, revocations, now)?;
    Ok(Member {
        certificate,
        issuer,
        contact,
        introduction: introduction.to_vec(),
    })
}

impl Credential {
    /// Checks a credential without an introduction, as its own host does when it gets one: all that
    /// [`verify`] checks of it.
    pub fn verify(
        &self,
        network: NetworkId,
        revocations: &Revocations,
        now: WallTime,
    ) -> Result<Certificate, Refusal> {
        let (issuer, certificate) = self.open(network)?;
        check_standing(&issuer, &certificate, revocations, now)?;
        Ok(certificate)
    }
}

/// Checks what changes with time and with revocations, and that the blocks are the issuer's.
pub(super) fn check_standing(
    issuer: &IssuerCertificate,
    certificate: &Certificate,
    revocations: &Revocations,
    now: WallTime,
) -> Result<(), Refusal> {
    check_issuer(issuer, revocations, now)?;
    let validity = certificate.validity;
    let (begins, ended) = (validity.not_before(), validity.not_after());
    match validity.phase(now) {
        Phase::Early => return Err(Refusal::NotYetValid { begins, now }),
        Phase::Over => return Err(Refusal::Expired { ended, now }),
        Phase::Current => {}
    }
    if let Some(at) = revocations.membership_revoked(&certificate.host, certificate.serial) {
        let host = certificate.host;
        return Err(Refusal::Revoked { host, at });
    }
    let outside = |block: &&_| !issuer.range.covers(**block);
    match certificate.blocks.iter().find(outside) {
        Some(block) => Err(Refusal::BlockOutsideRange {
            block: *block,
            range: issuer.range,
            issuer: issuer.issuer,
        }),
        None => Ok(()),
    }
}

/// Checks that an issuer may issue now.
pub(super) fn check_issuer(
    issuer: &IssuerCertificate,
    revocations: &Revocations,
    now: WallTime,
) -> Result<(), Refusal> {
    if issuer.validity.phase(now) != Phase::Current {
        return Err(Refusal::IssuerExpired {
            begins: issuer.validity.not_before(),
            ends: issuer.validity.not_after(),
            now,
        });
    }
    match revocations.issuer_revoked(&issuer.issuer, issuer.serial) {
        Some(at) => Err(Refusal::IssuerRevoked {
            issuer: issuer.issuer,
            at,
        }),
        None => Ok(()),
    }
}

/// Whether it is a newcomer's introduction, for an issuer to redeem; what cannot be read is not.
pub fn is_newcomer(introduction: &[u8]) -> bool {
    matches!(read(introduction), Ok(wire::introduction::Who::Newcomer(_)))
}

/// Reads an introduction as far as to say who it is from.
pub(super) fn read(introduction: &[u8]) -> Result<wire::introduction::Who, Refusal> {
    if introduction.is_empty() {
        return Err(Refusal::NotAMember);
    }
    if introduction.len() > INTRODUCTION_BYTES_MAX {
        return Err(Refusal::Unreadable(
            "an introduction of more than 1,000 bytes",
        ));
    }
    let message = wire::Introduction::decode(introduction);
    let message = message.map_err(|_| Refusal::Unreadable("an introduction"))?;
    check_version(message.version)?;
    message.who.ok_or(Refusal::NotAMember)
}

fn contact_from_wire(record: &wire::HostRecord) -> Result<Contact, Refusal> {
    Ok(Contact {
        link_key: link_key_from_wire(&record.link_key)?,
        addresses: addresses_from_wire(&record.addresses, ADDRESSES_MAX)?,
        sequence: record.sequence,
    })
}

pub(super) fn link_key_from_wire(bytes: &[u8]) -> Result<LinkKey, Refusal> {
    host_from_wire(bytes).map(|key| LinkKey(*key.as_bytes()))
}

/// Whether a host link could be reached there from another host.
fn reachable(addr: &SocketAddr) -> bool {
    addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
}

pub(super) fn addresses_to_wire(
    addresses: &[SocketAddr],
    count_max: usize,
) -> Vec<wire::UnderlayAddress> {
    let reachable = addresses.iter().filter(|addr| reachable(addr));
    let to_wire = |addr: &SocketAddr| wire::UnderlayAddress {
        ip: match addr.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        },
        port: addr.port().into(),
    };
    reachable.take(count_max).map(to_wire).collect()
}

pub(super) fn addresses_from_wire(
    addresses: &[wire::UnderlayAddress],
    count_max: usize,
) -> Result<Vec<SocketAddr>, Refusal> {
    if addresses.len() > count_max {
        return Err(Refusal::Unreadable("too many addresses"));
    }
    let wrong = Refusal::Unreadable("an address of a host link");
    let from_wire = |message: &wire::UnderlayAddress| {
        let v4 = <[u8; 4]>::try_from(message.ip.as_slice()).map(IpAddr::from);
        let v6 = <[u8; 16]>::try_from(message.ip.as_slice()).map(IpAddr::from);
        let port = u16::try_from(message.port).ok()?;
        let addr = SocketAddr::new(v4.or(v6).ok()?, port);
        Some(addr).filter(reachable)
    };
    let addresses: Option<_> = addresses.iter().map(from_wire).collect();
    addresses.ok_or(wrong)
}

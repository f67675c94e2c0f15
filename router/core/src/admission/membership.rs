//! Who belongs to the network, as far as this host has heard.

use crate::address::Ipv4Block;
use crate::admission::blocks::BlockMap;
use crate::admission::certificate::IssuerCertificate;
use crate::admission::introduction::{LinkKey, Member, check_standing, verify};
use crate::admission::network::NetworkId;
use crate::admission::refusal::Refusal;
use crate::admission::revocation::{Heard, RevocationError, Revocations};
use crate::host::HostId;
use crate::name::HostName;
use crate::wall_time::WallTime;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// How many members are known at most: as many as the default range has blocks of 256 addresses; at
/// a kilobyte each they take 16 MB.
pub const MEMBERS_MAX: usize = 16_384;

/// What an introduction was to a host that it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// A member that was not known.
    New,
    /// A member's newer contact or certificate.
    Newer,
    /// Nothing new: what is known already is as new, or newer.
    Nothing,
}

/// A member that is one no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// Who it was.
    pub member: Member,
    /// Why it is none: the words for both sides of its host link.
    pub why: Refusal,
}

/// The members of a network, and the revocations, as far as this host has heard.
///
/// No two members have one name or overlapping blocks: who is known first keeps them.
#[derive(Clone, Debug)]
pub struct Membership {
    network: NetworkId,
    revocations: Revocations,
    members: BTreeMap<HostId, Member>,
    names: BTreeMap<HostName, HostId>,
    blocks: BlockMap,
}

impl Membership {
    /// Knows nobody yet.
    pub fn new(network: NetworkId) -> Self {
        Membership {
            network,
            revocations: Revocations::new(network),
            members: BTreeMap::new(),
            names: BTreeMap::new(),
            blocks: BlockMap::default(),
        }
    }

    /// Which network.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// Lets in, or refuses, who says `introduction` through a host link that proved `link_key`.
    pub fn admit(
        &mut self,
        introduction: &[u8],
        link_key: LinkKey,
        now: WallTime,
    ) -> Result<(HostId, Learned), Refusal> {
        let member = verify(introduction, self.network, &self.revocations, now)?;
        if member.contact.link_key != link_key {
            return Err(Refusal::OtherLinkKey);
        }
        self.add(member)
    }

    /// Takes note of an introduction that another host passed on.
    pub fn learn(
        &mut self,
        introduction: &[u8],
        now: WallTime,
    ) -> Result<(HostId, Learned), Refusal> {
        let member = verify(introduction, self.network, &self.revocations, now)?;
        self.add(member)
    }

    fn add(&mut self, member: Member) -> Result<(HostId, Learned), Refusal> {
        let host = member.certificate.host;
        let known = self.members.get(&host);
        let newer = |known: &Member| known.contact.sequence < member.contact.sequence;
        let learned = match known.map(newer) {
            Some(false) => return Ok((host, Learned::Nothing)),
            Some(true) => Learned::Newer,
            None => Learned::New,
        };
        self.check_name(&host, &member.certificate.name)?;
        self.check_blocks(&host, &member.certificate.blocks)?;
        if learned == Learned::New && self.members.len() >= MEMBERS_MAX {
            return Err(Refusal::Full(MEMBERS_MAX));
        }
        self.remove(&host);
        let certificate = &member.certificate;
        self.names.insert(certificate.name.clone(), host);
        for block in &certificate.blocks {
            self.blocks.insert(*block, host);
        }
        self.members.insert(host, member);
        self.check_invariants();
        Ok((host, learned))
    }

    /// Refuses `host` a name that another host has.
    pub(super) fn check_name(&self, host: &HostId, name: &HostName) -> Result<(), Refusal> {
        match self.names.get(name).filter(|holder| *holder != host) {
            Some(holder) => Err(Refusal::NameTaken {
                name: name.clone(),
                holder: *holder,
            }),
            None => Ok(()),
        }
    }

    /// Refuses `host` blocks that another host holds.
    pub(super) fn check_blocks(&self, host: &HostId, blocks: &[Ipv4Block]) -> Result<(), Refusal> {
        for block in blocks {
            if let Some((held, holder)) = self.blocks.taken(*block, host) {
                return Err(Refusal::BlockTaken {
                    block: *block,
                    held,
                    holder: self.members[&holder].certificate.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// Takes note of a revocation that an operator made or another host passed on; whom it takes
    /// out, the next [`Membership::sweep`] tells.
    pub fn revoke(&mut self, revocation: &[u8], now: WallTime) -> Result<Heard, RevocationError> {
        self.revocations.hear(revocation, now)
    }

    /// Forgets members that have expired or were revoked, and revocations that nobody needs any
    /// more. Whoever is told here is to be hung up on.
    ///
    /// Wanted after each revocation, and every minute.
    pub fn sweep(&mut self, now: WallTime) -> Vec<Departed> {
        self.revocations.forget_outdated(now);
        let mut departed = Vec::new();
        for member in self.members.values() {
            let standing =
                check_standing(&member.issuer, &member.certificate, &self.revocations, now);
            if let Err(why) = standing {
                let member = member.clone();
                departed.push(Departed { member, why });
            }
        }
        for gone in &departed {
            self.remove(&gone.member.certificate.host);
        }
        self.check_invariants();
        departed
    }

    fn remove(&mut self, host: &HostId) {
        if let Some(member) = self.members.remove(host) {
            self.names.remove(&member.certificate.name);
            for block in member.certificate.blocks {
                self.blocks.remove(block);
            }
        }
    }

    /// A member.
    pub fn member(&self, host: &HostId) -> Option<&Member> {
        self.members.get(host)
    }

    /// The member of a name.
    pub fn named(&self, name: &HostName) -> Option<&Member> {
        self.names.get(name).and_then(|host| self.member(host))
    }

    /// The member that gives `addr` to its identities.
    pub fn holder(&self, addr: Ipv4Addr) -> Option<&Member> {
        let holder = self.blocks.holder(addr);
        holder.and_then(|host| self.member(&host))
    }

    /// Every member, in the order of their host IDs.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The certificate of each issuer that admitted a member.
    pub fn issuers(&self) -> impl Iterator<Item = &IssuerCertificate> {
        self.members().map(|member| &member.issuer)
    }

    /// Who was taken out.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    fn check_invariants(&self) {
        debug_assert_eq!(self.names.len(), self.members.len(), "one name each");
        debug_assert!(!self.members.is_empty() || self.blocks.is_empty());
    }
}

//! The issuer: invites hosts, admits them, grants them blocks, renews their certificates.

mod ledger;

pub use ledger::{Grant, Invitation, IssuerRecord};

use crate::address::Ipv4Block;
use crate::admission::certificate::{
    Certificate, Credential, IssuerCertificate, IssuerCredential, MEMBERSHIP_CERTIFICATE,
    MEMBERSHIP_LIFETIME_MAX, Serial, Validity,
};
use crate::admission::introduction::{LinkKey, Member, check_issuer};
use crate::admission::join::JoinRequest;
use crate::admission::membership::Membership;
use crate::admission::network::{NetworkId, Role};
use crate::admission::refusal::Refusal;
use crate::admission::revocation::{Revocation, Signer};
use crate::admission::token::{Token, TokenId, draw};
use crate::host::HostId;
use crate::name::{HostName, SitePath};
use crate::signature::PrivateKey;
use crate::wall_time::WallTime;
use ledger::Ledger;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a membership certificate lasts: a week, so that a host may be off, or its issuer away,
/// for half of one, and a revocation that did not come through ends by itself.
pub const MEMBERSHIP_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// The length of the blocks that are granted: 4,096 addresses, half of them for callers, so 2,046
/// identities.
pub const BLOCK_PREFIX: u8 = 20;

/// How long an invitation may last: as long as a certificate at most.
pub const INVITATION_LIFETIME_MAX: Duration = Duration::from_secs(30 * 86_400);

/// How often an invitation may be used: a large rack.
pub const INVITATION_USES_MAX: u32 = 1_000;

/// How an issuer works.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// The key of its host.
    pub key: PrivateKey,
    /// What shows that it may.
    pub credential: IssuerCredential,
    /// Of which network it must be.
    pub network: NetworkId,
    /// The length of the blocks that it grants: [`BLOCK_PREFIX`], if nothing else is asked for.
    pub block_prefix: u8,
    /// How long its certificates last: [`MEMBERSHIP_LIFETIME`], if nothing else is asked for, and
    /// no longer than [`MEMBERSHIP_LIFETIME_MAX`].
    pub lifetime: Duration,
}

/// What an invitation is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Where the hosts will be.
    pub site: SitePath,
    /// What they will do for others.
    pub roles: BTreeSet<Role>,
    /// For how long it can be used; not longer than [`INVITATION_LIFETIME_MAX`].
    pub lifetime: Duration,
    /// By how many hosts; not more than [`INVITATION_USES_MAX`].
    pub uses: u32,
}

/// Where an issuer can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The key of its host link.
    pub link_key: LinkKey,
    /// Where that listens, the best first.
    pub addresses: Vec<SocketAddr>,
}

/// Why an issuer does not invite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Too short or too long.
    #[error("an invitation lasts from one second to thirty days; choose a lifetime between them")]
    Lifetime,
    /// None or too many.
    #[error("an invitation is for 1 to {INVITATION_USES_MAX} hosts; choose a number between them")]
    Uses,
    /// Too many are open.
    #[error("{0} invitations are open, which is the most; withdraw some, or let them expire")]
    TooMany(usize),
}

/// A credential that was issued, and what must be durable before anybody gets it.
#[derive(Clone, Debug)]
pub struct Issued {
    /// What the host gets.
    pub credential: Credential,
    /// What it says.
    pub certificate: Certificate,
    /// What must be journalled first, all or nothing.
    pub records: Vec<IssuerRecord>,
}

/// Admits hosts to a network, and remembers to whom it gave what.
///
/// Whatever it changes it gives out as [`IssuerRecord`]s. They are journalled before anything else
/// leaves the host, and handed to [`Issuer::new`] at the next start; of what was not journalled
/// nobody has heard.
#[derive(Clone, Debug)]
pub struct Issuer {
    config: IssuerConfig,
    certificate: IssuerCertificate,
    ledger: Ledger,
}

impl Issuer {
    /// Goes on where `records` end, in the order in which they were given out.
    ///
    /// # Errors
    /// If the credential is not of this key and this network.
    pub fn new(
        config: IssuerConfig,
        records: impl IntoIterator<Item = IssuerRecord>,
    ) -> Result<Self, Refusal> {
        let certificate = config.credential.open(config.network)?;
        if certificate.issuer != config.key.public() {
            return Err(Refusal::NotAnIssuer);
        }
        let mut ledger = Ledger::default();
        records.into_iter().for_each(|record| ledger.apply(record));
        Ok(Issuer {
            config,
            certificate,
            ledger,
        })
    }

    /// What the root says of this issuer.
    pub fn certificate(&self) -> &IssuerCertificate {
        &self.certificate
    }

    /// All that must be durable, as few records as may be: replaces what was journalled before.
    pub fn records(&self) -> impl Iterator<Item = IssuerRecord> {
        self.ledger.records()
    }

    /// Makes a token for hosts that may join on `terms`; `seed` is drawn where nobody can guess it,
    /// and never used again.
    pub fn invite(
        &mut self,
        terms: &Terms,
        counter: &Counter,
        seed: &[u8; 32],
        now: WallTime,
    ) -> Result<(Token, Vec<IssuerRecord>), InviteError> {
        if terms.lifetime.as_secs() == 0 || terms.lifetime > INVITATION_LIFETIME_MAX {
            return Err(InviteError::Lifetime);
        }
        if !(1..=INVITATION_USES_MAX).contains(&terms.uses) {
            return Err(InviteError::Uses);
        }
        let mut records = self.ledger.make_room(now).map_err(InviteError::TooMany)?;
        let (id, secret) = draw(seed);
        let invitation = Invitation {
            token: id,
            secret_hash: secret.hash(),
            site: terms.site.clone(),
            roles: terms.roles.clone(),
            expires: now + terms.lifetime,
            uses_left: terms.uses,
        };
        records.push(self.ledger.record(IssuerRecord::Invitation(invitation)));
        let token = Token {
            network: self.config.network,
            issuer: self.certificate.issuer,
            link_key: counter.link_key,
            addresses: counter.addresses.clone(),
            id,
            secret,
        };
        Ok((token, records))
    }

    /// Every invitation that is remembered, those that are over too.
    pub fn invitations(&self) -> impl Iterator<Item = &Invitation> {
        self.ledger.invitations()
    }

    /// Ends an invitation; `None` if there is none.
    pub fn withdraw(&mut self, token: TokenId) -> Option<IssuerRecord> {
        self.ledger.invitation(token)?;
        Some(self.ledger.record(IssuerRecord::InvitationForgotten(token)))
    }

    /// Admits the host that shows a token.
    ///
    /// A host whose answer was lost asks again and gets another certificate, for the same block; that
    /// is no further use.
    pub fn redeem(
        &mut self,
        request: &JoinRequest,
        known: &Membership,
        now: WallTime,
    ) -> Result<Issued, Refusal> {
        let invitation = self.ledger.invitation(request.token);
        // Who does not know the secret does not learn whether there is such an invitation.
        let shown = |invitation: &&Invitation| invitation.secret_hash == request.secret.hash();
        let invitation = invitation.filter(shown).ok_or(Refusal::TokenUnknown)?;
        let grant = self.ledger.grant(&request.host);
        let lives = grant.filter(|grant| !grant.rests(now));
        let again = lives.is_some_and(|grant| grant.token == Some(request.token));
        let mut invitation = invitation.clone();
        if !again {
            if invitation.expires < now {
                return Err(Refusal::TokenExpired(invitation.expires));
            }
            let uses_left = invitation.uses_left.checked_sub(1);
            invitation.uses_left = uses_left.ok_or(Refusal::TokenUsedUp)?;
        }
        let place = Place {
            name: request.name.clone(),
            site: invitation.site.clone(),
            roles: invitation.roles.clone(),
        };
        let token = Some(request.token);
        let mut issued = self.admit_by(request.host, place, token, known, now)?;
        let record = self.ledger.record(IssuerRecord::Invitation(invitation));
        issued.records.push(record);
        Ok(issued)
    }

    /// Admits a host without a token, as an issuer does its own.
    pub fn admit(
        &mut self,
        host: HostId,
        place: Place,
        known: &Membership,
        now: WallTime,
    ) -> Result<Issued, Refusal> {
        self.admit_by(host, place, None, known, now)
    }

    fn admit_by(
        &mut self,
        host: HostId,
        place: Place,
        token: Option<TokenId>,
        known: &Membership,
        now: WallTime,
    ) -> Result<Issued, Refusal> {
        known.check_name(&host, &place.name)?;
        self.ledger.check_name(&host, &place.name)?;
        let blocks = match self.ledger.blocks_of(&host) {
            Some(blocks) => blocks,
            None => vec![self.free_block(&host, known)?],
        };
        let grant = Grant {
            host,
            name: place.name,
            site: place.site,
            roles: place.roles,
            blocks,
            token,
            serial: Serial::NONE,
            not_after: now,
            revoked: false,
        };
        self.issue(grant, known, now)
    }

    /// The next block of its range that nobody holds, as far as this issuer and this host know.
    fn free_block(&self, host: &HostId, known: &Membership) -> Result<Ipv4Block, Refusal> {
        let range = self.certificate.range;
        let prefix = self.config.block_prefix.max(range.prefix());
        let free = |block: &Ipv4Block| known.check_blocks(host, &[*block]).is_ok();
        let block = self.ledger.next_block(range, prefix, free);
        block.ok_or(Refusal::NoBlockLeft(range))
    }

    /// Signs anew for a member that this issuer admitted; name, place and blocks stay.
    pub fn renew(
        &mut self,
        member: &Member,
        known: &Membership,
        now: WallTime,
    ) -> Result<Issued, Refusal> {
        let host = member.certificate.host;
        let grant = self.ledger.grant(&host).filter(|grant| !grant.revoked);
        let grant = grant.ok_or(Refusal::NotGranted(host))?;
        let void = known.revocations();
        if let Some(at) = void.membership_revoked(&host, grant.serial) {
            return Err(Refusal::Revoked { host, at });
        }
        let grant = grant.clone();
        self.issue(grant, known, now)
    }

    fn issue(
        &mut self,
        mut grant: Grant,
        known: &Membership,
        now: WallTime,
    ) -> Result<Issued, Refusal> {
        let own = self.certificate.validity;
        check_issuer(&self.certificate, known.revocations(), now)?;
        if own.not_after() <= now {
            // The leeway is for others' clocks: by its own, an issuer is in time or late.
            return Err(Refusal::IssuerExpired {
                begins: own.not_before(),
                ends: own.not_after(),
                now,
            });
        }
        let void = known.revocations().serial_max(&grant.host);
        let next = self.ledger.last_serial().next();
        grant.serial = Serial::at(now).max(next).max(void.next());
        // No longer than its issuer's own: it would count for nothing then.
        let lifetime = self.config.lifetime.min(MEMBERSHIP_LIFETIME_MAX);
        let validity = Validity::lasting(now, lifetime).ending_by(own.not_after());
        grant.not_after = validity.not_after();
        let certificate = Certificate {
            network: self.config.network,
            issuer: self.certificate.issuer,
            host: grant.host,
            name: grant.name.clone(),
            site: grant.site.clone(),
            roles: grant.roles.clone(),
            blocks: grant.blocks.clone(),
            serial: grant.serial,
            validity,
        };
        let key = &self.config.key;
        let credential = Credential {
            issuer: self.config.credential.clone(),
            certificate: key.sign(MEMBERSHIP_CERTIFICATE, &certificate.to_wire()),
        };
        let records = vec![self.ledger.record(IssuerRecord::Grant(grant))];
        Ok(Issued {
            credential,
            certificate,
            records,
        })
    }

    /// Takes a host out of the network, whoever admitted it.
    ///
    /// The invitation that it came by ends, too, for it knows the secret. Its blocks rest until
    /// [`Issuer::release`]. The revocation goes to [`Membership::revoke`] and to every host; it must
    /// be as durable as the records.
    pub fn revoke(
        &mut self,
        host: HostId,
        known: &Membership,
        now: WallTime,
    ) -> (Revocation, Vec<IssuerRecord>) {
        let shown = known.member(&host).map(|member| member.certificate.serial);
        let grant = self.ledger.grant(&host).cloned();
        let given = grant.as_ref().map(|grant| grant.serial);
        let serial = shown.max(given).unwrap_or(Serial::NONE);
        let (key, network) = (&self.config.key, self.config.network);
        let signer = Signer::Issuer(&self.config.credential);
        let revocation = Revocation::sign(key, signer, network, host, serial, now);
        let mut records = Vec::new();
        if let Some(mut grant) = grant {
            grant.revoked = true;
            let token = grant.token.take();
            records.push(self.ledger.record(IssuerRecord::Grant(grant)));
            records.extend(token.and_then(|token| self.withdraw(token)));
        }
        (revocation, records)
    }

    /// Every grant, those that rest too; no more than its range has blocks.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.ledger.grants()
    }

    /// What was granted to hosts that are revoked, or whose certificates have run out: their blocks
    /// rest.
    pub fn resting(&self, now: WallTime) -> impl Iterator<Item = &Grant> {
        self.ledger.grants().filter(move |grant| grant.rests(now))
    }

    /// Makes the blocks of a resting host free for others, once no binding of theirs lives anywhere;
    /// `None` if the host does not rest.
    pub fn release(&mut self, host: HostId, now: WallTime) -> Option<IssuerRecord> {
        self.ledger.grant(&host).filter(|grant| grant.rests(now))?;
        Some(self.ledger.record(IssuerRecord::GrantReleased(host)))
    }
}

/// Where and as what a host is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: HostName,
    /// Where it is.
    pub site: SitePath,
    /// What it does for others.
    pub roles: BTreeSet<Role>,
}

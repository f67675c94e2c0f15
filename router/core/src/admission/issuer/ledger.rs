//! The issuer's ledger: who was invited, who holds which name and which blocks.

use crate::address::Ipv4Block;
use crate::admission::blocks::BlockMap;
use crate::admission::certificate::{CLOCK_LEEWAY, Serial};
use crate::admission::network::Role;
use crate::admission::refusal::Refusal;
use crate::admission::token::TokenId;
use crate::host::HostId;
use crate::name::{HostName, SitePath};
use crate::wall_time::WallTime;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many invitations are remembered: far more than an operator has open at a time.
const INVITATIONS_MAX: usize = 1_024;

/// How long an expired invitation is remembered, so that who comes late is told so: a week.
const EXPIRED_REMEMBERED: Duration = Duration::from_secs(7 * 86_400);

/// A token that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Which.
    pub token: TokenId,
    /// Of what only the token says.
    pub(super) secret_hash: [u8; 32],
    /// Where its hosts will be.
    pub site: SitePath,
    /// What they will do for others.
    pub roles: BTreeSet<Role>,
    /// The last second in which it can be used.
    pub expires: WallTime,
    /// By how many hosts more.
    pub uses_left: u32,
}

/// What a host was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Grant {
    /// Which host.
    pub host: HostId,
    /// Its name.
    pub name: HostName,
    /// Where it is.
    pub site: SitePath,
    /// What it does for others.
    pub roles: BTreeSet<Role>,
    /// The addresses that it gives to its identities.
    pub blocks: Vec<Ipv4Block>,
    /// By which invitation it came; `None` if by none that could be used again.
    pub token: Option<TokenId>,
    /// Of its last certificate.
    pub serial: Serial,
    /// When that ends.
    pub not_after: WallTime,
    /// Whether it was taken out; then its name is free.
    pub revoked: bool,
}

impl Grant {
    /// Whether nobody takes a certificate of it for valid any more, as slow as its clock may be.
    pub fn rests(&self, now: WallTime) -> bool {
        self.revoked || now > self.not_after + CLOCK_LEEWAY * 2
    }
}

/// A durable change of an issuer. Each replaces what an earlier one said of the same token or host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssuerRecord {
    /// An invitation as it is now.
    Invitation(Invitation),
    /// An invitation is over and forgotten.
    InvitationForgotten(TokenId),
    /// A grant as it is now.
    Grant(Grant),
    /// A host's name and blocks are free.
    GrantReleased(HostId),
}

/// Who was invited and who holds what; no two hosts hold one name or one address.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    invitations: BTreeMap<TokenId, Invitation>,
    grants: BTreeMap<HostId, Grant>,
    names: BTreeMap<HostName, HostId>,
    blocks: BlockMap,
    /// The highest that was ever given.
    last_serial: Serial,
    /// The block that was given last: the search goes on behind it, so that the longest unused comes
    /// first.
    last_block: Option<Ipv4Block>,
}

impl Ledger {
    /// Applies a change and hands it back to be journalled.
    pub(super) fn record(&mut self, record: IssuerRecord) -> IssuerRecord {
        self.apply(record.clone());
        record
    }

    /// Applies a change.
    pub(super) fn apply(&mut self, record: IssuerRecord) {
        match record {
            IssuerRecord::Invitation(invitation) => {
                self.invitations.insert(invitation.token, invitation);
            }
            IssuerRecord::InvitationForgotten(token) => {
                self.invitations.remove(&token);
            }
            IssuerRecord::Grant(grant) => self.put(grant),
            IssuerRecord::GrantReleased(host) => self.release(&host),
        }
    }

    fn put(&mut self, grant: Grant) {
        let known = self.grants.contains_key(&grant.host);
        self.release(&grant.host);
        if !grant.revoked {
            self.names.insert(grant.name.clone(), grant.host);
        }
        for block in &grant.blocks {
            self.blocks.insert(*block, grant.host);
        }
        if grant.serial > self.last_serial {
            self.last_serial = grant.serial;
            if !known {
                self.last_block = grant.blocks.last().copied();
            }
        }
        self.grants.insert(grant.host, grant);
    }

    fn release(&mut self, host: &HostId) {
        let Some(grant) = self.grants.remove(host) else {
            return;
        };
        if !grant.revoked {
            self.names.remove(&grant.name);
        }
        for block in grant.blocks {
            self.blocks.remove(block);
        }
    }

    /// Records from which an equal ledger is made, the oldest grants first.
    pub(super) fn records(&self) -> impl Iterator<Item = IssuerRecord> {
        let mut grants: Vec<&Grant> = self.grants.values().collect();
        grants.sort_by_key(|grant| grant.serial);
        let grants = grants.into_iter().cloned().map(IssuerRecord::Grant);
        let invitations = self.invitations.values().cloned();
        invitations.map(IssuerRecord::Invitation).chain(grants)
    }

    /// Forgets what expired long ago, and, if that is not enough, what can be used no more; how many
    /// there are if all are open.
    pub(super) fn make_room(&mut self, now: WallTime) -> Result<Vec<IssuerRecord>, usize> {
        let old = |it: &&Invitation| it.expires + EXPIRED_REMEMBERED < now;
        let mut forgotten: Vec<TokenId> =
            self.invitations().filter(old).map(|it| it.token).collect();
        if self.invitations.len() - forgotten.len() >= INVITATIONS_MAX {
            let over = |it: &&Invitation| it.uses_left == 0 || it.expires < now;
            forgotten = self.invitations().filter(over).map(|it| it.token).collect();
        }
        if self.invitations.len() - forgotten.len() >= INVITATIONS_MAX {
            return Err(INVITATIONS_MAX);
        }
        let forgotten = forgotten.into_iter().map(IssuerRecord::InvitationForgotten);
        Ok(forgotten.map(|record| self.record(record)).collect())
    }

    pub(super) fn invitations(&self) -> impl Iterator<Item = &Invitation> {
        self.invitations.values()
    }

    pub(super) fn invitation(&self, token: TokenId) -> Option<&Invitation> {
        self.invitations.get(&token)
    }

    pub(super) fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }

    pub(super) fn grant(&self, host: &HostId) -> Option<&Grant> {
        self.grants.get(host)
    }

    /// The blocks that a host holds or that rest for it.
    pub(super) fn blocks_of(&self, host: &HostId) -> Option<Vec<Ipv4Block>> {
        self.grant(host).map(|grant| grant.blocks.clone())
    }

    pub(super) fn last_serial(&self) -> Serial {
        self.last_serial
    }

    /// Refuses `host` a name that another host was given.
    pub(super) fn check_name(&self, host: &HostId, name: &HostName) -> Result<(), Refusal> {
        match self.names.get(name).filter(|holder| *holder != host) {
            Some(holder) => Err(Refusal::NameTaken {
                name: name.clone(),
                holder: *holder,
            }),
            None => Ok(()),
        }
    }

    /// The first block behind the last one given, round `range`, that nobody was granted and that is
    /// `free` otherwise.
    pub(super) fn next_block(
        &self,
        range: Ipv4Block,
        prefix: u8,
        free: impl Fn(&Ipv4Block) -> bool,
    ) -> Option<Ipv4Block> {
        let granted = |block: &Ipv4Block| self.blocks.is_taken(*block);
        let last = self.last_block.map(Ipv4Block::last);
        let behind = |block: &Ipv4Block| last.is_none_or(|last| block.base() > last);
        let ahead = range.parts(prefix).filter(behind);
        let around = range.parts(prefix).filter(|block| !behind(block));
        ahead
            .chain(around)
            .find(|block| !granted(block) && free(block))
    }
}

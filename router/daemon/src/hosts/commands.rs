//! What operators want of the network: to invite and to take out hosts, and to see them.

use super::errand::commit;
use super::{Hosts, wall_time};
use crate::journal::{MembershipRecord, random};
use crate::protocol::Invitation;
use crate::world::World;
use anyhow::{Context, Result, bail};
use margay_core::admission::{Counter, Issuer, Role, TOKEN_ADDRESSES_MAX, Terms, Token};
use margay_core::host::HostId;
use margay_core::moment::Moment;
use serde_json::{Value, json};
use std::time::Duration;

/// Makes a token.
pub async fn invite(world: &World, invitation: Invitation) -> Result<Value> {
    if invitation.site.is_empty() {
        bail!("--site names no site; write one such as `paris` or `paris.eu`");
    }
    let terms = Terms {
        site: invitation.site.parse()?,
        roles: invitation
            .roles
            .iter()
            .map(|role| role.parse())
            .collect::<Result<_, _>>()?,
        lifetime: Duration::from_secs(invitation.lifetime_s),
        uses: invitation.uses,
    };
    let seed = random::<32>()?;
    let invited = world
        .router
        .hosts(move |hosts, _, _| hosts.invite(&terms, &seed));
    let (token, records) = invited.await??;
    commit(world, records).await.context("nobody was invited")?;
    Ok(json!(token.to_string()))
}

/// Takes a host out.
pub async fn revoke(world: &World, host: String) -> Result<Value> {
    let name = host.clone();
    let revoked = world.router.hosts(move |hosts, _, _| hosts.revoke(&host));
    let (revocation, mut records) = revoked.await??;
    records.push(MembershipRecord::Revoked(revocation.clone()));
    commit(world, records)
        .await
        .context("nobody was taken out")?;
    let spread = world
        .router
        .hosts(move |hosts, _, now| hosts.spread(&revocation, now));
    spread.await??;
    Ok(json!(format!(
        "{name} is taken out; the other hosts are told, and those that are away learn of it when \
         they are back"
    )))
}

/// Lists the members.
pub async fn members(world: &World) -> Result<Value> {
    let roster = world.router.hosts(|hosts, _, _| hosts.roster()).await?;
    Ok(serde_json::to_value(roster)?)
}

impl Hosts {
    fn invite(&mut self, terms: &Terms, seed: &[u8; 32]) -> Result<(Token, Vec<MembershipRecord>)> {
        if terms.roles.contains(&Role::Issuer) {
            bail!(
                "nobody becomes an issuer by a token: that is who founded the network; \
                 `--role operator` is for a host where compositions are applied and deleted"
            );
        }
        let mut addresses = self.own.addresses.clone();
        addresses.truncate(TOKEN_ADDRESSES_MAX);
        let counter = Counter {
            link_key: self.own.keys.link_key(),
            addresses,
        };
        let issuer = self.issuer_mut()?;
        let (token, records) = issuer.invite(terms, &counter, seed, wall_time())?;
        let records = records.into_iter().map(MembershipRecord::Issued).collect();
        Ok((token, records))
    }

    fn revoke(&mut self, host: &str) -> Result<(Vec<u8>, Vec<MembershipRecord>)> {
        let host = self.find(host)?;
        if host == self.own.keys.host.public() {
            bail!("this host does not take itself out: nobody else could let hosts in");
        }
        self.issuer_mut()?;
        let issuer = self.issuer.as_mut().context("no issuer")?;
        let (revocation, records) = issuer.revoke(host, &self.membership, wall_time());
        let records = records.into_iter().map(MembershipRecord::Issued).collect();
        Ok((revocation.bytes, records))
    }

    /// Tells everybody of a revocation that was made here and is durable.
    fn spread(&mut self, revocation: &[u8], now: Moment) -> Result<()> {
        self.membership.revoke(revocation, wall_time())?;
        self.news_of_revocation(revocation, None, now);
        Ok(())
    }

    fn issuer_mut(&mut self) -> Result<&mut Issuer> {
        let issuer = self.issuer.as_mut();
        issuer.context(
            "this host is no issuer; run this on one, as `margay members` shows them by their role",
        )
    }

    /// Finds a host by its name or its ID: a member, or somebody whom this issuer admitted.
    fn find(&self, host: &str) -> Result<HostId> {
        if let Ok(id) = host.parse::<HostId>() {
            return Ok(id);
        }
        let name = host.parse()?;
        if let Some(member) = self.membership.named(&name) {
            return Ok(member.certificate.host);
        }
        let mut grants = self.issuer.iter().flat_map(Issuer::grants);
        let granted = grants.find(|grant| grant.name == name && !grant.revoked);
        let granted = granted.map(|grant| grant.host);
        granted
            .with_context(|| format!("no member is called `{host}`; `margay members` lists them"))
    }
}

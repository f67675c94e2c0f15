//! Who this host is in its network, as the state directory says it.

use crate::directories::Directories;
use crate::hosts::errand::data_port;
use crate::hosts::{secret_file, wall_time};
use crate::journal::{Entry, RecordedMembership};
use anyhow::{Context, Result};
use margay_core::address::{AddressPlan, Ipv4Block};
use margay_core::admission::{
    BLOCK_PREFIX, Certificate, Contact, Credential, Issuer, IssuerConfig, IssuerCredential,
    LinkKey, MEMBERSHIP_LIFETIME, Membership, introduce,
};
use margay_core::host::OriginEpoch;
use margay_core::router::{OwnHost, RouterConfig};
use margay_core::signature::PrivateKey;
use margay_datapath::host_link::NoisePrivateKey;
use margay_datapath::object::NetworkIdentity;
use std::net::SocketAddr;

/// How many contacts a host may sign in one life before they look like the next life's: renewals,
/// twice a week at most.
const CONTACTS_A_LIFE_BITS: u32 = 20;

/// A host's two keys.
#[derive(Clone, Debug)]
pub struct Keys {
    /// By which it is known.
    pub host: PrivateKey,
    /// Of its host link.
    pub link: NoisePrivateKey,
}

impl Keys {
    /// Reads the keys, or draws them.
    pub fn read_or_make(directories: &Directories) -> Result<Keys> {
        let host = secret_file::read_or_make(&directories.host_key())?;
        let link = secret_file::read_or_make(&directories.link_key())?;
        Ok(Keys {
            host: PrivateKey::from_bytes(&host),
            link: NoisePrivateKey::from_bytes(link),
        })
    }

    /// The public key of the host link, as certificates and tokens name it.
    pub fn link_key(&self) -> LinkKey {
        LinkKey(*self.link.public().as_bytes())
    }
}

/// Who this host is in its network, and what it knows of the others.
pub struct Identity {
    /// Its keys.
    pub keys: Keys,
    /// As what it belongs to the network.
    pub entry: Entry,
    /// What shows that it does.
    pub credential: Credential,
    /// What that says.
    pub certificate: Certificate,
    /// Where its host link listens.
    pub addresses: Vec<SocketAddr>,
    /// Which life it is.
    pub epoch: OriginEpoch,
    /// How many contacts it signed in this life.
    contacts: u64,
}

impl Identity {
    /// Opens what was recorded, with the membership as it was known last and the issuer that this
    /// host is, if it is one.
    pub fn open(
        keys: Keys,
        recorded: &RecordedMembership,
        addresses: Vec<SocketAddr>,
        epoch: OriginEpoch,
    ) -> Result<(Identity, Membership, Option<Issuer>)> {
        let now = wall_time();
        let network = recorded.entry.network;
        let mut membership = Membership::new(network);
        for revocation in &recorded.revocations {
            if let Err(error) = membership.revoke(revocation, now) {
                tracing::debug!(%error, "a revocation is not needed any more");
            }
        }
        let credential = Credential::from_bytes(&recorded.credential)?;
        let certificate = credential
            .verify(network, membership.revocations(), now)
            .context(
                "this host's certificate does not hold; join again with a new token \
                 (`margay invite` on an issuer, `margay join TOKEN` here)",
            )?;
        for introduction in &recorded.introductions {
            if let Err(refusal) = membership.learn(introduction, now) {
                tracing::debug!(%refusal, "a member of before is none any more");
            }
        }
        let issuer = issuer_of(&keys, recorded)?;
        let mut identity = Identity {
            keys,
            entry: recorded.entry.clone(),
            credential,
            certificate,
            addresses,
            epoch,
            contacts: 0,
        };
        let own = identity.introduction();
        membership
            .learn(&own, now)
            .context("this host does not know itself as a member")?;
        Ok((identity, membership, issuer))
    }

    /// Takes a newer certificate.
    pub fn renew(&mut self, credential: Credential, certificate: Certificate) {
        self.credential = credential;
        self.certificate = certificate;
    }

    /// What this host shows to others from now on.
    pub fn introduction(&mut self) -> Vec<u8> {
        self.contacts += 1;
        let contact = Contact {
            link_key: self.keys.link_key(),
            addresses: self.addresses.clone(),
            sequence: (self.epoch.0 << CONTACTS_A_LIFE_BITS) + self.contacts,
        };
        introduce(
            &self.keys.host,
            &self.credential,
            &self.certificate,
            &contact,
        )
    }
}

fn issuer_of(keys: &Keys, recorded: &RecordedMembership) -> Result<Option<Issuer>> {
    let Some(credential) = &recorded.entry.issuer else {
        return Ok(None);
    };
    let config = issuer_config(
        keys,
        &recorded.entry,
        IssuerCredential::from_bytes(credential)?,
    );
    let issuer = Issuer::new(config, recorded.issued.iter().cloned());
    Ok(Some(issuer.context("this host cannot be an issuer")?))
}

fn issuer_config(keys: &Keys, entry: &Entry, credential: IssuerCredential) -> IssuerConfig {
    IssuerConfig {
        key: keys.host.clone(),
        credential,
        network: entry.network,
        block_prefix: BLOCK_PREFIX,
        lifetime: MEMBERSHIP_LIFETIME,
    }
}

/// What a Router is told of the network that its host belongs to.
pub fn router_config(
    recorded: Option<&RecordedMembership>,
    keys: &Keys,
    network_key: [u8; 32],
) -> RouterConfig {
    let Some(RecordedMembership { entry, .. }) = recorded else {
        return RouterConfig::new(network_key, Ipv4Block::DEFAULT);
    };
    RouterConfig {
        site: entry.site.clone(),
        host: Some(OwnHost {
            id: keys.host.public(),
            name: entry.name.clone(),
        }),
        ..RouterConfig::new(entry.network.address_key(), entry.block)
    }
}

/// By what the kernel knows packets of other hosts, if this one has any.
pub fn kernel_identity(
    recorded: Option<&RecordedMembership>,
    underlay: &[SocketAddr],
) -> Option<NetworkIdentity> {
    let entry = &recorded?.entry;
    Some(NetworkIdentity {
        data_port: data_port(underlay.first()?.port()),
        v4_pool: Ipv4Block::DEFAULT,
        v6_prefix: AddressPlan::new(&entry.network.address_key(), entry.block).v6,
    })
}

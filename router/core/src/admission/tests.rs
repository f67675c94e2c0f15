//! Admission as a whole: networks, issuers and hosts made in memory.

mod decoders;
mod issuing;
mod membership;
mod refusals;
mod revocations;
mod sizes;
mod tokens;
mod walk;

use super::certificate::{MEMBERSHIP_CERTIFICATE, Phase};
use super::*;
use crate::address::Ipv4Block;
use crate::host::HostId;
use crate::signature::PrivateKey;
use crate::wall_time::WallTime;
use std::collections::BTreeSet;
use std::time::Duration;

/// When the tests' networks are founded.
const FOUNDED: WallTime = WallTime::from_unix_seconds(1_800_000_000);

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn block(text: &str) -> Ipv4Block {
    text.parse().unwrap()
}

/// A host before anybody admitted it.
#[derive(Clone)]
struct Host {
    key: PrivateKey,
    link_key: LinkKey,
}

impl Host {
    fn new(number: u8) -> Self {
        Host {
            key: PrivateKey::from_bytes(&[number; 32]),
            link_key: LinkKey([number; 32]),
        }
    }

    fn id(&self) -> HostId {
        self.key.public()
    }

    fn contact(&self, sequence: u64) -> Contact {
        Contact {
            link_key: self.link_key,
            addresses: vec!["192.0.2.1:4600".parse().unwrap()],
            sequence,
        }
    }

    fn introduce(&self, issued: &Issued, sequence: u64) -> Vec<u8> {
        let contact = self.contact(sequence);
        introduce(&self.key, &issued.credential, &issued.certificate, &contact)
    }
}

/// An issuer, what its host knows, and the root.
struct World {
    root: Root,
    desk: Host,
    issuer: Issuer,
    known: Membership,
}

fn root(number: u8) -> Root {
    Root::new(PrivateKey::from_bytes(&[number; 32]))
}

fn config(root: &Root, desk: &Host, range: &str, known: &Membership) -> IssuerConfig {
    let credential = root.certify(desk.id(), block(range), known, FOUNDED);
    IssuerConfig {
        key: desk.key.clone(),
        credential: credential.unwrap(),
        network: root.network(),
        block_prefix: BLOCK_PREFIX,
        lifetime: MEMBERSHIP_LIFETIME,
    }
}

impl World {
    fn new() -> Self {
        World::of(root(100), Host::new(101), "100.64.0.0/12")
    }

    fn of(root: Root, desk: Host, range: &str) -> Self {
        let known = Membership::new(root.network());
        let config = config(&root, &desk, range, &known);
        let issuer = Issuer::new(config, []).unwrap();
        World {
            root,
            desk,
            issuer,
            known,
        }
    }

    /// Admits a host without a token.
    fn admit(&mut self, host: &Host, name: &str) -> Issued {
        self.issuer
            .admit(host.id(), place(name), &self.known, FOUNDED)
            .unwrap()
    }

    /// A host with its introduction.
    fn member(&mut self, number: u8, name: &str) -> (Host, Vec<u8>) {
        let host = Host::new(number);
        let issued = self.admit(&host, name);
        let introduction = host.introduce(&issued, 1);
        (host, introduction)
    }

    fn check(&self, introduction: &[u8], now: WallTime) -> Result<Member, Refusal> {
        verify(
            introduction,
            self.root.network(),
            self.known.revocations(),
            now,
        )
    }

    /// Signs what no proper issuer would.
    fn forge(&self, certificate: &Certificate) -> Credential {
        self.desk_signs(&certificate.to_wire())
    }

    fn desk_signs(&self, message: &crate::wire::margay::admission::Certificate) -> Credential {
        Credential {
            issuer: self.issuer_credential(),
            certificate: self.desk.key.sign(MEMBERSHIP_CERTIFICATE, message),
        }
    }

    fn issuer_credential(&self) -> IssuerCredential {
        let range = self.issuer.certificate().range;
        let nobody = Membership::new(self.root.network());
        let credential = self.root.certify(self.desk.id(), range, &nobody, FOUNDED);
        credential.unwrap()
    }

    fn invite(&mut self, uses: u32, lifetime: Duration, seed: u8) -> Token {
        let terms = Terms {
            site: "rack1.paris".parse().unwrap(),
            roles: BTreeSet::from([Role::Gateway]),
            lifetime,
            uses,
        };
        let counter = Counter {
            link_key: self.desk.link_key,
            addresses: vec!["192.0.2.7:4600".parse().unwrap()],
        };
        let invited = self.issuer.invite(&terms, &counter, &[seed; 32], FOUNDED);
        invited.unwrap().0
    }

    fn redeem(
        &mut self,
        host: &Host,
        token: &Token,
        name: &str,
        now: WallTime,
    ) -> Result<Issued, Refusal> {
        let asked = ask_to_join(&host.key, host.link_key, token, &name.parse().unwrap());
        let request = JoinRequest::open(&asked, self.root.network(), host.link_key)?;
        self.issuer.redeem(&request, &self.known, now)
    }
}

fn place(name: &str) -> Place {
    Place {
        name: name.parse().unwrap(),
        site: "rack1.paris".parse().unwrap(),
        roles: BTreeSet::new(),
    }
}

//! An issuer that the root of a lab's network certified, in the hands of a test.

use super::{Keys, PORT, secret};
use crate::site::ROOT;
use margay_core::address::Ipv4Block;
use margay_core::admission::{
    Certificate, Counter, Credential, Issuer, IssuerConfig, MEMBERSHIP_LIFETIME, Membership,
    NetworkId, Place, Role, Root, Terms, Token,
};
use margay_core::host::HostId;
use margay_core::name::SitePath;
use margay_core::signature::PrivateKey;
use margay_core::wall_time::WallTime;
use margay_tests::lab::Lab;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Issues certificates like any issuer, out of the range that its test chose.
pub struct Desk {
    issuer: Issuer,
    network: NetworkId,
}

impl Desk {
    /// Takes the root key out that `founder` wrote, and certifies the rogue as an issuer for `range`.
    pub fn open(lab: &Lab, founder: &str, range: &str) -> Desk {
        let now = wall_time();
        let root = std::fs::read_to_string(lab.host(founder).inside(ROOT)).unwrap();
        let root = Root::new(PrivateKey::from_bytes(&secret(&root)));
        let network = root.network();
        let key = Keys::rogue().host;
        let range: Ipv4Block = range.parse().unwrap();
        // Nobody tells it of the founder's range: the ranges may overlap, by a person's mistake.
        let known = Membership::new(network);
        let config = IssuerConfig {
            credential: root.certify(key.public(), range, &known, now).unwrap(),
            key,
            network,
            block_prefix: range.prefix().max(20),
            lifetime: MEMBERSHIP_LIFETIME,
        };
        Desk {
            issuer: Issuer::new(config, []).unwrap(),
            network,
        }
    }

    /// Of which network it is.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// A token for a host that shall come to the rogue, which is at `place`, and the issuer that will
    /// let it in.
    pub fn invite(mut self, lab: &Lab, place: &str) -> (Token, Issuer) {
        let terms = Terms {
            site: "paris".parse().unwrap(),
            roles: BTreeSet::new(),
            lifetime: Duration::from_secs(600),
            uses: 1,
        };
        let counter = Counter {
            link_key: Keys::rogue().link_key(),
            addresses: vec![SocketAddr::new(lab.addresses(place)[0], PORT)],
        };
        let invited = self.issuer.invite(&terms, &counter, &[7; 32], wall_time());
        (invited.unwrap().0, self.issuer)
    }

    /// What shows that a host belongs to the network.
    pub fn certify(
        &mut self,
        host: HostId,
        name: &str,
        site: &SitePath,
        roles: BTreeSet<Role>,
    ) -> (Credential, Certificate) {
        let place = Place {
            name: name.parse().unwrap(),
            site: site.clone(),
            roles,
        };
        let known = Membership::new(self.network);
        let issued = self.issuer.admit(host, place, &known, wall_time()).unwrap();
        (issued.credential, issued.certificate)
    }
}

/// The time of day.
pub fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    WallTime::from_unix_seconds(since.as_secs())
}

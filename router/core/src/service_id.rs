//! Service IDs: what first packets are routed by, structured so that a prefix names a scope.

use crate::name::{AutomatonName, SiteName, SitePath, ZONE};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::iter;
use std::str::FromStr;

const SERVICE_ID_BYTES: usize = 32;
const SERVICE_ID_BITS: u16 = 256;

/// Where the site scope begins: after the zone's 32 bits.
const SITE_START: usize = 4;

/// How many tiers of a site's path have a part of their own: leaf, two middle tiers and root.
const SITE_TIERS: usize = 4;

/// Three bytes a tier: among 500 sites below one parent, fewer than one network in a hundred sees
/// two share a prefix, and even then their services' parts differ.
const TIER_BYTES: usize = 3;

/// Where the service's part begins: 128 bits, so that not even malice finds two alike.
const SERVICE_START: usize = SITE_START + SITE_TIERS * TIER_BYTES;

/// The prefix-structured hash of a service's name, matched by longest prefix.
///
/// | bytes | bits | part | content |
/// |---|---|---|---|
/// | 0..4 | 0..32 | zone | hash of the zone |
/// | 4..7 | 32..56 | site scope | hash of the path's outermost tier |
/// | 7..10 | 56..80 | site scope | hash of the two outermost tiers |
/// | 10..13 | 80..104 | site scope | hash of the three outermost tiers |
/// | 13..16 | 104..128 | site scope | hash of the whole path if it has four tiers or more |
/// | 16..32 | 128..256 | service | hash of zone, whole path and service name |
///
/// Tiers that the path does not have are zero: a service that is bound to no site has a zero scope.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceId([u8; SERVICE_ID_BYTES]);

impl ServiceId {
    /// The ID of `service` as seen in `site` (empty: in the whole network).
    pub fn of(site: &SitePath, service: &AutomatonName) -> Self {
        let mut id = scope(site);
        let labels = site.tiers().iter().map(SiteName::as_str);
        let digest = hash("service", labels.chain(iter::once(service.as_str())));
        id[SERVICE_START..].copy_from_slice(&digest[..SERVICE_ID_BYTES - SERVICE_START]);
        ServiceId(id)
    }

    /// Its bytes, the most significant first.
    pub fn as_bytes(&self) -> &[u8; SERVICE_ID_BYTES] {
        &self.0
    }

    /// This ID with everything after its first `bits` bits cleared.
    pub fn masked(mut self, bits: u16) -> Self {
        for (index, byte) in (0u16..).zip(&mut self.0) {
            let kept = bits.saturating_sub(index * 8).min(8);
            *byte &= !0xff_u8.checked_shr(kept.into()).unwrap_or(0);
        }
        self
    }
}

/// Zone and site scope of an ID whose service part is still zero.
fn scope(site: &SitePath) -> [u8; SERVICE_ID_BYTES] {
    let mut id = [0; SERVICE_ID_BYTES];
    id[..SITE_START].copy_from_slice(&hash("zone", iter::empty())[..SITE_START]);
    let tiers = site.tiers();
    let parts = id[SITE_START..SERVICE_START].chunks_exact_mut(TIER_BYTES);
    for (index, part) in parts.enumerate().take(tiers.len()) {
        let last = index + 1 == SITE_TIERS;
        let covered = if last { tiers } else { &tiers[..=index] };
        let digest = hash("site", covered.iter().map(SiteName::as_str));
        part.copy_from_slice(&digest[..TIER_BYTES]);
    }
    id
}

/// SHA-256 of purpose, zone and labels; none of them can hold the zero byte that parts them.
fn hash<'a>(purpose: &'a str, labels: impl Iterator<Item = &'a str>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for text in ["margay service id", purpose, ZONE]
        .into_iter()
        .chain(labels)
    {
        hasher.update(text);
        hasher.update([0]);
    }
    hasher.finalize().into()
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceId({self})")
    }
}

/// Why a text is no service ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no service ID; write its 64 hexadecimal digits")]
pub struct ServiceIdError(String);

impl FromStr for ServiceId {
    type Err = ServiceIdError;
    fn from_str(text: &str) -> Result<Self, ServiceIdError> {
        crate::hexadecimal::read(text)
            .map(ServiceId)
            .ok_or_else(|| ServiceIdError(text.to_owned()))
    }
}

impl TryFrom<String> for ServiceId {
    type Error = ServiceIdError;
    fn try_from(text: String) -> Result<Self, ServiceIdError> {
        text.parse()
    }
}

impl From<ServiceId> for String {
    fn from(id: ServiceId) -> String {
        id.to_string()
    }
}

/// All service IDs that begin alike: a zone, a site with all below it, or one service.
///
/// Ordered by ID, then by length: a prefix comes before everything that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceIdPrefix {
    id: ServiceId,
    bits: u16,
}

impl ServiceIdPrefix {
    /// The first `bits` bits of `id` (all of them if `bits` is above 256).
    pub fn new(id: ServiceId, bits: u16) -> Self {
        let bits = bits.min(SERVICE_ID_BITS);
        ServiceIdPrefix {
            id: id.masked(bits),
            bits,
        }
    }

    /// Exactly one service.
    pub fn service(id: ServiceId) -> Self {
        ServiceIdPrefix::new(id, SERVICE_ID_BITS)
    }

    /// Every service of `site` and of the sites below it; of the whole zone if `site` is empty.
    ///
    /// A site at the fourth tier or deeper covers itself only: there the ID has no more room.
    pub fn site(site: &SitePath) -> Self {
        let tiers = site.tiers().len().min(SITE_TIERS);
        let bits = (0u16..).step_by(8).nth(SITE_START + tiers * TIER_BYTES);
        ServiceIdPrefix::new(ServiceId(scope(site)), bits.unwrap_or(SERVICE_ID_BITS))
    }

    /// Every service of the zone.
    pub fn zone() -> Self {
        ServiceIdPrefix::site(&SitePath::everywhere())
    }

    /// Whether `id` begins with this prefix.
    pub fn covers(&self, id: ServiceId) -> bool {
        id.masked(self.bits) == self.id
    }

    /// The bits that count; all others are zero.
    pub fn id(&self) -> ServiceId {
        self.id
    }

    /// How many bits count, 0 to 256.
    pub fn bits(&self) -> u16 {
        self.bits
    }
}

impl fmt::Display for ServiceIdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> SitePath {
        text.parse().unwrap()
    }

    fn service(text: &str) -> AutomatonName {
        text.parse().unwrap()
    }

    fn any_path() -> impl Strategy<Value = SitePath> {
        proptest::collection::vec("[a-z]{1,6}", 0..7).prop_map(|tiers| path(&tiers.join(".")))
    }

    fn any_id() -> impl Strategy<Value = ServiceId> {
        any::<[u8; 32]>().prop_map(ServiceId)
    }

    /// The IDs are an interface between hosts: they must never change.
    #[test]
    fn ids_are_pinned() {
        let pinned = [
            (
                "",
                "web",
                "99d04d710000000000000000000000008ee78da0010e89a0194559a72fc7a5dc",
            ),
            (
                "paris",
                "web",
                "99d04d71b4537e000000000000000000d799494e73d60ea02d7400695a2f8361",
            ),
            (
                "e.d.c.b.a",
                "web",
                "99d04d716add7967859ee53b3dfe7b81a7ca67f06e2f1f02f44d246f711a4381",
            ),
        ];
        for (site, name, id) in pinned {
            assert_eq!(ServiceId::of(&path(site), &service(name)).to_string(), id);
        }
    }

    #[test]
    fn service_without_a_site_has_a_zero_scope() {
        let id = ServiceId::of(&SitePath::everywhere(), &service("web"));
        assert_eq!(id.as_bytes()[SITE_START..SERVICE_START], [0; 12]);
    }

    #[test]
    fn label_borders_count() {
        let one = ServiceId::of(&path("ab.c"), &service("web"));
        let other = ServiceId::of(&path("a.bc"), &service("web"));
        assert_ne!(
            one.as_bytes()[SERVICE_START..],
            other.as_bytes()[SERVICE_START..]
        );
    }

    #[test]
    fn wrong_texts_are_refused() {
        let good = ServiceId::of(&path("paris"), &service("web")).to_string();
        for text in [
            "",
            "00",
            &good[1..],
            &good.replace('0', "g"),
            &format!("{good}00"),
        ] {
            assert_eq!(
                text.parse::<ServiceId>(),
                Err(ServiceIdError(text.to_owned()))
            );
        }
    }

    proptest! {
        #[test]
        fn zone_covers_site_covers_service(site in any_path(), name in "[a-z]{1,9}") {
            let id = ServiceId::of(&site, &service(&name));
            prop_assert!(ServiceIdPrefix::zone().covers(id));
            prop_assert!(ServiceIdPrefix::site(&site).covers(id));
            prop_assert!(ServiceIdPrefix::service(id).covers(id));
            prop_assert!(ServiceIdPrefix::zone() <= ServiceIdPrefix::site(&site));
            prop_assert!(ServiceIdPrefix::site(&site) < ServiceIdPrefix::service(id));
        }

        #[test]
        fn site_covers_what_lies_below_it_and_no_sibling(
            outer in "[a-z]{1,6}", inner in "[a-z]{1,6}", other in "[a-z]{7}",
        ) {
            let above = ServiceIdPrefix::site(&path(&outer));
            let below = ServiceId::of(&path(&format!("{inner}.{outer}")), &service("web"));
            let aside = ServiceId::of(&path(&other), &service("web"));
            prop_assert!(above.covers(below));
            prop_assert!(!above.covers(aside));
        }

        #[test]
        fn different_services_have_different_ids(a in "[a-z]{1,4}", b in "[a-z]{5}", site in any_path()) {
            let id = |name: &str| ServiceId::of(&site, &service(name));
            prop_assert_ne!(id(&a), id(&b));
            prop_assert!(!ServiceIdPrefix::service(id(&a)).covers(id(&b)));
        }

        #[test]
        fn prefix_covers_exactly_what_begins_alike(id in any_id(), bits in 0u16..=256, flip in 0usize..256) {
            let prefix = ServiceIdPrefix::new(id, bits);
            let mut other = id;
            other.0[flip / 8] ^= 0x80 >> (flip % 8);
            prop_assert!(prefix.covers(id));
            prop_assert_eq!(prefix.covers(other), flip >= usize::from(bits));
        }

        #[test]
        fn prefix_comes_before_what_it_covers(id in any_id(), bits in 0u16..256, more in 1u16..=256) {
            let longer = (bits + more).min(256);
            prop_assert!(ServiceIdPrefix::new(id, bits) < ServiceIdPrefix::new(id, longer));
        }

        #[test]
        fn hexadecimal_reads_back(id in any_id()) {
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        }
    }
}

//! Proofs without a handshake: that a sender knows us, and that it is where it says.

use super::key::NoiseKey;
use super::message::{COOKIE_NONCE_BYTES, MAC_BYTES, SEALED_COOKIE_BYTES};
use super::noise::Secret;
use blake2::digest::consts::U16;
use blake2::digest::{Digest, Mac as _};
use blake2::{Blake2s256, Blake2sMac};
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use margay_core::moment::Moment;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a secret makes cookies; they are taken as long again.
pub const COOKIE_SECRET_LIFE: Duration = Duration::from_secs(120);

/// An authenticator, or a cookie, which is one over an address.
pub(super) type Tag = [u8; MAC_BYTES];

/// What concerns one host's public key: to know it is to make its `mac1` and to open its cookies.
#[derive(Clone, Debug)]
pub(super) struct Acquaintance {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
}

impl Acquaintance {
    pub fn new(key: NoiseKey) -> Self {
        let derive = |label: &[u8]| {
            let hash = Blake2s256::new().chain_update(label);
            hash.chain_update(key.as_bytes()).finalize().into()
        };
        Acquaintance {
            mac1_key: derive(b"margay link mac1"),
            cookie_key: derive(b"margay link cookie"),
        }
    }

    /// Proves knowledge of the key.
    pub fn mac1(&self, covered: &[u8]) -> Tag {
        tag(&self.mac1_key, &[covered])
    }

    /// Whether `mac1` does; takes the same time wherever it differs.
    pub fn knows(&self, covered: &[u8], mac1: &Tag) -> bool {
        is_tag(&self.mac1_key, &[covered], mac1)
    }

    /// Seals a cookie for the sender of the initiation with this `mac1`.
    pub fn seal_cookie(
        &self,
        cookie: &Tag,
        nonce: [u8; COOKIE_NONCE_BYTES],
        mac1: &Tag,
    ) -> [u8; SEALED_COOKIE_BYTES] {
        let mut sealed = [0; SEALED_COOKIE_BYTES];
        let (text, tag) = sealed.split_at_mut(MAC_BYTES);
        text.copy_from_slice(cookie);
        let sealing = self
            .cipher()
            .encrypt_in_place_detached(&XNonce::from(nonce), mac1, text);
        tag.copy_from_slice(&sealing.expect("a cookie is no longer than the cipher allows"));
        sealed
    }

    /// Opens a cookie that answers the initiation with this `mac1`.
    pub fn open_cookie(
        &self,
        sealed: &[u8; SEALED_COOKIE_BYTES],
        nonce: [u8; COOKIE_NONCE_BYTES],
        mac1: &Tag,
    ) -> Option<Tag> {
        let (text, tag) = sealed.split_first_chunk()?;
        let mut cookie: Tag = *text;
        self.cipher()
            .decrypt_in_place_detached(&XNonce::from(nonce), mac1, &mut cookie, tag.into())
            .ok()?;
        Some(cookie)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.cookie_key.into())
    }
}

/// Proves possession of a cookie.
pub(super) fn mac2(cookie: &Tag, covered: &[u8]) -> Tag {
    tag(cookie, &[covered])
}

/// Makes cookies and knows them again, without remembering whom it gave them to.
pub(super) struct CookieJar {
    secret: Secret,
    before: Secret,
    since: Moment,
}

impl CookieJar {
    pub fn new(secret: Secret, before: Secret, now: Moment) -> Self {
        CookieJar {
            secret,
            before,
            since: now,
        }
    }

    /// Takes a new secret once the old one is over.
    pub fn refresh(&mut self, draw: impl FnOnce() -> Secret, now: Moment) {
        if now.since(self.since) >= COOKIE_SECRET_LIFE {
            self.before = std::mem::replace(&mut self.secret, draw());
            self.since = now;
        }
    }

    /// The cookie of an address.
    pub fn cookie(&self, from: SocketAddr) -> Tag {
        cookie(&self.secret, from)
    }

    /// Whether whoever sent from this address was given a cookie there.
    pub fn proves(&self, from: SocketAddr, covered: &[u8], mac2: &Tag) -> bool {
        [&self.secret, &self.before]
            .into_iter()
            .any(|secret| is_tag(&cookie(secret, from), &[covered], mac2))
    }
}

fn cookie(secret: &Secret, from: SocketAddr) -> Tag {
    let port = from.port().to_be_bytes();
    match from.ip() {
        IpAddr::V4(ip) => tag(secret, &[&ip.octets(), &port]),
        IpAddr::V6(ip) => tag(secret, &[&ip.octets(), &port]),
    }
}

fn tag(key: &[u8], covered: &[&[u8]]) -> Tag {
    keyed(key, covered).finalize().into_bytes().into()
}

fn is_tag(key: &[u8], covered: &[&[u8]], tag: &Tag) -> bool {
    keyed(key, covered).verify(&(*tag).into()).is_ok()
}

fn keyed(key: &[u8], covered: &[&[u8]]) -> Blake2sMac<U16> {
    let mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(key);
    let mut mac = mac.expect("BLAKE2s takes keys of up to 32 bytes");
    covered.iter().for_each(|part| mac.update(part));
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_who_knows_the_key_is_recognised() {
        let us = Acquaintance::new(NoiseKey::from_bytes([1; 32]));
        let another = Acquaintance::new(NoiseKey::from_bytes([2; 32]));
        assert!(us.knows(b"hello", &us.mac1(b"hello")));
        assert!(!us.knows(b"hello", &another.mac1(b"hello")));
        assert!(!us.knows(b"hullo", &us.mac1(b"hello")));
    }

    #[test]
    fn a_cookie_opens_only_for_the_initiation_that_it_answers() {
        let us = Acquaintance::new(NoiseKey::from_bytes([1; 32]));
        let (cookie, mac1) = ([7; 16], us.mac1(b"hello"));
        let sealed = us.seal_cookie(&cookie, [9; 24], &mac1);
        assert_eq!(us.open_cookie(&sealed, [9; 24], &mac1), Some(cookie));
        assert_eq!(us.open_cookie(&sealed, [9; 24], &us.mac1(b"hullo")), None);
        assert_eq!(us.open_cookie(&sealed, [8; 24], &mac1), None);
    }

    #[test]
    fn a_cookie_holds_for_its_address_and_two_lives_of_its_secret() {
        let start = Moment::ORIGIN;
        let mut jar = CookieJar::new([1; 32], [2; 32], start);
        let home = at("192.0.2.1:7");
        let proof = mac2(&jar.cookie(home), b"hello");
        assert!(jar.proves(home, b"hello", &proof));
        assert!(!jar.proves(at("192.0.2.1:8"), b"hello", &proof));
        assert!(!jar.proves(at("192.0.2.2:7"), b"hello", &proof));
        jar.refresh(|| [3; 32], start + COOKIE_SECRET_LIFE);
        assert!(jar.proves(home, b"hello", &proof));
        jar.refresh(|| [4; 32], start + COOKIE_SECRET_LIFE * 2);
        assert!(!jar.proves(home, b"hello", &proof));
    }
}

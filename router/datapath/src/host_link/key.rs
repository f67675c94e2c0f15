//! The keys of a link: a pair for each host, one secret for the network.

use super::noise;
use std::fmt;

/// A host's public X25519 key (RFC 7748): who it is on the link. A signed record, which core checks,
/// says which host it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoiseKey([u8; NoiseKey::BYTES]);

impl NoiseKey {
    /// Bytes of a key.
    pub const BYTES: usize = 32;

    /// Takes a key as RFC 7748 encodes it.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        NoiseKey(bytes)
    }

    /// The key.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for NoiseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, fourth, ..] = self.0;
        write!(
            f,
            "NoiseKey({first:02x}{second:02x}{third:02x}{fourth:02x})"
        )
    }
}

/// A host's private X25519 key.
#[derive(Clone)]
pub struct NoisePrivateKey([u8; 32]);

impl NoisePrivateKey {
    /// Takes 32 secret bytes, which nobody can guess.
    pub const fn from_bytes(secret: [u8; 32]) -> Self {
        NoisePrivateKey(secret)
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> NoiseKey {
        noise::public_key(&self.0)
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for NoisePrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoisePrivateKey of {:?}", self.public())
    }
}

/// The secret that all hosts of a network share (Noise's psk): without it no session comes about.
#[derive(Clone)]
pub struct NetworkSecret(pub [u8; 32]);

impl fmt::Debug for NetworkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys_are_those_of_the_standard() {
        // RFC 7748 section 6.1: Alice's pair.
        let private = NoisePrivateKey::from_bytes([
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2,
            0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5,
            0x1d, 0xb9, 0x2c, 0x2a,
        ]);
        assert_eq!(
            private.public().as_bytes()[..8],
            [0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54]
        );
    }

    #[test]
    fn secrets_do_not_show_themselves() {
        let private = NoisePrivateKey::from_bytes([7; 32]);
        assert!(!format!("{private:?}").contains("07, 07"));
        assert_eq!(
            format!("{:?}", NetworkSecret([7; 32])),
            "NetworkSecret".to_owned()
        );
    }
}

//! Signatures: what a host says can be passed on by others and is still its own.

use crate::host::HostId;
use crate::wire::margay::signed::Signed;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use prost::Message;
use std::fmt;

/// What a signature is for: one made for one purpose says nothing for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose(pub &'static str);

/// A host's (or an issuer's, or an operator's) private key.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// Takes 32 secret bytes, which nobody can guess (RFC 8032 section 5.1.5).
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        PrivateKey(SigningKey::from_bytes(secret))
    }

    /// The secret bytes, to be kept where only this host reads them.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Whose key it is.
    pub fn public(&self) -> HostId {
        HostId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs `content` for `purpose`.
    pub fn sign(&self, purpose: Purpose, content: &impl Message) -> Signed {
        let content = content.encode_to_vec();
        let signature = self.0.sign(&signed_bytes(purpose, &content));
        Signed {
            content,
            signature: signature.to_bytes().to_vec(),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey of {:?}", self.public())
    }
}

/// Why signed content was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signature is not this signer's, not of this purpose, or not of this content.
    #[error("the signature is not its alleged signer's")]
    Forged,
    /// What was signed is no message of the expected kind.
    #[error("what was signed cannot be read")]
    Unreadable,
}

/// Checks that `signer` signed for `purpose`, and reads what.
pub fn open<M: Message + Default>(
    purpose: Purpose,
    signer: &HostId,
    signed: &Signed,
) -> Result<M, SignatureError> {
    let key = VerifyingKey::from_bytes(signer.as_bytes()).map_err(|_| SignatureError::Forged)?;
    let signature = Signature::from_slice(&signed.signature).map_err(|_| SignatureError::Forged)?;
    key.verify_strict(&signed_bytes(purpose, &signed.content), &signature)
        .map_err(|_| SignatureError::Forged)?;
    M::decode(signed.content.as_slice()).map_err(|_| SignatureError::Unreadable)
}

fn signed_bytes(purpose: Purpose, content: &[u8]) -> Vec<u8> {
    [b"margay ", purpose.0.as_bytes(), &[0], content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: Purpose = Purpose("greeting");

    fn signed() -> (PrivateKey, Signed) {
        let key = PrivateKey::from_bytes(&[7; 32]);
        let signed = key.sign(GREETING, &"hello".to_owned());
        (key, signed)
    }

    #[test]
    fn what_was_signed_is_read_by_whoever_knows_the_signer() {
        let (key, signed) = signed();
        let read = open::<String>(GREETING, &key.public(), &signed);
        assert_eq!(read, Ok("hello".to_owned()));
    }

    #[test]
    fn other_signers_purposes_and_contents_are_refused() {
        let (key, signed) = signed();
        let other = PrivateKey::from_bytes(&[8; 32]).public();
        let refused = |purpose, signer: &HostId, signed: &Signed| {
            open::<String>(purpose, signer, signed) == Err(SignatureError::Forged)
        };
        assert!(refused(GREETING, &other, &signed));
        assert!(refused(Purpose("farewell"), &key.public(), &signed));
        let mut changed = signed.clone();
        changed.content.push(0);
        assert!(refused(GREETING, &key.public(), &changed));
        let mut cut = signed.clone();
        cut.signature.pop();
        assert!(refused(GREETING, &key.public(), &cut));
        assert!(refused(GREETING, &HostId::from_bytes([0xff; 32]), &signed));
    }

    #[test]
    fn a_private_key_does_not_show_itself() {
        let key = PrivateKey::from_bytes(&[7; 32]);
        assert!(!format!("{key:?}").contains("07, 07"));
        assert_eq!(
            PrivateKey::from_bytes(&key.to_bytes()).public(),
            key.public()
        );
    }
}

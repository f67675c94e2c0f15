//! Hosts: who each is, wherever it is reached.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const HOST_ID_BYTES: usize = 32;

/// How many digits of a [`HostId`] tell hosts apart in a log.
const SHORT_DIGITS: usize = 8;

/// Who a host is: its public Ed25519 key (RFC 8032), by which it signs what it says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostId([u8; HOST_ID_BYTES]);

impl HostId {
    /// Takes a public key as RFC 8032 encodes it; whether it is a point of the curve shows when a
    /// signature is checked.
    pub const fn from_bytes(bytes: [u8; HOST_ID_BYTES]) -> Self {
        HostId(bytes)
    }

    /// The public key.
    pub const fn as_bytes(&self) -> &[u8; HOST_ID_BYTES] {
        &self.0
    }

    /// The first digits, enough to tell hosts apart by eye.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(SHORT_DIGITS);
        text
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostId({})", self.short())
    }
}

/// Why a text is no host ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host ID; write its 64 hexadecimal digits, as `margay members` shows them")]
pub struct HostIdError(String);

impl FromStr for HostId {
    type Err = HostIdError;
    fn from_str(text: &str) -> Result<Self, HostIdError> {
        crate::hexadecimal::read(text)
            .map(HostId)
            .ok_or_else(|| HostIdError(text.to_owned()))
    }
}

impl TryFrom<String> for HostId {
    type Error = HostIdError;
    fn try_from(text: String) -> Result<Self, HostIdError> {
        text.parse()
    }
}

impl From<HostId> for String {
    fn from(id: HostId) -> String {
        id.to_string()
    }
}

/// One life of a host: raised before anything else at each start, so that what it says now can be told
/// from what it said in an earlier life.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct OriginEpoch(pub u64);

impl OriginEpoch {
    /// A life after this one. The draw tells two lives apart that both came after the same one, because
    /// the state of the host was restored from a copy.
    pub fn next(self, draw: u16) -> OriginEpoch {
        let lives = (self.0 | u64::from(u16::MAX)).saturating_add(1);
        OriginEpoch(lives | u64::from(draw))
    }
}

impl fmt::Display for OriginEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_follow_each_other_and_two_after_one_differ() {
        let first = OriginEpoch::default().next(u16::MAX);
        assert!(OriginEpoch::default() < first && first < first.next(0));
        assert_ne!(first.next(1), first.next(2));
        let last = OriginEpoch(u64::MAX);
        assert_eq!(last.next(7), last);
    }

    #[test]
    fn host_ids_read_back_and_wrong_ones_say_what_to_write() {
        let id = HostId::from_bytes([0xa7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "a7a7a7a7");
        for text in ["", "a7", &"g".repeat(64), &"a7".repeat(33)] {
            let error = text.parse::<HostId>().unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
    }
}

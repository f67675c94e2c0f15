//! Tokens: what an operator carries from an issuer to a host that shall join.

use crate::admission::certificate::host_from_wire;
use crate::admission::introduction::{
    LinkKey, addresses_from_wire, addresses_to_wire, link_key_from_wire,
};
use crate::admission::network::NetworkId;
use crate::host::HostId;
use crate::wire::margay::admission as wire;
use data_encoding::BASE32_NOPAD_NOCASE;
use prost::Message;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// What every token of this version begins with.
const PREFIX: &str = "margay1";

/// What every token of any version begins with.
const FAMILY: &str = "margay";

/// How much of a hash tells a damaged token from a whole one: one in four thousand million passes.
const CHECKSUM_BYTES: usize = 4;

/// How many of an issuer's addresses a token carries: with more it would no longer fit into four
/// lines of a terminal.
pub const TOKEN_ADDRESSES_MAX: usize = 4;

/// The longest text that is looked at, in characters: thrice the longest token, for white space.
const TEXT_BYTES_MAX: usize = 1_500;

const TOKEN_ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 16;

/// Which invitation a token is of; no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(pub(super) [u8; TOKEN_ID_BYTES]);

/// Why a text is no token ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no token ID; write its 16 hexadecimal digits, as `margay invite` shows them")]
pub struct TokenIdError(String);

impl FromStr for TokenId {
    type Err = TokenIdError;
    fn from_str(text: &str) -> Result<Self, TokenIdError> {
        let bytes = crate::hexadecimal::read(text);
        bytes
            .map(TokenId)
            .ok_or_else(|| TokenIdError(text.to_owned()))
    }
}

impl TryFrom<String> for TokenId {
    type Error = TokenIdError;
    fn try_from(text: String) -> Result<Self, TokenIdError> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> String {
        id.to_string()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

/// What only the token says; the issuer keeps its hash, so that its journal admits nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// What the issuer keeps.
    pub(super) fn hash(self) -> [u8; 32] {
        crate::address::hash("margay token secret hash", &[&self.0])
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Secret> {
        bytes.try_into().ok().map(Secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Draws an invitation's ID and secret from bytes that nobody can guess.
pub(super) fn draw(seed: &[u8; 32]) -> (TokenId, Secret) {
    let [id, secret] = ["margay token id", "margay token secret"]
        .map(|purpose| crate::address::hash(purpose, &[seed]));
    let id = *id.first_chunk().expect("a hash is longer");
    let secret = *secret.first_chunk().expect("a hash is longer");
    (TokenId(id), Secret(secret))
}

/// The way into a network: whom to ask, where, and a secret to show.
///
/// Its text is `margay1` and lower-case base32 (RFC 4648) without padding, of a protobuf message
/// (docs/protocol/admission.md) and four bytes of checksum: one word that a double click selects.
/// Capitals and white space inside do no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Token {
    /// Into which network.
    pub network: NetworkId,
    /// Who redeems it.
    pub issuer: HostId,
    /// The key of the issuer's host link.
    pub link_key: LinkKey,
    /// Where the issuer's host link listens; at most [`TOKEN_ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    /// Of which invitation.
    pub id: TokenId,
    pub(super) secret: Secret,
}

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error("this is no token; it begins with `{PREFIX}`, as `margay invite` prints it")]
    NoToken,
    /// Of a newer version.
    #[error("this token is of a newer version of Margay; upgrade this host, then join")]
    UnknownVersion,
    /// A character is missing, wrong, or too many.
    #[error("the token is damaged; copy all of it again")]
    Damaged,
    /// Whole, but without meaning.
    #[error("the token cannot be read; make a new one with `margay invite`")]
    Unreadable,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = wire::Token {
            network: self.network.root().as_bytes().to_vec(),
            issuer: self.issuer.as_bytes().to_vec(),
            link_key: self.link_key.0.to_vec(),
            addresses: addresses_to_wire(&self.addresses, TOKEN_ADDRESSES_MAX),
            token: self.id.0.to_vec(),
            secret: self.secret.0.to_vec(),
        };
        f.write_str(&text_of(message.encode_to_vec()))
    }
}

/// The text of a token whose message is `bytes`.
pub(super) fn text_of(mut bytes: Vec<u8>) -> String {
    bytes.extend(checksum(&bytes));
    let base32 = BASE32_NOPAD_NOCASE.encode(&bytes).to_ascii_lowercase();
    format!("{PREFIX}{base32}")
}

impl FromStr for Token {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenError::NoToken);
        }
        let text: String = text.split_ascii_whitespace().collect();
        let text = text.to_ascii_lowercase();
        let Some(base32) = text.strip_prefix(PREFIX) else {
            let version = text.strip_prefix(FAMILY);
            let numbered = version.is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()));
            return Err(match numbered {
                true => TokenError::UnknownVersion,
                false => TokenError::NoToken,
            });
        };
        let bytes = BASE32_NOPAD_NOCASE.decode(base32.as_bytes());
        let bytes = bytes.map_err(|_| TokenError::Damaged)?;
        let (message, sum) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(TokenError::Damaged)?;
        if checksum(message) != *sum {
            return Err(TokenError::Damaged);
        }
        wire::Token::decode(message)
            .ok()
            .and_then(|message| from_wire(&message))
            .ok_or(TokenError::Unreadable)
    }
}

fn from_wire(message: &wire::Token) -> Option<Token> {
    Some(Token {
        network: NetworkId::from_root(host_from_wire(&message.network).ok()?),
        issuer: host_from_wire(&message.issuer).ok()?,
        link_key: link_key_from_wire(&message.link_key).ok()?,
        addresses: addresses_from_wire(&message.addresses, TOKEN_ADDRESSES_MAX).ok()?,
        id: TokenId(message.token.as_slice().try_into().ok()?),
        secret: Secret::from_bytes(&message.secret)?,
    })
}

fn checksum(message: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = Sha256::new();
    hasher.update(PREFIX);
    hasher.update(message);
    let hash: [u8; 32] = hasher.finalize().into();
    *hash.first_chunk().expect("a hash is longer")
}

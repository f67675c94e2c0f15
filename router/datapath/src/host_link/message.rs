//! Datagrams of the host link as bytes: checked when read, fixed tables when written.
//!
//! The tables stand in docs/protocol/host-link.md. All numbers are big-endian.

use super::drop_reason::LinkDrop;
use super::sealed::{ANSWER_BYTES_MAX, ANSWER_BYTES_MIN, CONTENT_BYTES_MAX, OPENING_BYTES};
use margay_core::echo::{self, Echo};

/// The version of the protocol that this host speaks.
pub const VERSION: u8 = 1;

/// What sealing adds: the tag of ChaCha20-Poly1305.
pub const TAG_BYTES: usize = 16;

/// A public key of the handshake, in clear.
const EPHEMERAL_BYTES: usize = 32;

/// The sender's public key, sealed.
const STATIC_BYTES: usize = 32 + TAG_BYTES;

/// What proves that the sender of an initiation knows the receiver, and where it is.
pub const MAC_BYTES: usize = 16;

/// The random number with which a cookie is sealed.
pub const COOKIE_NONCE_BYTES: usize = 24;

/// A cookie, sealed.
pub const SEALED_COOKIE_BYTES: usize = MAC_BYTES + TAG_BYTES;

/// Type, version, two zeroes, and the index of a session.
const HEADER_BYTES: usize = 8;

/// What Noise writes into an initiation.
pub const INITIATION_NOISE_BYTES: usize =
    EPHEMERAL_BYTES + STATIC_BYTES + OPENING_BYTES + TAG_BYTES;

/// All initiations have one length: no answer is longer than what it answers.
pub const INITIATION_BYTES: usize = HEADER_BYTES + INITIATION_NOISE_BYTES + 2 * MAC_BYTES;

/// The shortest that Noise writes into a response.
const RESPONSE_NOISE_BYTES_MIN: usize = EPHEMERAL_BYTES + ANSWER_BYTES_MIN + TAG_BYTES;

/// The longest that Noise writes into a response.
pub const RESPONSE_NOISE_BYTES_MAX: usize = EPHEMERAL_BYTES + ANSWER_BYTES_MAX + TAG_BYTES;

/// Header and counter.
const DATA_HEADER_BYTES: usize = HEADER_BYTES + 8;

/// The longest datagram of the link; IP fragments what its path does not carry whole.
pub const DATAGRAM_BYTES_MAX: usize = DATA_HEADER_BYTES + CONTENT_BYTES_MAX + TAG_BYTES;

/// A session or a handshake at one side, chosen at random by that side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionIndex(pub u32);

/// One datagram, with what is sealed in it still sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Noise's first message.
    Initiation {
        /// The sender's handshake.
        sender: SessionIndex,
        /// What Noise wrote: [`INITIATION_NOISE_BYTES`].
        noise: &'a [u8],
        /// Keyed with the receiver's public key, over all before it.
        mac1: [u8; MAC_BYTES],
        /// Keyed with the receiver's cookie, over all before it; zeroes without one.
        mac2: [u8; MAC_BYTES],
    },
    /// Noise's second message.
    Response {
        /// The handshake that it answers.
        receiver: SessionIndex,
        /// What Noise wrote.
        noise: &'a [u8],
    },
    /// Proof of its address is wanted before the receiver looks at an initiation.
    CookieReply {
        /// The handshake that it answers.
        receiver: SessionIndex,
        /// With which the cookie is sealed.
        nonce: [u8; COOKIE_NONCE_BYTES],
        /// The cookie.
        sealed: [u8; SEALED_COOKIE_BYTES],
    },
    /// A host's keeper answers a question.
    EchoAnswer(Echo),
    /// A datagram of a session.
    Data {
        /// The session.
        receiver: SessionIndex,
        /// How many the session carried before it.
        counter: u64,
        /// The content.
        sealed: &'a [u8],
    },
}

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const COOKIE_REPLY: u8 = 3;
const DATA: u8 = 4;

impl<'a> Message<'a> {
    /// Reads a datagram; whatever this version would not have written is refused.
    pub fn parse(datagram: &'a [u8]) -> Result<Message<'a>, LinkDrop> {
        let (&[kind, version, zeroes @ ..], rest) = datagram
            .split_first_chunk::<4>()
            .ok_or(LinkDrop::Malformed)?;
        if version != VERSION {
            return Err(LinkDrop::UnknownVersion);
        }
        if zeroes != [0, 0] {
            return Err(LinkDrop::Malformed);
        }
        let message = match kind {
            INITIATION => Self::parse_initiation(rest),
            RESPONSE => Self::parse_response(rest),
            COOKIE_REPLY => Self::parse_cookie_reply(rest),
            DATA => Self::parse_data(rest),
            // Questions are for the keeper, which has a socket of its own for them.
            echo::ANSWER => Echo::answer(datagram).map(Message::EchoAnswer),
            _ => return Err(LinkDrop::UnknownType),
        };
        message.ok_or(LinkDrop::Malformed)
    }

    fn parse_initiation(rest: &'a [u8]) -> Option<Self> {
        let (sender, rest) = take_index(rest)?;
        let (noise, macs) = rest.split_at_checked(INITIATION_NOISE_BYTES)?;
        let (mac1, mac2) = macs.split_first_chunk()?;
        Some(Message::Initiation {
            sender,
            noise,
            mac1: *mac1,
            mac2: mac2.try_into().ok()?,
        })
    }

    fn parse_response(rest: &'a [u8]) -> Option<Self> {
        let (receiver, noise) = take_index(rest)?;
        let known = RESPONSE_NOISE_BYTES_MIN..=RESPONSE_NOISE_BYTES_MAX;
        known
            .contains(&noise.len())
            .then_some(Message::Response { receiver, noise })
    }

    fn parse_cookie_reply(rest: &'a [u8]) -> Option<Self> {
        let (receiver, rest) = take_index(rest)?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        Some(Message::CookieReply {
            receiver,
            nonce: *nonce,
            sealed: sealed.try_into().ok()?,
        })
    }

    fn parse_data(rest: &'a [u8]) -> Option<Self> {
        let (receiver, rest) = take_index(rest)?;
        let (counter, sealed) = rest.split_first_chunk()?;
        let known = 1 + TAG_BYTES..=CONTENT_BYTES_MAX + TAG_BYTES;
        known.contains(&sealed.len()).then_some(Message::Data {
            receiver,
            counter: u64::from_be_bytes(*counter),
            sealed,
        })
    }

    /// Writes the datagram.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Message::Initiation {
                sender,
                noise,
                mac1,
                mac2,
            } => [&header(INITIATION, *sender), *noise, mac1, mac2].concat(),
            Message::Response { receiver, noise } => {
                [&header(RESPONSE, *receiver), *noise].concat()
            }
            Message::CookieReply {
                receiver,
                nonce,
                sealed,
            } => [&header(COOKIE_REPLY, *receiver), &nonce[..], sealed].concat(),
            Message::EchoAnswer(echo) => echo.to_bytes().to_vec(),
            Message::Data {
                receiver,
                counter,
                sealed,
            } => [&header(DATA, *receiver), &counter.to_be_bytes()[..], sealed].concat(),
        }
    }
}

/// Splits an initiation into what each of its two authenticators covers; `None` if it is none.
pub(super) fn covered_by_macs(initiation: &[u8]) -> Option<(&[u8], &[u8])> {
    let mac2 = initiation.len().checked_sub(MAC_BYTES)?;
    let mac1 = mac2.checked_sub(MAC_BYTES)?;
    Some((&initiation[..mac1], &initiation[..mac2]))
}

fn header(kind: u8, index: SessionIndex) -> [u8; HEADER_BYTES] {
    let [i3, i2, i1, i0] = index.0.to_be_bytes();
    [kind, VERSION, 0, 0, i3, i2, i1, i0]
}

fn take_index(bytes: &[u8]) -> Option<(SessionIndex, &[u8])> {
    let (index, rest) = bytes.split_first_chunk()?;
    Some((SessionIndex(u32::from_be_bytes(*index)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_protocol_page() {
        assert_eq!(INITIATION_BYTES, 1154);
        assert_eq!(HEADER_BYTES + RESPONSE_NOISE_BYTES_MIN, 69);
        assert_eq!(HEADER_BYTES + RESPONSE_NOISE_BYTES_MAX, 1069);
        assert_eq!(DATAGRAM_BYTES_MAX, 4096);
        let reply = Message::CookieReply {
            receiver: SessionIndex(1),
            nonce: [2; COOKIE_NONCE_BYTES],
            sealed: [3; SEALED_COOKIE_BYTES],
        };
        assert_eq!(reply.to_bytes().len(), 64);
    }

    #[test]
    fn a_data_message_is_laid_out_as_the_table_says() {
        let message = Message::Data {
            receiver: SessionIndex(0x0102_0304),
            counter: 0x0506_0708_090a_0b0c,
            sealed: &[0xff; 17],
        };
        let bytes = message.to_bytes();
        assert_eq!(
            bytes[..16],
            [4, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
        );
        assert_eq!(Message::parse(&bytes), Ok(message));
    }

    #[test]
    fn what_this_version_would_not_write_is_refused_by_name() {
        let parse = |bytes: &[u8]| Message::parse(bytes).map(|_| ()).unwrap_err();
        assert_eq!(parse(&[]), LinkDrop::Malformed);
        assert_eq!(parse(&[4, 2, 0, 0]), LinkDrop::UnknownVersion);
        assert_eq!(parse(&[5, 1, 0, 0]), LinkDrop::UnknownType);
        assert_eq!(parse(&[4, 1, 0, 0, 1, 2, 3, 4]), LinkDrop::Malformed);
        let mut longest = vec![0; DATAGRAM_BYTES_MAX];
        longest[..2].copy_from_slice(&[4, 1]);
        assert!(Message::parse(&longest).is_ok());
        longest.push(0);
        assert_eq!(parse(&longest), LinkDrop::Malformed);
        longest.pop();
        longest[3] = 1;
        assert_eq!(parse(&longest), LinkDrop::Malformed, "not a zero");
        let mut initiation = vec![0; INITIATION_BYTES];
        initiation[..2].copy_from_slice(&[1, 1]);
        assert!(Message::parse(&initiation).is_ok());
        initiation.push(0);
        assert_eq!(parse(&initiation), LinkDrop::Malformed);
    }
}

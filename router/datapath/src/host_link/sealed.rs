//! What is inside a sealed message: the opening of an initiation, the answer of a response, the
//! content of a datagram.

use super::message::SessionIndex;
use margay_core::host::OriginEpoch;
use std::fmt;

/// The most that a host says of itself, or answers: a signed record with its certificates.
pub const STATEMENT_BYTES_MAX: usize = 1000;

/// The most that a refusal says: one sentence for a person.
pub const REFUSAL_BYTES_MAX: usize = 200;

/// Epoch, count, length, and room for the longest statement.
pub const OPENING_BYTES: usize = 8 + 8 + 2 + STATEMENT_BYTES_MAX;

/// Epoch, session and verdict.
pub const ANSWER_BYTES_MIN: usize = 8 + 4 + 1;

/// Those and the longest statement.
pub const ANSWER_BYTES_MAX: usize = ANSWER_BYTES_MIN + STATEMENT_BYTES_MAX;

/// The kind and the longest payload.
pub const CONTENT_BYTES_MAX: usize = 1 + PAYLOAD_BYTES_MAX;

/// The longest payload: a whole packet of the network's MTU, with room for the frame about it and
/// the signed records that such a frame carries.
pub const PAYLOAD_BYTES_MAX: usize = 4063;

/// Bytes that core wrote and core reads, of which the link knows the length only: who a host is, a
/// request to join, or an answer to either.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Statement(Vec<u8>);

/// A statement would be too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a statement of {0} bytes is too long; {STATEMENT_BYTES_MAX} are the most")]
pub struct StatementTooLong(pub usize);

impl Statement {
    /// Takes up to [`STATEMENT_BYTES_MAX`] bytes.
    pub fn new(bytes: Vec<u8>) -> Result<Self, StatementTooLong> {
        if bytes.len() > STATEMENT_BYTES_MAX {
            return Err(StatementTooLong(bytes.len()));
        }
        Ok(Statement(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({} bytes)", self.0.len())
    }
}

/// Which of a host's initiations one is: only ever grows, over restarts too, so that a copy is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InitiationNumber {
    /// The life of the sender.
    pub epoch: OriginEpoch,
    /// How many it sent before in that life.
    pub count: u64,
}

/// What an initiation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Tells it from a copy of an older one.
    pub number: InitiationNumber,
    /// Who speaks.
    pub introduction: Statement,
}

impl Opening {
    /// Reads an opening; `None` for anything that [`Opening::to_bytes`] does not write.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; OPENING_BYTES] = bytes.try_into().ok()?;
        let (epoch, rest) = bytes.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (introduction, padding) = rest.split_at_checked(length)?;
        padding.iter().all(|byte| *byte == 0).then(|| Opening {
            number: InitiationNumber {
                epoch: OriginEpoch(u64::from_be_bytes(*epoch)),
                count: u64::from_be_bytes(*count),
            },
            introduction: Statement(introduction.to_vec()),
        })
    }

    /// Writes [`OPENING_BYTES`], however short the introduction is.
    pub fn to_bytes(&self) -> Vec<u8> {
        let introduction = self.introduction.as_bytes();
        let length = u16::try_from(introduction.len()).expect("a statement is shorter than 64 KiB");
        let mut bytes = [
            &self.number.epoch.0.to_be_bytes()[..],
            &self.number.count.to_be_bytes(),
            &length.to_be_bytes(),
            introduction,
        ]
        .concat();
        bytes.resize(OPENING_BYTES, 0);
        bytes
    }
}

/// What a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The life of the sender.
    pub epoch: OriginEpoch,
    /// The sender's session; none has the number 0, which a refusal says.
    pub session: SessionIndex,
    /// Whether the initiator is admitted.
    pub verdict: Verdict,
}

/// What core said of an initiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The initiator is admitted: the session holds.
    Admitted(Statement),
    /// It is not, and why.
    Refused(String),
}

const ADMITTED: u8 = 0;
const REFUSED: u8 = 1;

impl Verdict {
    /// Refuses with as much of `reason` as a refusal holds.
    pub fn refusal(reason: &str) -> Self {
        let end = reason.floor_char_boundary(REFUSAL_BYTES_MAX);
        Verdict::Refused(reason[..end].to_owned())
    }
}

impl Answer {
    /// Reads an answer.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (epoch, rest) = bytes.split_first_chunk()?;
        let (session, rest) = rest.split_first_chunk()?;
        let verdict = match rest.split_first()? {
            (&ADMITTED, statement) => Verdict::Admitted(Statement::new(statement.to_vec()).ok()?),
            (&REFUSED, reason) if reason.len() <= REFUSAL_BYTES_MAX => {
                Verdict::Refused(String::from_utf8(reason.to_vec()).ok()?)
            }
            _ => return None,
        };
        Some(Answer {
            epoch: OriginEpoch(u64::from_be_bytes(*epoch)),
            session: SessionIndex(u32::from_be_bytes(*session)),
            verdict,
        })
    }

    /// Writes the answer.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (verdict, rest) = match &self.verdict {
            Verdict::Admitted(statement) => (ADMITTED, statement.as_bytes()),
            Verdict::Refused(reason) => (REFUSED, reason.as_bytes()),
        };
        let epoch = self.epoch.0.to_be_bytes();
        let session = self.session.0.to_be_bytes();
        [&epoch[..], &session, &[verdict], rest].concat()
    }
}

/// What a datagram of a session says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// For core.
    Payload(&'a [u8]),
    /// A question whether both directions work.
    Echo(u64),
    /// Its answer, with the same number.
    EchoAnswer(u64),
    /// The sender ends the link.
    Farewell,
}

const PAYLOAD: u8 = 0;
const ECHO: u8 = 1;
const ECHO_ANSWER: u8 = 2;
const FAREWELL: u8 = 3;

impl<'a> Content<'a> {
    /// Reads a content.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let number = || rest.try_into().map(u64::from_be_bytes).ok();
        match kind {
            PAYLOAD if rest.len() <= PAYLOAD_BYTES_MAX => Some(Content::Payload(rest)),
            ECHO => number().map(Content::Echo),
            ECHO_ANSWER => number().map(Content::EchoAnswer),
            FAREWELL if rest.is_empty() => Some(Content::Farewell),
            _ => None,
        }
    }

    /// Writes the content.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Content::Payload(payload) => [&[PAYLOAD], *payload].concat(),
            Content::Echo(number) => [&[ECHO], &number.to_be_bytes()[..]].concat(),
            Content::EchoAnswer(number) => [&[ECHO_ANSWER], &number.to_be_bytes()[..]].concat(),
            Content::Farewell => vec![FAREWELL],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_have_one_length_and_nothing_hidden_behind_the_introduction() {
        let opening = Opening {
            number: InitiationNumber {
                epoch: OriginEpoch(3),
                count: 9,
            },
            introduction: Statement::new(b"web host".to_vec()).unwrap(),
        };
        let mut bytes = opening.to_bytes();
        assert_eq!(bytes.len(), OPENING_BYTES);
        assert_eq!(Opening::parse(&bytes), Some(opening));
        *bytes.last_mut().unwrap() = 1;
        assert_eq!(Opening::parse(&bytes), None, "hidden bytes");
        bytes[16..18].copy_from_slice(&1001u16.to_be_bytes());
        assert_eq!(Opening::parse(&bytes), None, "longer than there are bytes");
    }

    #[test]
    fn statements_are_bounded() {
        assert!(Statement::new(vec![0; STATEMENT_BYTES_MAX]).is_ok());
        let long = Statement::new(vec![0; STATEMENT_BYTES_MAX + 1]);
        assert_eq!(long, Err(StatementTooLong(1001)));
    }

    #[test]
    fn refusals_are_cut_between_letters() {
        let Verdict::Refused(reason) = Verdict::refusal(&"é".repeat(101)) else {
            panic!("a refusal refuses");
        };
        assert_eq!(reason, "é".repeat(100));
        let Verdict::Refused(reason) = Verdict::refusal(&format!("x{}", "é".repeat(100))) else {
            panic!("a refusal refuses");
        };
        assert_eq!(reason.len(), 199);
    }

    #[test]
    fn numbers_have_eight_bytes_and_kinds_are_known() {
        let echo = Content::Echo(0x0102_0304_0506_0708);
        assert_eq!(echo.to_bytes(), [1, 1, 2, 3, 4, 5, 6, 7, 8]);
        for wrong in [&[][..], &[1, 0], &[2], &[3, 0], &[4]] {
            assert_eq!(Content::parse(wrong), None, "{wrong:?}");
        }
    }
}

//! The queries that every libc sends, and the addresses that it wants, read and written by hand.
//!
//! Nearly every query has this shape, and the codec takes several times as long as the rest of its
//! way. What has another shape is left to the codec; a test compares what the two reply.

use crate::encode::{ANSWER_SECONDS, PLAIN_UDP_REPLY_BYTES_MAX};
use margay_core::names::{Answer, Question, QuestionKind};

/// The bytes of a header (RFC 1035 section 4.1.1).
const HEADER_BYTES: usize = 12;

/// The longest name as text, in bytes: 255 with the lengths of all labels (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// The longest label, in bytes; a larger length is a pointer or of a reserved kind.
const LABEL_BYTES_MAX: usize = 63;

/// In a header's third byte: a response, authoritative, recursion desired.
const RESPONSE: u8 = 0x80;
const AUTHORITATIVE: u8 = 0x04;
const RECURSION_DESIRED: u8 = 0x01;

/// In a header's fourth byte: recursion available, authentic data wished for.
const RECURSION_AVAILABLE: u8 = 0x80;
const AUTHENTIC_DATA: u8 = 0x20;

/// A header's counts that say: one question and nothing else.
const ONE_QUESTION: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];

/// The name of the first question, as a pointer (RFC 1035 section 4.1.4).
const QUESTIONS_NAME: [u8; 2] = [0xc0, HEADER_BYTES as u8];

/// A query that asks for the addresses of a host name, and holds nothing else.
pub(crate) struct PlainQuery<'a> {
    bytes: &'a [u8],
    /// What it asks, as core reads it.
    pub(crate) question: Question,
}

impl PlainQuery<'_> {
    /// Reads a query; `None` if it is of another shape, or none at all.
    pub(crate) fn read(bytes: &[u8]) -> Option<PlainQuery<'_>> {
        let (header, question) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let [_, _, flags, more_flags, counts @ ..] = header;
        let known = flags & !RECURSION_DESIRED == 0 && more_flags & !AUTHENTIC_DATA == 0;
        if !known || *counts != ONE_QUESTION {
            return None;
        }
        let (name, type_and_class) = read_name(question)?;
        let kind = match type_and_class {
            [0, 1, 0, 1] => QuestionKind::A,
            [0, 28, 0, 1] => QuestionKind::Aaaa,
            _ => return None,
        };
        let question = Question { name, kind };
        Some(PlainQuery { bytes, question })
    }

    /// Writes the reply into `out`, which is empty; returns whether it could: only addresses are
    /// written.
    pub(crate) fn write(&self, answer: &Answer, out: &mut Vec<u8>) -> bool {
        match answer {
            Answer::V4(addrs) => self.write_records(addrs.iter().map(|addr| addr.octets()), out),
            Answer::V6(addrs) => self.write_records(addrs.iter().map(|addr| addr.octets()), out),
            _ => return false,
        }
        true
    }

    fn write_records<const BYTES: usize>(
        &self,
        addrs: impl ExactSizeIterator<Item = [u8; BYTES]>,
        out: &mut Vec<u8>,
    ) {
        let (header, question) = self.bytes.split_at(HEADER_BYTES);
        let type_and_class = &question[question.len() - 4..];
        let answers = u8::try_from(addrs.len()).expect("at most eight addresses");
        out.extend_from_slice(&header[..2]);
        let flags = RESPONSE | AUTHORITATIVE | header[2];
        out.extend_from_slice(&[flags, RECURSION_AVAILABLE, 0, 1, 0, answers, 0, 0, 0, 0]);
        out.extend_from_slice(question);
        for addr in addrs {
            out.extend_from_slice(&QUESTIONS_NAME);
            out.extend_from_slice(type_and_class);
            out.extend_from_slice(&ANSWER_SECONDS.to_be_bytes());
            out.extend_from_slice(&[0, BYTES as u8]);
            out.extend_from_slice(&addr);
        }
        debug_assert!(out.len() <= usize::from(PLAIN_UDP_REPLY_BYTES_MAX));
    }
}

/// Reads a name, and what is behind it, into lower case with dots between its labels; `None` for what
/// is no host name.
fn read_name(mut bytes: &[u8]) -> Option<(String, &[u8])> {
    let mut name = String::with_capacity(bytes.len());
    loop {
        let (length, rest) = bytes.split_first()?;
        let length = usize::from(*length);
        if length == 0 {
            return (name.len() <= NAME_BYTES_MAX).then_some((name, rest));
        }
        if length > LABEL_BYTES_MAX {
            return None;
        }
        let (label, rest) = rest.split_at_checked(length)?;
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    name.push(char::from(byte.to_ascii_lowercase()));
                }
                _ => return None,
            }
        }
        bytes = rest;
    }
}

#[cfg(test)]
mod tests;

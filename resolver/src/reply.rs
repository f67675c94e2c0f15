//! One query's bytes to one reply's bytes: pure, and total on any input.

use crate::encode::{Asked, PLAIN_UDP_REPLY_BYTES_MAX, UDP_REPLY_BYTES_MAX, Verdict, encode};
use crate::plain::PlainQuery;
use hickory_proto::op::{Header, Message, MessageType, Metadata, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};
use margay_core::id::InstanceId;
use margay_core::name::AutomatonName;
use margay_core::names::{
    Answer, ExtendedError, NamesSnapshot, Question, QuestionKind, Zone, answer,
};
use std::fmt::Write;

/// "Not Supported" (RFC 8914 section 4.22).
const NOT_SUPPORTED: u16 = 21;

/// The transports of DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One message per datagram.
    Udp,
    /// Messages behind a two-byte length (RFC 7766 section 8).
    Tcp,
}

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The reply is written.
    Replied {
        /// What it says.
        outcome: Outcome,
        /// Whether it did not fit and tells the caller to ask over TCP.
        truncated: bool,
    },
    /// The host's own servers are to be asked on the caller's behalf; nothing is written.
    Elsewhere,
    /// No reply is owed, none is written.
    Silent(Silence),
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Here are addresses.
    Addresses,
    /// Here are records of another kind.
    Records,
    /// The name exists, records of this kind do not.
    NoData,
    /// The name does not exist for this caller.
    NameError,
    /// The host's own programs have other servers to ask.
    Refused,
    /// The query is malformed.
    FormatError,
    /// The kind of request is not served.
    NotImplemented,
    /// The version of EDNS is not served.
    BadVersion,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// No whole header, so no id to reply to.
    TooShort,
    /// A response: replying to it could make two servers talk for ever.
    NotAQuery,
    /// The codec refused to write the reply.
    NotEncodable,
}

/// Writes the reply to `query`, asked by `caller`, into `out` in place of what it held.
///
/// Over UDP it is at most 512 bytes long, with EDNS as long as the caller's payload size and 1232
/// bytes allow. An instance is never told REFUSED: musl would go on waiting. `draw` is a fresh random
/// number or a counter; it orders the addresses. Of a service that is to be sought first it says what it
/// would say if none was found.
pub fn reply(
    snapshot: &NamesSnapshot,
    caller: InstanceId,
    query: &[u8],
    transport: Transport,
    draw: u64,
    out: &mut Vec<u8>,
) -> Disposition {
    reply_or_seek(snapshot, caller, query, transport, draw, out).0
}

/// The same, with the service whose search is worth waiting for before the reply is sent, if any is.
pub(crate) fn reply_or_seek(
    snapshot: &NamesSnapshot,
    caller: InstanceId,
    query: &[u8],
    transport: Transport,
    draw: u64,
    out: &mut Vec<u8>,
) -> (Disposition, Option<AutomatonName>) {
    out.clear();
    if let Some(plain) = PlainQuery::read(query) {
        let answer = answer(snapshot, caller, &plain.question, draw);
        if plain.write(&answer, out) {
            let disposition = Disposition::Replied {
                outcome: Outcome::Addresses,
                truncated: false,
            };
            return (disposition, None);
        }
    }
    by_codec(snapshot, caller, query, transport, draw, out)
}

/// The same for queries of any shape, `out` being empty.
fn by_codec(
    snapshot: &NamesSnapshot,
    caller: InstanceId,
    query: &[u8],
    transport: Transport,
    draw: u64,
    out: &mut Vec<u8>,
) -> (Disposition, Option<AutomatonName>) {
    let (asked, fault) = match read(query) {
        Ok(read) => read,
        Err(silence) => return (Disposition::Silent(silence), None),
    };
    let (verdict, sought) = match (fault, &asked.question) {
        (Some(fault), _) => (fault, None),
        (None, Some(question)) => {
            let (answer, sought) = judge(snapshot, caller, question, draw).at_once();
            (Verdict::Answer(answer), sought)
        }
        (None, None) => (Verdict::FormatError, None),
    };
    if matches!(verdict, Verdict::Answer(Answer::Elsewhere)) {
        return (Disposition::Elsewhere, None);
    }
    let disposition = match encode(&asked, &verdict, bytes_max(&asked, transport), out) {
        Ok(truncated) => Disposition::Replied {
            outcome: outcome(&verdict),
            truncated,
        },
        Err(_) => {
            out.clear();
            Disposition::Silent(Silence::NotEncodable)
        }
    };
    (disposition, sought)
}

/// What the codec's way says of a query that could be read by hand.
#[cfg(test)]
pub(crate) fn reply_by_codec(
    snapshot: &NamesSnapshot,
    caller: InstanceId,
    query: &[u8],
    transport: Transport,
    draw: u64,
    out: &mut Vec<u8>,
) -> Disposition {
    by_codec(snapshot, caller, query, transport, draw, out).0
}

/// Reads a query and its fault, if it has one that the reply must name.
pub(crate) fn read(query: &[u8]) -> Result<(Asked, Option<Verdict>), Silence> {
    let mut decoder = BinDecoder::new(query);
    let header = Header::read(&mut decoder).map_err(|_| Silence::TooShort)?;
    if header.message_type == MessageType::Response {
        return Err(Silence::NotAQuery);
    }
    if header.op_code != OpCode::Query {
        return Ok((bare(header.metadata), Some(Verdict::NotImplemented)));
    }
    // Checked before any record is read: the codec reserves room for as many as the header claims.
    if header.counts.queries != 1 {
        return Ok((bare(header.metadata), Some(Verdict::FormatError)));
    }
    let Ok(asked) = read_body(&header, &mut decoder) else {
        return Ok((bare(header.metadata), Some(Verdict::FormatError)));
    };
    let version = asked.edns.as_ref().map_or(0, |edns| edns.version());
    let fault = (version != 0).then_some(Verdict::BadVersion);
    Ok((asked, fault))
}

/// What is left to repeat of a query that cannot be understood: its header.
fn bare(metadata: Metadata) -> Asked {
    Asked {
        metadata,
        question: None,
        edns: None,
    }
}

fn read_body(header: &Header, decoder: &mut BinDecoder<'_>) -> Result<Asked, DecodeError> {
    let question = Query::read(decoder)?;
    let mut records = |count: u16, is_additional| {
        Message::read_records(decoder, usize::from(count), is_additional, OpCode::Query)
    };
    records(header.counts.answers, false)?;
    records(header.counts.authorities, false)?;
    let (_, edns, _) = records(header.counts.additionals, true)?;
    Ok(Asked {
        metadata: header.metadata,
        question: Some(question),
        edns,
    })
}

fn judge(snapshot: &NamesSnapshot, caller: InstanceId, question: &Query, draw: u64) -> Answer {
    if question.query_class != DNSClass::IN {
        // True, since no name exists in another class, and unlike NOTIMP it ends every stub's wait.
        let error = ExtendedError {
            code: NOT_SUPPORTED,
            text: "only class IN is served",
        };
        return Answer::NameError(Zone::ROOT, error);
    }
    let question = Question {
        name: lower_case_text(&question.name),
        kind: kind(question.query_type),
    };
    answer(snapshot, caller, &question, draw)
}

fn kind(record_type: RecordType) -> QuestionKind {
    match record_type {
        RecordType::A => QuestionKind::A,
        RecordType::AAAA => QuestionKind::Aaaa,
        RecordType::SRV => QuestionKind::Srv,
        RecordType::TXT => QuestionKind::Txt,
        RecordType::PTR => QuestionKind::Ptr,
        RecordType::SOA => QuestionKind::Soa,
        RecordType::NS => QuestionKind::Ns,
        _ => QuestionKind::Other,
    }
}

/// The name in lower case with dots between its labels.
///
/// Bytes that no host name holds are escaped (RFC 1035 section 5.1): the one label `web\.matrix`
/// must not read as the two labels of `web.matrix`.
pub(crate) fn lower_case_text(name: &Name) -> String {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    text.push(char::from(byte.to_ascii_lowercase()));
                }
                other => {
                    write!(text, "\\{other:03}").expect("writing to a String cannot fail");
                }
            }
        }
    }
    text
}

pub(crate) fn bytes_max(asked: &Asked, transport: Transport) -> u16 {
    match (transport, &asked.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => PLAIN_UDP_REPLY_BYTES_MAX,
        (Transport::Udp, Some(edns)) => edns
            .max_payload()
            .clamp(PLAIN_UDP_REPLY_BYTES_MAX, UDP_REPLY_BYTES_MAX),
    }
}

fn outcome(verdict: &Verdict) -> Outcome {
    match verdict {
        Verdict::Answer(Answer::V4(_) | Answer::V6(_)) => Outcome::Addresses,
        Verdict::Answer(Answer::NoData(..)) => Outcome::NoData,
        Verdict::Answer(Answer::NameError(..)) => Outcome::NameError,
        Verdict::Answer(Answer::Refused(_)) => Outcome::Refused,
        Verdict::Answer(_) => Outcome::Records,
        Verdict::Found(_) => Outcome::Records,
        Verdict::FormatError => Outcome::FormatError,
        Verdict::NotImplemented => Outcome::NotImplemented,
        Verdict::BadVersion => Outcome::BadVersion,
    }
}

#[cfg(test)]
mod tests;

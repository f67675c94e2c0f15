//! A reply as bytes: header, question, records, EDNS and truncation.

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, Metadata, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use margay_core::name::ZONE;
use margay_core::names::{Answer, ExtendedError};
use std::sync::LazyLock;

/// The largest UDP reply, in bytes: fits every IPv6 path unfragmented (DNS flag day 2020).
pub(crate) const UDP_REPLY_BYTES_MAX: u16 = 1232;

/// The largest UDP reply to a query without EDNS, in bytes (RFC 1035 section 2.3.4).
pub(crate) const PLAIN_UDP_REPLY_BYTES_MAX: u16 = 512;

/// How long an answer may be cached, in seconds: a name binds anew at each first packet, so a stale
/// answer only costs balance, yet a second is all that a burst of look-ups needs.
const ANSWER_SECONDS: u32 = 1;

/// How long a negative answer may be cached, in seconds (RFC 2308 section 5): a service that has
/// just been applied should be found at the next try.
const NEGATIVE_SECONDS: u32 = 1;

/// The code of the extended error option (RFC 8914 section 2).
const EXTENDED_ERROR_OPTION: u16 = 15;

/// The longest text of an extended error, in bytes: with it every negative reply fits 512 bytes.
const EXTENDED_ERROR_TEXT_BYTES_MAX: usize = 128;

static ZONE_SOA: LazyLock<Record> = LazyLock::new(|| start_of_authority(zone_name()));
static ROOT_SOA: LazyLock<Record> = LazyLock::new(|| start_of_authority(Name::root()));

/// What a query said that its reply repeats.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The query's header.
    pub(crate) metadata: Metadata,
    /// Its question, in the letters it was asked (draft-vixie-dnsext-dns0x20).
    pub(crate) question: Option<Query>,
    /// Its EDNS record.
    pub(crate) edns: Option<Edns>,
}

/// What is replied.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Core's answer.
    Answer(Answer),
    /// The query is malformed (FORMERR).
    FormatError,
    /// The kind of request is not served (NOTIMP).
    NotImplemented,
    /// The version of EDNS is not served (BADVERS, RFC 6891 section 6.1.3).
    BadVersion,
}

/// Writes the reply to `asked` into `out`, in place of what it held, in at most `bytes_max` bytes.
///
/// Returns whether the reply was truncated: then it says so and holds no record (RFC 2181 section
/// 9), so that no caller takes a part for the whole.
pub(crate) fn encode(
    asked: &Asked,
    verdict: &Verdict,
    bytes_max: u16,
    out: &mut Vec<u8>,
) -> Result<bool, ProtoError> {
    let mut reply = message(asked, verdict);
    write(&reply, out)?;
    let truncated = out.len() > usize::from(bytes_max);
    if truncated {
        reply.metadata.truncation = true;
        reply.answers.clear();
        reply.authorities.clear();
        reply.edns = asked.edns.as_ref().map(|theirs| our_edns(theirs, None));
        write(&reply, out)?;
    }
    debug_assert!(out.len() <= usize::from(bytes_max.max(PLAIN_UDP_REPLY_BYTES_MAX)));
    Ok(truncated)
}

fn write(message: &Message, out: &mut Vec<u8>) -> Result<(), ProtoError> {
    out.clear();
    message.emit(&mut BinEncoder::new(out))
}

fn message(asked: &Asked, verdict: &Verdict) -> Message {
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&asked.metadata);
    // Stub resolvers look for recursion; what there is to know, this server knows by itself.
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = matches!(verdict, Verdict::Answer(_));
    reply.metadata.response_code = response_code(verdict);
    if let (Some(question), Verdict::Answer(answer)) = (&asked.question, verdict) {
        fill_sections(&mut reply, question, answer);
    }
    reply.queries.extend(asked.question.clone());
    let error = extended_error(verdict);
    reply.edns = asked.edns.as_ref().map(|theirs| our_edns(theirs, error));
    reply
}

fn response_code(verdict: &Verdict) -> ResponseCode {
    match verdict {
        Verdict::Answer(Answer::NameError(_)) => ResponseCode::NXDomain,
        Verdict::Answer(_) => ResponseCode::NoError,
        Verdict::FormatError => ResponseCode::FormErr,
        Verdict::NotImplemented => ResponseCode::NotImp,
        Verdict::BadVersion => ResponseCode::BADVERS,
    }
}

fn fill_sections(reply: &mut Message, question: &Query, answer: &Answer) {
    let record = |data| Record::from_rdata(question.name.clone(), ANSWER_SECONDS, data);
    match answer {
        Answer::V4(addrs) => {
            let records = addrs.iter().map(|addr| record(RData::A(A(*addr))));
            reply.answers.extend(records);
        }
        Answer::V6(addrs) => {
            let records = addrs.iter().map(|addr| record(RData::AAAA(AAAA(*addr))));
            reply.answers.extend(records);
        }
        // The zone is of class IN; other classes hold no zone whose authority could be stated.
        Answer::NoData(_) | Answer::NameError(_) if question.query_class == DNSClass::IN => {
            reply
                .authorities
                .push(authority_for(&question.name).clone());
        }
        Answer::NoData(_) | Answer::NameError(_) => {}
    }
}

/// The zone that denies `name`. Caches keep a denial only if its zone encloses the name (RFC 2308
/// section 3), so foreign names are denied by the root.
fn authority_for(name: &Name) -> &'static Record {
    if ZONE_SOA.name.zone_of(name) {
        &ZONE_SOA
    } else {
        &ROOT_SOA
    }
}

fn zone_name() -> Name {
    let name = Name::from_labels([ZONE.as_bytes()]);
    name.expect("the zone is one label, checked by a test")
}

fn start_of_authority(zone: Name) -> Record {
    let seconds_between_transfers = 1; // There are no secondaries; the fields must hold something.
    let data = SOA::new(
        zone_name(),
        zone_name(),
        1,
        seconds_between_transfers,
        seconds_between_transfers,
        seconds_between_transfers,
        NEGATIVE_SECONDS,
    );
    Record::from_rdata(zone, NEGATIVE_SECONDS, RData::SOA(data))
}

fn extended_error(verdict: &Verdict) -> Option<&ExtendedError> {
    match verdict {
        Verdict::Answer(Answer::NoData(error)) => error.as_ref(),
        Verdict::Answer(Answer::NameError(error)) => Some(error),
        _ => None,
    }
}

/// Our EDNS record: our payload size, their DNSSEC wish repeated (RFC 3225 section 3), none of
/// their options (a server that knows no cookies ignores them, RFC 7873 section 5.2).
fn our_edns(theirs: &Edns, error: Option<&ExtendedError>) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_REPLY_BYTES_MAX);
    edns.set_dnssec_ok(theirs.flags().dnssec_ok);
    if let Some(error) = error {
        let text_bytes = error
            .text
            .floor_char_boundary(EXTENDED_ERROR_TEXT_BYTES_MAX);
        let mut data = error.code.to_be_bytes().to_vec();
        data.extend_from_slice(&error.text.as_bytes()[..text_bytes]);
        let option = EdnsOption::Unknown(EXTENDED_ERROR_OPTION, data);
        edns.options_mut().insert(option);
    }
    edns
}

#[cfg(test)]
mod tests;

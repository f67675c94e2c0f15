//! A reply as bytes: header, question, records, EDNS and truncation.

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, Metadata, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use margay_core::address::VirtualIp;
use margay_core::name::ZONE;
use margay_core::names::{Answer, ExtendedError, ServiceTarget, Zone};
use std::sync::LazyLock;

/// The largest UDP reply, in bytes: fits every IPv6 path unfragmented (DNS flag day 2020).
pub(crate) const UDP_REPLY_BYTES_MAX: u16 = 1232;

/// The largest UDP reply to a query without EDNS, in bytes (RFC 1035 section 2.3.4).
pub(crate) const PLAIN_UDP_REPLY_BYTES_MAX: u16 = 512;

/// How long an answer may be cached, in seconds: a name binds anew at each first packet, so a stale
/// answer only costs balance, yet a second is all that a burst of look-ups needs.
pub(crate) const ANSWER_SECONDS: u32 = 1;

/// How long a negative answer may be cached, in seconds (RFC 2308 section 5): a service that has
/// just been applied should be found at the next try.
const NEGATIVE_SECONDS: u32 = 1;

/// The code of the extended error option (RFC 8914 section 2).
const EXTENDED_ERROR_OPTION: u16 = 15;

/// The longest text of an extended error, in bytes: with it every negative reply fits 512 bytes.
const EXTENDED_ERROR_TEXT_BYTES_MAX: usize = 128;

/// The name of the zone of services, and of its name server.
static ZONE_NAME: LazyLock<Name> = LazyLock::new(|| {
    let name = Name::from_labels([ZONE.as_bytes()]);
    name.expect("the zone is one label, checked by a test")
});

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
    /// What the host's own servers know, or why they did not tell.
    Found(Found),
    /// The query is malformed (FORMERR).
    FormatError,
    /// The kind of request is not served (NOTIMP).
    NotImplemented,
    /// The version of EDNS is not served (BADVERS, RFC 6891 section 6.1.3).
    BadVersion,
}

/// What servers of other zones say.
#[derive(Debug)]
pub(crate) struct Found {
    /// Their word.
    pub(crate) code: ResponseCode,
    /// The records that answer.
    pub(crate) answers: Vec<Record>,
    /// The zone that denies, if they say which.
    pub(crate) authorities: Vec<Record>,
    /// Why there is no answer, if they did not say.
    pub(crate) error: Option<ExtendedError>,
}

/// Writes the reply to `asked` into `out`, in place of what it held, in at most `bytes_max` bytes.
///
/// Returns whether the reply was truncated: then it says so and holds no record, so that no caller
/// takes a part for the whole. Additional records are no part of what was asked for: what does not
/// fit without them goes without them (RFC 2181 section 9).
pub(crate) fn encode(
    asked: &Asked,
    verdict: &Verdict,
    bytes_max: u16,
    out: &mut Vec<u8>,
) -> Result<bool, ProtoError> {
    let mut reply = message(asked, verdict)?;
    write(&reply, out)?;
    if out.len() > usize::from(bytes_max) && !reply.additionals.is_empty() {
        reply.additionals.clear();
        write(&reply, out)?;
    }
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

fn message(asked: &Asked, verdict: &Verdict) -> Result<Message, ProtoError> {
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&asked.metadata);
    // Stub resolvers look for recursion; what there is to know, this server knows by itself.
    reply.metadata.recursion_available = true;
    let refused = matches!(verdict, Verdict::Answer(Answer::Refused(_)));
    reply.metadata.authoritative = matches!(verdict, Verdict::Answer(_)) && !refused;
    reply.metadata.response_code = response_code(verdict);
    if let (Some(question), Verdict::Answer(answer)) = (&asked.question, verdict) {
        fill_sections(&mut reply, question, answer)?;
    }
    if let Verdict::Found(found) = verdict {
        reply.answers.extend_from_slice(&found.answers);
        reply.authorities.extend_from_slice(&found.authorities);
    }
    reply.queries.extend(asked.question.clone());
    let error = extended_error(verdict);
    reply.edns = asked.edns.as_ref().map(|theirs| our_edns(theirs, error));
    Ok(reply)
}

fn response_code(verdict: &Verdict) -> ResponseCode {
    match verdict {
        Verdict::Answer(Answer::NameError(..)) => ResponseCode::NXDomain,
        Verdict::Answer(Answer::Refused(_)) => ResponseCode::Refused,
        Verdict::Answer(Answer::Elsewhere) => ResponseCode::ServFail,
        Verdict::Found(found) => found.code,
        Verdict::Answer(_) => ResponseCode::NoError,
        Verdict::FormatError => ResponseCode::FormErr,
        Verdict::NotImplemented => ResponseCode::NotImp,
        Verdict::BadVersion => ResponseCode::BADVERS,
    }
}

fn fill_sections(reply: &mut Message, question: &Query, answer: &Answer) -> Result<(), ProtoError> {
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
        Answer::Targets(targets) => {
            for target in targets {
                let name = absolute(&target.name)?;
                reply
                    .answers
                    .push(record(service_location(target, name.clone())));
                reply.additionals.extend(addresses_of(name, target.called));
            }
        }
        Answer::Texts(texts) => reply
            .answers
            .push(record(RData::TXT(TXT::new(texts.clone())))),
        Answer::Pointer(name) => {
            reply.answers.push(record(RData::PTR(PTR(absolute(name)?))));
        }
        Answer::Authority(zone) => reply.answers.push(authority(&question.name, *zone)),
        Answer::NameServer(addr) => {
            reply.answers.push(record(RData::NS(NS(ZONE_NAME.clone()))));
            let data = addr.map(|addr| RData::A(A(addr)));
            let told = data.map(|data| Record::from_rdata(ZONE_NAME.clone(), ANSWER_SECONDS, data));
            reply.additionals.extend(told);
        }
        // The zones are of class IN; other classes hold none whose authority could be stated.
        Answer::NoData(zone, _) | Answer::NameError(zone, _)
            if question.query_class == DNSClass::IN =>
        {
            reply.authorities.push(authority(&question.name, *zone));
        }
        Answer::NoData(..) | Answer::NameError(..) => {}
        Answer::Refused(_) | Answer::Elsewhere => {}
        // What is sought has another answer until it is found.
        Answer::Sought { otherwise, .. } => return fill_sections(reply, question, otherwise),
    }
    Ok(())
}

/// A name of core's, which writes none relative to another.
fn absolute(text: &str) -> Result<Name, ProtoError> {
    let mut name = Name::from_ascii(text)?;
    name.set_fqdn(true);
    Ok(name)
}

fn service_location(target: &ServiceTarget, name: Name) -> RData {
    RData::SRV(SRV::new(target.priority, target.weight, target.port, name))
}

fn addresses_of(name: Name, called: VirtualIp) -> [Record; 2] {
    let v4 = Record::from_rdata(name.clone(), ANSWER_SECONDS, RData::A(A(called.v4)));
    let v6 = Record::from_rdata(name, ANSWER_SECONDS, RData::AAAA(AAAA(called.v6)));
    [v4, v6]
}

/// The start of the zone that `name` lies in.
fn authority(name: &Name, zone: Zone) -> Record {
    let zone = match zone {
        Zone::ROOT => Name::root(),
        Zone::SERVICES => ZONE_NAME.clone(),
        Zone { labels } => name.trim_to(usize::from(labels)).to_lowercase(),
    };
    let seconds_between_transfers = 1; // There are no secondaries; the fields must hold something.
    let data = SOA::new(
        ZONE_NAME.clone(),
        ZONE_NAME.clone(),
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
        Verdict::Answer(Answer::NoData(_, error)) => error.as_ref(),
        Verdict::Answer(Answer::NameError(_, error) | Answer::Refused(error)) => Some(error),
        Verdict::Found(found) => found.error.as_ref(),
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

//! What DNS answers: a pure function over an immutable snapshot of names.

mod answer;
mod place;
mod reverse;
mod snapshot;

pub use answer::{Answer, ExtendedError, ServiceTarget, Zone};
pub use reverse::reverse_name;
pub use snapshot::{Declaration, NamedInstance, NamedService, NamesSnapshot};

use crate::address::DNS_ADDRESS;
use crate::balance::{Draw, mix};
use crate::id::InstanceId;
use crate::name::ZONE;
use place::Place;

/// The most addresses in one answer: eight AAAA records behind the longest name, with header and
/// EDNS, make 506 bytes, and every client takes 512 (RFC 1035 section 4.2.1).
pub const ANSWER_ADDRESSES_MAX: usize = 8;

/// What a caller asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name in lower case, labels joined by dots, without the root's dot.
    pub name: String,
    /// The kind of record.
    pub kind: QuestionKind,
}

/// The kinds of record that core tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// A (RFC 1035 section 3.4.1).
    A,
    /// AAAA (RFC 3596).
    Aaaa,
    /// SRV (RFC 2782).
    Srv,
    /// TXT (RFC 1035 section 3.3.14).
    Txt,
    /// PTR (RFC 1035 section 3.3.12).
    Ptr,
    /// SOA (RFC 1035 section 3.3.13).
    Soa,
    /// NS (RFC 1035 section 3.3.11).
    Ns,
    /// Any other type.
    Other,
}

/// Answers `question` of `caller`.
///
/// `draw` is a fresh random number or a counter; it orders the addresses. It is mixed first: clients
/// ask for A and AAAA in turn, and with a bare counter each family would see every other instance
/// only.
pub fn answer(
    snapshot: &NamesSnapshot,
    caller: InstanceId,
    question: &Question,
    draw: u64,
) -> Answer {
    let (name, kind) = (question.name.as_str(), question.kind);
    if let Some(below_zone) = below_zone(name) {
        // Nearly every question is for a service's own name: it is looked up before all others.
        if let Some(service) = snapshot.service(below_zone, caller) {
            let answer = service.answer(caller, kind, mixed(draw));
            return snapshot.unless_sought(service, answer);
        }
        return place::answer(snapshot, caller, Place::of(below_zone), kind, mixed(draw));
    }
    if name == ZONE {
        return apex(caller, kind);
    }
    reverse::answer(snapshot, caller, name, kind).unwrap_or_else(|| foreign(snapshot, caller, name))
}

/// What is said of a name of another zone.
///
/// The host's own programs have other servers to ask, and a refusal sends them there. An instance has
/// none: to it the name does not exist, for musl would go on waiting after a refusal. Where it may
/// reach the outside, the host's servers are asked, but not for single labels: those are what stubs
/// make of short names.
fn foreign(snapshot: &NamesSnapshot, caller: InstanceId, name: &str) -> Answer {
    if caller == InstanceId::HOST {
        Answer::Refused(ExtendedError::FOREIGN)
    } else if snapshot.lets_out(caller) && name.contains('.') {
        Answer::Elsewhere
    } else {
        Answer::NameError(Zone::ROOT, ExtendedError::FOREIGN)
    }
}

/// `web` of `web.matrix`; `None` for what is not below the zone.
fn below_zone(name: &str) -> Option<&str> {
    name.strip_suffix(ZONE)?.strip_suffix('.')
}

fn mixed(draw: u64) -> Draw {
    let mixed = mix(draw);
    Draw {
        turn: mixed,
        random: mixed,
    }
}

/// What the zone's own name holds; it is the name of its name server, too.
///
/// The host reaches it where its operator says, which no name tells.
fn apex(caller: InstanceId, kind: QuestionKind) -> Answer {
    let server = (caller != InstanceId::HOST).then_some(DNS_ADDRESS);
    match (kind, server) {
        (QuestionKind::Soa, _) => Answer::Authority(Zone::SERVICES),
        (QuestionKind::Ns, _) => Answer::NameServer(server),
        (QuestionKind::A, Some(server)) => Answer::V4(vec![server]),
        _ => Answer::NoData(Zone::SERVICES, None),
    }
}

#[cfg(test)]
mod tests;

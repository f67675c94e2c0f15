//! The longer names below the zone: of instances and of ports.

use super::answer::{Answer, ExtendedError, Zone};
use super::{NamesSnapshot, QuestionKind};
use crate::balance::Draw;
use crate::composition::Transport;
use crate::id::InstanceId;
use crate::name::InstanceName;

/// What a name below the zone could mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// `2.web`: an instance.
    Instance(InstanceName),
    /// `_http._tcp.web`: a port (RFC 2782).
    Port(&'a str, Transport, &'a str),
    /// `_tcp.web`: nothing by itself, but ports lie below it (RFC 8020).
    Ports(Transport, &'a str),
    /// Nothing.
    Nowhere,
}

impl Place<'_> {
    /// Reads a name below the zone that is no service's.
    pub(super) fn of(below_zone: &str) -> Place<'_> {
        if let Ok(instance) = below_zone.parse() {
            return Place::Instance(instance);
        }
        let mut labels = below_zone.rsplitn(3, '.');
        let (service, transport, port) = (labels.next(), labels.next(), labels.next());
        let (Some(service), Some(transport)) = (service, transport.and_then(transport_of)) else {
            return Place::Nowhere;
        };
        match port {
            None => Place::Ports(transport, service),
            Some(port) => match port.strip_prefix('_') {
                Some(port) => Place::Port(port, transport, service),
                None => Place::Nowhere,
            },
        }
    }
}

fn transport_of(label: &str) -> Option<Transport> {
    match label {
        "_tcp" => Some(Transport::Tcp),
        "_udp" => Some(Transport::Udp),
        _ => None,
    }
}

/// What the place holds, if `caller` may see the service that it belongs to.
pub(super) fn answer(
    snapshot: &NamesSnapshot,
    caller: InstanceId,
    place: Place<'_>,
    kind: QuestionKind,
    draw: Draw,
) -> Answer {
    let hidden = Answer::NameError(Zone::SERVICES, ExtendedError::NOT_FOR_CALLER);
    let service = |name| snapshot.service(name, caller);
    match place {
        Place::Instance(name) => match service(name.automaton.as_str()) {
            Some(service) => {
                let answer = service.answer_for(name.ordinal, kind);
                snapshot.unless_sought(service, answer)
            }
            None => hidden,
        },
        Place::Port(port, transport, name) => match service(name) {
            Some(service) => {
                let answer = service.answer_for_port(port, transport, caller, kind, draw);
                snapshot.unless_sought(service, answer)
            }
            None => hidden,
        },
        Place::Ports(transport, name) => match service(name) {
            Some(service) if service.speaks(transport) => Answer::NoData(Zone::SERVICES, None),
            Some(_) => Answer::NameError(Zone::SERVICES, ExtendedError::NO_SUCH_PORT),
            None => hidden,
        },
        Place::Nowhere => hidden,
    }
}

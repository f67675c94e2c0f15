//! Answers as values: records without their encoding.

use crate::address::VirtualIp;
use crate::name::{AutomatonName, ZONE};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The answer to a [`Question`](super::Question).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Addresses for A, best first; one to eight.
    V4(Vec<Ipv4Addr>),
    /// Addresses for AAAA, best first; one to eight.
    V6(Vec<Ipv6Addr>),
    /// Who serves a port, for SRV, best first; one to eight.
    Targets(Vec<ServiceTarget>),
    /// The character strings of one TXT record, each `key=value` (RFC 6763 section 6.3).
    Texts(Vec<String>),
    /// The name that an address belongs to, for PTR.
    Pointer(String),
    /// The zone begins at this name, for SOA.
    Authority(Zone),
    /// The zone's only name server, for NS, with its address if the caller can reach it; its name is
    /// the zone's of services.
    NameServer(Option<Ipv4Addr>),
    /// The name exists in the zone, records of this kind do not (RFC 2308 section 2.2).
    NoData(Zone, Option<ExtendedError>),
    /// The name does not exist for this caller, says the zone (RFC 2308 section 2.1).
    NameError(Zone, ExtendedError),
    /// The caller has other servers to ask for this name.
    Refused(ExtendedError),
    /// The host's own servers are to be asked on the caller's behalf.
    Elsewhere,
    /// No instance of the service is known here that takes flows, but one may be found beyond the
    /// site.
    Sought {
        /// Which service is to be sought.
        service: AutomatonName,
        /// What is answered if none is found, or by whoever cannot wait.
        otherwise: Box<Answer>,
    },
}

impl Answer {
    /// What is answered at once, and which service is worth waiting for, if any is.
    pub fn at_once(self) -> (Answer, Option<AutomatonName>) {
        match self {
            Answer::Sought { service, otherwise } => (*otherwise, Some(service)),
            answer => (answer, None),
        }
    }

    /// The records that answer, each as a line for a person; the domain of each is the name that was
    /// asked for.
    pub fn records(&self) -> Vec<String> {
        match self {
            Answer::V4(addrs) => addrs.iter().map(ToString::to_string).collect(),
            Answer::V6(addrs) => addrs.iter().map(ToString::to_string).collect(),
            Answer::Targets(targets) => targets.iter().map(ToString::to_string).collect(),
            Answer::Texts(texts) => texts.clone(),
            Answer::Pointer(name) => vec![name.clone()],
            Answer::Authority(_) | Answer::NameServer(_) => vec![ZONE.to_owned()],
            Answer::NoData(..) | Answer::NameError(..) => Vec::new(),
            Answer::Refused(_) | Answer::Elsewhere => Vec::new(),
            Answer::Sought { otherwise, .. } => otherwise.records(),
        }
    }
}

/// Who serves a port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Its whole name, `2.web.matrix`.
    pub name: String,
    /// Only the targets of the lowest priority are called while one of them answers.
    pub priority: u16,
    /// Its part among the targets of its priority.
    pub weight: u16,
    /// The port's number.
    pub port: u16,
    /// The name's addresses, told along so that nobody needs to ask for them.
    pub called: VirtualIp,
}

impl fmt::Display for ServiceTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, port) = (&self.name, self.port);
        let (priority, weight) = (self.priority, self.weight);
        write!(f, "{name}:{port} priority {priority} weight {weight}")
    }
}

/// The zone that a name lies in: so many of its last labels.
///
/// Caches keep a denial only if its zone encloses the name that was asked for (RFC 2308 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// How many.
    pub labels: u8,
}

impl Zone {
    /// The root: it encloses every name that is not ours.
    pub const ROOT: Zone = Zone { labels: 0 };

    /// The zone of services, [`ZONE`](crate::name::ZONE).
    pub const SERVICES: Zone = Zone { labels: 1 };
}

/// An extended DNS error (RFC 8914): a code and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// Code of RFC 8914 section 5.2.
    pub code: u16,
    /// One sentence for a person.
    pub text: &'static str,
}

impl ExtendedError {
    /// The service exists and no instance of it is ready ("Other Error").
    pub const NONE_READY: ExtendedError = ExtendedError {
        code: 0,
        text: "no instance of this service is ready; ask again soon",
    };

    /// The instance exists and is not ready ("Other Error").
    pub const NOT_READY: ExtendedError = ExtendedError {
        code: 0,
        text: "this instance is not ready; ask again soon, or for its service",
    };

    /// Unknown or not permitted, and the asker cannot tell which ("Other Error").
    pub const NOT_FOR_CALLER: ExtendedError = ExtendedError {
        code: 0,
        text: "no service of this name is open to the caller; compare with `needs` in its composition",
    };

    /// The caller sees the service, but it has no such instance ("Other Error").
    pub const NO_SUCH_INSTANCE: ExtendedError = ExtendedError {
        code: 0,
        text: "the service has no instance of this number; compare with its `replicas`",
    };

    /// The caller sees the service, but it declares no such port ("Other Error").
    pub const NO_SUCH_PORT: ExtendedError = ExtendedError {
        code: 0,
        text: "the service declares no port of this name and protocol; compare with its `ports`",
    };

    /// Nobody holds the address, or not for this caller ("Other Error").
    pub const NO_HOLDER: ExtendedError = ExtendedError {
        code: 0,
        text: "no instance that is open to the caller holds this address",
    };

    /// A name of another zone ("Not Authoritative").
    pub const FOREIGN: ExtendedError = ExtendedError {
        code: 20,
        text: "only names that end in .matrix are answered here",
    };
}

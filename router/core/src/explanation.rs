//! Why a flow went where it went, or where the next one would go, as an operator is told.

mod target;
mod text;

pub use target::{Target, TargetError};

use serde::{Deserialize, Serialize};

/// What would become of a flow, or what became of it, step by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Who calls.
    pub caller: String,
    /// What was asked for.
    pub target: String,
    /// What was decided on the way, in this order.
    pub steps: Vec<Step>,
    /// What came out.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What to do next.
    pub next: String,
}

/// One thing that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What about.
    pub name: String,
    /// Whether the flow got past it.
    pub passed: bool,
    /// What was found, for a person.
    pub detail: String,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The flow is open.
    Open(OpenFlow),
    /// The next first packet would open it.
    WouldOpen(Route),
    /// It is not Margay's: it would leave by the host's own routing.
    Leaves,
    /// It would be refused.
    Refused {
        /// The drop reason's name.
        reason: String,
        /// What the reason means.
        explanation: String,
        /// What the calling program sees.
        told: String,
    },
    /// The name leads to no address: there is no packet to refuse.
    NoSuchName {
        /// What the calling program sees.
        told: String,
    },
}

/// From where to where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `tcp`, `udp` or `echo`.
    pub protocol: String,
    /// The client's address and port as it writes them.
    pub from: String,
    /// The address and port that the client calls.
    pub to: String,
    /// The client's address and port as the server sees them.
    pub delivered_from: String,
    /// The address and port that the server sees as its own.
    pub delivered_to: String,
    /// The serving instance.
    pub server: String,
    /// Why it is that one: the name of a [`Choice`](crate::choice::Choice).
    pub choice: String,
}

/// An open flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFlow {
    /// From where to where.
    #[serde(flatten)]
    pub route: Route,
    /// `half-open`, `established` or `closed`.
    pub state: String,
    /// Since it was opened, in milliseconds.
    pub age_ms: u64,
    /// Since its last packet, in milliseconds.
    pub silent_ms: u64,
    /// Client to server.
    pub packets: u64,
    /// Client to server.
    pub bytes: u64,
    /// Server to client.
    pub reply_packets: u64,
    /// Server to client.
    pub reply_bytes: u64,
}

impl Step {
    pub(crate) fn passed(name: &str, detail: String) -> Step {
        Step {
            name: name.to_owned(),
            passed: true,
            detail,
        }
    }

    pub(crate) fn refused(name: &str, detail: String) -> Step {
        Step {
            passed: false,
            ..Step::passed(name, detail)
        }
    }
}

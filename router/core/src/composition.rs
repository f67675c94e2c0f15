//! A composition: a versioned set of automatons and who may talk to whom.

use crate::flow_key::Protocol;
use crate::id::Version;
use crate::name::{AutomatonName, HostName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

mod parse;

pub use crate::name::CompositionName;

/// A checked composition: every `needs` names an automaton, every probe a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Composition {
    /// Its name.
    pub name: CompositionName,
    /// Its version; only ever grows.
    pub version: Version,
    /// Its automatons by name.
    pub automatons: BTreeMap<AutomatonName, Automaton>,
    /// Which automatons the host's own programs may know by name.
    #[serde(default)]
    pub host_needs: BTreeSet<AutomatonName>,
}

/// A program as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Automaton {
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// Environment beyond the standard one.
    pub environment: BTreeMap<String, String>,
    /// The user to run as; `None`: an unprivileged one of each instance's own.
    pub user: Option<String>,
    /// How many instances run.
    pub replicas: u32,
    /// What others may call, by the port's name.
    pub ports: BTreeMap<String, Port>,
    /// Which automatons it may call: exactly their declared ports.
    pub needs: BTreeSet<AutomatonName>,
    /// When an instance counts as ready; `None`: as soon as its program runs.
    pub ready: Option<Readiness>,
    /// When a program counts as hung and is killed; `None`: never.
    #[serde(default)]
    pub alive: Option<Liveness>,
    /// What happens to a new flow whose instance is gone.
    pub affinity: Affinity,
    /// How flows spread over the instances.
    pub balance: Balance,
    /// What DNS answers for the service's own name.
    #[serde(default)]
    pub answer: Answering,
    /// Whether its instances reach what lies outside.
    #[serde(default)]
    pub egress: Egress,
    /// How long the flows of an instance that is replaced or taken away may go on.
    #[serde(default = "drain_unless_said")]
    pub drain: Duration,
    /// The instances' parts of the flows, in the order of their numbers; [`WEIGHT`] where none stands.
    #[serde(default)]
    pub weights: Vec<NonZeroU32>,
    /// How long an instance that has become ready takes to get its whole part.
    #[serde(default)]
    pub slow_start: Duration,
    /// Which hosts its instances run on, each in its turn; where none stands, on the one that the
    /// composition is applied at.
    #[serde(default)]
    pub on: Vec<HostName>,
}

impl Composition {
    /// With the automatons at `host` for which no other is named: wherever it is read then, it says
    /// where they are.
    pub fn placed_at(mut self, host: &HostName) -> Self {
        for automaton in self.automatons.values_mut() {
            if automaton.on.is_empty() {
                automaton.on.push(host.clone());
            }
        }
        self
    }
}

impl Automaton {
    /// The host that an instance runs on, if any is named.
    pub fn host_of(&self, ordinal: u32) -> Option<&HostName> {
        let turn = (ordinal as usize).checked_sub(1)?;
        self.on.get(turn.checked_rem(self.on.len())?)
    }
}

/// Most requests end by then, and an operator waits for it (as with Docker's and systemd's stops).
pub const DRAIN: Duration = Duration::from_secs(10);

/// An instance's part beside those of its siblings, unless the composition says another.
pub const WEIGHT: NonZeroU32 = NonZeroU32::new(100).expect("not zero");

fn drain_unless_said() -> Duration {
    DRAIN
}

/// A port that an automaton declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// Its transport protocol: TCP or UDP.
    pub protocol: Transport,
}

/// The transports that a port can be declared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Protocol {
        match transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        }
    }
}

/// A readiness probe, or how a liveness probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// What is asked.
    pub probe: Probe,
    /// How often.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// A liveness probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// What is asked, and how often.
    pub asked: Readiness,
    /// After so many failures in a row the program is killed.
    pub failures: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// A TCP connection to the port opens.
    Tcp {
        /// Which.
        port: u16,
    },
    /// `GET path` answers 2xx or 3xx.
    Http {
        /// Which.
        port: u16,
        /// Absolute path.
        path: String,
    },
    /// The command, run inside the instance, exits with 0.
    Command(Vec<String>),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Tcp { port } => write!(f, "connect to port {port}"),
            Probe::Http { port, path } => write!(f, "GET {path} at port {port}"),
            Probe::Command(command) => write!(f, "`{}`", command.join(" ")),
        }
    }
}

/// What happens to a new flow whose instance is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// It goes to a sibling.
    #[default]
    Prefer,
    /// It fails.
    Strict,
}

/// How flows spread over the instances of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with fewer flows of two drawn at random (Mitzenmacher 2001).
    TwoChoices,
    /// The less loaded of two drawn at random, by flows and processor time.
    LeastLoad,
    /// Each caller has its own (Eisenbud et al. 2016).
    Maglev,
}

impl Balance {
    /// Whether its choices depend on how loaded instances are.
    pub fn looks_at_loads(self) -> bool {
        matches!(self, Balance::TwoChoices | Balance::LeastLoad)
    }
}

/// What DNS answers for a service's own name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answering {
    /// The virtual IPs of its instances, the balancer's choice first.
    #[default]
    Instances,
    /// One virtual IP of the service itself, for clients that keep an answer for ever; each flow to it
    /// is balanced.
    Service,
}

/// Whether instances reach what lies outside the network of virtual IPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Nothing outside, no name of it either.
    #[default]
    None,
    /// Everything, by the host's routing.
    All,
}

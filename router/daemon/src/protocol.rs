//! What the command line and the daemon say to each other: one JSON line each way.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// The longest request line, in bytes: a composition of a thousand automatons fits.
pub const REQUEST_BYTES_MAX: u64 = 4 << 20;

/// What an operator asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Apply the composition in `text`, which came from `file`.
    Apply { file: String, text: String },
    /// Delete a composition.
    Delete { composition: String },
    /// List the instances of this host.
    Ps,
    /// List those of other hosts too.
    PsAll,
    /// List the services.
    Services,
    /// List live flows with their counters, a page: the first, or the one behind a slot.
    Flows { behind: Option<u32> },
    /// Have an instance take no new flow, or take them again, and tell what is still open.
    Drain { instance: String, cancel: bool },
    /// Tell what happens to flows, a line each, until the asker hangs up.
    Watch,
    /// Count drops and refusals by reason.
    Drops,
    /// Answer a name as an instance would see it.
    Resolve {
        name: String,
        caller: String,
        kind: Option<Kind>,
    },
    /// Tell why a flow goes where it goes.
    Explain {
        target: String,
        caller: Option<String>,
    },
    /// Write every metric as text.
    Metrics,
    /// Tell how the host is.
    Status,
    /// Tell where an instance can be entered.
    Target { instance: String },
    /// Found a network by a root key, whose 32 bytes these are, with this host as its first.
    Found {
        root: [u8; 32],
        name: String,
        site: String,
    },
    /// Make a token for hosts that may join.
    Invite(Invitation),
    /// Join the network of a token.
    Join { token: String, name: String },
    /// Take a host out of the network.
    Revoke { host: String },
    /// List the hosts of the network.
    Members,
    /// End every instance and the host itself.
    Down,
}

/// The kinds of DNS record that an operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Who serves a port: _http._tcp.web.matrix.
    Srv,
    /// What composition and version a service or an instance is of.
    Txt,
    /// Whose an address is.
    Ptr,
    /// The start of the zone.
    Soa,
    /// The zone's name server.
    Ns,
}

/// For whom a token shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Where the hosts will be.
    pub site: String,
    /// What they will do for others.
    pub roles: Vec<String>,
    /// For how long it can be used, in seconds.
    pub lifetime_s: u64,
    /// By how many hosts.
    pub uses: u32,
}

/// A host as `members` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub site: String,
    /// `self`; `up` or `down`, as the hosts of this site find together; `far`: of another site.
    pub state: String,
    /// `self`, `up`, `down`, or `refused`: it refuses this host.
    pub link: String,
    /// Where it is, while the link is up.
    pub address: Option<SocketAddr>,
    /// How packets get there: `plain` or `encapsulated`.
    pub path: Option<String>,
    /// What it does for others.
    pub roles: Vec<String>,
    /// Where its addresses come from.
    pub blocks: Vec<String>,
    /// The end of its certificate.
    pub until: String,
    /// Its ID.
    pub host: String,
    /// Why there is no link, as that host says.
    pub problem: Option<String>,
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// It was done, or here is what was asked for.
    Ok(Value),
    /// It was not done, and why.
    Error(String),
}

/// An instance as `ps` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstanceRow {
    /// `2.web`.
    pub name: String,
    /// Whose part it is.
    pub composition: String,
    /// Of which version.
    pub version: u64,
    /// Where in its life it is.
    pub state: String,
    /// Whether it gets new flows.
    pub ready: bool,
    /// The first process of its process namespace, as the host numbers it.
    pub pid: Option<i32>,
    /// How often the keeper started it again.
    pub restarts: u32,
    /// What others call.
    pub called_v4: String,
    /// What others call.
    pub called_v6: String,
    /// What it calls from.
    pub caller_v4: String,
    /// What it calls from.
    pub caller_v6: String,
    /// Why it is not ready, if something went wrong.
    pub problem: Option<String>,
    /// On which other host it is; of such a one less is known.
    #[serde(default)]
    pub host: Option<String>,
}

/// Live flows as `flows` shows them, as many as are told at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowPage {
    /// Ordered by slot.
    pub flows: Vec<FlowRow>,
    /// Behind which slot there may be more; `None`: that was all.
    pub next: Option<u32>,
}

/// How a drain goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRow {
    /// The instance: `2.web`.
    pub name: String,
    /// Its number.
    pub instance: u64,
    /// Whether it takes no new flow because an operator wants it so.
    pub drained: bool,
    /// Live flows that it serves.
    pub flows: u32,
    /// How many of them each caller holds.
    pub callers: std::collections::BTreeMap<String, u32>,
}

/// A service as `services` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceRow {
    /// `web.matrix`.
    pub name: String,
    /// Who declares it.
    pub composition: String,
    /// What others may call: `http=80/tcp`.
    pub ports: Vec<String>,
    /// Its own virtual IPs, if it is answered by itself.
    pub vips: Vec<IpAddr>,
    /// How many instances it has, as far as this host knows: all of its site, and what it found elsewhere.
    pub instances: usize,
    /// How many of them take new flows.
    pub ready: usize,
    /// Live flows that those of this host serve.
    pub flows: u32,
    /// First packets that were decided, ever.
    pub first_packets: u64,
    /// Its service ID in hexadecimal.
    pub service_id: String,
}

/// A host as `status` shows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// The keeper's process id.
    pub keeper_pid: u32,
    /// The keeper's version.
    pub keeper_version: String,
    /// Applied compositions.
    pub compositions: usize,
    /// Compositions of the site that this host could not apply yet, how often it tried, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_applied: Vec<String>,
    /// Instances.
    pub instances: usize,
    /// Instances that take new flows.
    pub ready: usize,
    /// Live flows.
    pub flows: usize,
    /// First packets that the kernel handed up for the instances of now.
    pub upcalls: u64,
    /// DNS questions since the daemon started.
    pub dns_queries: u64,
    /// Flows of instances here that another host's router was asked for.
    pub requests_sent: u64,
    /// First packets of other hosts that were passed on to the next router.
    pub requests_passed_on: u64,
    /// Flows of other hosts that instances here took.
    pub requests_accepted: u64,
    /// Requests of other hosts that were refused here.
    pub requests_rejected: u64,
    /// First packets of other hosts that came unadmitted, and went back to be asked for.
    pub packets_returned: u64,
}

/// A flow as `flows` shows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FlowRow {
    /// `tcp`, `udp` or `echo`.
    pub protocol: String,
    /// The calling instance.
    pub client: String,
    /// The serving instance.
    pub server: String,
    /// The client's address and port.
    pub from: String,
    /// The address and port that the client called.
    pub to: String,
    /// The address and port that the server sees as its own.
    pub delivered_to: String,
    /// Client to server.
    pub packets: u64,
    /// Client to server.
    pub bytes: u64,
    /// Server to client.
    pub reply_packets: u64,
    /// Server to client.
    pub reply_bytes: u64,
    /// `half-open`, `established` or `closed`.
    pub state: String,
    /// Since it was opened, in milliseconds.
    pub age_ms: u64,
    /// How many routers between the two hosts passed its first packet on.
    #[serde(default)]
    pub hops: u8,
}

/// Where `exec` enters an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// `2.web`.
    pub name: String,
    /// Its number.
    pub instance: u64,
    /// The first process of its process namespace, as the host numbers it.
    pub pid: Option<i32>,
    /// Its control group.
    pub cgroup: String,
    /// As whom its program runs; nothing: the user of its own.
    pub user: Option<String>,
    /// Its environment.
    pub environment: std::collections::BTreeMap<String, String>,
    /// Its newest log file.
    pub log: String,
}

#[cfg(test)]
#[path = "../fuzz/check.rs"]
mod check;

#[cfg(test)]
mod tests {
    use super::check::check;

    #[test]
    fn every_request_of_the_corpus_is_read_unless_its_name_says_otherwise() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/control");
        let files: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
        assert!(files.len() > 20);
        for file in files {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let read = check(&std::fs::read(&path).unwrap());
            assert_eq!(read, !name.starts_with("wrong"), "{name}");
        }
    }
}

//! What the command line's `--json` answers say, as far as the lab reads them.

use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One instance of `margay ps`.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    /// `2.web`.
    pub name: String,
    /// Whose part it is.
    pub composition: String,
    /// What it does, for people.
    pub state: String,
    /// It is in answers and gets new flows.
    pub ready: bool,
    /// Its first process, as the host sees it.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it is not ready, if something went wrong.
    pub problem: Option<String>,
    /// The address that others call.
    pub called_v4: Ipv4Addr,
    /// The address that others call.
    pub called_v6: Ipv6Addr,
    /// The address that it calls from.
    pub caller_v4: Ipv4Addr,
    /// The address that it calls from.
    pub caller_v6: Ipv6Addr,
}

impl Instance {
    /// Whether others call it by `addr`.
    pub fn is_called(&self, addr: IpAddr) -> bool {
        addr == self.called_v4 || addr == self.called_v6
    }

    /// Whether it is an instance of `automaton`.
    pub fn is_of(&self, automaton: &str) -> bool {
        self.name
            .split_once('.')
            .is_some_and(|(_, it)| it == automaton)
    }
}

/// One flow of `margay flows`.
#[derive(Clone, Debug, Deserialize)]
pub struct Flow {
    /// `tcp`, `udp` or `echo`.
    pub protocol: String,
    /// The instance that opened it.
    pub client: String,
    /// The instance that serves it.
    pub server: String,
    /// Where its packets come from.
    pub from: SocketAddr,
    /// Whom the client calls.
    pub to: SocketAddr,
    /// Where the packets go in fact.
    pub delivered_to: SocketAddr,
    /// Packets from client to server that the kernel delivered.
    pub packets: u64,
    /// Packets from server to client that the kernel delivered.
    pub reply_packets: u64,
}

/// The daemon, by `margay status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Its process, as the host sees it.
    pub pid: u32,
    /// Live flows.
    pub flows: u32,
    /// First packets that came up to core so far.
    pub upcalls: u64,
    /// First packets for which another host was asked.
    pub requests_sent: u64,
    /// First packets of other hosts that were passed on to another.
    pub requests_passed_on: u64,
    /// First packets of other hosts whose flows were accepted.
    pub requests_accepted: u64,
}

//! The figures of a demo, every one of them read from the running system.

use serde::Serialize;

/// What the demo read, in the order of its steps.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The names that a program of the GNU C library resolved to the right addresses.
    pub names_glibc: Vec<String>,
    /// The names that a musl program resolved to the right addresses.
    pub names_musl: Vec<String>,
    /// Requests that each replica answered.
    pub spread: Spread,
    /// First packets that came up to core, for as many flows.
    pub first_packets_upcalled: u64,
    /// Packets of these flows that the kernel's flow table delivered by itself.
    pub packets_direct: u64,
    /// A program outside the composition could neither resolve nor reach, not even by address.
    pub denied: bool,
    /// A flow to a replica killed between answer and connect went to a sibling.
    pub rebound: bool,
    /// From the kill to the sibling's whole answer.
    pub rebound_ms: f64,
    /// Requests, each by a new process, that were under way while no daemon ran, or began then.
    pub requests_during_kill9: u64,
    /// From the daemon's SIGKILL until the next one answered.
    pub daemon_down_ms: u64,
    /// Requests that failed, in all of the load.
    pub failed_during_kill9: u64,
    /// Requests, each by a new process, around and during the replacement of all replicas.
    pub rolling_requests: u64,
    /// From the new version's application until the last old replica was gone.
    pub rolling_ms: u64,
    /// Requests that failed, in all of that load.
    pub rolling_failed: u64,
    /// Hosts of the network.
    pub hosts: u32,
    /// Its sites.
    pub sites: u32,
    /// Service routers between the client's and the server's host that passed a first packet on.
    pub first_packet_hops: u32,
    /// Hosts between them that carried a later packet.
    pub later_packet_hops: u32,
    /// From a host's death until every survivor of its site knew.
    pub detect_ms: f64,
    /// From a service's application until every host of both sites answered its name.
    pub converge_ms: f64,
    /// From the end of a site's isolation until it was reached and knew what had been applied.
    pub heal_ms: f64,
    /// How long the demo took.
    pub seconds: u64,
}

/// Requests that each replica answered, in the order of the replicas.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Spread {
    /// Over IPv4.
    pub v4: Vec<u32>,
    /// Over IPv6.
    pub v6: Vec<u32>,
}

impl Report {
    /// What is not as it should be; empty if all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |well: bool, fault: &str| {
            if !well {
                faults.push(fault.to_owned());
            }
        };
        let names = super::shop::NAMES;
        check(
            self.names_glibc == names,
            "glibc did not resolve every name",
        );
        check(self.names_musl == names, "musl did not resolve every name");
        for (family, spread) in [("v4", &self.spread.v4), ("v6", &self.spread.v6)] {
            let used = !spread.is_empty() && spread.iter().all(|requests| *requests > 0);
            check(used, &format!("a replica was never chosen over {family}"));
        }
        check(
            self.first_packets_upcalled > 0,
            "no first packet went up to core",
        );
        check(
            self.packets_direct > self.first_packets_upcalled,
            "the kernel did not take over",
        );
        check(self.denied, "a stranger came through");
        check(self.rebound, "no sibling answered for the dead replica");
        check(
            self.daemon_down_ms >= 1000,
            "the daemon was not dead for a second",
        );
        check(
            self.requests_during_kill9 > 0,
            "no request ran while the daemon was dead",
        );
        check(
            self.failed_during_kill9 == 0,
            "requests failed while the daemon was dead",
        );
        check(
            self.rolling_requests > 0 && self.rolling_failed == 0,
            "requests failed while replicas were replaced",
        );
        check(
            self.first_packet_hops > 0,
            "no router stood between the client's and the server's host",
        );
        check(
            self.later_packet_hops == 0,
            "later packets did not go direct",
        );
        faults
    }
}

//! What is measured, in which unit, and by which job of the wire tool.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A figure of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Exchanges of one byte each way over one TCP connection.
    Rr,
    /// TCP connections opened, used for one byte each way, and closed.
    Crr,
    /// TCP payload received over one connection.
    Bulk,
    /// UDP datagrams of 64 bytes received.
    UdpPps,
    /// Round trip of a flow's first datagram.
    FirstPacketUs,
    /// Round trip of a later datagram of the same flow.
    LaterPacketUs,
}

impl Metric {
    /// All of them, in the order of the report.
    pub const ALL: [Metric; 6] = [
        Metric::Rr,
        Metric::Crr,
        Metric::Bulk,
        Metric::UdpPps,
        Metric::FirstPacketUs,
        Metric::LaterPacketUs,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Rr => "rr",
            Metric::Crr => "crr",
            Metric::Bulk => "bulk",
            Metric::UdpPps => "udp_pps",
            Metric::FirstPacketUs => "first_packet_us",
            Metric::LaterPacketUs => "later_packet_us",
        }
    }

    /// Its unit, as the report writes it.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::Rr | Metric::Crr | Metric::UdpPps => "per_s",
            Metric::Bulk => "bits_per_s",
            Metric::FirstPacketUs | Metric::LaterPacketUs => "us",
        }
    }

    /// The job that yields it.
    pub fn job(self) -> Job {
        match self {
            Metric::Rr => Job::Rr,
            Metric::Crr => Job::Crr,
            Metric::Bulk => Job::Bulk,
            Metric::UdpPps => Job::UdpPps,
            Metric::FirstPacketUs | Metric::LaterPacketUs => Job::Latency,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// One conversation between the wire tool's client and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Job {
    /// One byte each way, again and again, over one TCP connection.
    Rr,
    /// One byte each way over a new TCP connection each time.
    Crr,
    /// As much as TCP carries from client to server.
    Bulk,
    /// As many datagrams as UDP carries from client to server.
    UdpPps,
    /// First and later round trips of new UDP flows.
    Latency,
}

impl Job {
    /// All of them, in the order in which a round runs them.
    pub const ALL: [Job; 5] = [Job::Rr, Job::Crr, Job::Bulk, Job::UdpPps, Job::Latency];

    /// Its name on the wire tool's command line.
    pub fn name(self) -> &'static str {
        match self {
            Job::Rr => "rr",
            Job::Crr => "crr",
            Job::Bulk => "bulk",
            Job::UdpPps => "udp-pps",
            Job::Latency => "latency",
        }
    }

    /// Whether it is carried by UDP.
    pub fn is_udp(self) -> bool {
        matches!(self, Job::UdpPps | Job::Latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn a_metric_is_shown_as_it_is_serialized() {
        for metric in Metric::ALL {
            let serialized = serde_json::to_string(&metric).unwrap();
            assert_eq!(serialized, format!("\"{metric}\""));
        }
    }

    #[test]
    fn the_wire_tool_accepts_every_job_by_its_name() {
        for job in Job::ALL {
            assert_eq!(Job::from_str(job.name(), false), Ok(job));
        }
    }
}

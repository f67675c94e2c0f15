//! What is measured of a name server.

use serde::Serialize;
use std::fmt;

/// A figure of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsMetric {
    /// Questions answered over UDP.
    UdpQps,
    /// Questions answered over TCP.
    TcpQps,
    /// Processor time of the server, user and system, for a question over UDP.
    UdpCpuUs,
    /// Processor time of the server, user and system, for a question over TCP.
    TcpCpuUs,
}

impl DnsMetric {
    /// All of them, in the order of the report.
    pub const ALL: [DnsMetric; 4] = [
        DnsMetric::UdpQps,
        DnsMetric::TcpQps,
        DnsMetric::UdpCpuUs,
        DnsMetric::TcpCpuUs,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            DnsMetric::UdpQps => "udp_qps",
            DnsMetric::TcpQps => "tcp_qps",
            DnsMetric::UdpCpuUs => "udp_cpu_us",
            DnsMetric::TcpCpuUs => "tcp_cpu_us",
        }
    }

    /// Its unit, as the report writes it.
    pub fn unit(self) -> &'static str {
        match self {
            DnsMetric::UdpQps | DnsMetric::TcpQps => "per_s",
            DnsMetric::UdpCpuUs | DnsMetric::TcpCpuUs => "us",
        }
    }
}

impl fmt::Display for DnsMetric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

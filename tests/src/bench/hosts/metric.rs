//! What is measured of many hosts.

use serde::Serialize;
use std::fmt;

/// A figure of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum HostsMetric {
    /// A daemon's memory, shared pages counted whole: what a host has to spare for it.
    Rss,
    /// The largest of them.
    RssMax,
    /// A daemon's memory, where the daemons of one machine share pages.
    Pss,
    /// Share of one core that a daemon uses.
    IdleCpu,
    /// The largest of them.
    IdleCpuMax,
    /// What a host sends and receives on its link.
    IdleBytes,
    /// From a composition's arrival at one host until every host answers for its new instance.
    Converge,
    /// From the moment before a host is killed until no other answers for its instance.
    Detect,
}

impl HostsMetric {
    /// All of them, in the order of the report.
    pub const ALL: [HostsMetric; 8] = [
        HostsMetric::Rss,
        HostsMetric::RssMax,
        HostsMetric::Pss,
        HostsMetric::IdleCpu,
        HostsMetric::IdleCpuMax,
        HostsMetric::IdleBytes,
        HostsMetric::Converge,
        HostsMetric::Detect,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            HostsMetric::Rss => "rss_mb",
            HostsMetric::RssMax => "rss_mb_max",
            HostsMetric::Pss => "pss_mb",
            HostsMetric::IdleCpu => "idle_cpu_pct",
            HostsMetric::IdleCpuMax => "idle_cpu_pct_max",
            HostsMetric::IdleBytes => "idle_bytes_per_s",
            HostsMetric::Converge => "converge_ms",
            HostsMetric::Detect => "detect_ms",
        }
    }

    /// Its unit, as the report writes it.
    pub fn unit(self) -> &'static str {
        match self {
            HostsMetric::Rss | HostsMetric::RssMax | HostsMetric::Pss => "mb",
            HostsMetric::IdleCpu | HostsMetric::IdleCpuMax => "percent_of_core",
            HostsMetric::IdleBytes => "bytes_per_s",
            HostsMetric::Converge | HostsMetric::Detect => "ms",
        }
    }
}

impl fmt::Display for HostsMetric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

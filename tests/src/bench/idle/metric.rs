//! What is measured of a host that waits, and of a crowd that comes and goes.

use serde::Serialize;
use std::fmt;

/// A figure of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum IdleMetric {
    /// Share of one core that the daemon uses.
    DaemonCpu,
    /// The daemon's memory, shared pages counted by their share.
    DaemonPss,
    /// The daemon's memory, shared pages counted whole.
    DaemonRss,
    /// Share of one core that the keeper uses.
    KeeperCpu,
    /// The keeper's memory, shared pages counted by their share.
    KeeperPss,
    /// The keeper's memory, shared pages counted whole.
    KeeperRss,
    /// From `apply` until every instance is ready.
    Start,
    /// Until one instance has found all others by name and was answered by each, over both families.
    Answer,
    /// Until `down` has ended all of them, the keeper and the daemon.
    Stop,
}

impl IdleMetric {
    /// All of them, in the order of the report.
    pub const ALL: [IdleMetric; 9] = [
        IdleMetric::DaemonCpu,
        IdleMetric::DaemonPss,
        IdleMetric::DaemonRss,
        IdleMetric::KeeperCpu,
        IdleMetric::KeeperPss,
        IdleMetric::KeeperRss,
        IdleMetric::Start,
        IdleMetric::Answer,
        IdleMetric::Stop,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            IdleMetric::DaemonCpu => "daemon_cpu",
            IdleMetric::DaemonPss => "daemon_pss",
            IdleMetric::DaemonRss => "daemon_rss",
            IdleMetric::KeeperCpu => "keeper_cpu",
            IdleMetric::KeeperPss => "keeper_pss",
            IdleMetric::KeeperRss => "keeper_rss",
            IdleMetric::Start => "start_s",
            IdleMetric::Answer => "answer_s",
            IdleMetric::Stop => "stop_s",
        }
    }

    /// Its unit, as the report writes it.
    pub fn unit(self) -> &'static str {
        match self {
            IdleMetric::DaemonCpu | IdleMetric::KeeperCpu => "percent_of_core",
            IdleMetric::DaemonPss
            | IdleMetric::DaemonRss
            | IdleMetric::KeeperPss
            | IdleMetric::KeeperRss => "mb",
            IdleMetric::Start | IdleMetric::Answer | IdleMetric::Stop => "s",
        }
    }
}

impl fmt::Display for IdleMetric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

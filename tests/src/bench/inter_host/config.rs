//! The configs that are compared: ways for packets to get from a program to one on another host.

use serde::Serialize;
use std::fmt;

/// A way from client to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
pub enum Config {
    /// The kernels' forwarding, by static routes: to it ratios refer.
    Routed,
    /// The same through a VXLAN device on each host, as container networks do.
    Vxlan,
    /// Instances of Margay, called by IPv4: as they are, for the hosts are neighbours by IPv4.
    Margay,
    /// Instances of Margay, called by IPv6: in UDP, for the hosts are neighbours by IPv4.
    #[value(name = "margay-v6")]
    MargayV6,
}

impl Config {
    /// All of them, in the order of the report.
    pub const ALL: [Config; 4] = [
        Config::Routed,
        Config::Vxlan,
        Config::Margay,
        Config::MargayV6,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Config::Routed => "routed",
            Config::Vxlan => "vxlan",
            Config::Margay => "margay",
            Config::MargayV6 => "margay-v6",
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

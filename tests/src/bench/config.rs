//! The configs that are compared: ways for packets to get from a client to a server on one host.

use anyhow::{Result, bail};
use serde::Serialize;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// A way from client to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
pub enum Config {
    /// One veth pair and nothing between: the physical limit, to which ratios refer.
    #[serde(rename = "direct-veth")]
    DirectVeth,
    /// Two veth pairs and the kernel's forwarding.
    #[serde(rename = "routed")]
    Routed,
    /// Two veth pairs on a Linux bridge.
    #[serde(rename = "bridge")]
    Bridge,
    /// Routed, with destination NAT through an nftables map of 10,000 services.
    #[serde(rename = "nft-10000")]
    #[value(name = "nft-10000")]
    Nft10000,
    /// Routed, with destination NAT through iptables rules of 1 service.
    #[serde(rename = "iptables-1")]
    #[value(name = "iptables-1")]
    Iptables1,
    /// Routed, with destination NAT through iptables rules of 10,000 services.
    #[serde(rename = "iptables-10000")]
    #[value(name = "iptables-10000")]
    Iptables10000,
    /// A user-space proxy in TCP mode.
    #[serde(rename = "haproxy")]
    Haproxy,
    /// Two instances of Margay, called by their IPv4 address.
    #[serde(rename = "margay")]
    Margay,
    /// Two instances of Margay, called by their IPv6 address.
    #[serde(rename = "margay-v6")]
    #[value(name = "margay-v6")]
    MargayV6,
    /// Two instances of Margay, called by their IPv4 address, on a host where 30,000 services are
    /// declared.
    #[serde(rename = "margay-30000")]
    #[value(name = "margay-30000")]
    Margay30000,
    /// Two instances of Margay, called by their IPv4 address, where core decides each flow.
    #[serde(rename = "margay-upcall")]
    #[value(name = "margay-upcall")]
    MargayUpcall,
}

/// What a host of Margay is like, beside the two measured instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostTraits {
    /// How many services are declared.
    pub declared_services: u32,
    /// Whether core decides each flow, and the kernel opens none by itself.
    pub decides_every_flow: bool,
}

impl Config {
    /// All of them, in the order of the report.
    pub const ALL: [Config; 11] = [
        Config::DirectVeth,
        Config::Routed,
        Config::Bridge,
        Config::Nft10000,
        Config::Iptables1,
        Config::Iptables10000,
        Config::Haproxy,
        Config::Margay,
        Config::MargayV6,
        Config::Margay30000,
        Config::MargayUpcall,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Config::DirectVeth => "direct-veth",
            Config::Routed => "routed",
            Config::Bridge => "bridge",
            Config::Nft10000 => "nft-10000",
            Config::Iptables1 => "iptables-1",
            Config::Iptables10000 => "iptables-10000",
            Config::Haproxy => "haproxy",
            Config::Margay => "margay",
            Config::MargayV6 => "margay-v6",
            Config::Margay30000 => "margay-30000",
            Config::MargayUpcall => "margay-upcall",
        }
    }

    /// Whether it is Margay itself.
    pub fn is_margay(self) -> bool {
        self.host().is_some()
    }

    /// What its host is like, if it is Margay.
    pub fn host(self) -> Option<HostTraits> {
        let plain = HostTraits::default();
        match self {
            Config::Margay | Config::MargayV6 => Some(plain),
            Config::Margay30000 => Some(HostTraits {
                declared_services: 30_000,
                ..plain
            }),
            Config::MargayUpcall => Some(HostTraits {
                decides_every_flow: true,
                ..plain
            }),
            _ => None,
        }
    }

    /// Whether it carries UDP.
    pub fn carries_udp(self) -> bool {
        self != Config::Haproxy
    }

    /// The programs it needs beyond our own, with their Debian packages.
    fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Config::Nft10000 => &[("nft", "nftables")],
            Config::Iptables1 | Config::Iptables10000 => {
                &[("iptables", "iptables"), ("iptables-restore", "iptables")]
            }
            Config::Haproxy => &[("haproxy", "haproxy")],
            _ => &[],
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Fails unless all that `configs` run is there; the error says how to get it.
pub fn require_programs(configs: &[Config]) -> Result<()> {
    require_program("ip", "iproute2", "every config")?;
    for config in configs {
        for (program, package) in config.programs() {
            require_program(program, package, config.name())?;
        }
    }
    beside_us("wire")?;
    if configs.iter().any(|config| config.is_margay()) {
        beside_us("margay")?;
    }
    Ok(())
}

/// Finds one of our own programs, which lie in one directory.
pub fn beside_us(program: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(program);
    if !path.is_file() {
        bail!(
            "{} is missing: build the whole workspace with the same profile",
            path.display()
        );
    }
    Ok(path)
}

/// Where programs are looked for: root's own places too, which a plain `su` leaves out.
pub fn search_path() -> Result<OsString> {
    let given = std::env::var_os("PATH").unwrap_or_default();
    let roots = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    Ok(std::env::join_paths(
        std::env::split_paths(&given).chain(roots),
    )?)
}

/// Fails unless `program` is there; the error names the Debian package that brings it.
pub fn require_program(program: &str, package: &str, config: &str) -> Result<()> {
    let places = search_path()?;
    if !std::env::split_paths(&places).any(|place| place.join(program).is_file()) {
        bail!("{program} is missing, which {config} needs: apt-get install {package}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn a_config_has_one_name_everywhere() {
        for config in Config::ALL {
            assert_eq!(
                serde_json::to_string(&config).unwrap(),
                format!("\"{config}\"")
            );
            assert_eq!(Config::from_str(config.name(), false), Ok(config));
        }
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = require_program("no-such-program", "its-package", "routed").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no-such-program is missing, which routed needs: apt-get install its-package"
        );
    }
}

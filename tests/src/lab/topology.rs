//! What a lab of many hosts consists of: nodes, segments and the links between them.
//!
//! ```text
//!   site paris                          site rome
//!   host a ───┐                     ┌─── host c
//!          segment paris ── router ── segment rome
//!   host b ───┘                     └─── host d
//! ```

mod draft;
mod numbering;
mod parse;
mod reach;
#[cfg(test)]
mod tests;

pub use reach::{Destination, Route};

use crate::cable::Impairment;
use anyhow::{Context, Result, bail};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use margay_core::name::SitePath;
use std::net::IpAddr;
use std::path::Path;

/// A checked topology: every name, address and link in it is there once, and fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// What the wires draw from.
    pub seed: u64,
    /// The segments, by name.
    pub segments: Vec<Segment>,
    /// Routers first, then hosts.
    pub nodes: Vec<Node>,
}

/// One local network: what a switch joins.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// `paris`.
    pub name: String,
    /// Its IPv4 addresses, if it has any.
    pub v4: Option<Ipv4Net>,
    /// Its IPv6 addresses, if it has any.
    pub v6: Option<Ipv6Net>,
}

/// A host or a router.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name, which no other node has.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What joins it to its segments, at least one; the interfaces `eth0`, `eth1`, … in it.
    pub links: Vec<Link>,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// It runs a daemon.
    Host {
        /// Where it stands.
        site: SitePath,
        /// Further options of its `margay up`.
        daemon_options: Vec<String>,
    },
    /// It forwards between its segments.
    Router {
        /// The link, by its index, that hides the others behind the router's own addresses.
        masquerade: Option<usize>,
    },
}

/// What joins a node to a segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// `a-paris`.
    pub name: String,
    /// The segment's index.
    pub segment: usize,
    /// The node's addresses there: at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// How its wire treats frames; `None`: it has no wire yet.
    pub wire: Option<Impairment>,
}

impl Topology {
    /// Reads a topology's file; the error shows everything that is wrong with it.
    pub fn read(path: &Path) -> Result<Topology> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        match Topology::parse(&text) {
            Ok(topology) => Ok(topology),
            Err(mistakes) => bail!(
                "not a topology\n{}",
                mistakes.render(&path.display().to_string(), &text)
            ),
        }
    }

    /// The hosts, without the routers.
    pub fn hosts(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(|node| matches!(node.role, Role::Host { .. }))
    }

    /// The routers.
    pub fn routers(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(|node| matches!(node.role, Role::Router { .. }))
    }
}

impl Segment {
    /// Its prefixes.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self.v4.map(IpNet::V4);
        v4.into_iter().chain(self.v6.map(IpNet::V6))
    }

    /// `addr` with the length of the prefix that it lies in.
    pub fn locate(&self, addr: IpAddr) -> Option<IpNet> {
        let prefix = self.prefixes().find(|prefix| prefix.contains(&addr))?;
        IpNet::new(addr, prefix.prefix_len()).ok()
    }
}

impl Node {
    /// All its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.links.iter().flat_map(|link| link.addresses.clone())
    }

    /// The options of its daemon, with the addresses of now for `{v4}` and `{v6}`.
    pub fn daemon_options(&self) -> Result<Vec<String>> {
        let Role::Host { daemon_options, .. } = &self.role else {
            bail!("`{}` is a router: it has no daemon", self.name);
        };
        let families = [("{v4}", true), ("{v6}", false)];
        let options = daemon_options.iter().map(|option| {
            families
                .iter()
                .try_fold(option.clone(), |option, (place, v4)| {
                    if !option.contains(place) {
                        return Ok(option);
                    }
                    let address = self.addresses().find(|it| it.is_ipv4() == *v4);
                    let address = address.with_context(|| {
                        format!("`{}` has no address for `{place}` in {option}", self.name)
                    })?;
                    Ok(option.replace(place, &address.to_string()))
                })
        });
        options.collect()
    }
}

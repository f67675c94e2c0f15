//! Hosts that become one network: founded by one of them, joined by the others, each in its site.

use super::Lab;
use crate::lab::topology::{Node, Role};
use crate::lab::{Host, until};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The port of every host link.
pub const LINK_PORT: u16 = 7400;

/// Where the founder's root key is written: in the host's own files.
const ROOT_KEY: &str = "/media/root.key";

/// How long hosts may take to know of each other, on a busy machine.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);

impl Lab {
    /// Starts every daemon, has `founder` found a network, and has the others join it, each for its
    /// own site and with the roles that are given to it; waits until all know of all.
    pub fn found_network(
        &self,
        founder: &str,
        roles: impl Fn(&str) -> &'static [&'static str] + Sync,
    ) -> Result<()> {
        self.found_network_without(&[], founder, roles)
    }

    /// The same, but some hosts stay without a daemon.
    pub fn found_network_without(
        &self,
        without: &[&str],
        founder: &str,
        roles: impl Fn(&str) -> &'static [&'static str] + Sync,
    ) -> Result<()> {
        let hosts = self.topology().hosts();
        let hosts = hosts.filter(|node| !without.contains(&node.name.as_str()));
        let hosts: Vec<&Node> = hosts.collect();
        super::for_each(hosts.iter().copied(), |node| {
            self.start_daemon_with_underlay(node)
        })?;
        self.join_all(&hosts, founder, roles)
    }

    /// The same of all hosts; their daemons run, and are reached by their options.
    pub fn join_running(&self, founder: &str) -> Result<()> {
        let hosts: Vec<&Node> = self.topology().hosts().collect();
        self.join_all(&hosts, founder, |_| &[])
    }

    fn join_all(
        &self,
        hosts: &[&Node],
        founder: &str,
        roles: impl Fn(&str) -> &'static [&'static str] + Sync,
    ) -> Result<()> {
        let first = self.node(founder)?;
        let site = site_of(first)?;
        let found = [
            "network", "create", "--root", ROOT_KEY, "--name", founder, "--site", &site,
        ];
        self.find_host(founder)?.answer(&found)?;
        let others = hosts.iter().copied().filter(|node| node.name != founder);
        let tokens = self.invite_all(founder, others.clone(), &roles)?;
        super::for_each(others, |node| {
            let token = &tokens[&terms(node, &roles)?];
            let join = ["join", token, "--name", &node.name];
            self.find_host(&node.name)?.answer(&join).map(drop)
        })?;
        for node in hosts {
            let host = self.find_host(&node.name)?;
            until("all hosts are known", KNOWN_WITHIN, || {
                Ok((host.members()?.len() == hosts.len()).then_some(()))
            })
            .with_context(|| format!("at {}: {}", node.name, host.log_tail()))?;
        }
        Ok(())
    }

    /// Starts a host's daemon so that others reach it at all its addresses.
    fn start_daemon_with_underlay(&self, node: &Node) -> Result<()> {
        let host = self.find_host(&node.name)?;
        let options = underlay(node)?;
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        host.start_daemon_with(&options)
            .with_context(|| host.log_tail())
    }

    /// Starts the daemon of a host that belongs to a network already.
    pub fn start_member(&self, host: &str) -> Result<()> {
        self.start_daemon_with_underlay(self.node(host)?)
    }

    /// A token for each site and set of roles, good for as many hosts as there are.
    fn invite_all<'n>(
        &self,
        founder: &str,
        others: impl Iterator<Item = &'n Node>,
        roles: impl Fn(&str) -> &'static [&'static str] + Sync,
    ) -> Result<BTreeMap<Terms, String>> {
        let mut uses: BTreeMap<Terms, u32> = BTreeMap::new();
        for node in others {
            *uses.entry(terms(node, &roles)?).or_default() += 1;
        }
        let founder = self.find_host(founder)?;
        let mut tokens = BTreeMap::new();
        for ((site, roles), uses) in uses {
            let uses = uses.to_string();
            let mut words = vec!["invite", "--site", &site, "--uses", &uses];
            for role in roles {
                words.extend(["--role", role]);
            }
            let token = founder.answer(&words)?.trim_end().to_owned();
            tokens.insert((site, roles), token);
        }
        Ok(tokens)
    }
}

/// A site, and what its hosts do for others.
type Terms = (String, &'static [&'static str]);

fn terms(node: &Node, roles: impl Fn(&str) -> &'static [&'static str]) -> Result<Terms> {
    Ok((site_of(node)?, roles(&node.name)))
}

fn site_of(node: &Node) -> Result<String> {
    match &node.role {
        Role::Host { site, .. } => Ok(site.to_string()),
        Role::Router { .. } => bail!("`{}` is a router", node.name),
    }
}

/// The host's own options, and where others reach it: at all its addresses, unless they say.
fn underlay(node: &Node) -> Result<Vec<String>> {
    let mut options = node.daemon_options()?;
    if !options.iter().any(|it| it.starts_with("--underlay")) {
        let addresses = node.addresses();
        options.extend(
            addresses.map(|addr| format!("--underlay={}", SocketAddr::new(addr, LINK_PORT))),
        );
    }
    Ok(options)
}

/// A member of a host's network, as that host sees it.
#[derive(Clone, Debug, Deserialize)]
pub struct MemberSeen {
    /// Its name.
    pub name: String,
    /// How it is: `self`, `up`, `down`, or `far`: of another site.
    pub state: String,
    /// The state of the link to it: `self`, `up`, `down` or `refused`.
    pub link: String,
}

impl Host {
    /// The members of the host's network, by `margay members`.
    pub fn members(&self) -> Result<Vec<MemberSeen>> {
        self.read(&["members", "--json"])
    }
}

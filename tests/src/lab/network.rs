//! Many hosts on this machine, joined by links into sites.
//!
//! ```text
//!   host a           fabric: a network namespace of the lab's own           router
//!  ┌──────┐         ┌────────────────────────────────────────────┐         ┌──────┐
//!  │ eth0 ├── veth ─┤ port0 ─┐                          ┌─ port2 ├─ veth ──┤ eth0 │
//!  └──────┘         │        ├─ segment0   segment1 ────┘        │         │      │
//!  ┌──────┐         │        │             (switches)            │         │      │
//!  │ eth0 ├── veth ─┤ port1 ─┘ ────────────────────────── port3 ├─ veth ──┤ eth1 │
//!  └──────┘         └────────────────────────────────────────────┘         └──────┘
//! ```

mod commands;
pub mod console;
mod description;
mod fabric;
pub mod joining;
mod link;
mod neighbours;
mod partition;
mod wire;

pub use description::{DescribedHost, DescribedLink, DescribedRouter, Description};
pub use link::Link;

use super::disk::Disk;
use super::namespaces::Namespaces;
use super::topology::{Destination, Node, Role, Topology};
use super::{Host, binaries};
use anyhow::{Context, Result, bail};
use fabric::Fabric;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How many nodes are made, started or ended at once: more would wait for one another only, and a
/// daemon's start has a deadline.
const AT_ONCE: usize = 8;

/// Hosts, routers and the links between them; all of it ends with this value or its process.
pub struct Lab {
    /// As it is now: addresses change.
    topology: Topology,
    // What follows is ended in this order.
    links: BTreeMap<String, Link>,
    hosts: BTreeMap<String, Host>,
    routers: BTreeMap<String, Namespaces>,
    /// The state of hosts that have lost their power.
    disks: BTreeMap<String, Disk>,
    fabric: Arc<Fabric>,
}

impl Lab {
    /// Makes a lab and waits until every daemon answers.
    pub fn start(topology: &Topology) -> Result<Lab> {
        let lab = Lab::without_daemons(topology)?;
        lab.start_daemons(|_, _| Ok(()))?;
        Ok(lab)
    }

    /// Makes a lab whose hosts reach each other, with no daemon in them yet.
    pub fn without_daemons(topology: &Topology) -> Result<Lab> {
        let fabric = Arc::new(Fabric::new(topology)?);
        let hosts = for_each(topology.hosts(), |node| Host::boot(Some(&node.name)))?;
        let routers = for_each(topology.routers(), router)?;
        let cable = binaries()?.join("cable");
        let plans = topology.nodes.iter().flat_map(|node| &node.links);
        let links = plans.enumerate().map(|(number, plan)| {
            let seed = topology.seed.wrapping_add(number as u64);
            let link = Link::new(Arc::clone(&fabric), cable.clone(), number, seed, plan);
            (plan.name.clone(), link)
        });
        let lab = Lab {
            links: links.collect(),
            topology: topology.clone(),
            hosts,
            routers,
            disks: BTreeMap::new(),
            fabric,
        };
        lab.plug(topology.nodes.iter())?;
        Ok(lab)
    }

    /// Starts every daemon, each with the options of its host, and waits until they answer.
    ///
    /// Then `started` is called with each host and its name, in the order of the topology: what a
    /// host needs of those before it, such as to join their network, is done there.
    pub fn start_daemons(&self, started: impl Fn(&str, &Host) -> Result<()>) -> Result<()> {
        for_each(self.topology.hosts(), |node| self.start_daemon(&node.name))?;
        for node in self.topology.hosts() {
            let told = started(&node.name, self.host(&node.name));
            told.with_context(|| format!("after the start of {}", node.name))?;
        }
        Ok(())
    }

    /// Starts the daemon of a host with the host's options, and waits until it answers.
    pub fn start_daemon(&self, host: &str) -> Result<()> {
        let options = self.node(host)?.daemon_options()?;
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let host = self.find_host(host)?;
        let started = host.start_daemon_with(&options);
        started.with_context(|| host.log_tail())
    }

    /// The host of that name; panics if there is none, with those that there are.
    pub fn host(&self, name: &str) -> &Host {
        self.find_host(name)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The link of that name; panics if there is none, with those that there are.
    pub fn link(&self, name: &str) -> &Link {
        self.find_link(name)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The host of that name.
    pub fn find_host(&self, name: &str) -> Result<&Host> {
        find(&self.hosts, "host", name)
    }

    /// The link of that name.
    pub fn find_link(&self, name: &str) -> Result<&Link> {
        find(&self.links, "link", name)
    }

    /// What the lab consists of now.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A command that will run in a router.
    pub fn router_command(&self, router: &str, program: &str) -> Result<std::process::Command> {
        Ok(find(&self.routers, "router", router)?.command(program))
    }

    /// The addresses of a host or router; panics if there is none of that name.
    pub fn addresses(&self, node: &str) -> Vec<IpAddr> {
        let node = self.node(node).unwrap_or_else(|error| panic!("{error}"));
        node.addresses().collect()
    }

    /// Replaces the address that a host has on the segment, and of the family, of `new`.
    pub fn change_address(&mut self, host: &str, new: IpAddr) -> Result<()> {
        let index = self.index(host)?;
        let segments = &self.topology.segments;
        let links = &self.topology.nodes[index].links;
        let located = links.iter().enumerate().find_map(|(number, link)| {
            let new = segments[link.segment].locate(new)?;
            Some((number, link.segment, new))
        });
        let (number, segment, new) =
            located.with_context(|| format!("`{host}` is on no segment with {new}"))?;
        let on_segment = self.topology.nodes.iter().flat_map(|node| &node.links);
        let mut on_segment = on_segment.filter(|link| link.segment == segment);
        let taken = on_segment.find(|link| link.addresses.contains(&new.addr()));
        if let Some(link) = taken {
            bail!("{} is taken by link `{}`", new.addr(), link.name);
        }
        let of_family = |it: &&mut IpAddr| it.is_ipv4() == new.addr().is_ipv4();
        let addresses = &mut self.topology.nodes[index].links[number].addresses;
        let old = addresses.iter_mut().find(of_family);
        let old = old.with_context(|| format!("`{host}` has no address to replace"))?;
        let mut lines = vec![format!(
            "addr del {old}/{} dev eth{number}",
            new.prefix_len()
        )];
        *old = new.addr();
        lines.push(add_address(number, new));
        lines.extend(self.routes(index, "replace"));
        self.namespaces(host)?.ip(&lines)
    }

    /// Ends every process of a host at once, the keeper too, as if its power failed.
    ///
    /// Its links go with it. [`Lab::boot_host`] brings it back with the state directory that it had.
    pub fn kill_host(&mut self, host: &str) -> Result<()> {
        let disk = self.find_host(host)?.power_off()?;
        self.disks.insert(host.to_owned(), disk);
        for link in &self.node(host)?.links {
            self.find_link(&link.name)?.unplug();
        }
        Ok(())
    }

    /// Makes a killed host anew: its state, addresses and links are as they were, and no daemon
    /// runs yet.
    pub fn boot_host(&mut self, host: &str) -> Result<()> {
        let disk = self.disks.remove(host);
        let disk = disk.with_context(|| format!("`{host}` is not dead: kill it first"))?;
        let booted = Host::boot(Some(host))?;
        disk.copy_to(&booted.namespaces)?;
        self.hosts.insert(host.to_owned(), booted);
        self.plug(std::iter::once(self.node(host)?))
    }

    /// Joins nodes to their segments, and gives them addresses and routes.
    fn plug<'n>(&self, nodes: impl Iterator<Item = &'n Node> + Clone + Send) -> Result<()> {
        let mut lines = Vec::new();
        for node in nodes.clone() {
            let first_process = self.namespaces(&node.name)?.first_process();
            for (number, link) in node.links.iter().enumerate() {
                let link = self.find_link(&link.name)?;
                lines.extend(link.plug(first_process, &format!("eth{number}")));
            }
        }
        self.fabric.namespaces.ip(&lines)?;
        for_each(nodes, |node| {
            let lines = self.interfaces(self.index(&node.name)?);
            self.namespaces(&node.name)?.ip(&lines)?;
            let mut links = node.links.iter();
            links.try_for_each(|link| self.find_link(&link.name)?.restore())
        })?;
        Ok(())
    }

    /// What `ip` does in a node that has just got its interfaces.
    fn interfaces(&self, index: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, link) in self.topology.nodes[index].links.iter().enumerate() {
            lines.push(format!("link set eth{number} up"));
            let segment = &self.topology.segments[link.segment];
            let located = link.addresses.iter().filter_map(|it| segment.locate(*it));
            lines.extend(located.map(|addr| add_address(number, addr)));
        }
        lines.extend(self.routes(index, "add"));
        lines
    }

    fn routes(&self, index: usize, verb: &str) -> Vec<String> {
        let routes = self.topology.routes(index).into_iter();
        let line = |route: super::topology::Route| {
            let to = match route.to {
                Destination::Elsewhere => "default".to_owned(),
                Destination::Segment(prefix) => prefix.to_string(),
            };
            let (via, link) = (route.via, route.link);
            format!("route {verb} {to} via {via} dev eth{link}")
        };
        routes.map(line).collect()
    }

    fn index(&self, name: &str) -> Result<usize> {
        let mut nodes = self.topology.nodes.iter();
        let index = nodes.position(|node| node.name == name);
        index.with_context(|| format!("no host and no router is called `{name}`"))
    }

    fn node(&self, name: &str) -> Result<&Node> {
        Ok(&self.topology.nodes[self.index(name)?])
    }

    fn namespaces(&self, node: &str) -> Result<&Namespaces> {
        match self.routers.get(node) {
            Some(router) => Ok(router),
            None => Ok(&self.find_host(node)?.namespaces),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // One after the other they would take seconds.
        let end = |node: &Node| -> Result<()> {
            match self.hosts.get(&node.name) {
                Some(host) => host.end(),
                None => self.namespaces(&node.name)?.end(),
            }
            Ok(())
        };
        if let Err(error) = for_each(self.topology.nodes.iter(), end) {
            eprintln!("the lab stays behind: {error:#}");
        }
    }
}

/// A node that forwards, and masquerades if it shall.
fn router(node: &Node) -> Result<Namespaces> {
    let namespaces = Namespaces::new(Some(&node.name))?;
    let mut script = "echo 1 >/proc/sys/net/ipv4/ip_forward\n\
                      echo 1 >/proc/sys/net/ipv6/conf/all/forwarding\n"
        .to_owned();
    if let Role::Router {
        masquerade: Some(link),
    } = node.role
    {
        script.push_str(&commands::masquerade(&format!("eth{link}")));
    }
    namespaces.shell(&script)?;
    Ok(namespaces)
}

/// IPv6 would look for a second whether anybody has the address; nobody has.
fn add_address(link: usize, addr: ipnet::IpNet) -> String {
    let unasked = if addr.addr().is_ipv6() { " nodad" } else { "" };
    format!("addr add {addr} dev eth{link}{unasked}")
}

/// Calls `make` for each node, several at once; the first failure is told.
fn for_each<'n, T: Send>(
    nodes: impl Iterator<Item = &'n Node> + Send,
    make: impl Fn(&Node) -> Result<T> + Sync,
) -> Result<BTreeMap<String, T>> {
    let (queue, made) = (Mutex::new(nodes.fuse()), Mutex::new(BTreeMap::new()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<()> {
        while let Some(node) = next() {
            let result = make(node).with_context(|| format!("node `{}`", node.name))?;
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            made.insert(node.name.clone(), result);
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(worked) => worked?,
                Err(_) => bail!("a thread of the lab panicked"),
            }
        }
        Ok(())
    })?;
    Ok(made.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn find<'m, T>(among: &'m BTreeMap<String, T>, kind: &str, name: &str) -> Result<&'m T> {
    among.get(name).with_context(|| {
        let known: Vec<&str> = among.keys().map(String::as_str).collect();
        format!(
            "no {kind} is called `{name}`; there are {}",
            known.join(", ")
        )
    })
}

//! Which segments a node reaches, and by which router.

use super::numbering::overlap;
use super::{Link, Node, Role, Topology};
use ipnet::IpNet;
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

/// A row of a node's routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub to: Destination,
    /// The router's address on the first segment.
    pub via: IpAddr,
    /// The index of the node's link to that segment.
    pub link: usize,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Wherever no other route leads.
    Elsewhere,
    /// To a segment.
    Segment(IpNet),
}

/// The first step of a way: the router's address, and the node's link.
type Step = (IpAddr, usize);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Topology {
    /// The routes of a node, by its index; a host also has one for what is not in the lab.
    pub fn routes(&self, node: usize) -> Vec<Route> {
        let mut routes = Vec::new();
        for family in [Family::V4, Family::V6] {
            let ways = self.ways(node, family);
            let is_host = matches!(self.nodes[node].role, Role::Host { .. });
            let elsewhere = ways.first().map(|(_, step)| *step).filter(|_| is_host);
            routes.extend(elsewhere.map(|(via, link)| Route {
                to: Destination::Elsewhere,
                via,
                link,
            }));
            for (segment, step) in ways {
                let mut prefixes = self.segments[segment].prefixes();
                let prefix = prefixes.find(|it| of(it.network()) == family);
                // The route elsewhere leads there too.
                let prefix = prefix.filter(|_| elsewhere != Some(step));
                routes.extend(prefix.map(|prefix| Route {
                    to: Destination::Segment(prefix),
                    via: step.0,
                    link: step.1,
                }));
            }
        }
        routes
    }

    /// Two segments that a node reaches and whose prefixes overlap.
    pub(super) fn overlap(&self, node: usize) -> Option<(usize, usize)> {
        let mut reached: Vec<usize> = self.nodes[node].links.iter().map(|it| it.segment).collect();
        for family in [Family::V4, Family::V6] {
            reached.extend(self.ways(node, family).iter().map(|(segment, _)| segment));
        }
        reached.sort_unstable();
        reached.dedup();
        let prefixes = |segment: usize| self.segments[segment].prefixes();
        let clash = |one, other| prefixes(one).any(|it| prefixes(other).any(|to| overlap(it, to)));
        reached.iter().enumerate().find_map(|(index, one)| {
            let others = &reached[index + 1..];
            let other = others.iter().find(|other| clash(*one, **other))?;
            Some((*one, *other))
        })
    }

    /// The segments beyond a node's own, nearest first, each with the first step of a shortest way.
    fn ways(&self, node: usize, family: Family) -> Vec<(usize, Step)> {
        let own = &self.nodes[node].links;
        let mut known: BTreeSet<usize> = own.iter().map(|link| link.segment).collect();
        // A way begins where the node has an address to send from.
        let starts = own.iter().enumerate();
        let starts = starts.filter(|(_, link)| link.address(family).is_some());
        let mut queue: VecDeque<(usize, Option<Step>, usize)> = starts
            .map(|(index, link)| (link.segment, None, index))
            .collect();
        let mut ways = Vec::new();
        while let Some((segment, first, link)) = queue.pop_front() {
            for (router, address) in self.forwarders(segment, family) {
                let step = first.unwrap_or((address, link));
                let spoken = router
                    .links
                    .iter()
                    .filter(|it| it.address(family).is_some());
                for next in spoken.map(|it| it.segment) {
                    if known.insert(next) {
                        ways.push((next, step));
                        queue.push_back((next, Some(step), link));
                    }
                }
            }
        }
        ways
    }

    /// Who forwards what comes from `segment`, with their addresses there. A router that
    /// masquerades takes nothing from the side that it faces with its own address.
    fn forwarders(&self, segment: usize, family: Family) -> impl Iterator<Item = (&Node, IpAddr)> {
        self.nodes.iter().filter_map(move |node| {
            let Role::Router { masquerade } = node.role else {
                return None;
            };
            let on = node.links.iter().position(|it| it.segment == segment)?;
            let address = node.links[on].address(family)?;
            (masquerade != Some(on)).then_some((node, address))
        })
    }
}

impl Link {
    fn address(&self, family: Family) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter().copied();
        addresses.find(|it| of(*it) == family)
    }
}

fn of(addr: IpAddr) -> Family {
    if addr.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    }
}

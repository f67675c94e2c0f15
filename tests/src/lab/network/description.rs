//! A lab as people and programs are told of it.

use super::Lab;
use crate::lab::topology::{Node, Role};
use anyhow::Result;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// What a lab consists of, and how to enter its nodes.
#[derive(Debug, Serialize)]
pub struct Description {
    /// The hosts.
    pub hosts: Vec<DescribedHost>,
    /// The routers.
    pub routers: Vec<DescribedRouter>,
    /// The links.
    pub links: Vec<DescribedLink>,
}

/// A host.
#[derive(Debug, Serialize)]
pub struct DescribedHost {
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its first process, as this machine sees it.
    pub pid: u32,
    /// The command that enters it.
    pub enter: String,
}

/// A router.
#[derive(Debug, Serialize)]
pub struct DescribedRouter {
    /// Its name.
    pub name: String,
    /// The segments between which it forwards.
    pub segments: Vec<String>,
    /// The one that sees only the router's own address, if there is one.
    pub masquerade: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its first process, as this machine sees it.
    pub pid: u32,
    /// The command that enters it.
    pub enter: String,
}

/// A link.
#[derive(Debug, Serialize)]
pub struct DescribedLink {
    /// Its name.
    pub name: String,
    /// The host or router at its one end.
    pub node: String,
    /// The segment at its other.
    pub segment: String,
}

impl Lab {
    /// Describes the lab as it is now.
    pub fn describe(&self) -> Result<Description> {
        let mut description = Description {
            hosts: Vec::new(),
            routers: Vec::new(),
            links: Vec::new(),
        };
        for node in &self.topology.nodes {
            let name = node.name.clone();
            let addresses = node.addresses().collect();
            let namespaces = self.namespaces(&name)?;
            let pid = namespaces.first_process().parse()?;
            let enter = namespaces.enter_words().join(" ");
            match &node.role {
                Role::Host { site, .. } => description.hosts.push(DescribedHost {
                    name,
                    site: site.to_string(),
                    addresses,
                    pid,
                    enter,
                }),
                Role::Router { masquerade } => description.routers.push(DescribedRouter {
                    name,
                    segments: self.segments(node).collect(),
                    masquerade: masquerade.and_then(|link| self.segments(node).nth(link)),
                    addresses,
                    pid,
                    enter,
                }),
            }
            let links = node.links.iter().zip(self.segments(node));
            description
                .links
                .extend(links.map(|(link, segment)| DescribedLink {
                    name: link.name.clone(),
                    node: node.name.clone(),
                    segment,
                }));
        }
        Ok(description)
    }

    fn segments<'l>(&'l self, node: &'l Node) -> impl Iterator<Item = String> {
        let indices = node.links.iter().map(|link| link.segment);
        indices.map(|index| self.topology.segments[index].name.clone())
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for host in &self.hosts {
            write_node(
                f,
                &host.name,
                &format!("host in {}", host.site),
                &host.addresses,
            )?;
            writeln!(f, "    {}", host.enter)?;
        }
        for router in &self.routers {
            let mut what = format!("router of {}", router.segments.join(", "));
            if let Some(outside) = &router.masquerade {
                what += &format!("; masquerades towards {outside}");
            }
            write_node(f, &router.name, &what, &router.addresses)?;
            writeln!(f, "    {}", router.enter)?;
        }
        let links: Vec<&str> = self.links.iter().map(|it| it.name.as_str()).collect();
        writeln!(f, "links: {}", links.join(" "))
    }
}

fn write_node(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    what: &str,
    addresses: &[IpAddr],
) -> fmt::Result {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    writeln!(f, "{name}  {what}  {}", addresses.join(" "))
}

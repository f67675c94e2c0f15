//! The segment that all configs share: a pair of hosts of Margay, and a pair of routers for each other
//! config.
//!
//! ```text
//!  client ── routed-a ─┐         ┌─ routed-b ── server
//!  client ── vxlan-a ──┤         ├─ vxlan-b ─── server
//!  client ── a ────────┴── link ─┴─ b ───────── server
//! ```

use super::config::Config;
use super::margay::Margay;
use crate::bench::conditions::{MTU_BYTES, SERVER_PORT};
use crate::bench::namespace::Namespace;
use crate::bench::path::Path;
use crate::lab::{Lab, Topology};
use anyhow::{Context as _, Result, bail};
use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The hosts of Margay.
pub(super) const HOSTS: [&str; 2] = ["a", "b"];

/// The device of a VXLAN.
const OVERLAY: &str = "overlay";

/// IPv4 only, so that the hosts of Margay are neighbours by it.
const TOPOLOGY: &str = r#"
[segment.link]
v4 = "10.7.0.0/24"

[site.link]

[host.a]
site = "link"

[host.b]
site = "link"

[router.routed-a]
segments = ["link"]

[router.routed-b]
segments = ["link"]

[router.vxlan-a]
segments = ["link"]

[router.vxlan-b]
segments = ["link"]
"#;

/// The segment and what is built on it.
pub(super) struct Segment {
    lab: Lab,
    margay: OnceCell<Margay>,
}

impl Segment {
    /// Makes the segment with hosts and routers that run nothing.
    pub(super) fn new() -> Result<Segment> {
        let topology = match Topology::parse(TOPOLOGY) {
            Ok(topology) => topology,
            Err(mistakes) => bail!("the topology of the bench: {mistakes}"),
        };
        Ok(Segment {
            lab: Lab::without_daemons(&topology)?,
            margay: OnceCell::new(),
        })
    }

    /// Builds the path of `config`.
    pub(super) fn build(&self, config: Config) -> Result<Path> {
        match config {
            Config::Routed => {
                let routers = self.routers(["routed-a", "routed-b"])?;
                let hops = [routers[0].addr, routers[1].addr];
                forwarded(&routers, subnets(8), "eth0", hops)
            }
            Config::Vxlan => {
                let routers = self.routers(["vxlan-a", "vxlan-b"])?;
                let hops = overlay(&routers)?;
                forwarded(&routers, subnets(9), OVERLAY, hops)
            }
            Config::Margay => Ok(self.margay()?.path(|server| server.called_v4.into())),
            Config::MargayV6 => Ok(self.margay()?.path(|server| server.called_v6.into())),
        }
    }

    /// What the daemons said last.
    pub(super) fn say(&self) -> String {
        HOSTS
            .map(|host| format!("{host}: {}", self.lab.host(host).log_tail()))
            .join("\n")
    }

    fn margay(&self) -> Result<&Margay> {
        if self.margay.get().is_none() {
            let margay = Margay::start(&self.lab).with_context(|| self.say())?;
            self.margay.get_or_init(|| margay);
        }
        self.margay.get().context("it was just started")
    }

    fn routers(&self, names: [&str; 2]) -> Result<[Router; 2]> {
        let [one, other] = names.map(|name| self.router(name));
        Ok([one?, other?])
    }

    fn router(&self, name: &str) -> Result<Router> {
        let described = self.lab.describe()?.routers;
        let found = described.iter().find(|router| router.name == name);
        let router = found.with_context(|| format!("no router {name}"))?;
        let [IpAddr::V4(addr)] = router.addresses[..] else {
            bail!("router {name} has other addresses than one of IPv4");
        };
        Ok(Router {
            namespace: Namespace::of_process(router.pid)?,
            addr,
        })
    }
}

/// A host that forwards by the kernel alone.
struct Router {
    namespace: Namespace,
    /// On the segment.
    addr: Ipv4Addr,
}

/// The first three numbers of the client's subnet, and of the server's.
fn subnets(second: u8) -> [[u8; 3]; 2] {
    [[10, second, 1], [10, second, 2]]
}

/// Attaches a client to the one router and a server to the other; each router reaches the other's
/// subnet by `device` and the other's address there.
fn forwarded(
    routers: &[Router; 2],
    subnets: [[u8; 3]; 2],
    device: &str,
    hops: [Ipv4Addr; 2],
) -> Result<Path> {
    let client = attach(&routers[0], subnets[0])?;
    let server = attach(&routers[1], subnets[1])?;
    for (here, there) in [(0, 1), (1, 0)] {
        let (subnet, hop) = (host_of(subnets[there], 0), hops[there]);
        let route = format!("route add {subnet}/24 via {hop} dev {device}");
        routers[here].namespace.ip(&route)?;
    }
    let target = SocketAddr::from((host_of(subnets[1], 2), SERVER_PORT));
    Ok(Path::between_hosts((client, server), target, None))
}

/// A namespace behind a router, for a program.
fn attach(router: &Router, subnet: [u8; 3]) -> Result<Namespace> {
    let program = Namespace::create()?;
    program.link("eth0", &router.namespace, "program")?;
    let (gateway, own) = (host_of(subnet, 1), host_of(subnet, 2));
    router
        .namespace
        .ip(&format!("addr add {gateway}/24 dev program"))?;
    program.ip(&format!(
        "addr add {own}/24 dev eth0\nroute add default via {gateway}"
    ))?;
    Ok(program)
}

/// Joins two routers by a VXLAN between their addresses on the segment; answers their addresses in it.
fn overlay(routers: &[Router; 2]) -> Result<[Ipv4Addr; 2]> {
    let inside = [1, 2].map(|number| host_of([10, 9, 0], number));
    for (here, there) in [(0, 1), (1, 0)] {
        let (local, remote) = (routers[here].addr, routers[there].addr);
        routers[here].namespace.ip(&format!(
            "link add {OVERLAY} type vxlan id 7 local {local} remote {remote} dstport 4789 dev eth0\n\
             link set {OVERLAY} mtu {MTU_BYTES} up\n\
             addr add {}/24 dev {OVERLAY}",
            inside[here]
        ))?;
    }
    Ok(inside)
}

fn host_of([first, second, third]: [u8; 3], number: u8) -> Ipv4Addr {
    Ipv4Addr::new(first, second, third, number)
}

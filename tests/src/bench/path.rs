//! Builds a config's path: the client's and the server's namespaces and what lies between.

use crate::bench::conditions::{CongestionControl, SERVER_PORT};
use crate::bench::config::{Config, HostTraits};
use crate::bench::margay_host::MargayHost;
use crate::bench::namespace::{Namespace, Running};
use crate::bench::{haproxy, nat};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path as FilePath;
use std::rc::Rc;

/// The client's address.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);

/// The router's address on the client's side.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);

/// The server's address when the client reaches it without a router.
const NEAR_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 3);

/// The server's address behind a router.
const FAR_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// A way from a client to a server, ready to be measured; dropping it takes it down.
pub struct Path {
    /// Where the client runs.
    pub client: Namespace,
    /// Where the server runs.
    pub server: Namespace,
    /// What the client calls.
    pub target: SocketAddr,
    /// What forwards, as far as it is worth stating.
    pub statement: Option<String>,
    forwarder: Forwarder,
    /// Kept only so that it lives as long as the path.
    _between: Option<Namespace>,
}

/// What carries packets from the client's side to the server's.
enum Forwarder {
    Kernel,
    Proxy(Running),
    Margay(Rc<MargayHost>),
    /// Two hosts of Margay, by the processes of their daemons.
    Daemons([u32; 2]),
}

impl Path {
    /// Margay's host, where it forwards.
    pub fn margay(&self) -> Option<&MargayHost> {
        match &self.forwarder {
            Forwarder::Margay(host) => Some(host),
            _ => None,
        }
    }

    /// A path that others have built, by the kernel alone or by two daemons.
    pub fn between_hosts(
        (client, server): (Namespace, Namespace),
        target: SocketAddr,
        daemons: Option<[u32; 2]>,
    ) -> Path {
        Path {
            client,
            server,
            target,
            statement: None,
            forwarder: daemons.map_or(Forwarder::Kernel, Forwarder::Daemons),
            _between: None,
        }
    }

    /// Whether user space tidies up behind connections that are over.
    pub fn is_tidied_up(&self) -> bool {
        matches!(self.forwarder, Forwarder::Margay(_) | Forwarder::Daemons(_))
    }

    /// The processes of forwarders that work, wholly or in part, in user space.
    pub fn forwarder_processes(&self) -> Vec<u32> {
        match &self.forwarder {
            Forwarder::Kernel => Vec::new(),
            Forwarder::Proxy(proxy) => vec![proxy.id()],
            Forwarder::Margay(host) => vec![host.daemon_process()],
            Forwarder::Daemons(daemons) => daemons.to_vec(),
        }
    }
}

/// Builds paths; configs of Margay share one host.
pub struct Builder<'a> {
    scratch: &'a FilePath,
    congestion_control: CongestionControl,
    margay: BTreeMap<HostTraits, Rc<MargayHost>>,
}

impl<'a> Builder<'a> {
    /// Makes a builder that writes files only to `scratch`.
    pub fn new(scratch: &'a FilePath, congestion_control: CongestionControl) -> Builder<'a> {
        Builder {
            scratch,
            congestion_control,
            margay: BTreeMap::new(),
        }
    }

    /// Builds the path of `config`.
    pub fn build(&mut self, config: Config) -> Result<Path> {
        let path = match config {
            Config::DirectVeth => direct(),
            Config::Bridge => bridged(),
            Config::Routed => Routed::build().map(|routed| routed.calling(FAR_SERVER, None)),
            Config::Nft10000 => Routed::build().and_then(|routed| {
                let version = nat::load_nft(&routed.router, 10_000, FAR_SERVER)?;
                Ok(routed.calling(nat::SERVICE, Some(version)))
            }),
            Config::Iptables1 => with_iptables(1),
            Config::Iptables10000 => with_iptables(10_000),
            Config::Haproxy => self.proxied(),
            Config::MargayV6 => self.through_margay(config, |host| IpAddr::V6(host.server_v6)),
            Config::Margay | Config::Margay30000 | Config::MargayUpcall => {
                self.through_margay(config, |host| IpAddr::V4(host.server_v4))
            }
        };
        path.with_context(|| format!("build the path of {config}"))
    }

    fn proxied(&self) -> Result<Path> {
        let routed = Routed::build()?;
        haproxy::set_congestion_control(&routed.router, self.congestion_control)?;
        let proxy = haproxy::start(&routed.router, ROUTER, FAR_SERVER, self.scratch)?;
        let path = routed.calling(ROUTER, Some(haproxy::STATEMENT.to_owned()));
        Ok(Path {
            forwarder: Forwarder::Proxy(proxy),
            ..path
        })
    }

    fn through_margay(
        &mut self,
        config: Config,
        called: impl Fn(&MargayHost) -> IpAddr,
    ) -> Result<Path> {
        let traits = config.host().unwrap_or_default();
        let host = match self.margay.get(&traits) {
            Some(host) => Rc::clone(host),
            None => {
                let place = self.scratch.join(config.name());
                std::fs::create_dir(&place).context("make a directory for the host")?;
                let host = Rc::new(MargayHost::start(&place, traits)?);
                self.margay.insert(traits, Rc::clone(&host));
                host
            }
        };
        Ok(Path {
            client: host.client.clone(),
            server: host.server.clone(),
            target: SocketAddr::new(called(&host), SERVER_PORT),
            statement: None,
            forwarder: Forwarder::Margay(host),
            _between: None,
        })
    }
}

/// ```text
/// client 10.0.1.2 ──veth── 10.0.1.3 server
/// ```
fn direct() -> Result<Path> {
    let (client, server) = (Namespace::create()?, Namespace::create()?);
    client.link("eth0", &server, "eth0")?;
    client.ip(&format!("addr add {CLIENT}/24 dev eth0"))?;
    server.ip(&format!("addr add {NEAR_SERVER}/24 dev eth0"))?;
    let target = SocketAddr::from((NEAR_SERVER, SERVER_PORT));
    Ok(Path {
        client,
        server,
        target,
        statement: None,
        forwarder: Forwarder::Kernel,
        _between: None,
    })
}

/// ```text
/// client 10.0.1.2 ──veth── [bridge] ──veth── 10.0.1.3 server
/// ```
fn bridged() -> Result<Path> {
    let (client, server) = (Namespace::create()?, Namespace::create()?);
    let switch = Namespace::create()?;
    client.link("eth0", &switch, "client")?;
    server.link("eth0", &switch, "server")?;
    client.ip(&format!("addr add {CLIENT}/24 dev eth0"))?;
    server.ip(&format!("addr add {NEAR_SERVER}/24 dev eth0"))?;
    switch.ip("link add switch type bridge\n\
         link set client master switch\n\
         link set server master switch\n\
         link set switch up")?;
    let target = SocketAddr::from((NEAR_SERVER, SERVER_PORT));
    Ok(Path {
        client,
        server,
        target,
        statement: None,
        forwarder: Forwarder::Kernel,
        _between: Some(switch),
    })
}

/// ```text
/// client 10.0.1.2 ──veth── 10.0.1.1 router 10.0.2.1 ──veth── 10.0.2.2 server
/// ```
struct Routed {
    client: Namespace,
    router: Namespace,
    server: Namespace,
}

impl Routed {
    fn build() -> Result<Routed> {
        let (client, server) = (Namespace::create()?, Namespace::create()?);
        let router = Namespace::create()?;
        client.link("eth0", &router, "client")?;
        server.link("eth0", &router, "server")?;
        router.ip(&format!(
            "addr add {ROUTER}/24 dev client\naddr add 10.0.2.1/24 dev server"
        ))?;
        client.ip(&format!(
            "addr add {CLIENT}/24 dev eth0\nroute add default via {ROUTER}"
        ))?;
        server.ip(&format!(
            "addr add {FAR_SERVER}/24 dev eth0\nroute add default via 10.0.2.1"
        ))?;
        router.set_parameter("ipv4/ip_forward", "1")?;
        Ok(Routed {
            client,
            router,
            server,
        })
    }

    fn calling(self, target: Ipv4Addr, statement: Option<String>) -> Path {
        Path {
            client: self.client,
            server: self.server,
            target: SocketAddr::from((target, SERVER_PORT)),
            statement,
            forwarder: Forwarder::Kernel,
            _between: Some(self.router),
        }
    }
}

fn with_iptables(services: u32) -> Result<Path> {
    let routed = Routed::build()?;
    let version = nat::load_iptables(&routed.router, services, FAR_SERVER)?;
    Ok(routed.calling(nat::SERVICE, Some(version)))
}

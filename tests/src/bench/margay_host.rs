//! A Margay host for the benchmark: the daemon with a server and a client instance.
//!
//! The instances only sleep. The measuring tool enters their network namespaces from outside, so
//! that it runs with the same privileges in every config: an instance itself may not choose every
//! congestion control.

use crate::bench::apply::{Applicant, Found, declarations};
use crate::bench::conditions::SERVER_PORT;
use crate::bench::config::HostTraits;
use crate::bench::daemon::{Daemon, READY_MAX, tail};
use crate::bench::namespace::Namespace;
use anyhow::{Context as _, Result};
use std::cell::RefCell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// A running host.
pub struct MargayHost {
    /// The client instance's network namespace.
    pub client: Namespace,
    /// The server instance's network namespace.
    pub server: Namespace,
    /// The server's address that others call, IPv4.
    pub server_v4: Ipv4Addr,
    /// The server's address that others call, IPv6.
    pub server_v6: Ipv6Addr,
    applicant: RefCell<Applicant>,
    daemon: Daemon,
}

impl MargayHost {
    /// Starts a host in a namespace of its own, declares its services beside those that are measured,
    /// and waits until the measured instances are ready.
    pub fn start(scratch: &Path, traits: HostTraits) -> Result<MargayHost> {
        let options: &[&str] = match traits.decides_every_flow {
            true => &["--decide-every-flow"],
            false => &[],
        };
        let daemon = Daemon::start(scratch, options)?;
        let log = daemon.log.clone();
        Self::compose(daemon, scratch, traits.declared_services)
            .with_context(|| format!("margay's log ends:\n{}", tail(&log)))
    }

    fn compose(mut daemon: Daemon, scratch: &Path, services: u32) -> Result<MargayHost> {
        daemon.wait_until("answer", READY_MAX, |daemon| daemon.instances().ok())?;
        for declared in declarations(services) {
            daemon.apply(scratch, &declared)?;
        }
        daemon.apply(scratch, &composition())?;
        let (client, server) =
            daemon.wait_until("have both instances ready", READY_MAX, |daemon| {
                let instances = daemon.instances().ok()?;
                let ready = |name: &str| {
                    instances
                        .iter()
                        .find(|instance| instance.is(name) && instance.ready)
                        .cloned()
                };
                Some((ready("client")?, ready("server")?))
            })?;
        let applicant = RefCell::new(Applicant::start(&mut daemon, scratch)?);
        Ok(MargayHost {
            applicant,
            client: Namespace::of_process(client.pid.context("the client has no process")?)?,
            server: Namespace::of_process(server.pid.context("the server has no process")?)?,
            server_v4: server.called_v4,
            server_v6: server.called_v6,
            daemon,
        })
    }

    /// How long a service that is applied now takes until it is found.
    pub fn apply(&self) -> Result<Found> {
        self.applicant.borrow_mut().apply()
    }

    /// The daemon's process id.
    pub fn daemon_process(&self) -> u32 {
        self.daemon.process.id()
    }
}

/// The composition under test: a client that may call a server by TCP and UDP.
fn composition() -> String {
    format!(
        r#"[composition]
name = "bench"
version = 1

[automaton.server]
command = ["sleep", "infinity"]
ports = {{ tcp = {{ port = {SERVER_PORT}, protocol = "tcp" }}, udp = {{ port = {SERVER_PORT}, protocol = "udp" }} }}

[automaton.client]
command = ["sleep", "infinity"]
needs = ["server"]
"#
    )
}

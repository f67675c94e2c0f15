//! Two hosts of Margay that became one network: a client runs on the one, a server on the other.
//!
//! The instances only sleep. The measuring tool enters their network namespaces from outside, with the
//! same privileges in every config.

use super::segment::HOSTS;
use crate::bench::asker::{Answer, Asker, question};
use crate::bench::conditions::SERVER_PORT;
use crate::bench::namespace::Namespace;
use crate::bench::path::Path;
use crate::lab::{Host, Instance, Lab, until};
use anyhow::{Context as _, Result};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long the instances may take to be ready, and their names to be known on the other host.
const READY_MAX: Duration = Duration::from_secs(30);

/// The two hosts, measured.
pub(super) struct Margay {
    client: Namespace,
    server: Namespace,
    called: Instance,
    daemons: [u32; 2],
}

impl Margay {
    /// Starts the daemons of `lab`, has them become a network, and runs a client and a server there.
    pub(super) fn start(lab: &Lab) -> Result<Margay> {
        lab.found_network(HOSTS[0], |_| &[])?;
        let [a, b] = HOSTS.map(|host| lab.host(host));
        a.apply(&composition())?;
        let client = only_instance(a)?;
        let server = only_instance(b)?;
        let asker = Asker::inside(&client.0)?;
        let question = question(1, "server.matrix");
        until("the client knows the server", READY_MAX, || {
            let answer = asker.ask(&question)?;
            Ok((answer == Answer::Address).then_some(()))
        })?;
        Ok(Margay {
            client: client.0,
            server: server.0,
            called: server.1,
            daemons: [a.process(a.status()?.pid)?, b.process(b.status()?.pid)?],
        })
    }

    /// The way to the server by one of its addresses.
    pub(super) fn path(&self, called: impl Fn(&Instance) -> IpAddr) -> Path {
        let target = SocketAddr::new(called(&self.called), SERVER_PORT);
        let ends = (self.client.clone(), self.server.clone());
        Path::between_hosts(ends, target, Some(self.daemons))
    }
}

/// A host's one instance, once it is ready, and its network namespace.
fn only_instance(host: &Host) -> Result<(Namespace, Instance)> {
    until("the instance runs", READY_MAX, || {
        let instances = host.instances()?;
        let [instance] = &instances[..] else {
            return Ok(None);
        };
        let Some(pid) = instance.pid.filter(|_| instance.ready) else {
            return Ok(None);
        };
        let namespace = Namespace::of_process(host.process(pid)?)?;
        Ok(Some((namespace, instance.clone())))
    })
    .context("a host runs one instance")
}

/// A client on the one host that may call a server on the other by TCP and UDP.
fn composition() -> String {
    let [a, b] = HOSTS;
    format!(
        r#"[composition]
name = "bench"
version = 1

[automaton.server]
command = ["sleep", "infinity"]
ports = {{ tcp = {{ port = {SERVER_PORT}, protocol = "tcp" }}, udp = {{ port = {SERVER_PORT}, protocol = "udp" }} }}
on = ["{b}"]

[automaton.client]
command = ["sleep", "infinity"]
needs = ["server"]
on = ["{a}"]
"#
    )
}

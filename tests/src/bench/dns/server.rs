//! The name servers that are compared: each alone in a network namespace, on one processor.

use super::{ours, zone};
use crate::bench::config::beside_us;
use crate::bench::metered::Metered;
use crate::bench::namespace::{Namespace, Running as Process, succeeded};
use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where every server listens: the address of Margay's resolver inside each instance.
pub(super) const ADDRESS: &str = "169.254.53.53";

/// The processor of every server.
const SERVER_CPU: usize = 0;

/// How long a server may take to load 10,000 names.
const READY_MAX: Duration = Duration::from_secs(30);

/// How long one question of ours waits for its answer.
const ANSWER_MAX: Duration = Duration::from_millis(100);

/// A name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    /// A caching resolver, here with local data.
    Unbound,
    /// An authoritative server built for speed: ratios refer to it.
    Knot,
    /// An authoritative server.
    Nsd,
    /// A small forwarder, here with a hosts file.
    Dnsmasq,
    /// Margay's resolver.
    Margay,
}

impl Server {
    /// All of them, in the order of the report.
    pub const ALL: [Server; 5] = [
        Server::Unbound,
        Server::Knot,
        Server::Nsd,
        Server::Dnsmasq,
        Server::Margay,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Server::Unbound => "unbound",
            Server::Knot => "knot",
            Server::Nsd => "nsd",
            Server::Dnsmasq => "dnsmasq",
            Server::Margay => "margay",
        }
    }

    /// Its program and the Debian package that brings it; `None` for our own.
    pub(super) fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Server::Unbound => Some(("unbound", "unbound")),
            Server::Knot => Some(("knotd", "knot")),
            Server::Nsd => Some(("nsd", "nsd")),
            Server::Dnsmasq => Some(("dnsmasq", "dnsmasq-base")),
            Server::Margay => None,
        }
    }

    /// States in a few words how it is set up.
    pub(super) fn statement(self) -> &'static str {
        match self {
            Server::Unbound => "one thread, names as local-data",
            Server::Knot => "one UDP and one TCP worker, a zone file",
            Server::Nsd => "one server process, a zone file, no rate limit",
            Server::Dnsmasq => "names in a hosts file",
            Server::Margay => "the daemon's resolver thread, a snapshot of names",
        }
    }

    /// Writes its configuration to `directory` and makes the command that runs it in the foreground.
    fn command(self, directory: &Path) -> Result<Command> {
        let file = |name: &str, text: String| -> Result<String> {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            Ok(path.to_string_lossy().into_owned())
        };
        let place = directory.display();
        let mut command = match self.program() {
            Some((program, _)) => Command::new(program),
            None => Command::new(beside_us(ours::PROGRAM)?),
        };
        match self {
            Server::Unbound => {
                let text = unbound_configuration(&place.to_string());
                command.args(["-d", "-c", &file("unbound.conf", text)?]);
            }
            Server::Knot => {
                file("zone", zone::master_file())?;
                let text = knot_configuration(&place.to_string());
                command.args(["-c", &file("knot.conf", text)?]);
            }
            Server::Nsd => {
                file("zone", zone::master_file())?;
                let text = nsd_configuration(&place.to_string());
                command.args(["-d", "-c", &file("nsd.conf", text)?]);
            }
            Server::Dnsmasq => {
                let hosts = file("hosts", zone::hosts())?;
                command.args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--no-hosts",
                ]);
                command.args(["--no-resolv", "--user=root", "--pid-file=", "--local-ttl=1"]);
                command.args([
                    &format!("--local=/{}/", zone::ZONE),
                    &format!("--listen-address={ADDRESS}"),
                    "--bind-interfaces",
                    &format!("--addn-hosts={hosts}"),
                ]);
            }
            Server::Margay => {
                command.arg(format!("{ADDRESS}:53"));
            }
        }
        Ok(command)
    }
}

fn unbound_configuration(place: &str) -> String {
    let (data, zone) = (zone::local_data(), zone::ZONE);
    format!(
        r#"server:
    interface: {ADDRESS}
    access-control: 0.0.0.0/0 allow
    num-threads: 1
    incoming-num-tcp: 100
    do-daemonize: no
    use-syslog: no
    module-config: "iterator"
    username: ""
    chroot: ""
    pidfile: ""
    directory: "{place}"
    local-zone: "{zone}." static
{data}
remote-control:
    control-enable: no
"#
    )
}

fn knot_configuration(place: &str) -> String {
    let zone = zone::ZONE;
    format!(
        r"server:
    rundir: {place}
    listen: {ADDRESS}@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: {place}
zone:
  - domain: {zone}
    storage: {place}
    file: zone
    journal-content: none
    zonefile-sync: -1
"
    )
}

fn nsd_configuration(place: &str) -> String {
    let zone = zone::ZONE;
    format!(
        r#"server:
    server-count: 1
    ip-address: {ADDRESS}
    username: ""
    chroot: ""
    zonesdir: "{place}"
    database: ""
    pidfile: "{place}/nsd.pid"
    xfrdfile: "{place}/xfrd.state"
    xfrdir: "{place}"
    zonelistfile: "{place}/zone.list"
    minimal-responses: yes
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: "{zone}"
    zonefile: zone
"#
    )
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A running server; killed with all its children when this value goes.
pub(super) struct Running {
    /// Which.
    pub(super) server: Server,
    /// Where it listens, and where it is asked from.
    pub(super) namespace: Namespace,
    /// What it and its children use.
    pub(super) metered: Metered,
    /// The process; killed before its cgroup goes.
    process: Process,
}

impl Running {
    /// Starts `server` and waits until it answers.
    pub(super) fn start(server: Server, scratch: &Path) -> Result<Running> {
        let directory = scratch.join(server.name());
        fs::create_dir(&directory).context("make its directory")?;
        let namespace = Namespace::create()?;
        namespace.ip(&format!("addr add {ADDRESS}/32 dev lo"))?;
        let metered = Metered::new(server.name())?;
        let log_path = directory.join("log");
        let log = fs::File::create(&log_path).context("make its log")?;
        let mut command = server.command(&directory)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        metered.confine(&mut command)?;
        let process = namespace.start(&mut command, SERVER_CPU)?;
        let mut running = Running {
            server,
            namespace,
            metered,
            process,
        };
        let said = || fs::read_to_string(&log_path).unwrap_or_default();
        running.await_answer().with_context(said)?;
        Ok(running)
    }

    /// Fails if it has ended by itself.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }

    fn await_answer(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        while !self.namespace.enter(answers)? {
            self.process.check_alive()?;
            if Instant::now() > deadline {
                bail!("it did not answer within {READY_MAX:?}");
            }
        }
        Ok(())
    }
}

/// Whether a question for the first name gets an address.
fn answers() -> Result<bool> {
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x09service-0\x06matrix\0\0\x01\0\x01";
    let addr: SocketAddr = format!("{ADDRESS}:53").parse()?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    socket.connect(addr)?;
    let mut answer = [0; 512];
    // Nobody listens yet: the next question may find somebody.
    let received = socket.send(question).and_then(|_| socket.recv(&mut answer));
    if received.is_err() {
        std::thread::sleep(ANSWER_MAX);
    }
    let no_error_and_one_answer = answer[3] & 0x0f == 0 && answer[7] > 0;
    Ok(received.is_ok() && no_error_and_one_answer)
}

/// Which release of a server was measured.
pub(super) fn version(server: Server) -> Result<Option<String>> {
    let Some((program, package)) = server.program() else {
        return Ok(None);
    };
    let mut command = Command::new("dpkg-query");
    command.args(["-W", "-f", "${Version}", package]);
    let output = succeeded(
        "dpkg-query",
        command.output().context("ask for a package's version")?,
    )?;
    let release = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Some(format!("{program} {release}, {}", server.statement())))
}

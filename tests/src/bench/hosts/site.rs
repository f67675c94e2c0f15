//! A site of hosts, each with one instance that sleeps, and by whose resolver its host is asked.

use super::HostsMetric;
use crate::bench::asker::{Answer, Asker, question};
use crate::bench::control::Application;
use crate::bench::namespace::Namespace;
use crate::bench::usage::Usage;
use crate::lab::{Instance, Lab, Topology, run_directory, until};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long all hosts may take to run their instances and to know of each other's, on a busy machine.
const READY_MAX: Duration = Duration::from_secs(120);

/// How long news may take.
const NEWS_MAX: Duration = Duration::from_secs(30);

/// How long the hosts rest before they are watched: what follows a start is over by then.
const REST: Duration = Duration::from_secs(10);

/// Pause between two questions. Only one host is asked at a time, the next one once this knows: the
/// last to know ends the wait, and the questions cost nobody a share of the machine.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// How the interface of a host is called.
const INTERFACE: &str = "eth0:";

/// A site.
pub(super) struct Site {
    lab: Lab,
    hosts: Vec<Host>,
    version: u64,
}

/// A host of it.
struct Host {
    name: String,
    /// What others call its instance: `3.asker.matrix`.
    instance: String,
    /// The instance's resolver.
    asker: Asker,
    /// The daemon's process.
    daemon: u32,
    /// The first process of its namespaces.
    first_process: u32,
}

impl Site {
    /// Starts so many hosts, has them become a network, and waits until all know all.
    pub(super) fn start(count: usize) -> Result<Site> {
        let topology = match Topology::parse(&format!("[site.site]\nhosts = {count}\n")) {
            Ok(topology) => topology,
            Err(mistakes) => bail!("the topology of the bench: {mistakes}"),
        };
        let lab = Lab::without_daemons(&topology)?;
        let names = names(&lab);
        for name in &names {
            lab.tell_neighbours(name)?;
        }
        let founder = lab.host(&names[0]);
        let founded = lab.found_network(&names[0], |_| &[]);
        founded.with_context(|| format!("{:?}; {}", founder.drops(), founder.log_tail()))?;
        founder.apply(&composition(1, &names))?;
        let hosts = names.iter().map(|name| Host::of(&lab, name));
        let hosts = hosts.collect::<Result<Vec<_>>>();
        let hosts = hosts.with_context(|| founder.log_tail())?;
        let site = Site {
            lab,
            hosts,
            version: 1,
        };
        for host in &site.hosts {
            site.until_all_know(&host.instance, READY_MAX)?;
        }
        Ok(site)
    }

    /// Watches the hosts while they do nothing.
    pub(super) fn wait(
        &self,
        window: Duration,
        take: &mut impl FnMut(HostsMetric, f64),
    ) -> Result<()> {
        thread::sleep(REST);
        let before = self.each(|host| Ok((Usage::of(host.daemon)?, host.bytes()?)))?;
        thread::sleep(window);
        let after = self.each(|host| Ok((Usage::of(host.daemon)?, host.bytes()?)))?;
        let (mut rss_max, mut cpu_max) = (0.0_f64, 0.0_f64);
        for ((before, bytes_before), (after, bytes_after)) in before.iter().zip(&after) {
            let cpu = before.core_percent(after);
            take(HostsMetric::Rss, after.rss_mb);
            take(HostsMetric::Pss, after.pss_mb);
            take(HostsMetric::IdleCpu, cpu);
            let bytes = (bytes_after - bytes_before) as f64;
            take(HostsMetric::IdleBytes, bytes / window.as_secs_f64());
            (rss_max, cpu_max) = (rss_max.max(after.rss_mb), cpu_max.max(cpu));
        }
        take(HostsMetric::RssMax, rss_max);
        take(HostsMetric::IdleCpuMax, cpu_max);
        Ok(())
    }

    /// Applies one service more at the first host, in place of the last, whose instance runs on another
    /// host each time; says how soon all answer for it.
    pub(super) fn apply(&mut self) -> Result<Duration> {
        self.version += 1;
        let name = format!("{}.matrix", service(self.version));
        let known = self.hosts[0].asker.ask(&question(1, &name))?;
        ensure!(known == Answer::NoSuchName, "{name} is known beforehand");
        let composition = composition(self.version, &names(&self.lab));
        let control = self.lab.host(&self.hosts[0].name);
        let control = control.inside(run_directory()).join("control.sock");
        let begun = Instant::now();
        let application = Application::send(&control, &composition)?;
        self.until_all_know(&name, NEWS_MAX)?;
        let found = begun.elapsed();
        application.finish()?;
        Ok(found)
    }

    /// Kills the last host and says how soon no other answers for its instance; then brings it back.
    pub(super) fn lose_host(&mut self) -> Result<Duration> {
        let lost = self.hosts.pop().context("there are hosts")?;
        let begun = Instant::now();
        self.lab.kill_host(&lost.name)?;
        self.until_all(&lost.instance, NEWS_MAX, |it| it != Answer::Address)?;
        let missed = begun.elapsed();
        self.lab.boot_host(&lost.name)?;
        self.lab.tell_neighbours(&lost.name)?;
        self.lab.start_member(&lost.name)?;
        // Another one each time.
        self.hosts.insert(1, Host::of(&self.lab, &lost.name)?);
        self.until_all_know(&lost.instance, READY_MAX)?;
        Ok(missed)
    }

    /// What the first host's daemon said last.
    pub(super) fn say(&self) -> String {
        let first = self.hosts.first();
        first.map_or_else(String::new, |host| self.lab.host(&host.name).log_tail())
    }

    fn until_all_know(&self, name: &str, limit: Duration) -> Result<()> {
        self.until_all(name, limit, |answer| answer == Answer::Address)
    }

    /// Waits until every host answers for `name` as is wanted.
    fn until_all(&self, name: &str, limit: Duration, is_wanted: fn(Answer) -> bool) -> Result<()> {
        let (question, begun) = (question(1, name), Instant::now());
        for host in &self.hosts {
            let ask = || host.asker.ask(&question);
            while !is_wanted(ask().with_context(|| format!("ask {} for {name}", host.name))?) {
                if begun.elapsed() > limit {
                    bail!(
                        "{} does not know the news of {name} after {limit:?}",
                        host.name
                    );
                }
                thread::sleep(ASK_EVERY);
            }
        }
        Ok(())
    }

    fn each<T>(&self, look: impl Fn(&Host) -> Result<T>) -> Result<Vec<T>> {
        self.hosts.iter().map(look).collect()
    }
}

impl Host {
    /// Waits until the host's one instance runs, and enters it.
    fn of(lab: &Lab, name: &str) -> Result<Host> {
        let host = lab.find_host(name)?;
        let is_asker = |it: &Instance| it.is_of("asker") && it.ready;
        let (instance, asker) = until("the asker runs", READY_MAX, || {
            let instances = host.instances()?;
            let found = instances.into_iter().find(is_asker);
            let Some((instance, pid)) = found.and_then(|it| Some((it.name, it.pid?))) else {
                return Ok(None);
            };
            // Its first process is told of before it has entered its namespace.
            let inside = Namespace::of_process(host.process(pid)?);
            let asker = inside.and_then(|inside| Asker::inside(&inside));
            Ok(asker.ok().map(|asker| (instance, asker)))
        })
        .with_context(|| format!("at {name}: {}", host.log_tail()))?;
        let described = lab.describe()?.hosts;
        let described = described.iter().find(|it| it.name == name);
        Ok(Host {
            name: name.to_owned(),
            instance: format!("{instance}.matrix"),
            asker,
            daemon: host.process(host.status()?.pid)?,
            first_process: described.context("a host is described")?.pid,
        })
    }

    /// What it has sent and received on its link so far.
    fn bytes(&self) -> Result<u64> {
        let path = PathBuf::from(format!("/proc/{}/net/dev", self.first_process));
        let text = fs::read_to_string(&path).context("read what the link carried")?;
        let line = text
            .lines()
            .find_map(|it| it.trim().strip_prefix(INTERFACE));
        let line = line.with_context(|| format!("no {INTERFACE} in {}", path.display()))?;
        // Received bytes come first, sent bytes behind seven more about what was received.
        let counters = line.split_whitespace().map(str::parse);
        let counters: Vec<u64> = counters.collect::<Result<_, _>>()?;
        ensure!(counters.len() > 8, "{line}");
        Ok(counters[0] + counters[8])
    }
}

/// In the order of the topology.
fn names(lab: &Lab) -> Vec<String> {
    let hosts = lab.topology().hosts();
    hosts.map(|node| node.name.clone()).collect()
}

fn service(version: u64) -> String {
    format!("fresh-{version}")
}

/// An asker on each host, and one service that only this version has, on a host of its own choice.
fn composition(version: u64, hosts: &[String]) -> String {
    let quoted: Vec<String> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    let service = service(version);
    let place = &quoted[version as usize % quoted.len()];
    format!(
        r#"[composition]
name = "bench"
version = {version}

[automaton.asker]
command = ["sleep", "infinity"]
replicas = {}
ports = {{ tcp = {{ port = 7000, protocol = "tcp" }} }}
needs = ["asker", "{service}"]
on = [{}]

[automaton.{service}]
command = ["sleep", "infinity"]
ports = {{ tcp = {{ port = 7000, protocol = "tcp" }} }}
on = [{place}]
"#,
        hosts.len(),
        quoted.join(", ")
    )
}

//! Metrics: what the host counts and holds, in the text format of OpenMetrics 1.0.

mod page;
pub mod server;

use crate::control;
use crate::world::{ENDPOINTS_MAX, World};
use anyhow::Result;
use margay_core::drop_reason::DropReason;
use margay_core::lifecycle::Stage;
use margay_core::router::Requests;
use margay_core::router::view::{InstanceView, Sizes};
use page::Page;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;

/// Every metric of this moment as text.
pub async fn text(world: &World) -> Result<String> {
    Readings::take(world).await?.text()
}

/// What is counted and held at one moment.
#[derive(Debug, Default)]
struct Readings {
    sizes: Sizes,
    instances: Vec<InstanceView>,
    /// By instance, how often its program was started again.
    restarts: BTreeMap<String, u64>,
    endpoints: u64,
    upcalls: u64,
    core_drops: BTreeMap<DropReason, u64>,
    kernel_drops: BTreeMap<DropReason, u64>,
    requests: Requests,
    /// By whom, why and how often.
    drops_between_hosts: Vec<(&'static str, &'static str, u64)>,
    /// Name, explanation and value.
    dns: Vec<(&'static str, &'static str, u64)>,
    /// By process, in bytes.
    memory: Vec<(&'static str, u64)>,
}

impl Readings {
    async fn take(world: &World) -> Result<Readings> {
        let look = world.router.look(|router, datapath| {
            let endpoints = datapath.endpoints();
            let upcalls = endpoints.iter();
            let upcalls = upcalls.map(|(endpoint, ..)| datapath.upcalls_sent(*endpoint));
            anyhow::Ok(Readings {
                sizes: router.sizes(),
                instances: router.instances(),
                endpoints: endpoints.len() as u64,
                upcalls: upcalls.sum(),
                core_drops: router.drops().collect(),
                requests: router.requests(),
                kernel_drops: datapath.drop_counts()?.into_iter().collect(),
                ..Readings::default()
            })
        });
        let mut readings = look.await??;
        let instances = readings.instances.iter();
        let restarts = instances.map(|view| {
            let facts = world.instances.facts(view.id);
            let restarts = facts.map_or(0, |facts| facts.restarts);
            (view.name.to_string(), u64::from(restarts))
        });
        readings.restarts = restarts.collect();
        readings.dns = world.resolver.counts().named().to_vec();
        readings.drops_between_hosts = control::drops_between_hosts(world).await;
        let keeper = world.keeper.call(|keeper| keeper.hello()).await?;
        let processes = [("daemon", std::process::id()), ("keeper", keeper.pid)];
        let memory = processes.map(|(name, pid)| (name, resident_bytes(pid)));
        readings.memory = memory.to_vec();
        Ok(readings)
    }

    fn text(self) -> Result<String> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    fn drops(&self, page: &mut Page) -> fmt::Result {
        let counts = |drops: &BTreeMap<DropReason, u64>, place: &'static str| {
            let counts = DropReason::ALL.iter().map(|reason| {
                let count = drops.get(reason).copied().unwrap_or_default();
                ([("reason", reason.name()), ("by", place)], count)
            });
            counts.collect::<Vec<_>>()
        };
        let between_hosts = self.drops_between_hosts.iter();
        let between_hosts =
            between_hosts.map(|(by, reason, count)| ([("reason", *reason), ("by", *by)], *count));
        let all = [
            counts(&self.core_drops, "core"),
            counts(&self.kernel_drops, "kernel"),
            between_hosts.collect(),
        ];
        let help = "Packets dropped or refused, by reason and by who decided";
        page.counters("margay_drops", help, all.concat())
    }

    fn tables(&self, page: &mut Page) -> fmt::Result {
        let sizes = &self.sizes;
        page.gauge(
            "margay_compositions",
            "Applied compositions",
            sizes.compositions,
        )?;
        page.gauge("margay_services", "Declared services", sizes.services)?;
        page.gauge("margay_flows", "Open flows", sizes.flows)?;
        let per_instance = sizes.flows_per_instance_max;
        let help = "Flows that one instance may open";
        page.gauge("margay_flows_per_instance_max", help, per_instance)?;
        let held = [
            ([("table", "flows")], sizes.flows),
            ([("table", "instances")], sizes.instances),
            ([("table", "endpoints")], self.endpoints),
        ];
        page.gauges("margay_table_entries", "Entries of a bounded table", held)?;
        let bounds = [
            ([("table", "flows")], sizes.flows_max),
            ([("table", "instances")], sizes.instances_max),
            ([("table", "endpoints")], u64::from(ENDPOINTS_MAX)),
        ];
        page.gauges("margay_table_entries_max", "The bound of a table", bounds)
    }

    fn instances(&self, page: &mut Page) -> fmt::Result {
        let in_stage = |stage: &Stage| {
            let here = self.instances.iter();
            let here = here.filter(|view| view.stage == stage.name()).count();
            ([("state", stage.name())], here as u64)
        };
        let states = Stage::ALL.iter().map(in_stage);
        page.gauges("margay_instances", "Instances by state", states)?;
        let restarts = self.restarts.iter();
        let restarts = restarts.map(|(name, count)| ([("instance", name.as_str())], *count));
        let help = "How often an instance's program was started again";
        page.counters("margay_instance_restarts", help, restarts)
    }
}

impl Collector for Readings {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page::new(encoder);
        let version = [([("version", env!("CARGO_PKG_VERSION"))], 1)];
        page.gauges("margay_build", "The daemon's version", version)?;
        self.drops(&mut page)?;
        self.tables(&mut page)?;
        self.instances(&mut page)?;
        let help = "First packets that the kernel handed up for the instances of now";
        page.gauge("margay_upcalls", help, self.upcalls)?;
        for (name, help, count) in self.requests.named() {
            page.counter(&format!("margay_{name}"), help, count)?;
        }
        for (name, help, count) in &self.dns {
            let name = format!("margay_dns_{name}");
            page.counter(&name, help.trim_end_matches('.'), *count)?;
        }
        let memory = self.memory.iter();
        let memory = memory.map(|(process, bytes)| ([("process", *process)], *bytes));
        let help = "Memory that a process holds";
        page.gauges("margay_resident_memory_bytes", help, memory)
    }
}

/// The memory that a process holds now (proc(5), `statm`); 0 if it is gone.
fn resident_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page
        .ok()
        .flatten()
        .and_then(|page| u64::try_from(page).ok());
    pages.unwrap_or(0) * page.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings() -> Readings {
        Readings {
            core_drops: BTreeMap::from([(DropReason::NotPermitted, 7)]),
            kernel_drops: BTreeMap::from([(DropReason::ForgedSource, 3)]),
            restarts: BTreeMap::from([("2.web".to_owned(), 4)]),
            dns: vec![("queries_udp", "Datagrams received.", 12)],
            memory: vec![("daemon", 4096)],
            requests: Requests {
                requests_passed_on: 5,
                ..Requests::default()
            },
            ..Readings::default()
        }
    }

    #[test]
    fn every_drop_reason_is_there_by_its_name_though_it_never_happened() {
        let text = readings().text().unwrap();
        for reason in DropReason::ALL {
            let line = format!(
                "margay_drops_total{{reason=\"{}\",by=\"kernel\"}}",
                reason.name()
            );
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        assert!(text.contains("margay_drops_total{reason=\"not_permitted\",by=\"core\"} 7\n"));
        assert!(text.contains("margay_drops_total{reason=\"forged_source\",by=\"kernel\"} 3\n"));
    }

    #[test]
    fn each_metric_is_explained_once_and_the_text_has_an_end() {
        let text = readings().text().unwrap();
        for line in [
            "# TYPE margay_dns_queries_udp counter",
            "margay_dns_queries_udp_total 12",
            "margay_instances{state=\"ready\"} 0",
            "margay_requests_passed_on_total 5",
            "margay_instance_restarts_total{instance=\"2.web\"} 4",
            "margay_resident_memory_bytes{process=\"daemon\"} 4096",
            "margay_table_entries_max{table=\"endpoints\"} 4096",
        ] {
            assert_eq!(
                text.lines().filter(|it| *it == line).count(),
                1,
                "{line}\n{text}"
            );
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn own_memory_is_known_and_a_gone_processes_is_none() {
        assert!(resident_bytes(std::process::id()) > 100_000);
        assert_eq!(resident_bytes(u32::MAX), 0);
    }
}

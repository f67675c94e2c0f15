//! Takes over what an earlier run left on disk, at the keeper and in the kernel, or makes it.

use crate::cli::UpOptions;
use crate::directories::Directories;
use crate::hosts::identity::kernel_identity;
use crate::journal::{Entry, Journal, Recorded};
use crate::networks::Networks;
use crate::supervisor::Supervisor;
use crate::up::slots_max;
use crate::worker::{Held, dns_key, dns_sockets_from};
use crate::world::{ENDPOINTS_MAX, World};
use crate::{leftovers, logs};
use anyhow::{Context, Result};
use margay_core::composition::Egress;
use margay_core::id::{EndpointIndex, InstanceId};
use margay_core::port::{Input, Recovery, RunningInstance};
use margay_datapath::bpffs;
use margay_datapath::datapath::Datapath;
use margay_datapath::object::DatapathConfig;
use margay_datapath::outside;
use margay_datapath::tap::{UpcallTap, create_tap};
use margay_keeper::{
    EventStream, InstanceState, InstanceStatus, KeeperClient, KeeperLaunch, namespace_name,
};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// The name of the device by which first packets reach the daemon.
const TAP_NAME: &str = "margay0";

/// Under which name the keeper holds that device.
const TAP_KEY: &str = "tap";

/// What is known of the instances from disk, keeper and kernel.
pub struct Found {
    /// What the journal holds.
    pub recorded: Recorded,
    statuses: Vec<InstanceStatus>,
    networks: BTreeMap<InstanceId, (EndpointIndex, u32)>,
}

impl Found {
    /// The network that this host belongs to, and as what.
    pub fn entry(&self) -> Option<Entry> {
        let membership = self.recorded.membership.as_ref();
        membership.map(|membership| membership.entry.clone())
    }
}

/// What an earlier run left, opened again; or the same made new.
pub struct Adopted {
    /// What is known of the instances.
    pub found: Found,
    /// What survives.
    pub journal: Journal,
    /// The process that parents the instances.
    pub keeper: KeeperClient,
    /// What it says of them.
    pub events: EventStream,
    /// Brings first packets.
    pub tap: UpcallTap,
    /// The kernel's tables.
    pub datapath: Datapath,
    /// Makes and takes away instances' networks.
    pub networks: Networks,
    /// The control group below which each instance has its own.
    pub cgroup: PathBuf,
}

/// Opens what an earlier run left on disk, at the keeper and in the kernel, or makes it.
pub async fn adopt(
    directories: &Directories,
    cgroup_root: &Path,
    options: &UpOptions,
) -> Result<Adopted> {
    let (journal, recorded) = Journal::open(&directories.journal())?;
    leftovers::clear_files(directories, &recorded)?;
    let mut keeper = start_keeper(directories)?;
    let events = keeper.subscribe().context("cannot listen to the keeper")?;
    let (tap, keeper_is_new) = open_tap(&mut keeper)?;
    let mut datapath = open_datapath(directories, &tap, &recorded, options)?;
    let mut networks = adopt_networks(&datapath);
    if keeper_is_new {
        say_what_is_lost(&recorded, &networks);
    }
    let statuses = keeper
        .list()
        .context("cannot ask the keeper for its instances")?;
    let links = datapath.instance_links()?;
    let kernel = (&mut datapath, &links);
    leftovers::clear(&keeper, kernel, &recorded, &statuses, &mut networks).await?;
    let cgroup = cgroup_root.join(format!("margay-{:08x}", recorded.host_tag));
    leftovers::clear_cgroups(&cgroup, &statuses).await?;
    let found = Found {
        recorded,
        statuses,
        networks,
    };
    Ok(Adopted {
        found,
        journal,
        keeper,
        events,
        tap,
        datapath,
        networks: Networks::new(links),
        cgroup,
    })
}

/// Takes over what the keeper holds of each instance: namespace, DNS sockets, log pipe.
pub async fn adopt_instances(
    world: &Arc<World>,
    supervisor: &mut Supervisor,
    found: &Found,
) -> Result<()> {
    let plans: BTreeMap<InstanceId, _> = found
        .recorded
        .instances
        .iter()
        .map(|plan| (plan.instance, plan))
        .collect();
    for (endpoint, _) in found.networks.values() {
        world.endpoints.adopt(*endpoint);
    }
    for status in &found.statuses {
        let instance = status.instance;
        let Some(plan) = plans.get(&instance) else {
            tracing::warn!(%instance, "the keeper has an instance that was never recorded; ending it");
            let end = move |keeper: &KeeperClient| {
                keeper.release(&dns_key(instance))?;
                keeper.remove(instance)
            };
            world.keeper.call(end).await?;
            continue;
        };
        if status.state == InstanceState::Stopped {
            // Its end was under way when the last daemon died: nobody will start it again but we.
            world.router.input(Input::ProcessExited {
                instance,
                status: "was ended".to_owned(),
                restart_after: None,
            });
        }
        let plan = Arc::new((*plan).clone());
        if plan.egress == Egress::All {
            // Whoever reloaded the host's packet filter meanwhile took our rules away.
            let caller = plan.addresses.caller.v4;
            if let Err(error) = spawn_blocking(move || outside::let_out(caller)).await? {
                tracing::error!(%instance, %error, "it does not reach the outside");
            }
        }
        world
            .instances
            .insert(plan.clone(), status.init_pid, status.restarts);
        let fetch = |key: String| world.keeper.call(move |keeper| keeper.fetch(&key));
        let namespace = fetch(namespace_name(instance))
            .await?
            .and_then(|mut fds| fds.pop());
        let sockets = fetch(dns_key(instance)).await?.and_then(dns_sockets_from);
        if let Some((udp, tcp)) = sockets {
            world.resolver.add(instance, udp, tcp)?;
        }
        if let Some(pipe) = fetch(format!("log/{instance}"))
            .await?
            .and_then(|mut fds| fds.pop())
        {
            tokio::spawn(logs::pump(instance, pipe, world.directories.log(instance)));
        }
        let network = found.networks.get(&instance).copied();
        supervisor.adopt(
            plan,
            Held {
                namespace: namespace.map(Arc::new),
                network,
            },
        );
    }
    Ok(())
}

/// Reaches the keeper, or starts one; one of another version becomes ours where it stands.
fn start_keeper(directories: &Directories) -> Result<KeeperClient> {
    let own = std::env::current_exe().context("cannot find my own program")?;
    let binary = own.with_file_name("margay-keeper");
    let launch = KeeperLaunch {
        binary: binary.clone(),
        state_dir: directories.state.clone(),
    };
    let keeper = KeeperClient::connect_or_start(&directories.keeper_socket(), &launch)
        .context("cannot reach or start the keeper")?;
    let running = keeper
        .hello()
        .context("cannot ask the keeper for its version")?;
    if running.version != env!("CARGO_PKG_VERSION") {
        tracing::info!(from = running.version, "upgrading the keeper");
        keeper
            .upgrade(&binary)
            .context("cannot upgrade the keeper")?;
    }
    Ok(keeper)
}

/// Opens the upcall TAP, and says whether this keeper did not hold it yet: then it holds nothing at all.
fn open_tap(keeper: &mut KeeperClient) -> Result<(UpcallTap, bool)> {
    let held = keeper
        .fetch(TAP_KEY)
        .context("cannot ask the keeper for the upcall TAP")?;
    let (descriptor, is_new) = match held.and_then(|mut descriptors| descriptors.pop()) {
        Some(descriptor) => (descriptor, false),
        None => {
            let created = match create_tap(TAP_NAME) {
                Ok(created) => created,
                Err(error) => {
                    // A keeper without the TAP holds nothing else: it was started for this.
                    keeper.shutdown().context("cannot end the keeper")?;
                    return Err(error).context("another host in this network namespace?");
                }
            };
            keeper.hold(TAP_KEY, &[created.as_fd()])?;
            (created, true)
        }
    };
    Ok((UpcallTap::adopt(descriptor)?, is_new))
}

/// Tells an operator what ended with a keeper that was killed: whoever had a network then.
fn say_what_is_lost(recorded: &Recorded, networks: &BTreeMap<InstanceId, (EndpointIndex, u32)>) {
    let plans = recorded.instances.iter();
    let lost = plans.filter(|plan| networks.contains_key(&plan.instance));
    let names: Vec<String> = lost.map(|plan| plan.name.to_string()).collect();
    if !names.is_empty() {
        let instances = names.join(" ");
        tracing::warn!(
            instances,
            "the keeper was lost, and with it the programs of these instances, their open connections \
             and log lines on their way; they are started anew with the addresses that they had"
        );
    }
}

fn open_datapath(
    directories: &Directories,
    tap: &UpcallTap,
    recorded: &Recorded,
    options: &UpOptions,
) -> Result<Datapath> {
    let pin_dir = directories.bpf();
    std::fs::create_dir_all(&pin_dir)
        .with_context(|| format!("cannot make {}", pin_dir.display()))?;
    bpffs::ensure_mounted(&pin_dir)?;
    let mut datapath = Datapath::open(&DatapathConfig {
        pin_dir,
        flows_max: slots_max(options),
        endpoints_max: ENDPOINTS_MAX,
        tap_ifindex: tap.ifindex(),
        tap_mac: tap.mac(),
        network: kernel_identity(recorded.membership.as_ref(), &options.underlay),
    })?;
    datapath.attach_upcall(tap.ifindex())?;
    Ok(datapath)
}

/// Endpoints that the kernel still has, by instance.
fn adopt_networks(datapath: &Datapath) -> BTreeMap<InstanceId, (EndpointIndex, u32)> {
    let endpoints = datapath.endpoints().into_iter();
    endpoints
        .map(|(endpoint, instance, ifindex)| (instance, (endpoint, ifindex)))
        .collect()
}

/// What core needs to know of what was found; adopts the flows of the kernel.
pub fn recovery(found: &Found, datapath: &mut Datapath) -> Result<Recovery> {
    let running = found
        .statuses
        .iter()
        .map(|status| RunningInstance {
            instance: status.instance,
            network: found.networks.get(&status.instance).copied(),
            process_running: status.init_pid.is_some(),
        })
        .collect();
    Ok(Recovery {
        compositions: found.recorded.compositions.clone(),
        instances: found.recorded.instances.clone(),
        drained: found.recorded.drained.clone(),
        running,
        flows: datapath.adopt_flows()?,
        next_instance: found.recorded.next_instance,
        quarantined: found.recorded.quarantined.clone(),
        service_vips: found.recorded.service_vips.clone(),
        peers: found.recorded.peers.clone(),
    })
}

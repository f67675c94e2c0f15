//! `margay up`: brings the host up from whatever an earlier run left, and keeps it up.

use crate::cli::UpOptions;
use crate::directories::Directories;
use crate::flow_log;
use crate::flow_watch::{FlowEvents, Watchers};
use crate::host_resolver::HostResolver;
use crate::journal::{Journal, Recorded, random};
use crate::router_thread::{RouterHandle, RouterThread, now};
use crate::supervisor::Supervisor;
use crate::worker::{Held, dns_key, dns_sockets_from};
use crate::world::{ENDPOINTS_MAX, Endpoints, Instances, Keeper, Operators, World};
use crate::{control, keeper_events, leftovers, logs, metrics};
use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use margay_core::address::{DNS_ADDRESS, Ipv4Block};
use margay_core::composition::Egress;
use margay_core::flow_table::FlowLimits;
use margay_core::id::{EndpointIndex, InstanceId};
use margay_core::names::NamesSnapshot;
use margay_core::port::{Input, Recovery, RunningInstance};
use margay_core::router::{Router, RouterConfig};
use margay_datapath::bpffs;
use margay_datapath::datapath::Datapath;
use margay_datapath::device;
use margay_datapath::device_watch::{DeviceEvent, DeviceWatch};
use margay_datapath::object::DatapathConfig;
use margay_datapath::outside;
use margay_datapath::requirements::{self, Requirements};
use margay_datapath::tap::{UpcallTap, create_tap};
use margay_keeper::{EventStream, InstanceState, InstanceStatus, KeeperClient, KeeperLaunch};
use margay_resolver::{Outside, Resolver};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;

/// The name of the device by which first packets reach the daemon.
const TAP_NAME: &str = "margay0";

/// Under which name the keeper holds that device.
const TAP_KEY: &str = "tap";

/// Threads for calls that block: the journal and the keeper take one each, probes and the files of
/// instances share the others. More would only wait for the same locks, each with a stack and a heap.
const BLOCKING_THREADS_MAX: usize = 8;

/// Heaps that the C library may make, beyond which threads share them: one a thread is its default,
/// and each keeps what its thread once needed.
const HEAPS_MAX: libc::c_int = 2;

/// Runs the daemon until it is told to end.
pub fn run(directories: Directories, options: UpOptions) -> Result<()> {
    let required = Requirements::default();
    let missing = requirements::check(&required);
    if !missing.is_empty() {
        let lines: Vec<String> = missing
            .iter()
            .map(|missing| format!("  {missing}"))
            .collect();
        bail!("this machine cannot run Margay:\n{}", lines.join("\n"));
    }
    let cgroup = requirements::cgroup2_mount(&required.mountinfo)?
        .context("no cgroup2 file system is mounted")?;
    let _claim = directories.claim()?;
    share_heaps();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run_claimed(directories, cgroup, options))
}

/// Tells the C library to keep to a few heaps; where it knows no such setting, it has but one.
fn share_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers and may be called at any time.
    let shared = unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS_MAX) };
    #[cfg(target_env = "gnu")]
    debug_assert_eq!(shared, 1, "the C library knows M_ARENA_MAX");
}

/// What is known of the instances from disk, keeper and kernel.
struct Found {
    recorded: Recorded,
    statuses: Vec<InstanceStatus>,
    networks: BTreeMap<InstanceId, (EndpointIndex, u32)>,
}

/// What an earlier run left, opened again; or the same made new.
struct Adopted {
    found: Found,
    journal: Journal,
    keeper: KeeperClient,
    events: EventStream,
    tap: UpcallTap,
    datapath: Datapath,
}

async fn run_claimed(
    directories: Directories,
    cgroup_root: PathBuf,
    options: UpOptions,
) -> Result<()> {
    let host_resolver = options.resolver.map(HostResolver::bind).transpose()?;
    let metrics_listener = match options.metrics {
        Some(address) => Some(metrics::server::bind(address).await?),
        None => None,
    };
    let Adopted {
        found,
        journal,
        keeper,
        events,
        tap,
        mut datapath,
    } = adopt(&directories, slots_max(&options)).await?;
    let cgroup = cgroup_root.join(format!("margay-{:08x}", found.recorded.host_tag));
    leftovers::clear_cgroups(&cgroup, &found.statuses).await?;
    let names = Arc::new(ArcSwap::from_pointee(NamesSnapshot::default()));
    let resolver = Resolver::spawn_forwarding(names.clone(), outside_of(&options))
        .context("cannot start the resolver")?;
    let (slow, outputs) = mpsc::unbounded_channel();
    let recovery = recovery(&found, &mut datapath)?;
    let router = new_router(&found.recorded, &options)?;
    let flow_events = FlowEvents::new();
    let (logged, watched) = (flow_events.subscribe(), flow_events.downgrade());
    let thread = RouterThread {
        router,
        flow_events,
        datapath,
        tap,
        names: names.clone(),
        slow,
    };

    // The router thread starts last, so that no first packet is decided before all is adopted; the
    // effects of its first decisions wait for the supervisor in their channel.
    let (router, router_thread) = thread.spawn(Input::Recover(recovery))?;
    let log = flow_log::write(logged, directories.flow_log(), options.flow_log);
    let flow_log = tokio::spawn(log);
    let interest = options.flow_log.interest();
    let watchers = Watchers::new(watched, router.clone(), interest);
    let world = Arc::new(World {
        watchers: Arc::new(watchers),
        directories,
        cgroup,
        router: router.clone(),
        resolver,
        names,
        keeper: Keeper::new(keeper),
        journal: Arc::new(Mutex::new(journal)),
        instances: Instances::default(),
        operators: Operators::default(),
        endpoints: Endpoints::default(),
        ending: AtomicBool::new(false),
    });
    // A question that waited for us must not be answered before there are names: commands wait
    // until the recovery is carried out.
    router.look(|_, _| ()).await?;
    let mut supervisor = Supervisor::new(world.clone(), outputs);
    adopt_instances(&world, &mut supervisor, &found).await?;
    tokio::spawn(supervisor.run());
    if let Some(listener) = metrics_listener {
        tokio::spawn(metrics::server::serve(world.clone(), listener));
    }
    if let Some(host_resolver) = host_resolver {
        host_resolver.serve(world.names.clone());
    }
    serve_until_told(&world, events).await?;
    router.stop();
    let Ok(outcome) = router_thread.join() else {
        bail!("the router thread panicked");
    };
    // It writes what the thread told last.
    flow_log.await.context("the flow log was cut off")?;
    outcome
}

/// Opens what an earlier run left on disk, at the keeper and in the kernel, or makes it.
async fn adopt(directories: &Directories, slots_max: u32) -> Result<Adopted> {
    let (journal, recorded) = Journal::open(&directories.journal())?;
    leftovers::clear_files(directories, &recorded)?;
    let mut keeper = start_keeper(directories)?;
    let events = keeper.subscribe().context("cannot listen to the keeper")?;
    let (tap, keeper_is_new) = open_tap(&mut keeper)?;
    let mut datapath = open_datapath(directories, &tap, slots_max)?;
    let mut networks = adopt_networks(&datapath);
    if keeper_is_new {
        say_what_is_lost(&recorded, &networks);
    }
    let statuses = keeper
        .list()
        .context("cannot ask the keeper for its instances")?;
    leftovers::clear(&keeper, &mut datapath, &recorded, &statuses, &mut networks).await?;
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
    })
}

/// Each flow takes a slot for either direction.
fn slots_max(options: &UpOptions) -> u32 {
    options.flows_max.saturating_mul(2)
}

/// Whom names of other zones are asked of: the host's own servers, and never ourselves.
fn outside_of(options: &UpOptions) -> Outside {
    let ours = options.resolver.map(|addr| addr.ip());
    Outside {
        runtime: tokio::runtime::Handle::current(),
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
        ours: ours.into_iter().chain([DNS_ADDRESS.into()]).collect(),
    }
}

fn new_router(recorded: &Recorded, options: &UpOptions) -> Result<Router> {
    let config = RouterConfig {
        flow_limits: FlowLimits::for_slots(slots_max(options)),
        aggregates: !options.decide_every_flow,
        ..RouterConfig::new(recorded.network_key, Ipv4Block::DEFAULT)
    };
    Ok(Router::new(config, u64::from_ne_bytes(random()?), now()))
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

fn open_datapath(directories: &Directories, tap: &UpcallTap, slots_max: u32) -> Result<Datapath> {
    let pin_dir = directories.bpf();
    std::fs::create_dir_all(&pin_dir)
        .with_context(|| format!("cannot make {}", pin_dir.display()))?;
    bpffs::ensure_mounted(&pin_dir)?;
    let mut datapath = Datapath::open(&DatapathConfig {
        pin_dir,
        flows_max: slots_max,
        endpoints_max: ENDPOINTS_MAX,
        tap_ifindex: tap.ifindex(),
        tap_mac: tap.mac(),
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

fn recovery(found: &Found, datapath: &mut Datapath) -> Result<Recovery> {
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
    })
}

/// Takes over what the keeper holds of each instance: namespace, DNS sockets, log pipe.
async fn adopt_instances(
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
        let namespace = fetch(format!("netns/{instance}"))
            .await?
            .and_then(|mut fds| fds.pop());
        let sockets = fetch(dns_key(instance)).await?.and_then(dns_sockets_from);
        let dns = sockets.is_some();
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
                dns,
            },
        );
    }
    Ok(())
}

/// Tells core of devices that are deleted behind our back.
fn watch_devices(world: &Arc<World>) -> Result<()> {
    let mut watch = DeviceWatch::open().context("cannot watch the host's devices")?;
    let router = world.router.clone();
    tokio::spawn(async move {
        // What was deleted while nobody watched.
        let mut event = Ok(DeviceEvent::Missed);
        loop {
            let lost = match event {
                Ok(DeviceEvent::Deleted(ifindex)) => {
                    owners(&router, move |own| own == ifindex).await
                }
                Ok(DeviceEvent::Missed) => {
                    owners(&router, |own| device::name_of(own).is_none()).await
                }
                Err(error) => return tracing::error!(%error, "devices are no longer watched"),
            };
            for instance in lost {
                router.input(Input::DeviceLost { instance });
            }
            event = watch.next().await;
        }
    });
    Ok(())
}

/// The instances whose device is one of those asked for.
async fn owners(
    router: &RouterHandle,
    asked_for: impl Fn(u32) -> bool + Send + 'static,
) -> Vec<InstanceId> {
    let owners = router.look(move |_, datapath| {
        let endpoints = datapath.endpoints().into_iter();
        endpoints
            .filter(|(.., own)| asked_for(*own))
            .map(|(_, owner, _)| owner)
            .collect()
    });
    // Without a router thread there is nobody to tell.
    owners.await.unwrap_or_default()
}

async fn serve_until_told(world: &Arc<World>, events: EventStream) -> Result<()> {
    let keeper_lost = Arc::new(Notify::new());
    let (lost, told) = (keeper_lost.clone(), world.clone());
    keeper_events::listen(world.clone(), events, move |error| {
        if !told.ending.load(Ordering::Acquire) {
            tracing::error!(error, "the keeper is gone, and every instance with it");
            lost.notify_one();
        }
    })?;
    watch_devices(world)?;
    let down = Arc::new(Notify::new());
    let listener = control::bind(&world.directories.control_socket())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %world.directories.control_socket().display(),
        "the host is up"
    );
    tokio::select! {
        outcome = control::serve(world.clone(), listener, down.clone()) => return outcome,
        _ = terminate.recv() => tracing::info!("ending; instances and flows go on"),
        _ = interrupt.recv() => tracing::info!("ending; instances and flows go on"),
        () = keeper_lost.notified() => bail!("the keeper ended; start the daemon again"),
        () = down.notified() => {}
    }
    Ok(())
}

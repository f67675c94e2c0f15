//! `margay up`: brings the host up from whatever an earlier run left, and keeps it up.

use crate::adoption::{self, Adopted, Found, adopt_instances};
use crate::cli::UpOptions;
use crate::directories::Directories;
use crate::flow_log;
use crate::flow_watch::{FlowEvents, Watchers};
use crate::host_resolver::HostResolver;
use crate::hosts::identity::{Keys, router_config};
use crate::hosts::{Errand, Hosts, run_errands};
use crate::journal::{Journal, Recorded, random};
use crate::router_thread::{RouterHandle, RouterThread, now};
use crate::supervisor::Supervisor;
use crate::world::{Endpoints, Instances, Keeper, Operators, World};
use crate::{control, hosts, keeper_events, metrics};
use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use margay_core::address::DNS_ADDRESS;
use margay_core::flow_table::FlowLimits;
use margay_core::id::InstanceId;
use margay_core::names::NamesSnapshot;
use margay_core::port::Input;
use margay_core::router::{Router, RouterConfig};
use margay_datapath::device;
use margay_datapath::device_watch::{DeviceEvent, DeviceWatch};
use margay_datapath::requirements::{self, Requirements};
use margay_keeper::{EventStream, KeeperClient};
use margay_overlay::OverlayEvents;
use margay_resolver::{Outside, Resolver, ResolverHandle, Searches};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

/// Threads for calls that block: the journal and the keeper take one each, probes and the files of
/// instances share the others. More would only wait for the same locks, each with a stack and a heap.
const BLOCKING_THREADS_MAX: usize = 8;

/// Heaps that the C library may make, beyond which threads share them: one a thread is its default,
/// and each keeps what its thread once needed.
const HEAPS_MAX: libc::c_int = 2;

/// How a daemon's run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to end.
    Over,
    /// It is to start again, for its host is somebody else from now on.
    Again,
}

/// Runs the daemon until it is told to end.
pub fn run(directories: Directories, options: UpOptions) -> Result<Ending> {
    check_underlay(&options)?;
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

/// Gives memory back that only the start needed: while programs are loaded, the kernel's description of
/// all its types is in it. No packet waits yet for who holds the heap.
fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes an integer, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

async fn run_claimed(
    directories: Directories,
    cgroup_root: PathBuf,
    options: UpOptions,
) -> Result<Ending> {
    let host_resolver = options.resolver.map(HostResolver::bind).transpose()?;
    let metrics_listener = metrics::server::bind_if_wanted(options.metrics).await?;
    let Adopted {
        found,
        mut journal,
        keeper,
        events,
        tap,
        mut datapath,
        networks,
        cgroup,
    } = adoption::adopt(&directories, &cgroup_root, &options).await?;
    let names = Arc::new(ArcSwap::from_pointee(NamesSnapshot::default()));
    let searches = Searches::default();
    let resolver = start_resolver(&names, &options, &searches)?;
    let (slow, outputs) = mpsc::unbounded_channel();
    let (errands, errands_wanted) = mpsc::unbounded_channel();
    let recovery = adoption::recovery(&found, &mut datapath)?;
    let left = (&found, &keeper);
    let deciders = deciders(&directories, left, &mut journal, &options, errands);
    let (router, hosts, heard) = deciders.await?;
    let flow_events = FlowEvents::new();
    let (logged, watched) = (flow_events.subscribe(), flow_events.downgrade());
    let thread = RouterThread {
        router,
        hosts,
        flow_events,
        datapath,
        tap,
        names: names.clone(),
        searches: searches.clone(),
        slow,
    };

    return_memory();
    // The router thread starts last, so that no first packet is decided before all is adopted; the
    // effects of its first decisions wait for the supervisor in their channel.
    let (router, router_thread) = thread.spawn(Input::Recover(recovery))?;
    seek_by(&router, &searches);
    let flow_log = flow_log::spawn(logged, directories.flow_log(), options.flow_log)?;
    let watchers = Watchers::new(watched, router.clone(), options.flow_log.interest());
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
        networks,
        ending: AtomicBool::new(false),
        network: found.entry(),
        underlay: options.underlay.clone(),
        start_again: Notify::new(),
    });
    // A question that waited for us must not be answered before there are names: commands wait
    // until the recovery is carried out.
    router.look(|_, _| ()).await?;
    let mut supervisor = Supervisor::new(world.clone(), outputs);
    adopt_instances(&world, &mut supervisor, &found).await?;
    tokio::spawn(supervisor.run());
    tokio::spawn(run_errands(world.clone(), errands_wanted));
    hear_overlay(&router, heard);
    work_beside(&world, metrics_listener, host_resolver, searches);
    let ending = serve_until_told(&world, events).await?;
    router.stop();
    end_threads(router_thread, flow_log)?;
    Ok(ending)
}

/// The flow log writes what the router thread told last.
fn end_threads(router: JoinHandle<Result<()>>, flow_log: JoinHandle<()>) -> Result<()> {
    let Ok(outcome) = router.join() else {
        bail!("the router thread panicked");
    };
    if flow_log.join().is_err() {
        bail!("the flow log's thread panicked");
    }
    outcome
}

/// Refuses addresses that no link can have together.
fn check_underlay(options: &UpOptions) -> Result<()> {
    let mut ports = options.underlay.iter().map(SocketAddr::port);
    let Some(port) = ports.next() else {
        return Ok(());
    };
    if ports.any(|other| other != port) {
        bail!("the addresses of --underlay have several ports; the host link has one");
    }
    if !(1..u16::MAX).contains(&port) {
        bail!("--underlay cannot have port {port}; choose one from 1 to 65534");
    }
    Ok(())
}

/// Starts what serves others than instances, and what prepares for instances to come.
fn work_beside(
    world: &Arc<World>,
    metrics: Option<TcpListener>,
    host_resolver: Option<HostResolver>,
    searches: Searches,
) {
    let making = world.clone();
    tokio::spawn(async move { making.networks.keep_spares(&making).await });
    if let Some(listener) = metrics {
        tokio::spawn(metrics::server::serve(world.clone(), listener));
    }
    if let Some(host_resolver) = host_resolver {
        host_resolver.serve(world.names.clone(), searches);
    }
}

/// Each flow takes a slot for either direction.
pub fn slots_max(options: &UpOptions) -> u32 {
    options.flows_max.saturating_mul(2)
}

fn start_resolver(
    names: &Arc<ArcSwap<NamesSnapshot>>,
    options: &UpOptions,
    searches: &Searches,
) -> Result<ResolverHandle> {
    let outside = outside_of(options);
    let resolver = Resolver::spawn_forwarding(names.clone(), outside, searches.clone());
    resolver.context("cannot start the resolver")
}

/// Lets questions wait from now on, and tells the Router what they are for.
fn seek_by(router: &RouterHandle, searches: &Searches) {
    let router = router.clone();
    searches.begin(move |service| router.input(Input::Wanted { service }));
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

/// What decides: the Router, and the links to other hosts.
async fn deciders(
    directories: &Directories,
    (found, keeper): (&Found, &KeeperClient),
    journal: &mut Journal,
    options: &UpOptions,
    errands: mpsc::UnboundedSender<Errand>,
) -> Result<(Router, Option<Hosts>, Option<OverlayEvents>)> {
    let keys = Keys::read_or_make(directories)?;
    let recorded = &found.recorded;
    let router = new_router(recorded, &keys, options)?;
    let hosts = hosts::open(&keys, keeper, journal, recorded, options, errands).await?;
    let (hosts, heard) = hosts.unzip();
    Ok((router, hosts, heard))
}

/// Passes on what the overlay brings.
fn hear_overlay(router: &RouterHandle, heard: Option<OverlayEvents>) {
    let Some(mut heard) = heard else {
        return;
    };
    let router = router.clone();
    tokio::spawn(async move {
        while let Some(event) = heard.next().await {
            router.tell_hosts(move |hosts, now| hosts.overlay_said(event, now));
        }
    });
}

fn new_router(recorded: &Recorded, keys: &Keys, options: &UpOptions) -> Result<Router> {
    let config = RouterConfig {
        flow_limits: FlowLimits::for_slots(slots_max(options)),
        aggregates: !options.decide_every_flow,
        ..router_config(recorded.membership.as_ref(), keys, recorded.network_key)
    };
    Ok(Router::new(config, u64::from_ne_bytes(random()?), now()))
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

async fn serve_until_told(world: &Arc<World>, events: EventStream) -> Result<Ending> {
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
        outcome = control::serve(world.clone(), listener, down.clone()) => outcome?,
        _ = terminate.recv() => tracing::info!("ending; instances and flows go on"),
        _ = interrupt.recv() => tracing::info!("ending; instances and flows go on"),
        () = keeper_lost.notified() => bail!("the keeper ended; start the daemon again"),
        () = down.notified() => {}
        () = world.start_again.notified() => {
            tracing::info!("starting again as another host");
            return Ok(Ending::Again);
        }
    }
    Ok(Ending::Over)
}

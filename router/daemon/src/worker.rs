//! One task per instance: carries out, in order, what core asks for it.

use crate::networks::Spare;
use crate::probe::{self, Subject};
use crate::world::World;
use crate::{instance_etc, logs};
use anyhow::{Context, Result};
use margay_core::address::Ipv4Block;
use margay_core::composition::{Egress, Liveness, Readiness};
use margay_core::id::{EndpointIndex, InstanceId};
use margay_core::port::{Input, InstancePlan};
use margay_datapath::endpoints::EndpointConfig;
use margay_datapath::namespace::dns_sockets;
use margay_datapath::network::silence_device;
use margay_datapath::outside;
use margay_keeper::{KeeperClient, ProcessSpec, namespace_name};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// First packets of one instance that may wait in the TAP's queue at once. The queue holds more
/// than this for many instances, so that a flooding instance delays others but cannot shut them out.
const UPCALL_QUOTA: u32 = 128;

/// How much longer than its grace an instance may take to end before the network is taken from it.
const END_SLACK: Duration = Duration::from_secs(10);

/// What core asks for an instance.
#[derive(Debug)]
pub enum Task {
    /// Make its network and its DNS sockets.
    Prepare,
    /// Start its program.
    Start,
    /// Probe it from now on, or no longer.
    Probe(Option<Readiness>),
    /// Ask it from now on whether it is alive, or no longer.
    Watch(Option<Liveness>),
    /// End it and take everything away; the task ends with it.
    Remove(Duration),
}

/// What an instance already has when its worker starts.
#[derive(Default)]
pub struct Held {
    /// Its network namespace.
    pub namespace: Option<Arc<OwnedFd>>,
    /// Its endpoint and the host's end of its link.
    pub network: Option<(EndpointIndex, u32)>,
}

/// Carries out one instance's tasks.
pub struct Worker {
    world: Arc<World>,
    plan: Arc<InstancePlan>,
    held: Held,
    probe: Option<JoinHandle<()>>,
    pulse: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the task of one instance; it ends when the instance was removed.
    pub fn spawn(
        world: Arc<World>,
        plan: Arc<InstancePlan>,
        held: Held,
    ) -> mpsc::UnboundedSender<Task> {
        // Core has at most one task of each kind under way, which bounds the channel.
        let (sender, mut tasks) = mpsc::unbounded_channel();
        let mut worker = Worker {
            world,
            plan,
            held,
            probe: None,
            pulse: None,
        };
        tokio::spawn(async move {
            while let Some(task) = tasks.recv().await {
                let ended = matches!(task, Task::Remove(_));
                worker.carry_out(task).await;
                if ended {
                    return;
                }
            }
        });
        sender
    }

    fn instance(&self) -> InstanceId {
        self.plan.instance
    }

    async fn carry_out(&mut self, task: Task) {
        let instance = self.instance();
        let outcome = match task {
            Task::Prepare => self.prepare().await,
            Task::Start => self.start().await,
            Task::Probe(readiness) => {
                self.probe(readiness);
                Ok(())
            }
            Task::Watch(liveness) => {
                self.watch(liveness);
                Ok(())
            }
            Task::Remove(grace) => {
                self.remove(grace).await;
                Ok(())
            }
        };
        if let Err(error) = outcome {
            let error = format!("{error:#}");
            tracing::warn!(%instance, name = %self.plan.name, error, "instance failed");
            self.world
                .router
                .input(Input::InstanceFailed { instance, error });
        }
    }

    async fn prepare(&mut self) -> Result<()> {
        let instance = self.instance();
        if self.held.network.is_some() {
            // An earlier try failed half-way.
            self.take_away().await;
        }
        let spare = self.world.networks.take(&self.world).await?;
        let Spare {
            namespace,
            endpoint,
            network,
        } = spare;
        let (ifindex, netns_id) = (network.ifindex(), network.netns_id());
        // Remembered at once: whatever fails below, removal knows what to take away.
        self.held.namespace = Some(namespace.clone());
        self.held.network = Some((endpoint, ifindex));
        let addresses = self.plan.addresses;
        network.settle(&addresses, self.plan.egress).await?;
        if self.leaves() {
            let caller = addresses.caller.v4;
            tokio::task::spawn_blocking(move || outside::let_out(caller)).await??;
        }
        self.open_dns(&namespace).await?;
        let config = EndpointConfig {
            instance,
            ifindex,
            addresses,
            netns_id,
            upcall_quota: UPCALL_QUOTA,
            leaves: self.leaves().then_some(Ipv4Block::DEFAULT),
        };
        self.world
            .router
            .look(move |_, datapath| datapath.insert_endpoint(endpoint, &config))
            .await??;
        self.world.router.input(Input::InstancePrepared {
            instance,
            endpoint,
            ifindex,
        });
        Ok(())
    }

    /// Whether it reaches the outside.
    fn leaves(&self) -> bool {
        self.plan.egress == Egress::All
    }

    /// Opens the sockets on which the instance's DNS questions arrive; the keeper holds them and the
    /// namespace, so that questions wait rather than fail while the daemon is away.
    async fn open_dns(&self, namespace: &Arc<OwnedFd>) -> Result<()> {
        let instance = self.instance();
        let sockets = dns_sockets(namespace.as_fd())?;
        let (udp, tcp): (OwnedFd, OwnedFd) = (
            sockets.udp.try_clone()?.into(),
            sockets.tcp.try_clone()?.into(),
        );
        let namespace = namespace.clone();
        let hold = move |keeper: &KeeperClient| {
            keeper.hold(&namespace_name(instance), &[namespace.as_fd()])?;
            keeper.hold(&dns_key(instance), &[udp.as_fd(), tcp.as_fd()])
        };
        self.world.keeper.call(hold).await?;
        Ok(self
            .world
            .resolver
            .add(instance, sockets.udp, sockets.tcp)?)
    }

    async fn start(&mut self) -> Result<()> {
        let instance = self.instance();
        let directories = &self.world.directories;
        let etc_dir = directories.instance_etc(instance);
        let state_dir = directories.instance_state(instance);
        instance_etc::write(&etc_dir, &self.plan)?;
        std::fs::create_dir_all(&state_dir)
            .with_context(|| format!("cannot make {}", state_dir.display()))?;
        let spec = ProcessSpec {
            instance,
            name: self.plan.name.to_string(),
            command: self.plan.command.clone(),
            environment: self.plan.environment.clone(),
            user: self.plan.user.clone(),
            etc_dir,
            state_dir,
            cgroup: cgroup_of(&self.world, instance),
            restart: true,
        };
        let started = self
            .world
            .keeper
            .call(move |keeper| keeper.start(&spec))
            .await?;
        let log = self.world.directories.log(instance);
        tokio::spawn(logs::pump(instance, started.log, log));
        Ok(())
    }

    fn probe(&mut self, readiness: Option<Readiness>) {
        if let Some(probe) = self.probe.take() {
            probe.abort();
        }
        let (Some(readiness), Some(subject)) = (readiness, self.subject()) else {
            return;
        };
        let (world, instance) = (self.world.clone(), self.instance());
        let found = move |verdict: probe::Verdict| {
            let ready = verdict.is_ok();
            world
                .instances
                .update(instance, |facts| facts.probe_failure = verdict.err());
            world.router.input(Input::Readiness { instance, ready });
        };
        let found = probe::changes(instance, found);
        self.probe = Some(tokio::spawn(probe::ask_on(subject, readiness, found)));
    }

    fn watch(&mut self, liveness: Option<Liveness>) {
        if let Some(pulse) = self.pulse.take() {
            pulse.abort();
        }
        let (Some(liveness), Some(subject)) = (liveness, self.subject()) else {
            return;
        };
        let (world, instance) = (self.world.clone(), self.instance());
        let found = move |verdict| world.router.input(Input::Liveness { instance, verdict });
        let asked = liveness.asked;
        self.pulse = Some(tokio::spawn(probe::ask_on(subject, asked, found)));
    }

    /// Whom probes ask, if it has a network.
    fn subject(&self) -> Option<Subject> {
        Some(Subject {
            instance: self.instance(),
            namespace: self.held.namespace.clone()?,
            address: IpAddr::V4(self.plan.addresses.called.v4),
            run: self.world.directories.run.clone(),
        })
    }

    /// Takes everything away; what fails is logged and does not stop the rest.
    async fn remove(&mut self, grace: Duration) {
        self.probe(None);
        self.watch(None);
        let instance = self.instance();
        self.end_processes(grace).await;
        self.take_away().await;
        // Before core hears of it: an instance that is still wanted is made again at once.
        self.world.instances.remove(instance);
        self.world.router.input(Input::InstanceRemoved { instance });
    }

    /// Takes away all that it has but its program.
    async fn take_away(&mut self) {
        let instance = self.instance();
        let removed = self.world.resolver.remove(instance);
        warn(instance, "stop answering", removed.map_err(Into::into));
        let removed = self
            .world
            .keeper
            .call(move |keeper| {
                keeper
                    .release(&dns_key(instance))
                    .and_then(|()| keeper.remove(instance))
            })
            .await;
        warn(instance, "forget at the keeper", removed);
        self.remove_network().await;
        self.held = Held::default();
    }

    async fn remove_network(&mut self) {
        let instance = self.instance();
        let Some((endpoint, ifindex)) = self.held.network.take() else {
            return;
        };
        // First: without its program, the device would let packets of a process that would not end
        // out to the host.
        let outcome = silence_device(ifindex).await;
        warn(instance, "silence the device", outcome.map_err(Into::into));
        // Before the device: its deletion is news only of an instance that still has it.
        let detached = self
            .world
            .router
            .look(move |_, datapath| datapath.remove_endpoint(endpoint))
            .await;
        warn(
            instance,
            "detach",
            detached.and_then(|outcome| Ok(outcome?)),
        );
        let outcome = self.world.networks.remove(ifindex).await;
        warn(instance, "remove the device", outcome);
        if self.leaves() {
            let caller = self.plan.addresses.caller.v4;
            let kept = tokio::task::spawn_blocking(move || outside::keep_in(caller)).await;
            if let Ok(Err(error)) = kept {
                tracing::debug!(%instance, %error, "the packet filter had let it out no more");
            }
        }
        self.world.endpoints.free(endpoint);
    }

    async fn end_processes(&self, grace: Duration) {
        let instance = self.instance();
        let Some(facts) = self.world.instances.facts(instance) else {
            return;
        };
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let stopping = self
            .world
            .keeper
            .call(move |keeper| keeper.stop(instance, grace_ms))
            .await;
        let asked = stopping.is_ok();
        warn(instance, "stop", stopping);
        if asked
            && tokio::time::timeout(grace + END_SLACK, facts.stopped.notified())
                .await
                .is_err()
        {
            tracing::warn!(%instance, "the keeper did not say that the instance's processes ended");
        }
    }
}

fn warn<T>(instance: InstanceId, what: &str, outcome: Result<T>) {
    if let Err(error) = outcome {
        tracing::warn!(%instance, "cannot {what}: {error:#}");
    }
}

/// Deletes an instance's files, once it is recorded that it is gone for good.
pub fn forget(world: &World, instance: InstanceId) {
    let directory = world.directories.instance(instance);
    if let Err(error) = std::fs::remove_dir_all(&directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%instance, %error, "cannot remove {}", directory.display());
    }
}

/// Under which name the keeper holds an instance's DNS sockets.
pub fn dns_key(instance: InstanceId) -> String {
    format!("dns/{instance}")
}

/// An instance's control group.
pub fn cgroup_of(world: &World, instance: InstanceId) -> std::path::PathBuf {
    world.cgroup.join(instance.to_string())
}

/// DNS sockets as the keeper hands them back.
pub fn dns_sockets_from(held: Vec<OwnedFd>) -> Option<(UdpSocket, TcpListener)> {
    let [udp, tcp]: [OwnedFd; 2] = held.try_into().ok()?;
    Some((udp.into(), tcp.into()))
}

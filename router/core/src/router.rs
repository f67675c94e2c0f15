//! The Router: one host's service-layer router as a plain value.

mod aged;
mod aggregates;
mod balancing;
mod config;
mod decision;
mod deploy;
mod drain;
mod drops;
mod explain;
mod first_packet;
mod identities;
mod instances;
mod liveness;
mod naming;
mod observation;
mod outside;
mod peers;
mod processor;
mod recover;
mod remote;
mod rollout;
mod seeking;
mod services;
mod telling;
mod trust;
mod unapplied;
mod upcall;
pub mod view;
mod vips;
mod warmth;

pub use config::{OwnHost, RouterConfig};
pub use deploy::OperatorError;
pub use explain::ExplainError;
pub use peers::PEERS_MAX;
pub use remote::Requests;
pub use unapplied::NotApplied;

use crate::composition::{Composition, CompositionName};
use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use crate::flow_table::{FlowInput, FlowTable};
use crate::host::HostId;
use crate::id::{EndpointIndex, InstanceId};
use crate::lifecycle::LifecycleInput;
use crate::moment::Moment;
use crate::port::{Input, Output};
use crate::seeded::{SeededMap, seeded_map};
use aggregates::Aggregates;
use drops::DropCounters;
use identities::Identities;
use instances::Instance;
use peers::Peers;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use remote::{Accepted, Admissions, Grants, Pending, Recent};
use services::Services;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use upcall::WaitingFrames;

/// Decides for one host.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    compositions: BTreeMap<CompositionName, Composition>,
    /// What the compositions declare and permit.
    services: Services,
    instances: BTreeMap<InstanceId, Instance>,
    /// Which instance each endpoint belongs to.
    endpoints: SeededMap<EndpointIndex, InstanceId>,
    /// When to look at which instance.
    timers: BTreeSet<(Moment, InstanceId)>,
    identities: Identities,
    flows: FlowTable,
    aggregates: Aggregates,
    errors: WaitingFrames,
    /// First packets that wait for the count of their senders' flows.
    uncounted: WaitingFrames,
    readings: processor::Readings,
    peers: Peers,
    telling: telling::Telling,
    unapplied: unapplied::Unapplied,
    seeking: seeking::Seeking,
    /// First packets that wait for other hosts' answers.
    pending: Pending,
    /// Flows of other hosts that wait for their acknowledgement.
    accepted: Accepted,
    /// Attempts of this host that another took: its key of replies, and who took it.
    agreed: Recent<(FlowKey, HostId)>,
    /// Attempts of others that this router passed on: whose answers it passes back.
    passed_on: Recent<()>,
    /// Flows of other hosts that need not be asked for.
    admissions: Admissions,
    /// What other hosts admitted of the instances here.
    grants: Grants,
    drops: DropCounters,
    requests: Requests,
    next_instance: InstanceId,
    /// Whether an operator stopped the host.
    stopping: bool,
    names: naming::Publication,
    observation: observation::Observation,
    /// Instances of which every table is to be told that they take no new flow.
    withdrawing: VecDeque<InstanceId>,
    random: SmallRng,
    outputs: VecDeque<Output>,
}

impl Router {
    /// Makes a router that knows nothing yet.
    pub fn new(config: RouterConfig, seed: u64, now: Moment) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let endpoints = seeded_map(random.next_u64());
        let identities = Identities::new(&config, random.next_u64(), now);
        Router {
            compositions: BTreeMap::new(),
            services: Services::new(&config),
            instances: BTreeMap::new(),
            endpoints,
            timers: BTreeSet::new(),
            flows: FlowTable::new(config.flow_limits, random.next_u64(), now),
            aggregates: Aggregates::new(),
            errors: WaitingFrames::new(),
            uncounted: WaitingFrames::new(),
            readings: processor::Readings::default(),
            peers: Peers::default(),
            telling: telling::Telling::default(),
            unapplied: unapplied::Unapplied::default(),
            seeking: seeking::Seeking::default(),
            pending: Pending::default(),
            accepted: Accepted::default(),
            agreed: Recent::default(),
            passed_on: Recent::default(),
            admissions: Admissions::default(),
            grants: Grants::default(),
            drops: DropCounters::default(),
            requests: Requests::default(),
            next_instance: config.first_instance(),
            stopping: false,
            names: naming::Publication::new(identities.plan(), config.host.is_some()),
            observation: observation::Observation::default(),
            withdrawing: VecDeque::new(),
            identities,
            random,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Takes one input; poll outputs afterwards.
    pub fn handle_input(&mut self, input: Input, now: Moment) {
        match input {
            Input::Upcall { endpoint, frame } => self.upcall(endpoint, frame, now),
            Input::PeerUpcall { from, frame } => self.peer_upcall(from, &frame, now),
            Input::FlowsRead(readings) => {
                self.flow_input(FlowInput::Read(readings), now);
                self.judge(now);
            }
            Input::ProcessorsRead(used) => self.processors_read(used, now),
            Input::Observe(interest) => self.observe(interest),
            Input::FlowRefused { forward } => {
                self.drops.count(DropReason::KernelRefused);
                self.flow_input(FlowInput::Refused(forward), now);
            }
            Input::PairsTaken(taken) => self.pairs_taken(taken, now),
            Input::TakenRead(read) => self.taken_read(read, now),
            Input::FlowsReused(reused) => self.flows_reused(reused, now),
            Input::FlowsWanted => self.flows_wanted(),
            Input::Peer(input) => self.peer_input(input, now),
            Input::Wanted { service } => self.wanted(&service, now),
            Input::Recover(recovery) => self.recover(recovery, now),
            Input::Apply {
                request,
                composition,
            } => {
                let outcome = self.apply(composition, now);
                self.respond(request, outcome);
            }
            Input::Delete {
                request,
                composition,
            } => {
                let outcome = self.delete(&composition, now);
                self.respond(request, outcome);
            }
            Input::Composition(composition) => self.apply_elsewhere(composition, now),
            Input::CompositionGone(composition) => self.delete_elsewhere(composition, now),
            Input::Down { request } => {
                let outcome = self.down(now);
                self.respond(request, outcome);
            }
            Input::InstancePrepared {
                instance,
                endpoint,
                ifindex,
            } => self.prepared(instance, endpoint, ifindex, now),
            Input::ProcessStarted { instance } => self.started(instance, now),
            Input::ProcessExited {
                instance,
                status,
                restart_after,
            } => self.exited(instance, status, restart_after.is_some(), now),
            Input::InstanceFailed { instance, error } => self.failed(instance, error, now),
            Input::Drain {
                request,
                instance,
                drained,
            } => {
                let outcome = self.suspend(instance, drained, now);
                self.respond(request, outcome);
            }
            Input::Withdrawn { instance } => self.live(instance, LifecycleInput::Withdrawn, now),
            Input::InstanceRemoved { instance } => self.removed(instance, now),
            Input::Readiness { instance, ready } => {
                self.live(instance, LifecycleInput::Probed { ready }, now);
            }
            Input::Liveness { instance, verdict } => self.pulse_felt(instance, verdict),
            Input::DeviceLost { instance } => self.device_lost(instance, now),
        }
    }

    /// Lets time pass; poll outputs afterwards.
    pub fn handle_timeout(&mut self, now: Moment) {
        for service in self.identities.handle_timeout(now) {
            self.service_changed(&service);
        }
        if self.names.handle_timeout(now) {
            self.loads_changed();
        }
        while let Some((_, instance)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.instance_timeout(instance, now);
        }
        self.processors_timeout(now);
        self.telling_timeout(now);
        self.unapplied_timeout(now);
        self.peers_timeout(now);
        self.pending_timeout(now);
        self.accepted_timeout(now);
        self.seeking_timeout(now);
        self.flows.handle_timeout(now);
        self.drain_flows();
        self.observe_timeout(now);
    }

    /// The next effect to carry out; `None` once drained.
    ///
    /// However much changed, names are published at most once before it is `None`, and what must
    /// have reached every table is asked for behind that.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        output
            .or_else(|| self.poll_names())
            .or_else(|| self.poll_withdrawal())
    }

    /// When to call [`Router::handle_timeout`] next; poll again after every input and timeout.
    pub fn poll_timeout(&self) -> Option<Moment> {
        debug_assert!(
            self.outputs.is_empty() && !self.names.is_due() && self.withdrawing.is_empty(),
            "poll_output first"
        );
        let instances = self.timers.first().map(|(at, _)| *at);
        let others = [
            self.identities.poll_timeout(),
            self.names.poll_timeout(),
            self.flows.poll_timeout(),
            self.readings.poll_timeout(),
            self.telling.poll_timeout(),
            self.unapplied.poll_timeout(),
            self.peers.reacquaint_until,
            self.pending.poll_timeout(),
            self.accepted.poll_timeout(),
            self.seeking.poll_timeout(),
            self.observation.poll_timeout(),
        ];
        others.into_iter().chain([instances]).flatten().min()
    }

    /// Tells the flow table, and takes over what follows.
    fn flow_input(&mut self, input: FlowInput, now: Moment) {
        self.flows.handle_input(input, now);
        self.drain_flows();
    }

    fn drain_flows(&mut self) {
        while let Some(change) = self.flows.poll_change() {
            self.observe_change(change);
        }
        while let Some(output) = self.flows.poll_output() {
            self.outputs.push_back(output);
        }
    }
}

#[cfg(test)]
mod tests;

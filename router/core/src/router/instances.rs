//! What happens to single instances, and what follows for locations, flows and names.

use super::Router;
use super::liveness::Pulse;
use super::processor::Processor;
use super::trust::Trust;
use super::warmth::Warmth;
use crate::choice::Absence;
use crate::composition::{Liveness, Readiness};
use crate::flow_table::{FlowInput, Party};
use crate::id::{EndpointIndex, InstanceId, LocationIndex};
use crate::lifecycle::{
    Beginning, Lifecycle, LifecycleConfig, LifecycleInput, LifecycleOutput, Stage,
};
use crate::moment::Moment;
use crate::port::{InstancePlan, Output, Record};
use crate::way::{Ingress, Way};
use rand::RngCore;
use std::net::IpAddr;
use std::sync::Arc;

/// One instance as the Router knows it.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) plan: Arc<InstancePlan>,
    pub(super) life: Lifecycle,
    pub(super) network: Option<Network>,
    pub(super) readiness: Option<Readiness>,
    pub(super) liveness: Option<Liveness>,
    pub(super) pulse: Pulse,
    /// When it must go although its successor is not ready.
    pub(super) retire_at: Option<Moment>,
    /// Whether its program was started since it was ready last.
    fresh: bool,
    pub(super) warmth: Warmth,
    pub(super) trust: Trust,
    pub(super) processor: Processor,
    /// How its program ended last, or what could not be made.
    pub(super) last_error: Option<String>,
    /// Whether its program was killed last for not being alive.
    pub(super) was_killed: bool,
    /// Its place in the Router's timers.
    timer: Option<Moment>,
}

/// Where an instance is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) endpoint: EndpointIndex,
    pub(super) ifindex: u32,
}

impl Network {
    /// On its own host an endpoint's location cell has the endpoint's number, so that a restarted
    /// daemon finds it again.
    pub(super) fn location(self) -> LocationIndex {
        LocationIndex(self.endpoint.0)
    }

    /// Where its packets come from.
    pub(super) fn ingress(self) -> Ingress {
        Ingress::Device(self.ifindex)
    }
}

impl Instance {
    /// Whether it may send from `addr`.
    pub(super) fn holds(&self, addr: IpAddr) -> bool {
        super::identities::all(self.plan.addresses).contains(&addr)
    }

    /// Where it stands for whoever looks for one that takes new flows.
    pub(super) fn standing(&self) -> &'static str {
        match self.absence() {
            Absence::Drained => "drained",
            Absence::Ejected => "ejected",
            Absence::NotReady | Absence::Gone => self.life.stage().name(),
        }
    }

    /// Why it takes no new flows, if it takes none.
    pub(super) fn absence(&self) -> Absence {
        match self.life.stage() {
            Stage::Ready if self.life.is_suspended() => Absence::Drained,
            Stage::Ready if self.trust.is_out() => Absence::Ejected,
            _ => Absence::NotReady,
        }
    }

    /// Its side of a flow, if it has a network.
    pub(super) fn party(&self) -> Option<Party> {
        let network = self.network?;
        Some(Party {
            instance: self.plan.instance,
            ingress: network.ingress(),
            location: network.location(),
        })
    }
}

impl Router {
    /// Begins, or goes on with, an instance's life.
    pub(super) fn begin(
        &mut self,
        plan: InstancePlan,
        (readiness, liveness): (Option<Readiness>, Option<Liveness>),
        beginning: Beginning,
        now: Moment,
    ) {
        let config = LifecycleConfig {
            beginning,
            probed: readiness.is_some(),
            grace: self.config.grace,
        };
        let id = plan.instance;
        if let Some(service) = self.services.find_mut(&plan.name.automaton) {
            service.instances.insert(id);
        }
        let instance = Instance {
            plan: Arc::new(plan),
            life: Lifecycle::new(config, self.random.next_u64(), now),
            network: None,
            readiness,
            liveness,
            pulse: Pulse::default(),
            was_killed: false,
            retire_at: None,
            fresh: false,
            warmth: Warmth::WHOLE,
            trust: Trust::default(),
            processor: Processor::default(),
            last_error: None,
            timer: None,
        };
        let automaton = instance.plan.name.automaton.clone();
        self.instances.insert(id, instance);
        self.name_instance(id, &automaton);
    }

    /// Tells an instance's life something, and carries out what follows.
    pub(super) fn live(&mut self, id: InstanceId, input: LifecycleInput, now: Moment) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.life.handle_input(input, now);
            self.follow(id, now);
        }
    }

    pub(super) fn prepared(
        &mut self,
        id: InstanceId,
        endpoint: EndpointIndex,
        ifindex: u32,
        now: Moment,
    ) {
        if self.instances.contains_key(&id) {
            self.attach(id, Network { endpoint, ifindex }, now);
            self.live(id, LifecycleInput::Prepared, now);
        }
    }

    pub(super) fn started(&mut self, id: InstanceId, now: Moment) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.fresh = true;
            instance.trust = Trust::default();
        }
        self.live(id, LifecycleInput::Started, now);
    }

    pub(super) fn exited(&mut self, id: InstanceId, status: String, restarted: bool, now: Moment) {
        if let Some(instance) = self.instances.get_mut(&id) {
            if matches!(instance.life.stage(), Stage::Removing | Stage::Repairing) {
                // As we asked.
                return;
            }
            let cause = instance.pulse.take_cause();
            instance.was_killed = cause.is_some();
            instance.last_error = Some(cause.unwrap_or(status));
        }
        self.live(id, LifecycleInput::Exited { restarted }, now);
        self.flow_input(FlowInput::ProgramEnded(id), now);
    }

    pub(super) fn failed(&mut self, id: InstanceId, error: String, now: Moment) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.last_error = Some(error);
        }
        self.live(id, LifecycleInput::Failed, now);
    }

    pub(super) fn device_lost(&mut self, id: InstanceId, now: Moment) {
        self.detach(id, now);
        self.live(id, LifecycleInput::NetworkLost, now);
    }

    pub(super) fn removed(&mut self, id: InstanceId, now: Moment) {
        self.detach(id, now);
        self.live(id, LifecycleInput::Removed, now);
    }

    /// Points the endpoint's location at the instance's device.
    pub(super) fn attach(&mut self, id: InstanceId, network: Network, now: Moment) {
        if self
            .instances
            .get(&id)
            .and_then(|instance| instance.network)
            == Some(network)
        {
            return;
        }
        // Whoever had this endpoint, or wherever the instance was: that is over.
        if let Some(before) = self.endpoints.get(&network.endpoint).copied() {
            self.detach(before, now);
        }
        self.detach(id, now);
        self.endpoints.insert(network.endpoint, id);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.network = Some(network);
        }
        self.outputs.push_back(Output::SetLocation {
            location: network.location(),
            way: Way::Device(network.ifindex),
        });
    }

    /// Ends all flows of an instance that has no network any more.
    fn detach(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let service = instance.plan.name.automaton.clone();
        if let Some(network) = instance.network.take() {
            self.client_changed(network.endpoint);
            self.service_changed(&service);
            self.server_changed(id);
            self.flow_input(FlowInput::NetworkGone(id), now);
            self.endpoints.remove(&network.endpoint);
            self.outputs.push_back(Output::SetLocation {
                location: network.location(),
                way: Way::Nowhere,
            });
        }
    }

    pub(super) fn instance_timeout(&mut self, id: InstanceId, now: Moment) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.life.handle_timeout(now);
            let warmer = instance.warmth.handle_timeout(now);
            let trusted = instance.trust.handle_timeout(now);
            if warmer || trusted {
                let service = instance.plan.name.automaton.clone();
                self.names.load_changed(&service, now);
                self.service_changed(&service);
            }
        }
        self.follow(id, now);
        let instance = self.instances.get(&id);
        if instance.is_some_and(|instance| instance.retire_at.is_some_and(|at| at <= now)) {
            self.unwant(id, now);
        }
    }

    /// Ends an instance, after the flows that it serves had their time.
    pub(super) fn unwant(&mut self, id: InstanceId, now: Moment) {
        let instance = self.instances.get(&id);
        let Some(drain) = instance.map(|instance| self.patience(instance)) else {
            return;
        };
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.retire_at = None;
        }
        self.live(id, LifecycleInput::Remove { drain }, now);
    }

    /// Carries out what an instance's life asks for.
    pub(super) fn follow(&mut self, id: InstanceId, now: Moment) {
        let mut ready_changed = false;
        while let Some(instance) = self.instances.get_mut(&id) {
            let Some(output) = instance.life.poll_output() else {
                break;
            };
            let plan = &instance.plan;
            let output = match output {
                LifecycleOutput::Prepare => Output::PrepareInstance(plan.as_ref().clone()),
                LifecycleOutput::Start => Output::StartProcess(plan.as_ref().clone()),
                LifecycleOutput::Probe(wanted) => Output::Probe {
                    instance: id,
                    readiness: instance.readiness.clone().filter(|_| wanted),
                    plan: Arc::clone(plan),
                },
                LifecycleOutput::Withdraw => {
                    self.withdrawing.push_back(id);
                    continue;
                }
                LifecycleOutput::CountFlows => {
                    self.count_flows(id, now);
                    continue;
                }
                LifecycleOutput::Remove { grace } => {
                    self.flow_input(FlowInput::Stopping(id), now);
                    Output::RemoveInstance {
                        instance: id,
                        grace,
                    }
                }
                LifecycleOutput::Ready(ready) => {
                    if ready && std::mem::take(&mut instance.fresh) {
                        let service = self.services.find(&instance.plan.name.automaton);
                        let slow_start = service.map(|service| service.slow_start);
                        instance.warmth = Warmth::new(slow_start.unwrap_or_default(), now);
                    }
                    let service = plan.name.automaton.clone();
                    self.service_changed(&service);
                    self.server_changed(id);
                    self.names.changed(&service);
                    ready_changed = true;
                    continue;
                }
                LifecycleOutput::Gone => {
                    self.forget(id, now);
                    continue;
                }
            };
            self.outputs.push_back(output);
        }
        self.watch(id);
        self.schedule(id);
        if ready_changed {
            self.retire_replaced(now);
        }
    }

    /// Puts the instance at its place among the timers.
    pub(super) fn schedule(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let due = instance.life.poll_timeout().into_iter();
        let due = due.chain(instance.retire_at);
        let due = due.chain(instance.warmth.poll_timeout());
        let due = due.chain(instance.trust.poll_timeout()).min();
        let before = std::mem::replace(&mut instance.timer, due);
        if let Some(before) = before {
            self.timers.remove(&(before, id));
        }
        if let Some(due) = due {
            self.timers.insert((due, id));
        }
    }

    fn forget(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.instances.remove(&id) else {
            return;
        };
        if let Some(timer) = instance.timer {
            self.timers.remove(&(timer, id));
        }
        if let Some(service) = self.services.find_mut(&instance.plan.name.automaton) {
            service.instances.remove(&id);
        }
        self.identities.bury(id, instance.plan.addresses, now);
        self.unname_instance(id, &instance.plan.name.automaton);
        let record = Record::InstanceRemoved { instance: id };
        self.outputs.push_back(Output::Record(record));
    }
}

//! What an operator sees of a Router: plain values for the CLI and for metrics.

use super::Router;
use super::instances::Instance;
use crate::address::{InstanceAddresses, VirtualIp};
use crate::composition::{Affinity, Balance, CompositionName, Port};
use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use crate::flow_table::Flow;
use crate::id::{InstanceId, SlotIndex, Version};
use crate::moment::Moment;
use crate::name::{AutomatonName, InstanceName};
use crate::peer::RemoteInstance;
use crate::port::FlowSlots;
use crate::service_id::ServiceId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An applied composition.
#[derive(Clone, Debug, Serialize)]
pub struct CompositionView {
    /// Its name.
    pub name: CompositionName,
    /// Its version.
    pub version: Version,
    /// What it declares, with how many instances of each are wanted.
    pub automatons: BTreeMap<AutomatonName, u32>,
}

/// An instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceView {
    /// Its identity.
    pub id: InstanceId,
    /// Its name.
    pub name: InstanceName,
    /// Whose part it is.
    pub composition: CompositionName,
    /// The version that it was made by.
    pub version: Version,
    /// Where it stands.
    pub stage: &'static str,
    /// Whether it takes new flows.
    pub ready: bool,
    /// Whether an operator wants it to take none.
    pub drained: bool,
    /// Flows that it serves.
    pub flows: u32,
    /// Whether it takes no new flow because its last connections failed.
    pub ejected: bool,
    /// Whether its program was killed last for not being alive.
    pub was_killed: bool,
    /// Its addresses.
    pub addresses: InstanceAddresses,
    /// How its program ended last, or what could not be made.
    pub last_error: Option<String>,
}

/// A service.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceView {
    /// Its name below the zone.
    pub name: AutomatonName,
    /// Its service ID.
    pub id: ServiceId,
    /// Who declares it.
    pub composition: CompositionName,
    /// What others may call.
    pub ports: BTreeMap<String, Port>,
    /// Its own virtual IP, if it has one.
    pub vip: Option<VirtualIp>,
    /// How flows spread.
    pub balance: Balance,
    /// What happens to a new flow whose instance is gone.
    pub affinity: Affinity,
    /// Its instances.
    pub instances: Vec<ServedBy>,
    /// First packets that were decided.
    pub first_packets: u64,
    /// Its instances on other hosts, as far as they are known here.
    pub elsewhere: usize,
    /// How many of them take new flows.
    pub ready_elsewhere: usize,
}

/// One of a service's instances.
#[derive(Clone, Debug, Serialize)]
pub struct ServedBy {
    /// Which.
    pub name: InstanceName,
    /// What its callers call.
    pub called: VirtualIp,
    /// Whether it takes new flows.
    pub ready: bool,
    /// Flows that it serves.
    pub flows: u32,
}

/// An open flow; its counters are in the kernel.
#[derive(Clone, Debug)]
pub struct FlowView {
    /// As the client writes it.
    pub key: FlowKey,
    /// As the server sees it.
    pub delivered: FlowKey,
    /// Who opened it.
    pub client: Option<InstanceName>,
    /// Who serves it.
    pub server: Option<InstanceName>,
    /// Where the kernel counts.
    pub slots: FlowSlots,
    /// When it was opened.
    pub opened: Moment,
    /// How many routers between the two hosts passed its first packet on.
    pub hops: u8,
}

/// How much there is of what, and how much there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Applied compositions.
    pub compositions: u64,
    /// Declared services.
    pub services: u64,
    /// Instances, whatever they do.
    pub instances: u64,
    /// How many instances there may be.
    pub instances_max: u64,
    /// Open flows.
    pub flows: u64,
    /// How many flows there may be.
    pub flows_max: u64,
    /// How many flows one instance may open.
    pub flows_per_instance_max: u64,
}

impl Router {
    /// How much there is of what, counted without looking at each.
    pub fn sizes(&self) -> Sizes {
        let limits = self.flows.limits();
        Sizes {
            compositions: self.compositions.len() as u64,
            services: self.services.iter().count() as u64,
            instances: self.instances.len() as u64,
            instances_max: u64::from(self.config.instances_max),
            flows: self.flows.len() as u64,
            flows_max: u64::from(limits.flows_max),
            flows_per_instance_max: u64::from(limits.flows_per_instance_max),
        }
    }

    /// The applied compositions, by name.
    pub fn compositions(&self) -> Vec<CompositionView> {
        let compositions = self.compositions.values();
        let view = compositions.map(|composition| CompositionView {
            name: composition.name.clone(),
            version: composition.version,
            automatons: composition
                .automatons
                .iter()
                .map(|(name, automaton)| (name.clone(), automaton.replicas))
                .collect(),
        });
        view.collect()
    }

    /// All instances, in the order in which they were made.
    pub fn instances(&self) -> Vec<InstanceView> {
        let instances = self.instances.values();
        instances
            .map(|instance| self.instance_view(instance))
            .collect()
    }

    /// All declared services, by name.
    pub fn services(&self) -> Vec<ServiceView> {
        let rules = self.services.table.rules();
        let view = self.services.iter().map(|(name, service)| {
            let own = rules.iter().filter(|counted| {
                counted.rule.prefix.bits() == 256 && counted.rule.prefix.covers(service.id)
            });
            ServiceView {
                name: name.clone(),
                id: service.id,
                composition: service.declaration.composition.clone(),
                ports: service.declaration.ports.clone(),
                vip: self.identities.vip(name),
                balance: service.balance,
                affinity: service.affinity,
                instances: service
                    .instances
                    .iter()
                    .filter_map(|id| self.instances.get(id))
                    .map(|instance| self.served_by(instance))
                    .collect(),
                elsewhere: self.peers.instances_of(name).count(),
                ready_elsewhere: self
                    .peers
                    .instances_of(name)
                    .filter(|remote| remote.ready)
                    .count(),
                first_packets: own.map(|counted| counted.hits()).sum(),
            }
        });
        view.collect()
    }

    /// The instances of other hosts that are known here.
    pub fn remote_instances(&self) -> Vec<Arc<RemoteInstance>> {
        self.peers.all().cloned().collect()
    }

    /// All open flows, ordered by slot.
    pub fn flows(&self) -> Vec<FlowView> {
        self.flow_page(None, usize::MAX)
    }

    /// Up to `count` of them: the first, or those behind the one in a slot.
    pub fn flow_page(&self, behind: Option<SlotIndex>, count: usize) -> Vec<FlowView> {
        let view = |flow: &Flow| self.flow_view(flow);
        match behind {
            Some(slot) => self.flows.iter_behind(slot).take(count).map(view).collect(),
            None => self.flows.iter().take(count).map(view).collect(),
        }
    }

    /// How many flows that `server` serves each instance has opened.
    pub fn callers_of(&self, server: InstanceId) -> BTreeMap<InstanceName, u32> {
        let mut callers: BTreeMap<InstanceId, u32> = BTreeMap::new();
        for flow in self.flows.iter() {
            if flow.entries.server == server {
                *callers.entry(flow.entries.client).or_default() += 1;
            }
        }
        let named = |(client, count)| Some((self.instances.get(&client)?.plan.name.clone(), count));
        callers.into_iter().filter_map(named).collect()
    }

    /// What core refused, by reason; the kernel's own drops are counted in the kernel.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> {
        self.drops.iter()
    }

    fn served_by(&self, instance: &Instance) -> ServedBy {
        ServedBy {
            name: instance.plan.name.clone(),
            called: instance.plan.addresses.called,
            ready: instance.life.is_ready(),
            flows: self.flows.load(instance.plan.instance),
        }
    }

    fn flow_view(&self, flow: &Flow) -> FlowView {
        let name = |id| Some(self.server(id)?.name().clone());
        let forward = flow.entries.forward;
        FlowView {
            key: forward.key,
            delivered: forward.delivered,
            client: name(flow.entries.client),
            server: name(flow.entries.server),
            slots: flow.slots(),
            opened: flow.opened,
            hops: flow.hops,
        }
    }

    fn instance_view(&self, instance: &Instance) -> InstanceView {
        let (plan, life) = (&instance.plan, &instance.life);
        InstanceView {
            id: plan.instance,
            name: plan.name.clone(),
            composition: plan.composition.clone(),
            version: plan.version,
            stage: life.stage().name(),
            ready: life.is_ready() && !instance.trust.is_out(),
            drained: life.is_suspended(),
            flows: self.flows.load(plan.instance),
            ejected: life.is_ready() && instance.trust.is_out(),
            was_killed: instance.was_killed,
            addresses: plan.addresses,
            last_error: instance.last_error.clone(),
        }
    }
}

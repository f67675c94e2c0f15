//! Taking over what an earlier run left: compositions, instances, addresses, flows.

use super::Router;
use super::instances::Network;
use crate::flow_table::{FlowInput, Party};
use crate::id::InstanceId;
use crate::lifecycle::{Beginning, LifecycleInput, Stage};
use crate::moment::Moment;
use crate::port::{AdoptedFlow, FlowEntries, InstancePlan, Output, Recovery, RunningInstance};
use std::collections::BTreeMap;
use std::net::IpAddr;

impl Router {
    /// Rebuilds everything, goes on with what runs, begins what is missing, ends what is too much.
    pub(super) fn recover(&mut self, recovery: Recovery, now: Moment) {
        debug_assert!(self.instances.is_empty(), "recovery is the first input");
        let compositions = recovery.compositions.into_iter();
        self.compositions
            .extend(compositions.map(|composition| (composition.name.clone(), composition)));
        for name in self.compositions.keys().cloned().collect::<Vec<_>>() {
            self.declare(&name, None);
        }
        self.watch_processors(now);
        self.adopt_peers(&recovery.peers, now);
        for removed in recovery.quarantined {
            self.identities.quarantine(&removed, now);
        }
        self.adopt_vips(&recovery.service_vips, now);
        let ids = recovery.instances.iter().map(|plan| plan.instance.0);
        let above = ids.max().map_or(1, |highest| highest + 1);
        let first = self.config.first_instance();
        self.next_instance = InstanceId(above.max(recovery.next_instance).max(first.0));

        let running = recovery.running.into_iter();
        let mut running: BTreeMap<_, _> = running.map(|found| (found.instance, found)).collect();
        for plan in recovery.instances {
            let found = running.remove(&plan.instance);
            self.resume(plan, found, now);
        }
        for (unknown, _) in running {
            self.outputs.push_back(Output::RemoveInstance {
                instance: unknown,
                grace: self.config.grace,
            });
        }
        for drained in recovery.drained {
            if let Some(instance) = self.instances.get_mut(&drained) {
                let suspend = LifecycleInput::Suspend(true);
                instance.life.handle_input(suspend, now);
            }
        }
        self.adopt_flows(recovery.flows, now);
        let all: Vec<_> = self.instances.keys().copied().collect();
        self.rebind_flows_to_the_ended(all, now);

        for composition in self.compositions.clone().into_values() {
            // Too few addresses or too little room: what exists goes on, an operator who applies
            // again learns what is missing.
            let plans = self.plan(&composition, now).unwrap_or_default();
            self.begin_planned(plans, now);
        }
        // Nothing was asked for yet: what is unwanted is never prepared.
        self.end_unwanted(now);
        for id in self.instances.keys().copied().collect::<Vec<_>>() {
            self.follow(id, now);
        }
    }

    /// Goes on with one recorded instance.
    fn resume(&mut self, plan: InstancePlan, found: Option<RunningInstance>, now: Moment) {
        let id = plan.instance;
        self.identities
            .adopt(id, &plan.name.automaton, plan.addresses);
        let network = found.as_ref().and_then(|found| found.network);
        let beginning = match &found {
            None => Beginning::Planned,
            Some(_) if network.is_none() => Beginning::Damaged,
            Some(found) if found.process_running => Beginning::Running,
            Some(_) => Beginning::Exited,
        };
        let composition = self.compositions.get(&plan.composition);
        let automaton = composition.and_then(|found| found.automatons.get(&plan.name.automaton));
        let probes = automaton.map(|it| (it.ready.clone(), it.alive.clone()));
        self.begin(plan, probes.unwrap_or_default(), beginning, now);
        if let Some((endpoint, ifindex)) = network {
            self.attach(id, Network { endpoint, ifindex }, now);
        }
    }

    /// Keeps the flows between instances that are still where the flows say, closes the others.
    fn adopt_flows(&mut self, mut flows: Vec<AdoptedFlow>, now: Moment) {
        flows.sort_by_key(|flow| flow.entries.forward.slot);
        for flow in flows {
            if self.is_sound(&flow.entries) {
                self.flows.adopt(flow, now);
            } else {
                self.flows.disown(&flow.entries, now);
            }
        }
        self.drain_flows();
    }

    /// Whether a flow that core did not open is between instances that are still where it says.
    pub(super) fn is_sound(&self, entries: &FlowEntries) -> bool {
        let (forward, reverse) = (entries.forward, entries.reverse);
        let client = Party {
            instance: entries.client,
            ingress: forward.ingress,
            location: reverse.location,
        };
        let server = Party {
            instance: entries.server,
            ingress: reverse.ingress,
            location: forward.location,
        };
        self.is_side(client, forward.key.source.ip())
            && self.is_side(server, forward.delivered.destination.ip())
            && self.is_permitted(entries)
    }

    /// Whether an instance that holds `addr` is where a side of a flow says, as far as is known yet.
    fn is_side(&self, side: Party, addr: IpAddr) -> bool {
        if let Some(instance) = self.instances.get(&side.instance) {
            return instance.party() == Some(side) && instance.holds(addr);
        }
        if let Some(remote) = self.peers.instance(side.instance) {
            let party = self.peers.party(side.instance, &remote.host);
            return !self.peers.is_lost(&remote.host)
                && party == Some(side)
                && Router::holds_remotely(remote, addr);
        }
        self.peers.may_be(side)
    }

    /// Ends the flows to those of `servers` whose programs ended while nobody looked.
    pub(super) fn rebind_flows_to_the_ended(
        &mut self,
        servers: impl IntoIterator<Item = InstanceId>,
        now: Moment,
    ) {
        for id in servers {
            let server = self.instances.get(&id);
            if server.is_some_and(|server| server.life.stage() == Stage::Exited) {
                self.flow_input(FlowInput::ProgramEnded(id), now);
            }
        }
    }
}

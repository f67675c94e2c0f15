//! Which decisions the kernel may repeat by itself, and when they end.

use super::Router;
use super::aged::AgedMap;
use super::instances::Network;
use super::services::Service;
use crate::aggregate::{
    AGGREGATES_MAX, Aggregate, AggregateKey, Epoch, EpochCell, RING_MAX, SERVICE_CELLS, Target,
};
use crate::balance::{Balancer, mix};
use crate::choice::Choice;
use crate::flow_table::{FlowInput, OpenRequest};
use crate::id::{EndpointIndex, InstanceId, SlotIndex};
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::port::{Output, Supplied, TakenFlow, TakenPair};
use crate::service_id::ServiceId;
use std::collections::{BTreeMap, BTreeSet};

/// The decisions that are in force, and the epochs by which they end.
#[derive(Debug)]
pub(super) struct Aggregates {
    open: AgedMap<AggregateKey, ()>,
    policy: Epoch,
    /// Those of services and admitted instances that changed.
    services: BTreeMap<u32, Epoch>,
    /// Cells in whose present epoch something was decided.
    decided: BTreeSet<EpochCell>,
    /// Cells of decisions that depend on loads.
    by_load: BTreeSet<EpochCell>,
}

impl Aggregates {
    pub(super) fn new() -> Self {
        Aggregates {
            open: AgedMap::new(AGGREGATES_MAX),
            policy: Epoch::FIRST,
            services: BTreeMap::new(),
            decided: BTreeSet::new(),
            by_load: BTreeSet::new(),
        }
    }

    pub(super) fn epoch(&self, cell: EpochCell) -> Epoch {
        match cell {
            EpochCell::Policy => self.policy,
            EpochCell::Service(cell) => self.services.get(&cell).copied().unwrap_or(Epoch::FIRST),
        }
    }

    /// Ends all decisions of this cell; its new epoch, if there were any.
    fn raise(&mut self, cell: EpochCell) -> Option<Epoch> {
        self.by_load.remove(&cell);
        self.decided.take(&cell)?;
        let next = self.epoch(cell).next();
        match cell {
            EpochCell::Policy => self.policy = next,
            EpochCell::Service(cell) => drop(self.services.insert(cell, next)),
        }
        Some(next)
    }

    /// Notes that something was decided in the present epochs of the policy and of this cell.
    pub(super) fn decide_under(&mut self, cell: EpochCell) {
        self.decided.extend([EpochCell::Policy, cell]);
    }
}

impl Router {
    /// Has the kernel open further flows of this client to this service as `request` was decided.
    pub(super) fn aggregate(&mut self, request: &OpenRequest, now: Moment) {
        let client = request.client.instance;
        let Some((network, service)) = self.sides(request) else {
            return;
        };
        let may = self.config.aggregates && !self.flows.is_near_limit(client);
        if !may || !self.services.table.is_settled(service.id) {
            return;
        }
        let service_cell = cell_of(service.id);
        let ring = match request.choice {
            Choice::Called => vec![request.server.instance],
            Choice::Balanced | Choice::Sibling(_) => {
                let ring = ring(&self.balancer(service), client, service.turn.get());
                if service.balance.looks_at_loads() {
                    self.aggregates.by_load.insert(service_cell);
                }
                ring
            }
            // Its source is rewritten: each such flow is core's own.
            Choice::Itself(_) | Choice::Aggregate | Choice::Adopted => return,
        };
        let key = AggregateKey::covering(network.endpoint, request.key);
        // The shares are those of all or of nobody: while a host has admitted the client not, core
        // decides each flow.
        let ring: Option<Vec<_>> = ring.iter().map(|id| self.target_of(key, *id)).collect();
        let Some(ring) = ring.filter(|ring| !ring.is_empty()) else {
            return;
        };
        self.aggregates.decide_under(service_cell);
        let evicted = self.aggregates.open.insert(key, ());
        self.close_aggregates(evicted.into_iter().collect());
        self.outputs.push_back(Output::OpenAggregate(Aggregate {
            key,
            client,
            policy_epoch: self.aggregates.policy,
            service_cell,
            service_epoch: self.aggregates.epoch(service_cell),
            ring,
        }));
        self.flows.look_at_supply(now);
        self.drain_flows();
    }

    /// An instance as a target of an aggregate, unless it is of another host that has to be asked for
    /// each flow.
    fn target_of(&self, key: AggregateKey, id: InstanceId) -> Option<Target> {
        match self.instances.get(&id) {
            Some(instance) => Some(Target::Here(instance.network?.endpoint)),
            None => self.granted_target(key, id).map(Target::There),
        }
    }

    /// Where the client is attached, and what it calls.
    fn sides(&self, request: &OpenRequest) -> Option<(Network, &Service)> {
        let client = self.instances.get(&request.client.instance)?;
        let called = self.identities.find(request.key.destination.ip())?;
        Some((client.network?, self.services.find(&called.automaton)?))
    }

    /// Has every flow decided anew: what is permitted has changed.
    pub(super) fn policy_changed(&mut self) {
        self.raise(EpochCell::Policy);
    }

    /// Has every flow to this service decided anew: whoever takes its flows has changed.
    pub(super) fn service_changed(&mut self, name: &AutomatonName) {
        if let Some(service) = self.services.find(name) {
            self.raise(cell_of(service.id));
        }
    }

    /// Has other hosts ask for every flow to this instance: it may take flows no more.
    pub(super) fn server_changed(&mut self, id: InstanceId) {
        self.raise(cell_of_instance(id));
    }

    /// Has every flow decided anew whose server depends on loads.
    pub(super) fn loads_changed(&mut self) {
        for cell in std::mem::take(&mut self.aggregates.by_load) {
            self.raise(cell);
        }
    }

    /// Has every flow of whoever is attached here decided one by one.
    pub(super) fn client_changed(&mut self, endpoint: EndpointIndex) {
        let of_client = |key: &AggregateKey| key.client == endpoint;
        let lowest = AggregateKey::lowest(endpoint);
        let taken = self.aggregates.open.take_from(lowest.., of_client);
        self.close_aggregates(taken.into_iter().map(|(key, ())| key).collect());
        self.grants.forget_client(endpoint);
    }

    fn raise(&mut self, cell: EpochCell) {
        if let Some(epoch) = self.aggregates.raise(cell) {
            self.outputs.push_back(Output::SetEpoch { cell, epoch });
            // The last flows of the old epoch must not be missed by whoever counts.
            self.flows.want_every_flow();
            self.drain_flows();
        }
    }

    fn close_aggregates(&mut self, keys: Vec<AggregateKey>) {
        if !keys.is_empty() {
            self.outputs.push_back(Output::CloseAggregates(keys));
        }
    }

    /// Takes note of flows that the kernel opened; a client that comes near its limit opens none by
    /// itself any more, before the supply is filled again.
    pub(super) fn pairs_taken(&mut self, taken: Vec<TakenPair>, now: Moment) {
        let (mut clients, mut servers) = (BTreeSet::new(), BTreeSet::new());
        for pair in &taken {
            if let Supplied::Opened { client, server } = pair.supplied {
                clients.insert(client);
                servers.insert(server);
            }
        }
        self.flow_input(FlowInput::Taken(taken), now);
        for server in servers {
            self.note_load(server, now);
        }
        for client in clients {
            if !self.flows.is_near_limit(client) {
                continue;
            }
            match self.instances.get(&client) {
                Some(instance) => {
                    if let Some(network) = instance.network {
                        self.client_changed(network.endpoint);
                    }
                }
                None => self.end_admissions_of(client),
            }
        }
        self.flows.refill(now);
        self.drain_flows();
        self.decide_counted(now);
    }

    /// Has every flow read at once that the kernel opened.
    pub(super) fn flows_wanted(&mut self) {
        self.flows.want_every_flow();
        self.drain_flows();
    }

    /// Enters the flows that the kernel opened, except those that have ended or that would not be
    /// opened now: what they were decided by may have changed since.
    pub(super) fn taken_read(&mut self, read: Vec<(SlotIndex, Option<TakenFlow>)>, now: Moment) {
        let mut servers = BTreeSet::new();
        for (pair, taken) in read {
            let Some(taken) = taken else {
                self.flows.reclaim(pair, now);
                continue;
            };
            let (flow, ended) = self.flows.look(taken, now);
            if ended || !self.is_sound(&flow.entries) {
                self.flows.turn_away(&flow, ended, now);
            } else {
                servers.insert(flow.entries.server);
                self.flows.enter(flow);
            }
        }
        self.rebind_flows_to_the_ended(servers, now);
        self.drain_flows();
        self.judge(now);
        self.translate_waiting(now);
        self.ask_for_waiting(now);
    }

    /// Goes on with flows that began in the entries of others that were over: the kernel opened them
    /// as much as any that it takes of its supply.
    pub(super) fn flows_reused(&mut self, reused: Vec<TakenFlow>, now: Moment) {
        let read = reused.into_iter().filter_map(|taken| {
            let pair = taken.flow.entries.forward.slot;
            let held = self.flows.hold_again(&taken.flow.entries);
            held.then_some((pair, Some(taken)))
        });
        let read = read.collect();
        self.taken_read(read, now);
    }
}

/// The cell that says when the decisions of a service end.
fn cell_of(service: ServiceId) -> EpochCell {
    let [.., a, b, c, d] = *service.as_bytes();
    EpochCell::Service(u32::from_be_bytes([a, b, c, d]) % SERVICE_CELLS)
}

/// The cell that says when the admissions to an instance end.
pub(super) fn cell_of_instance(id: InstanceId) -> EpochCell {
    let cell = mix(id.0) % u64::from(SERVICE_CELLS);
    EpochCell::Service(cell as u32)
}

/// Targets in the shares of the balancer, each share spread over the ring; whoever's turn it is
/// comes first.
fn ring(balancer: &Balancer, caller: InstanceId, turn: u64) -> Vec<InstanceId> {
    let mut shares = balancer.shares(caller);
    if shares.is_empty() {
        return Vec::new();
    }
    let first = (turn + 1) % shares.len() as u64;
    shares.rotate_left(first as usize);
    let whole: i128 = shares.iter().map(|share| i128::from(share.weight)).sum();
    let even = shares.iter().all(|share| share.weight == shares[0].weight);
    let len = if even { shares.len() } else { RING_MAX };
    // Each place goes to whoever lags behind its share most.
    let mut behind = vec![0_i128; shares.len()];
    let place = |_| {
        for (behind, share) in behind.iter_mut().zip(&shares) {
            *behind += i128::from(share.weight);
        }
        let chosen = behind
            .iter()
            .enumerate()
            .rev()
            .max_by_key(|(_, behind)| **behind);
        let chosen = chosen.map_or(0, |(index, _)| index);
        behind[chosen] -= whole;
        shares[chosen].instance
    };
    (0..len.min(RING_MAX)).map(place).collect()
}

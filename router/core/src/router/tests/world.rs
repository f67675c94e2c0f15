//! A world for the Router: adapters that do as they are told, and a kernel that objects to nonsense.

use super::kernel::Kernel;
use crate::address::Ipv4Block;
use crate::aggregate::{AdmissionKey, AggregateKey, Target};
use crate::composition::Composition;
use crate::drop_reason::DropReason;
use crate::flow_event::FlowEvent;
use crate::flow_key::FlowKey;
use crate::flow_table::{FlowChange, FlowEnd, PAIR_REST};
use crate::host::HostId;
use crate::id::{EndpointIndex, InstanceId, LocationIndex, RequestId, SlotIndex};
use crate::moment::Moment;
use crate::name::{AutomatonName, InstanceName};
use crate::packet::{self, Packet, Upcalled};
use crate::peer::PeerLocation;
use crate::port::{
    AdoptedFlow, DirectionEntry, FlowEntries, FlowKeys, FlowReading, Frame, Input, InstancePlan,
    Output, Record, Recovery, RemovedInstance, RunningInstance, ServiceVip, SlotReading, SpentFlow,
    TakenFlow,
};
use crate::router::{Router, RouterConfig};
use crate::way::{Ingress, Way};
use etherparse::PacketBuilder;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Bytes before the IP packet in an upcalled frame, as an adapter would have them.
const PACKET_START: usize = 26;

pub(super) struct World {
    config: RouterConfig,
    pub(super) router: Router,
    pub(super) now: Moment,
    /// What the adapters will report next.
    pub(super) reports: VecDeque<Input>,
    /// Whether reports are delivered at once.
    pub(super) prompt: bool,
    pub(super) plans: BTreeMap<InstanceId, InstancePlan>,
    pub(super) networks: BTreeMap<InstanceId, (EndpointIndex, u32)>,
    pub(super) running: BTreeSet<InstanceId>,
    /// By forward key.
    pub(super) flows: BTreeMap<FlowKey, FlowEntries>,
    pub(super) counters: BTreeMap<FlowKey, (SlotReading, SlotReading)>,
    pub(super) locations: BTreeMap<LocationIndex, Way>,
    pub(super) compositions: BTreeMap<String, Composition>,
    /// What instances have used of the processor.
    pub(super) processors: BTreeMap<InstanceId, Duration>,
    /// Whether questions for those are not answered.
    pub(super) processors_hang: bool,
    /// Instances that an operator drained.
    pub(super) drained: BTreeSet<InstanceId>,
    /// What the kernel decides by itself.
    pub(super) kernel: Kernel,
    /// Packets that the kernel sent to other hosts, as they see them.
    pub(super) crossing: Vec<(LocationIndex, Vec<u8>)>,
    /// How many packets of other hosts reached an instance without core.
    pub(super) delivered: usize,
    /// Everything that was asked for since it was taken last.
    pub(super) log: Vec<Output>,
    /// Flows of which the kernel has one direction only, by forward key.
    let_in: BTreeSet<FlowKey>,
    closed: BTreeMap<SlotIndex, Moment>,
    /// Flows that are in the place of others that were over.
    reused: Vec<TakenFlow>,
    /// Virtual IPs of services, and when each was given up.
    pub(super) vips: BTreeMap<AutomatonName, (Ipv4Addr, Option<Moment>)>,
    /// Where other hosts are.
    peers: Vec<PeerLocation>,
    /// Removed instances and when each was removed.
    removed: Vec<(InstancePlan, Moment)>,
    next_device: u32,
    next_request: u64,
}

pub(super) fn config() -> RouterConfig {
    RouterConfig::new([7; 32], Ipv4Block::DEFAULT)
}

impl World {
    pub(super) fn new(config: RouterConfig) -> Self {
        let now = Moment::from_nanos(1_000_000_000);
        World {
            router: Router::new(config.clone(), 42, now),
            config,
            now,
            reports: VecDeque::new(),
            prompt: true,
            plans: BTreeMap::new(),
            networks: BTreeMap::new(),
            running: BTreeSet::new(),
            flows: BTreeMap::new(),
            counters: BTreeMap::new(),
            locations: BTreeMap::new(),
            compositions: BTreeMap::new(),
            processors: BTreeMap::new(),
            processors_hang: false,
            drained: BTreeSet::new(),
            kernel: Kernel::default(),
            crossing: Vec::new(),
            delivered: 0,
            log: Vec::new(),
            let_in: BTreeSet::new(),
            closed: BTreeMap::new(),
            reused: Vec::new(),
            vips: BTreeMap::new(),
            peers: Vec::new(),
            removed: Vec::new(),
            next_device: 10,
            next_request: 0,
        }
    }

    /// The cell of another host.
    pub(super) fn location_of(&self, host: HostId) -> LocationIndex {
        let found = self.peers.iter().find(|peer| peer.host == host);
        found.expect("it was met").location
    }

    /// Takes the service frames that were sent since they were taken last, and to whom.
    pub(super) fn take_frames(&mut self) -> Vec<(HostId, Vec<u8>)> {
        let sent = std::mem::take(&mut self.log).into_iter();
        let (frames, rest) = sent.partition(|output| matches!(output, Output::SendFrame { .. }));
        self.log = rest;
        let frames: Vec<Output> = frames;
        let frame = |output| match output {
            Output::SendFrame { to, frame } => (to, frame),
            other => panic!("{other:?} is no frame"),
        };
        frames.into_iter().map(frame).collect()
    }

    /// A host on which the composition runs.
    pub(super) fn with(text: &str) -> Self {
        let mut world = World::new(config());
        world.apply(text).unwrap();
        world.log.clear();
        world
    }

    pub(super) fn apply(&mut self, text: &str) -> Result<String, String> {
        self.apply_composition(Composition::parse(text).unwrap())
    }

    pub(super) fn apply_composition(&mut self, composition: Composition) -> Result<String, String> {
        self.ask(|request| Input::Apply {
            request,
            composition,
        })
    }

    /// Asks as an operator; the answer.
    pub(super) fn ask(&mut self, input: impl FnOnce(RequestId) -> Input) -> Result<String, String> {
        self.next_request += 1;
        let asked = RequestId(self.next_request);
        self.tell(input(asked));
        let answer = self.log.iter().find_map(|output| match output {
            Output::Respond { request, outcome } if *request == asked => Some(outcome.clone()),
            _ => None,
        });
        answer.expect("every request is answered at once")
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.router.handle_input(input, self.now);
        self.drain();
        while self.prompt {
            let Some(report) = self.reports.pop_front() else {
                break;
            };
            self.router.handle_input(report, self.now);
            self.drain();
        }
    }

    /// Lets time pass, waking the router when it asks for it.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.router.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.router.handle_timeout(self.now);
            self.drain();
            assert!(
                self.router
                    .poll_timeout()
                    .is_none_or(|next| next > self.now)
            );
            while self.prompt && !self.reports.is_empty() {
                let report = self.reports.pop_front().unwrap();
                self.tell(report);
            }
        }
        self.now = end;
        self.router.handle_timeout(end);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        self.drain_outputs();
        while !self.reused.is_empty() {
            let reused = Input::FlowsReused(std::mem::take(&mut self.reused));
            self.router.handle_input(reused, self.now);
            self.drain_outputs();
        }
    }

    fn drain_outputs(&mut self) {
        let mut published = false;
        while let Some(output) = self.router.poll_output() {
            let last = matches!(output, Output::Withdraw { .. });
            assert!(
                !published || last,
                "names are published once, behind what they follow from"
            );
            published |= matches!(output, Output::PublishNames(_));
            self.carry_out(&output);
            self.log.push(output);
        }
        // Names that were changed one by one are what publishing all anew would make them.
        let anew = self.router.names_from_scratch();
        assert_eq!(self.router.names_published().held(), anew.held());
        self.router.poll_timeout();
    }

    fn carry_out(&mut self, output: &Output) {
        match output {
            Output::Record(record) => self.record(record),
            Output::PrepareInstance(plan) => {
                assert_eq!(self.plans.get(&plan.instance), Some(plan), "recorded first");
                let device = self.next_device;
                self.next_device += 1;
                let network = (EndpointIndex(device % 64), device);
                self.networks.insert(plan.instance, network);
                self.reports.push_back(Input::InstancePrepared {
                    instance: plan.instance,
                    endpoint: network.0,
                    ifindex: network.1,
                });
            }
            Output::StartProcess(plan) => {
                assert!(self.networks.contains_key(&plan.instance));
                self.running.insert(plan.instance);
                let instance = plan.instance;
                self.reports.push_back(Input::ProcessStarted { instance });
            }
            Output::Withdraw { instance } => {
                let instance = *instance;
                self.reports.push_back(Input::Withdrawn { instance });
            }
            Output::RemoveInstance { instance, .. } => {
                self.running.remove(instance);
                self.networks.remove(instance);
                let instance = *instance;
                self.reports.push_back(Input::InstanceRemoved { instance });
            }
            Output::SetLocation { location, way } => match way {
                Way::Nowhere => drop(self.locations.remove(location)),
                somewhere => drop(self.locations.insert(*location, *somewhere)),
            },
            Output::OpenFlow(entries) => self.open(entries),
            Output::CloseFlows(flows) => self.close(flows),
            Output::CloseUnused(flows) => self.close_unused(flows),
            Output::Forward(frame) => {
                let key = match Upcalled::parse(frame.packet()).unwrap() {
                    Upcalled::Packet(packet) => packet.key,
                    // It names no flow; the kernel looks for one.
                    Upcalled::LaterFragment { .. } => return,
                    Upcalled::Error(error) => panic!("{error:?} goes back as it came"),
                };
                let known = |entries: &FlowEntries| entries.reverse.key == key;
                let found = self.flows.contains_key(&key) || self.flows.values().any(known);
                assert!(found, "what is sent back finds its flow");
            }
            Output::Observed(event) => self.observed(event),
            Output::ReadFlows(_) | Output::ReadProcessors(_) => self.read(output),
            Output::KillProcess { instance } => {
                self.running.remove(instance);
                self.reports.push_back(Input::ProcessExited {
                    instance: *instance,
                    status: "signal 9".into(),
                    restart_after: Some(Duration::ZERO),
                });
            }
            Output::Probe { .. }
            | Output::Watch { .. }
            | Output::PublishNames(_)
            | Output::Inject { .. }
            | Output::Seek { .. }
            | Output::BusyWith { .. }
            | Output::SendFrame { .. }
            | Output::Instance(_)
            | Output::InstanceGone { .. }
            | Output::Told { .. }
            | Output::Respond { .. } => {}
            for_the_kernel => self.carry_out_by_kernel(for_the_kernel),
        }
    }

    /// Answers what is asked of the kernel.
    fn read(&mut self, output: &Output) {
        let report = match output {
            Output::ReadFlows(slots) => {
                let read = slots.iter().map(|slots| {
                    let counters = self.counters.get(&slots.forward_key);
                    let (forward, reverse) = counters.copied().unwrap_or_default();
                    FlowReading {
                        forward_key: slots.forward_key,
                        forward,
                        reverse,
                    }
                });
                Input::FlowsRead(read.collect())
            }
            Output::ReadProcessors(_) if self.processors_hang => return,
            Output::ReadProcessors(instances) => {
                let used = |id: &InstanceId| Some((*id, *self.processors.get(id)?));
                Input::ProcessorsRead(instances.iter().filter_map(used).collect())
            }
            other => panic!("{other:?} asks for nothing"),
        };
        self.reports.push_back(report);
    }

    fn close(&mut self, flows: &[FlowKeys]) {
        for keys in flows {
            if self.let_in.remove(&keys.forward) {
                continue;
            }
            let entries = self.flows.remove(&keys.forward);
            let entries = entries.expect("only what is open is closed");
            assert_eq!(entries.keys(), *keys);
            self.counters.remove(&keys.forward);
            self.closed.insert(entries.forward.slot, self.now);
            self.closed.insert(entries.reverse.slot, self.now);
        }
    }

    /// Closes those that were not counted since; the others go on, with what is theirs.
    fn close_unused(&mut self, flows: &[SpentFlow]) {
        for SpentFlow { keys, read, .. } in flows {
            let counted = self.counters.entry(keys.forward).or_default();
            let packets = |(forward, reverse): &(SlotReading, SlotReading)| {
                (forward.packets, reverse.packets)
            };
            if packets(counted) == packets(read) {
                self.close(&[*keys]);
                continue;
            }
            for (counted, read) in [(&mut counted.0, &read.0), (&mut counted.1, &read.1)] {
                counted.packets -= read.packets;
                counted.bytes -= read.bytes;
            }
            let pair = self.flows[&keys.forward].forward.slot;
            self.reused.extend(self.read_taken(pair));
        }
    }

    /// What concerns the flows that the kernel opens by itself.
    fn carry_out_by_kernel(&mut self, output: &Output) {
        match output {
            Output::SupplyPairs(pairs) => self.kernel.supply(pairs),
            Output::LookAtSupply | Output::ReclaimSupply => {
                if matches!(output, Output::ReclaimSupply) {
                    self.kernel.reclaim();
                }
                let taken = self.kernel.look();
                self.reports.push_back(Input::PairsTaken(taken));
            }
            Output::ReadTaken(pairs) => {
                let read = pairs.iter().map(|pair| (*pair, self.read_taken(*pair)));
                self.reports.push_back(Input::TakenRead(read.collect()));
            }
            Output::OpenAggregate(aggregate) => self.kernel.open(aggregate),
            Output::CloseAggregates(keys) => self.kernel.close(keys),
            Output::OpenAdmission(admission) => self.kernel.admit(*admission),
            Output::CloseAdmissions(keys) => self.kernel.end_admissions(keys),
            Output::DecideAgain { endpoint, packet } => {
                let (endpoint, frame) = (*endpoint, frame(packet));
                self.reports.push_back(Input::Upcall { endpoint, frame });
            }
            Output::SetEpoch { cell, epoch } => self.kernel.set_epoch(*cell, *epoch),
            // The whole flow follows, or nothing.
            Output::LetIn(entries) => drop(self.let_in.insert(entries.forward.key)),
            other => unreachable!("{other:?} is carried out elsewhere"),
        }
    }

    /// What is told as closed can still be read.
    fn observed(&self, event: &FlowEvent) {
        let FlowEvent::Flow { change, .. } = event else {
            return;
        };
        if let FlowChange::Closed(flow, end) = change {
            let open = self.flows.contains_key(&flow.entries.forward.key);
            assert!(open || *end == FlowEnd::KernelRefused, "{flow:?}");
        }
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Composition(composition) => {
                let name = composition.name.to_string();
                self.compositions.insert(name, composition.clone());
            }
            Record::CompositionDeleted(name) => {
                self.compositions.remove(name.as_str());
            }
            Record::Instance(plan) => {
                self.plans.insert(plan.instance, plan.clone());
            }
            Record::Drained { instance, drained } => {
                assert!(self.plans.contains_key(instance));
                if *drained {
                    self.drained.insert(*instance);
                } else {
                    self.drained.remove(instance);
                }
            }
            Record::InstanceRemoved { instance } => {
                self.drained.remove(instance);
                let removed = self.plans.remove(instance);
                self.removed.extend(removed.map(|plan| (plan, self.now)));
            }
            Record::ServiceVip { service, v4 } => {
                self.vips.insert(service.clone(), (*v4, None));
            }
            Record::PeerLocation(peer) => self.peers.push(*peer),
            Record::ServiceVipFreed { service } => {
                let (_, freed) = self.vips.get_mut(service).expect("only what is held");
                *freed = Some(self.now);
            }
        }
    }

    /// What the kernel would object to.
    fn open(&mut self, entries: &FlowEntries) {
        let (forward, reverse) = (entries.forward, entries.reverse);
        for open in self.flows.values() {
            for key in [open.forward.key, open.reverse.key] {
                assert!(
                    key != forward.key && key != reverse.key,
                    "no two flows share a key"
                );
            }
            for slot in [open.forward.slot, open.reverse.slot] {
                assert!(slot != forward.slot && slot != reverse.slot, "nor a slot");
            }
        }
        for slot in [forward.slot, reverse.slot] {
            let rested = |closed: &Moment| self.now.since(*closed) >= PAIR_REST;
            assert!(self.closed.get(&slot).is_none_or(rested), "slots rest");
        }
        assert!(self.locations.contains_key(&forward.location));
        assert!(self.locations.contains_key(&reverse.location));
        self.let_in.remove(&forward.key);
        self.flows.insert(forward.key, entries.clone());
    }

    /// The flow that the kernel opens for a first packet, if a decision is in force.
    fn open_by_kernel(
        &mut self,
        client: InstanceId,
        endpoint: EndpointIndex,
        key: FlowKey,
    ) -> Option<FlowEntries> {
        let target = self
            .kernel
            .target(client, AggregateKey::covering(endpoint, key))?;
        let mut delivered = key;
        let (server, ingress, location) = match target {
            Target::Here(target) => {
                let networks = self.networks.iter();
                let mut at_target = networks.filter(|(_, (endpoint, _))| *endpoint == target);
                let (server, (_, device)) = at_target.next()?;
                let addresses = self.plans[server].addresses;
                if !super::super::identities::all(addresses).contains(&key.destination.ip()) {
                    delivered.destination.set_ip(match key.destination {
                        SocketAddr::V4(_) => addresses.called.v4.into(),
                        SocketAddr::V6(_) => addresses.called.v6.into(),
                    });
                }
                (*server, Ingress::Device(*device), LocationIndex(target.0))
            }
            Target::There(remote) => {
                delivered.destination.set_ip(remote.address);
                let location = remote.location;
                (remote.instance, Ingress::Peer(location), location)
            }
        };
        let own = (
            Ingress::Device(self.networks[&client].1),
            LocationIndex(endpoint.0),
        );
        self.open_pair(
            (key, delivered),
            (client, own.0, own.1),
            (server, ingress, location),
        )
    }

    /// Takes a pair of the supply for a flow of these two sides, unless its keys are taken.
    fn open_pair(
        &mut self,
        (key, delivered): (FlowKey, FlowKey),
        client: (InstanceId, Ingress, LocationIndex),
        server: (InstanceId, Ingress, LocationIndex),
    ) -> Option<FlowEntries> {
        let taken = |entries: &FlowEntries| entries.reverse.key == delivered.reversed();
        if self.flows.values().any(taken) {
            self.kernel.take(None)?;
            return None;
        }
        let pair = self.kernel.take(Some((client.0, server.0)))?;
        Some(FlowEntries {
            client: client.0,
            server: server.0,
            forward: DirectionEntry {
                key,
                delivered,
                slot: pair,
                ingress: client.1,
                location: server.2,
            },
            reverse: DirectionEntry {
                key: delivered.reversed(),
                delivered: key.reversed(),
                slot: SlotIndex(pair.0 + 1),
                ingress: server.1,
                location: client.2,
            },
        })
    }

    /// A packet comes from the host at a location.
    pub(super) fn receive(&mut self, from: LocationIndex, packet: &[u8]) {
        let parsed = Packet::parse(packet).unwrap();
        let key = parsed.key;
        let open = self.flows.get(&key).map(|entries| entries.forward.ingress);
        if open == Some(Ingress::Peer(from)) || self.let_in.contains(&key) {
            self.delivered += 1;
            return;
        }
        if !parsed.opens_a_flow() {
            return;
        }
        let admission = self.kernel.admitted(AdmissionKey::covering(key));
        if admission.is_some_and(|admission| admission.from != from) {
            return;
        }
        let opened = admission.and_then(|admission| {
            let (endpoint, device) = *self.networks.get(&admission.server)?;
            assert_eq!(endpoint, admission.endpoint);
            let server = (Ingress::Device(device), LocationIndex(endpoint.0));
            self.open_pair(
                (key, key),
                (admission.client, Ingress::Peer(from), from),
                (admission.server, server.0, server.1),
            )
        });
        match opened {
            Some(entries) => {
                self.open(&entries);
                self.delivered += 1;
            }
            None => self.tell(Input::PeerUpcall {
                from: admission.map(|admission| admission.from),
                frame: frame(packet),
            }),
        }
    }

    /// A flow that the kernel opened, as it stands.
    fn read_taken(&self, pair: SlotIndex) -> Option<TakenFlow> {
        let mut flows = self.flows.values();
        let entries = flows.find(|entries| entries.forward.slot == pair)?;
        let counters = self.counters.get(&entries.forward.key).copied();
        let (forward, reverse) = counters.unwrap_or_default();
        Some(TakenFlow {
            flow: AdoptedFlow {
                entries: entries.clone(),
                opened: forward.last_seen,
            },
            forward,
            reverse,
        })
    }

    pub(super) fn id(&self, name: &str) -> InstanceId {
        self.newest(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The instance that bears `name`, the newer one while it replaces another.
    pub(super) fn newest(&self, name: &str) -> Option<InstanceId> {
        let name: InstanceName = name.parse().unwrap();
        let plans = self.plans.values().rev();
        let mut named = plans.filter(|plan| plan.name == name);
        named.next().map(|plan| plan.instance)
    }

    /// How many packets were refused for `reason`.
    pub(super) fn counted(&self, reason: DropReason) -> u64 {
        let mut drops = self.router.drops();
        let found = drops.find(|(counted, _)| *counted == reason);
        found.map_or(0, |(_, count)| count)
    }

    pub(super) fn called(&self, name: &str) -> IpAddr {
        self.plans[&self.id(name)].addresses.called.v4.into()
    }

    pub(super) fn called_v6(&self, name: &str) -> IpAddr {
        self.plans[&self.id(name)].addresses.called.v6.into()
    }

    pub(super) fn caller(&self, name: &str) -> IpAddr {
        self.plans[&self.id(name)].addresses.caller.v4.into()
    }

    /// Sends a first packet of `from` to `to`; the instance that took the flow, if any.
    pub(super) fn call(&mut self, from: &str, port: u16, to: IpAddr, kind: Kind) -> Option<String> {
        let plan = &self.plans[&self.id(from)];
        let source = match to {
            IpAddr::V4(_) => plan.addresses.caller.v4.into(),
            IpAddr::V6(_) => plan.addresses.caller.v6.into(),
        };
        let packet = packet((source, port), to, kind);
        self.send(from, &packet);
        let key = Packet::parse(&packet).unwrap().key;
        let server = self.flows.get(&key)?.server;
        Some(self.plans[&server].name.to_string())
    }

    /// Sends a packet from an instance's device: the kernel opens its flow, or hands it up.
    pub(super) fn send(&mut self, from: &str, packet: &[u8]) {
        let client = self.id(from);
        let (endpoint, _) = self.networks[&client];
        let parsed = Packet::parse(packet).ok().filter(Packet::opens_a_flow);
        if let Some(key) = parsed.map(|packet| packet.key)
            && !self.flows.contains_key(&key)
            && let Some(entries) = self.open_by_kernel(client, endpoint, key)
        {
            self.open(&entries);
            if let Ingress::Peer(location) = entries.reverse.ingress {
                let packet = packet::address_to(packet, entries.forward.delivered).unwrap();
                self.crossing.push((location, packet));
            }
            return;
        }
        let frame = frame(packet);
        self.tell(Input::Upcall { endpoint, frame });
    }

    /// The packets that core made since the log was taken last.
    pub(super) fn injected(&self) -> Vec<&[u8]> {
        let injected = self.log.iter().filter_map(|output| match output {
            Output::Inject { packet, .. } => Some(&packet[..]),
            _ => None,
        });
        injected.collect()
    }

    pub(super) fn forwarded(&self) -> usize {
        let forward = |output: &&Output| matches!(output, Output::Forward(_));
        self.log.iter().filter(forward).count()
    }

    pub(super) fn stage(&self, name: &str) -> &'static str {
        let id = self.id(name);
        let views = self.router.instances();
        views.into_iter().find(|view| view.id == id).unwrap().stage
    }

    /// Replaces the router by one that finds what this one left.
    pub(super) fn restart(&mut self) {
        let found = |entries: &FlowEntries| AdoptedFlow {
            entries: entries.clone(),
            opened: self.now,
        };
        let running = |(id, network): (&InstanceId, &(EndpointIndex, u32))| RunningInstance {
            instance: *id,
            network: Some(*network),
            process_running: self.running.contains(id),
        };
        let removed = |(plan, at): &(InstancePlan, Moment)| RemovedInstance {
            instance: plan.instance,
            automaton: plan.name.automaton.clone(),
            addresses: plan.addresses,
            free_for: self.now.since(*at),
        };
        let vip =
            |(service, (v4, freed)): (&AutomatonName, &(Ipv4Addr, Option<Moment>))| ServiceVip {
                service: service.clone(),
                v4: *v4,
                free_for: freed.map(|freed| self.now.since(freed)),
            };
        let recovery = Recovery {
            compositions: self.compositions.values().cloned().collect(),
            instances: self.plans.values().cloned().collect(),
            drained: self.drained.iter().copied().collect(),
            running: self.networks.iter().map(running).collect(),
            flows: self.flows.values().map(found).collect(),
            next_instance: 0,
            quarantined: self.removed.iter().map(removed).collect(),
            service_vips: self.vips.iter().map(vip).collect(),
            peers: self.peers.clone(),
        };
        self.router = Router::new(self.config.clone(), 43, self.now);
        self.reports.clear();
        self.kernel = Kernel::default();
        self.locations.clear();
        // A start takes longer than any packet is on its way through the kernel.
        self.closed.clear();
        self.log.clear();
        self.tell(Input::Recover(recovery));
    }
}

/// A packet as an adapter hands it up.
pub(super) fn frame(packet: &[u8]) -> Frame {
    let mut buffer = vec![0; PACKET_START];
    buffer.extend_from_slice(packet);
    Frame {
        buffer,
        packet_start: PACKET_START,
    }
}

/// The kinds of first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Syn(u16),
    Ack(u16),
    Udp(u16),
    Ping,
}

pub(super) fn packet((from, port): (IpAddr, u16), to: IpAddr, kind: Kind) -> Vec<u8> {
    let ip = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => panic!("two families"),
    };
    let mut bytes = Vec::new();
    match (kind, from) {
        (Kind::Syn(to), _) => ip.tcp(port, to, 1, 1).syn().write(&mut bytes, &[]).unwrap(),
        (Kind::Ack(to), _) => ip
            .tcp(port, to, 1, 1)
            .ack(1)
            .write(&mut bytes, b"x")
            .unwrap(),
        (Kind::Udp(to), _) => ip.udp(port, to).write(&mut bytes, b"x").unwrap(),
        (Kind::Ping, IpAddr::V4(_)) => {
            ip.icmpv4_echo_request(port, 1)
                .write(&mut bytes, b"x")
                .unwrap();
        }
        (Kind::Ping, IpAddr::V6(_)) => {
            ip.icmpv6_echo_request(port, 1)
                .write(&mut bytes, b"x")
                .unwrap();
        }
    }
    bytes
}

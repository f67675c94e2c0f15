//! The ports of core: everything that comes in and everything that goes out.
//!
//! `Input` and `Output` are the whole contract between [`Router`](crate::router::Router) and the
//! world. Adapters carry outputs out in the order in which they were polled.

#![allow(
    missing_docs,
    reason = "each variant says in one sentence what its fields are"
)]

use crate::address::InstanceAddresses;
use crate::aggregate::{Admission, AdmissionKey, Aggregate, AggregateKey, Epoch, EpochCell};
use crate::composition::{Composition, CompositionName, Egress, Liveness, Readiness};
use crate::flow_event::{FlowEvent, Interest};
use crate::flow_key::FlowKey;
use crate::host::HostId;
use crate::id::{EndpointIndex, InstanceId, LocationIndex, RequestId, SlotIndex, Version};
use crate::moment::Moment;
use crate::name::{AutomatonName, InstanceName};
use crate::names::NamesSnapshot;
use crate::peer::{PeerInput, PeerLocation, RemoteInstance};
use crate::way::{Ingress, Way};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// What the world tells core.
#[derive(Debug)]
pub enum Input {
    /// What an earlier run left behind; the first input of a restarted daemon.
    Recover(Recovery),
    /// An operator applies a composition.
    Apply {
        request: RequestId,
        composition: Composition,
    },
    /// An operator deletes a composition and every instance of it.
    Delete {
        request: RequestId,
        composition: CompositionName,
    },
    /// An operator of another host applied a composition; outcome: [`Output::Told`].
    Composition(Composition),
    /// An operator of another host deleted a composition; outcome: [`Output::Told`].
    CompositionGone(CompositionName),
    /// An operator stops the host: every instance ends, compositions stay.
    Down { request: RequestId },
    /// An instance's namespace, device and DNS sockets exist.
    InstancePrepared {
        instance: InstanceId,
        endpoint: EndpointIndex,
        ifindex: u32,
    },
    /// The keeper started the instance's program (again).
    ProcessStarted { instance: InstanceId },
    /// The instance's program ended; the keeper starts it again after `restart_after`.
    ProcessExited {
        instance: InstanceId,
        status: String,
        restart_after: Option<Duration>,
    },
    /// Something that an instance needs could not be made; core decides when to try again.
    InstanceFailed { instance: InstanceId, error: String },
    /// An operator wants an instance to take no new flow, or to take them again.
    Drain {
        request: RequestId,
        instance: InstanceId,
        drained: bool,
    },
    /// Every output that came before [`Output::Withdraw`] has taken effect.
    Withdrawn { instance: InstanceId },
    /// The instance's processes, namespace and device are gone.
    InstanceRemoved { instance: InstanceId },
    /// A readiness probe changed its mind.
    Readiness { instance: InstanceId, ready: bool },
    /// A liveness probe was answered well, or why it was not.
    Liveness {
        instance: InstanceId,
        verdict: Result<(), String>,
    },
    /// The instance's device or namespace vanished behind our back.
    DeviceLost { instance: InstanceId },
    /// The kernel hands up a packet that no flow table entry matched.
    Upcall {
        endpoint: EndpointIndex,
        frame: Frame,
    },
    /// The kernel hands up a first packet of another host that it opened no flow for. `from` is the
    /// cell of the host that it came from; `None` where no admission says which that must be.
    PeerUpcall {
        from: Option<LocationIndex>,
        frame: Frame,
    },
    /// Tell from now on what happens to flows, as far as somebody watches.
    Observe(Interest),
    /// The kernel refused the entries of a flow that core opened.
    FlowRefused { forward: FlowKey },
    /// Answer to [`Output::ReadProcessors`]: what each has used since it was made.
    ProcessorsRead(Vec<(InstanceId, Duration)>),
    /// Answer to [`Output::ReadFlows`].
    FlowsRead(Vec<FlowReading>),
    /// What the kernel took of its supply since it was told last; answer to
    /// [`Output::LookAtSupply`] and [`Output::ReclaimSupply`].
    PairsTaken(Vec<TakenPair>),
    /// Answer to [`Output::ReadTaken`], for each pair; `None`: no flow holds it.
    TakenRead(Vec<(SlotIndex, Option<TakenFlow>)>),
    /// Answer to [`Output::CloseUnused`]: flows that began in the entries of others that were over,
    /// and what was counted of these alone.
    FlowsReused(Vec<TakenFlow>),
    /// What is told of other hosts.
    Peer(PeerInput),
    /// A program asks for a service that it may reach and of which no instance is known here that
    /// takes flows.
    Wanted { service: AutomatonName },
    /// Somebody is about to look at the flow table: it shall know every flow.
    FlowsWanted,
}

/// What core asks of the world.
#[derive(Debug)]
pub enum Output {
    /// Make durable before any later output is carried out.
    Record(Record),
    /// Make the instance's namespace, device, addresses and DNS sockets.
    PrepareInstance(InstancePlan),
    /// Start the instance's program under the keeper (which restarts it with backoff).
    StartProcess(InstancePlan),
    /// The instance takes no new flow: answer with [`Input::Withdrawn`] once every earlier output has
    /// taken effect, in names and in the kernel.
    Withdraw { instance: InstanceId },
    /// End the instance: SIGTERM, `grace`, SIGKILL to all, then take its network away.
    RemoveInstance {
        instance: InstanceId,
        grace: Duration,
    },
    /// Probe the instance from now on; `None` ends probing.
    Probe {
        instance: InstanceId,
        readiness: Option<Readiness>,
        plan: Arc<InstancePlan>,
    },
    /// Ask the instance's program again and again whether it is alive; `None` ends that.
    Watch {
        instance: InstanceId,
        liveness: Option<Liveness>,
        plan: Arc<InstancePlan>,
    },
    /// Kill the instance's program; the keeper starts it again.
    KillProcess { instance: InstanceId },
    /// Answer DNS from this snapshot from now on.
    PublishNames(Arc<NamesSnapshot>),
    /// Point a location cell somewhere.
    SetLocation { location: LocationIndex, way: Way },
    /// Insert both directions of a flow: reverse first, then forward, neither overwriting.
    OpenFlow(FlowEntries),
    /// Install the entry of client to server only: the client's host may send by now, while answers
    /// are still handed up. [`Output::OpenFlow`] follows for the same entries.
    LetIn(FlowEntries),
    /// Delete both directions of these flows.
    CloseFlows(Vec<FlowKeys>),
    /// Delete both directions of those of these flows through which nothing passed since they were
    /// read. The entries of others stand, and count for the next from then on: answered, if there
    /// are any, by [`Input::FlowsReused`] before any other input.
    CloseUnused(Vec<SpentFlow>),
    /// Send an upcalled frame back into the kernel, where it now finds its flow.
    Forward(Frame),
    /// Deliver an IP packet that core made (RST, ICMP) to an instance.
    Inject {
        endpoint: EndpointIndex,
        packet: Vec<u8>,
    },
    /// Read the counters of flows; answered by [`Input::FlowsRead`].
    ReadFlows(Vec<FlowSlots>),
    /// Let the kernel open flows by itself with these pairs, named by their forward slots; the
    /// slots of the other direction follow them.
    SupplyPairs(Vec<SlotIndex>),
    /// See what the kernel took of its supply; answered by [`Input::PairsTaken`].
    LookAtSupply,
    /// Take back what the kernel has not taken of its supply; answered by [`Input::PairsTaken`].
    ReclaimSupply,
    /// Read flows that the kernel opened, by their forward slots; answered by
    /// [`Input::TakenRead`].
    ReadTaken(Vec<SlotIndex>),
    /// Have the kernel open further flows by this decision; it takes the place of an older one
    /// with the same key.
    OpenAggregate(Aggregate),
    /// Have the kernel hand up first packets again.
    CloseAggregates(Vec<AggregateKey>),
    /// Have the kernel open further flows of another host's client by this decision; it takes the
    /// place of an older one with the same key.
    OpenAdmission(Admission),
    /// Have the kernel hand up such clients' first packets again.
    CloseAdmissions(Vec<AdmissionKey>),
    /// Hand an instance's packet up again, as if it had just come; answered by [`Input::Upcall`].
    DecideAgain {
        endpoint: EndpointIndex,
        packet: Vec<u8>,
    },
    /// End all aggregates and admissions of earlier epochs of this cell, at once.
    SetEpoch { cell: EpochCell, epoch: Epoch },
    /// Look for instances of a service beyond the site; outcome: [`PeerInput::Sought`], behind those
    /// that were found.
    Seek { service: AutomatonName },
    /// With these hosts of other sites flows are open; answers [`PeerInput::BusyWanted`].
    BusyWith { hosts: BTreeSet<HostId> },
    /// Send a service frame to another host; it may be lost.
    SendFrame { to: HostId, frame: Vec<u8> },
    /// Tell other hosts of an instance here, as it is to them from now on; comes only on a host that
    /// has others, and of loads alone at most every 250 ms.
    Instance(Arc<RemoteInstance>),
    /// Tell other hosts that an instance here is no more.
    InstanceGone { instance: InstanceId },
    /// Tell whoever looks after this host what became of a composition that came from another.
    Told {
        composition: CompositionName,
        outcome: Result<String, String>,
    },
    /// Read how much of the processor instances have used; answered by [`Input::ProcessorsRead`].
    ReadProcessors(Vec<InstanceId>),
    /// Tell those who watch; comes only while somebody does, before the kernel's counters of a
    /// closed flow can count for another.
    Observed(Box<FlowEvent>),
    /// Answer an operator.
    Respond {
        request: RequestId,
        outcome: Result<String, String>,
    },
}

/// An Ethernet frame in a buffer of the adapter's making; core reads the IP packet and hands the
/// whole buffer back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Adapter's header, Ethernet header, IP packet.
    pub buffer: Vec<u8>,
    /// Where the IP packet begins.
    pub packet_start: usize,
}

impl Frame {
    /// The IP packet.
    pub fn packet(&self) -> &[u8] {
        self.buffer.get(self.packet_start..).unwrap_or_default()
    }
}

/// Everything the adapters need to make one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancePlan {
    /// Its identity.
    pub instance: InstanceId,
    /// Its name, `2.web`.
    pub name: InstanceName,
    /// Whose part it is.
    pub composition: CompositionName,
    /// Of which version.
    pub version: Version,
    /// Its addresses.
    pub addresses: InstanceAddresses,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment beyond the standard one.
    pub environment: BTreeMap<String, String>,
    /// The user to run as; `None`: an unprivileged one of its own.
    pub user: Option<String>,
    /// Whether it reaches what lies outside.
    #[serde(default)]
    pub egress: Egress,
}

/// A change that must survive the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A composition was applied.
    Composition(Composition),
    /// A composition was deleted.
    CompositionDeleted(CompositionName),
    /// An instance exists from now on.
    Instance(InstancePlan),
    /// An operator wants an instance to take no new flow from now on, or to take them again.
    Drained { instance: InstanceId, drained: bool },
    /// An instance is gone; its addresses are in quarantine from now on.
    InstanceRemoved { instance: InstanceId },
    /// A service holds a virtual IP of its own from now on; its IPv6 half follows from its name.
    ServiceVip {
        service: AutomatonName,
        v4: Ipv4Addr,
    },
    /// A service gave up its virtual IP, which is in quarantine from now on.
    ServiceVipFreed { service: AutomatonName },
    /// Another host has this location cell from now on.
    PeerLocation(PeerLocation),
}

/// What the state directory, the keeper and the kernel still hold of an earlier run.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Applied compositions.
    pub compositions: Vec<Composition>,
    /// Recorded instances.
    pub instances: Vec<InstancePlan>,
    /// Those of them that an operator wants to take no new flow.
    pub drained: Vec<InstanceId>,
    /// Instances that the keeper still parents, with what is known of each.
    pub running: Vec<RunningInstance>,
    /// Flows found in the kernel's maps.
    pub flows: Vec<AdoptedFlow>,
    /// The next free identity: one above every identity ever recorded.
    pub next_instance: u64,
    /// Instances that were removed lately.
    pub quarantined: Vec<RemovedInstance>,
    /// Virtual IPs that services hold, or gave up lately.
    pub service_vips: Vec<ServiceVip>,
    /// Where other hosts were among the location cells.
    pub peers: Vec<PeerLocation>,
}

/// A virtual IP of a service itself, as an earlier run recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceVip {
    /// Whose.
    pub service: AutomatonName,
    /// Its IPv4 half.
    pub v4: Ipv4Addr,
    /// How long ago it was given up, if it was.
    pub free_for: Option<Duration>,
}

/// An instance of an earlier run whose addresses callers may still know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedInstance {
    /// Its identity.
    pub instance: InstanceId,
    /// Of which automaton it was.
    pub automaton: AutomatonName,
    /// What it held.
    pub addresses: InstanceAddresses,
    /// How long ago it was removed.
    pub free_for: Duration,
}

/// An instance that outlived the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningInstance {
    /// Its identity.
    pub instance: InstanceId,
    /// Its endpoint and device, if its network is whole.
    pub network: Option<(EndpointIndex, u32)>,
    /// Whether its program runs now (else the keeper waits to restart it).
    pub process_running: bool,
}

/// A flow found in the kernel's maps at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedFlow {
    /// The entries as they stand in the kernel.
    pub entries: FlowEntries,
    /// When the flow was opened.
    pub opened: Moment,
}

/// A pair of slots that the kernel took of its supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenPair {
    /// The forward slot.
    pub pair: SlotIndex,
    /// What became of it.
    pub supplied: Supplied,
}

/// What became of a pair that the kernel took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supplied {
    /// A flow of these two holds it.
    Opened {
        client: InstanceId,
        server: InstanceId,
    },
    /// No flow came of it.
    Void,
    /// The kernel never had it: it was reclaimed.
    Unused,
}

/// A flow that the kernel opened by itself, and what it counted since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenFlow {
    /// The flow as it stands in the kernel.
    pub flow: AdoptedFlow,
    /// Client to server.
    pub forward: SlotReading,
    /// Server to client.
    pub reverse: SlotReading,
}

/// Both directions of a flow, as the kernel executes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowEntries {
    /// Who opened the flow.
    pub client: InstanceId,
    /// Who serves it.
    pub server: InstanceId,
    /// Packets from client to server.
    pub forward: DirectionEntry,
    /// Packets from server to client.
    pub reverse: DirectionEntry,
}

impl FlowEntries {
    /// The keys of both directions.
    pub fn keys(&self) -> FlowKeys {
        FlowKeys {
            forward: self.forward.key,
            reverse: self.reverse.key,
        }
    }
}

/// By which keys the kernel finds a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKeys {
    /// Of client to server.
    pub forward: FlowKey,
    /// Of server to client.
    pub reverse: FlowKey,
}

/// A flow that is over, as far as was read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpentFlow {
    /// By which keys the kernel finds it.
    pub keys: FlowKeys,
    /// Slot of client to server.
    pub forward: SlotIndex,
    /// Slot of server to client.
    pub reverse: SlotIndex,
    /// What core judged by: client to server and back.
    pub read: (SlotReading, SlotReading),
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectionEntry {
    /// The packet as its sender writes it.
    pub key: FlowKey,
    /// The packet as its receiver shall see it; equal to `key` where nothing is rewritten.
    pub delivered: FlowKey,
    /// Its row in the slot array.
    pub slot: SlotIndex,
    /// Who alone may send it.
    pub ingress: Ingress,
    /// Where it goes.
    pub location: LocationIndex,
}

/// The slots of one flow, named by its forward key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSlots {
    /// The flow.
    pub forward_key: FlowKey,
    /// Slot of client to server.
    pub forward: SlotIndex,
    /// Slot of server to client.
    pub reverse: SlotIndex,
}

/// What the kernel counted for one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowReading {
    /// The flow.
    pub forward_key: FlowKey,
    /// Client to server.
    pub forward: SlotReading,
    /// Server to client.
    pub reverse: SlotReading,
}

/// What the kernel counted for one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotReading {
    /// Packets (segments of a super-packet counted one by one).
    pub packets: u64,
    /// Bytes including Ethernet headers.
    pub bytes: u64,
    /// When the last packet passed; the origin if none did.
    pub last_seen: Moment,
    /// A FIN passed since the last SYN.
    pub fin_seen: bool,
    /// An RST passed since the last SYN, and its receiver took it: none of its sockets has the
    /// connection any more.
    pub rst_seen: bool,
}

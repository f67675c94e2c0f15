//! The kernel's half of the router, as one value: maps, programs and their pins.

use crate::admissions::Admissions;
use crate::adopt::AdoptError;
use crate::aggregates::{Aggregates, DecisionError};
use crate::attach::{self, AttachError, InstanceLinks, Role};
use crate::connections;
use crate::deletions::Deletions;
use crate::drop_counters;
use crate::endpoints::{EndpointConfig, Endpoints};
use crate::flow_maps::{FlowError, FlowMaps};
use crate::locations::{LocationError, Locations};
use crate::mapped_array::{MappedArray, Row};
use crate::object::{
    self, DatapathConfig, FROM_PEER, FROM_ROUTER, OpenError, take_array, take_map,
};
use crate::peer_upcalls::PeerUpcalls;
use crate::pins::{self, Pins};
use crate::programs;
use crate::remote_targets::RemoteTargets;
use crate::supply::Supply;
use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::ProgramError;
use margay_core::aggregate::{Admission, AdmissionKey, Aggregate, AggregateKey, Epoch, EpochCell};
use margay_core::drop_reason::DropReason;
use margay_core::id::{EndpointIndex, InstanceId, LocationIndex, SlotIndex};
use margay_core::moment::Moment;
use margay_core::port::{
    AdoptedFlow, FlowEntries, FlowKeys, FlowReading, FlowSlots, SpentFlow, TakenFlow, TakenPair,
};
use margay_core::way::Way;
use std::io;
use std::path::Path;
use std::time::Instant;
use thiserror::Error;

/// The kernel's table of endpoints refused a change.
#[derive(Debug, Error)]
#[error("cannot write endpoint {endpoint} (the table holds `endpoints_max`)")]
pub struct EndpointError {
    endpoint: EndpointIndex,
    source: Box<MapError>,
}

/// An open data path. Dropping it changes nothing in the kernel: what is pinned goes on.
pub struct Datapath {
    pins: Pins,
    ebpf: Ebpf,
    flows: FlowMaps,
    supply: Supply,
    aggregates: Aggregates,
    admissions: Admissions,
    peer_upcalls: PeerUpcalls,
    locations: Locations,
    endpoints: Endpoints,
    drops: PerCpuArray<MapData, u64>,
}

impl Datapath {
    /// Loads the programs over the maps pinned in `pin_dir`, or over new ones, and puts them in
    /// place of those that an earlier run left on its devices.
    pub fn open(config: &DatapathConfig) -> Result<Self, OpenError> {
        object::check_kernel()?;
        let pins = Pins::new(&config.pin_dir)?;
        let mut loaded = object::load(config, &pins)?;
        let ebpf = &mut loaded.ebpf;
        let flows = take_map(ebpf, "flows");
        let flows = FlowMaps {
            deletions: Deletions::from(&flows).map_err(|source| unusable("flows", source))?,
            flows: HashMap::try_from(flows).map_err(|source| unusable("flows", source))?,
            slots: mapped(ebpf, "slots")?,
        };
        let mut supply = Supply::emptied(mapped(ebpf, "supply")?);
        let aggregates = Aggregates::emptied(
            typed(ebpf, "aggregates")?,
            mapped(ebpf, "aggregate_rows")?,
            RemoteTargets::new(mapped(ebpf, "remote_targets")?),
            mapped(ebpf, "epochs")?,
        );
        let aggregates = aggregates.map_err(|source| unusable("aggregates", source))?;
        let admissions =
            Admissions::emptied(typed(ebpf, "admissions")?, mapped(ebpf, "admission_rows")?);
        let admissions = admissions.map_err(|source| unusable("admissions", source))?;
        let peer_upcalls = PeerUpcalls::new(mapped(ebpf, "peer_upcalls")?);
        programs::wait_for_running();
        supply.begin();
        let locations = Locations::new(
            mapped(ebpf, "locations")?,
            mapped(ebpf, "location_rows")?,
            Instant::now(),
        );
        let endpoints = Endpoints {
            by_ifindex: typed(ebpf, "endpoints")?,
            rows: mapped(ebpf, "endpoint_rows")?,
        };
        let drops = typed(ebpf, "drops")?;
        attach::refresh(ebpf, &pins)?;
        object::settle(&mut loaded, &pins)?;
        Ok(Datapath {
            pins,
            ebpf: loaded.ebpf,
            flows,
            supply,
            aggregates,
            admissions,
            peer_upcalls,
            locations,
            endpoints,
            drops,
        })
    }

    /// Puts the program for the router's own packets on the TAP; it must be the one given to
    /// [`Datapath::open`].
    pub fn attach_upcall(&mut self, tap_ifindex: u32) -> Result<(), AttachError> {
        let program = object::program(&mut self.ebpf, FROM_ROUTER);
        attach::attach(program, &self.pins, Role::Upcall, tap_ifindex)?;
        attach::detach_others(&self.pins, Role::Upcall, tap_ifindex)
    }

    /// Takes other hosts' packets from a device; to repeat it changes nothing.
    pub fn attach_underlay(&mut self, ifindex: u32) -> Result<(), AttachError> {
        let program = object::program(&mut self.ebpf, FROM_PEER);
        attach::attach(program, &self.pins, Role::Underlay, ifindex)
    }

    /// The links of instances' devices.
    pub fn instance_links(&self) -> Result<InstanceLinks, ProgramError> {
        InstanceLinks::new(&self.ebpf, &self.pins)
    }

    /// Lets an instance speak whose device has the program. To repeat it changes nothing; another
    /// device or instance takes the former's place.
    pub fn insert_endpoint(
        &mut self,
        endpoint: EndpointIndex,
        config: &EndpointConfig,
    ) -> Result<(), EndpointError> {
        if self.endpoints.ifindex(endpoint) != Some(config.ifindex) {
            self.remove_endpoint(endpoint)?;
        }
        let inserted = self.endpoints.insert(endpoint, config);
        inserted.map_err(|source| table_error(endpoint, source))
    }

    /// Lets the instance at an endpoint speak no more, and frees its row; a free one is success.
    pub fn remove_endpoint(&mut self, endpoint: EndpointIndex) -> Result<(), EndpointError> {
        let removed = self.endpoints.remove(endpoint);
        removed.map_err(|source| table_error(endpoint, source))
    }

    /// Every endpoint in use with its instance and device, whether the device still exists or not.
    pub fn endpoints(&self) -> Vec<(EndpointIndex, InstanceId, u32)> {
        self.endpoints.list()
    }

    /// Makes both directions of a flow pass: reverse first, then forward, neither overwriting.
    ///
    /// Entries that already stand with the same values are success. On failure neither direction
    /// is left behind. Costs two system calls.
    pub fn open_flow(&mut self, entries: &FlowEntries, now: Moment) -> Result<(), FlowError> {
        self.flows.open(entries, now)
    }

    /// Makes the packets from client to server pass, and has answers handed up until
    /// [`Datapath::open_flow`] of the same entries.
    pub fn let_in(&mut self, entries: &FlowEntries, now: Moment) -> Result<(), FlowError> {
        self.flows.let_in(entries, now)
    }

    /// Deletes both directions of flows; what is not there is success. The slots may be used
    /// again once no packet can still hold them: let them rest for a second.
    ///
    /// Costs one system call. Tries all flows, whatever fails, and answers the first failure.
    pub fn close_flows(&mut self, flows: &[FlowKeys]) -> Result<(), FlowError> {
        self.flows.close(flows)
    }

    /// Deletes both directions of those flows through which nothing passed since they were read, as
    /// [`Datapath::close_flows`] does. Answers the others: flows that began in the same entries, and
    /// what was counted of them alone.
    pub fn close_unused(
        &mut self,
        flows: &[SpentFlow],
        now: Moment,
    ) -> (Vec<TakenFlow>, Result<(), FlowError>) {
        self.flows.close_unused(flows, now)
    }

    /// Lets the kernel open flows by itself with these pairs, named by their forward slots. Costs no
    /// system call.
    pub fn supply(&mut self, pairs: &[SlotIndex]) {
        self.supply.grant(&self.flows, pairs);
    }

    /// Takes back what the kernel has not taken of its supply, without a system call.
    pub fn reclaim_supply(&mut self) {
        self.supply.reclaim(&self.flows);
    }

    /// What the kernel took of its supply since it was asked last, without a system call.
    pub fn taken(&mut self) -> Vec<TakenPair> {
        self.supply.taken(&self.flows)
    }

    /// Reads flows that the kernel opened, by their forward slots; `None` where there is none.
    ///
    /// Without a system call, unless an RST is noted of any.
    pub fn read_taken(&self, pairs: &[SlotIndex]) -> Vec<(SlotIndex, Option<TakenFlow>)> {
        let mut read = self.flows.read_taken(pairs);
        let taken = read.iter_mut().filter_map(|(_, taken)| taken.as_mut());
        let directions = taken.flat_map(|taken| {
            let entries = &taken.flow.entries;
            [
                (entries.forward.slot, &mut taken.forward),
                (entries.reverse.slot, &mut taken.reverse),
            ]
        });
        connections::forgive_refused_resets(&self.ebpf, directions);
        read
    }

    /// Has the kernel open further flows by a decision. A new one costs a system call, to renew one
    /// costs none.
    pub fn open_aggregate(&mut self, aggregate: &Aggregate) -> Result<(), DecisionError> {
        self.aggregates.open(aggregate, Instant::now())
    }

    /// Has the kernel hand first packets up again; one that is not there is success. Costs a system
    /// call each.
    pub fn close_aggregates(&mut self, keys: &[AggregateKey]) -> Result<(), DecisionError> {
        self.aggregates.close(keys, Instant::now())
    }

    /// Has the kernel open further flows of another host's client. A new admission costs a system call,
    /// to renew one costs none.
    pub fn open_admission(&mut self, admission: &Admission) -> Result<(), DecisionError> {
        self.admissions.open(admission, Instant::now())
    }

    /// Has the kernel hand such clients' first packets up again; one that is not there is success.
    /// Costs a system call each.
    pub fn close_admissions(&mut self, keys: &[AdmissionKey]) -> Result<(), DecisionError> {
        self.admissions.close(keys, Instant::now())
    }

    /// Ends every decision of this cell's earlier epochs, by one atomic store.
    pub fn set_epoch(&self, cell: EpochCell, epoch: Epoch) {
        self.aggregates.set_epoch(cell, epoch);
    }

    /// Points a location somewhere: one atomic store, which every flow towards it follows with its next packet.
    pub fn set_location(&mut self, location: LocationIndex, way: Way) -> Result<(), LocationError> {
        self.locations.set(location, way, Instant::now())
    }

    /// Reads what the kernel counted: without a system call, unless an RST is noted of any flow.
    pub fn read_flows(&self, flows: &[FlowSlots]) -> Vec<FlowReading> {
        let mut readings = self.flows.read(flows);
        let directions = flows
            .iter()
            .zip(&mut readings)
            .flat_map(|(slots, reading)| {
                [
                    (slots.forward, &mut reading.forward),
                    (slots.reverse, &mut reading.reverse),
                ]
            });
        connections::forgive_refused_resets(&self.ebpf, directions);
        readings
    }

    /// Lists the flows that an earlier run left whole, and deletes the halves of others.
    pub fn adopt_flows(&mut self) -> Result<Vec<AdoptedFlow>, AdoptError> {
        self.flows.adopt()
    }

    /// How many packets the kernel dropped, for each reason of its own.
    pub fn drop_counts(&self) -> Result<Vec<(DropReason, u64)>, MapError> {
        drop_counters::read(&self.drops)
    }

    /// Returns one upcall credit: the router is done with one packet of this endpoint.
    pub fn upcall_done(&self, endpoint: EndpointIndex) {
        self.endpoints.upcall_done(endpoint);
    }

    /// Returns one credit of other hosts' first packets.
    pub fn peer_upcall_done(&self) {
        self.peer_upcalls.done();
    }

    /// How many first packets of other hosts the kernel handed up, ever.
    pub fn peer_upcalls_sent(&self) -> u64 {
        self.peer_upcalls.sent()
    }

    /// Returns all of them; for when none can be waiting.
    pub fn peer_upcalls_reset(&self) {
        self.peer_upcalls.reset();
    }

    /// Returns all upcall credits; for when no packet of this endpoint can be waiting.
    pub fn upcalls_reset(&self, endpoint: EndpointIndex) {
        self.endpoints.upcalls_reset(endpoint);
    }

    /// How many packets the kernel handed up for this endpoint, ever.
    pub fn upcalls_sent(&self, endpoint: EndpointIndex) -> u64 {
        self.endpoints.upcalls_sent(endpoint)
    }

    /// The flow table, to be changed step by step.
    #[cfg(test)]
    pub(crate) fn flow_maps(&mut self) -> &mut FlowMaps {
        &mut self.flows
    }

    /// One of the loaded programs, to be run on made-up packets.
    #[cfg(test)]
    pub(crate) fn program(&mut self, name: &str) -> &mut aya::programs::SchedClassifier {
        object::program(&mut self.ebpf, name)
    }

    /// Ends the data path: takes the programs off all devices and forgets every flow, even where the
    /// pins cannot be opened; none at all is success.
    pub fn unpin(pin_dir: &Path) -> io::Result<()> {
        pins::remove_all(pin_dir)
    }
}

fn table_error(endpoint: EndpointIndex, source: MapError) -> EndpointError {
    EndpointError {
        endpoint,
        source: Box::new(source),
    }
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, OpenError> {
    T::try_from(take_map(ebpf, name)).map_err(|source| unusable(name, source))
}

fn unusable(name: &'static str, source: MapError) -> OpenError {
    let source = Box::new(source);
    OpenError::Map { name, source }
}

fn mapped<T: Row>(ebpf: &mut Ebpf, name: &'static str) -> Result<MappedArray<T>, OpenError> {
    MappedArray::new(&take_array(ebpf, name)).map_err(|source| OpenError::Mapping { name, source })
}

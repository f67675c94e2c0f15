//! The eBPF object: embedded, loaded over new or pinned maps.

use crate::growth;
use crate::layout::{
    AdmissionRow, AggregateRow, EPOCH_CELLS, Endpoint, EpochCell, FRAGMENT_BYTES,
    FRAGMENT_KEY_BYTES, LAYOUT_VERSION, LocationCell, LocationRow, PeerUpcalls, RawAdmissionKey,
    RawAggregateKey, RawKey, RemoteTargetRow, Slot, SupplyRow, raw_block,
};
use crate::pins::{MapShape, PinError, Pins, VERSION_MAP};
use crate::tap::TAP_QUEUE_FRAMES;
use aya::maps::{Array, Map, MapData, MapError};
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};
use margay_core::address::Ipv4Block;
use margay_core::aggregate::{ADMISSIONS_MAX, AGGREGATES_MAX};
use std::io;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Built by `bpf/build`; checked in, so that users need no compiler for it.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/margay.bpf.o");

/// The program on the host side of each veth.
pub(crate) const FROM_INSTANCE: &str = "from_instance";
/// The program on the upcall TAP.
pub(crate) const FROM_ROUTER: &str = "from_router";
/// The program on each device by which other hosts are reached.
pub(crate) const FROM_PEER: &str = "from_peer";

/// The program that tells which connections live.
pub(crate) const CONNECTIONS: &str = "look_at_connections";

/// Where the kernel shows its own type information.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Cells per endpoint: an identity that moved away or rests in quarantine keeps its cell while its
/// endpoint is already another's.
const LOCATIONS_PER_ENDPOINT: u32 = 4;

/// Rows per cell: one in use, one resting after a move.
const ROWS_PER_LOCATION: u32 = 2;

/// Packets whose fragments can be on their way at once. Those of one follow each other within
/// microseconds, or wait in the TAP, which holds fewer frames.
const FRAGMENTED_MAX: u32 = 2 * TAP_QUEUE_FRAMES;
/// Entries of the table of aggregates.
const AGGREGATES: u32 = AGGREGATES_MAX as u32;

/// Rows of aggregates: a row that was in use rests while another takes its place.
const AGGREGATE_ROWS: u32 = 2 * AGGREGATES;

/// Rows of targets on other hosts, which aggregates share: of as many instances as a client ever calls
/// by many aggregates, and as many that rest.
const REMOTE_TARGETS: u32 = AGGREGATE_ROWS;

/// Entries of the table of admissions.
const ADMISSIONS: u32 = ADMISSIONS_MAX as u32;

/// Rows of admissions, likewise.
const ADMISSION_ROWS: u32 = 2 * ADMISSIONS;

/// What a data path is made of; must stay the same while it is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatapathConfig {
    /// A directory of our own on a bpffs.
    pub pin_dir: PathBuf,
    /// Entries of the flow table and rows of the slot array; a flow takes two of each. About 230
    /// bytes of kernel memory each, taken at once: 262,144 take 60 MB.
    pub flows_max: u32,
    /// How many instances can be attached at a time.
    pub endpoints_max: u32,
    /// The upcall TAP.
    pub tap_ifindex: u32,
    /// The upcall TAP's Ethernet address.
    pub tap_mac: [u8; 6],
    /// What packets of other hosts are known by; `None`: there are none.
    pub network: Option<NetworkIdentity>,
}

/// What packets of other hosts of one network are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkIdentity {
    /// The UDP port to which every host of the network sends packets in datagrams.
    pub data_port: u16,
    /// All virtual IPs, IPv4.
    pub v4_pool: Ipv4Block,
    /// All virtual IPs, IPv6: the first 48 bits.
    pub v6_prefix: Ipv6Addr,
}

impl NetworkIdentity {
    /// The IPv6 prefix, as it stands in packets.
    fn head(self) -> [u16; 3] {
        let [a, b, c, ..] = self.v6_prefix.segments();
        [a.to_be(), b.to_be(), c.to_be()]
    }
}

/// Why the data path could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The kernel was built without BPF.
    #[error("this kernel has no BPF: Margay needs Linux 6.6 or later with CONFIG_BPF_SYSCALL")]
    NoBpf(#[source] io::Error),
    /// The process may not use BPF.
    #[error("this process may not use BPF: run as root, or with CAP_BPF and CAP_NET_ADMIN")]
    NotPermitted(#[source] io::Error),
    /// The kernel was built without type information.
    #[error("this kernel has no {KERNEL_BTF}: Margay needs one built with CONFIG_DEBUG_INFO_BTF")]
    NoBtf,
    /// The pins cannot be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The kernel did not take the maps.
    #[error("cannot make the data path's maps")]
    Maps(#[source] Box<EbpfError>),
    /// A map cannot be used as meant.
    #[error("cannot use the data path's map {name}")]
    Map {
        /// The map.
        name: &'static str,
        /// What went wrong.
        source: Box<MapError>,
    },
    /// A map cannot be mapped into this process.
    #[error("cannot map the data path's array {name}")]
    Mapping {
        /// The map.
        name: &'static str,
        /// What went wrong.
        source: io::Error,
    },
    /// The rows of an older layout cannot be copied.
    #[error(
        "cannot copy the rows of the data path's map {name}, which was made by an older version"
    )]
    Growth {
        /// The map.
        name: &'static str,
        /// What went wrong.
        source: io::Error,
    },
    /// The kernel did not take a program.
    #[error("the kernel refused the eBPF program {name}: Margay needs Linux 6.6 or later")]
    Program {
        /// The program.
        name: &'static str,
        /// What went wrong.
        source: Box<ProgramError>,
    },
    /// The programs of the links of an earlier run could not be replaced.
    #[error("cannot take over a device of an earlier run")]
    Link(#[from] crate::attach::AttachError),
}

/// Every pinned map but that of the version.
pub(crate) fn shapes(config: &DatapathConfig) -> [MapShape; 16] {
    let shape = |name, key_bytes, value_bytes, entries| MapShape {
        name,
        key_bytes,
        value_bytes,
        entries,
        rows_may_grow: matches!(
            name,
            "slots" | "locations" | "location_rows" | "endpoint_rows"
        ),
    };
    let locations = config.endpoints_max.saturating_mul(LOCATIONS_PER_ENDPOINT);
    // One row more than cells need: row 0 leads nowhere.
    let rows = locations
        .saturating_mul(ROWS_PER_LOCATION)
        .saturating_add(1);
    [
        shape("flows", size_of::<RawKey>(), 4, config.flows_max),
        shape("slots", 4, size_of::<Slot>(), config.flows_max),
        shape("locations", 4, size_of::<LocationCell>(), locations),
        shape("location_rows", 4, size_of::<LocationRow>(), rows),
        shape("endpoints", 4, 4, config.endpoints_max),
        shape(
            "endpoint_rows",
            4,
            size_of::<Endpoint>(),
            config.endpoints_max,
        ),
        shape(
            "fragments",
            FRAGMENT_KEY_BYTES,
            FRAGMENT_BYTES,
            FRAGMENTED_MAX,
        ),
        shape("supply", 4, size_of::<SupplyRow>(), 1),
        shape("aggregates", size_of::<RawAggregateKey>(), 4, AGGREGATES),
        shape(
            "aggregate_rows",
            4,
            size_of::<AggregateRow>(),
            AGGREGATE_ROWS,
        ),
        shape(
            "remote_targets",
            4,
            size_of::<RemoteTargetRow>(),
            REMOTE_TARGETS,
        ),
        shape("admissions", size_of::<RawAdmissionKey>(), 4, ADMISSIONS),
        shape(
            "admission_rows",
            4,
            size_of::<AdmissionRow>(),
            ADMISSION_ROWS,
        ),
        shape("peer_upcalls", 4, size_of::<PeerUpcalls>(), 1),
        shape("epochs", 4, size_of::<EpochCell>(), EPOCH_CELLS),
        shape("drops", 4, 8, crate::drop_counters::KERNEL_REASONS_MAX),
    ]
}

/// A loaded object, and what is left to do once its programs are everywhere.
pub(crate) struct Loaded {
    pub(crate) ebpf: Ebpf,
    /// Maps whose rows have grown: their successors are loaded, and filled.
    pub(crate) grown: Vec<&'static str>,
}

/// Makes or finds the maps and loads the programs over them.
pub(crate) fn load(config: &DatapathConfig, pins: &Pins) -> Result<Loaded, OpenError> {
    let shapes = shapes(config);
    let grown = pins.check(&shapes)?;
    pins.remove_successors(&shapes)?;
    let mut loader = EbpfLoader::new();
    for shape in &shapes {
        let path = if grown.contains(&shape.name) {
            pins.successor(shape.name)
        } else {
            pins.map(shape.name)
        };
        loader
            .map_max_entries(shape.name, shape.entries)
            .map_pin_path(shape.name, path);
    }
    let network = config.network;
    let data_port = network.map_or(0, |network| network.data_port.to_be());
    let pool = network.map_or((0, 0), |network| raw_block(network.v4_pool));
    let head = network.map_or([0; 3], NetworkIdentity::head);
    let mut ebpf = loader
        .map_pin_path(VERSION_MAP, pins.map(VERSION_MAP))
        .override_global("upcall_ifindex", &config.tap_ifindex, true)
        .override_global("upcall_mac", &config.tap_mac, true)
        .override_global("data_port", &data_port, true)
        .override_global("network_pool", &pool.0, true)
        .override_global("network_mask", &pool.1, true)
        .override_global("network_prefix", &head, true)
        .load(OBJECT)
        .map_err(|error| OpenError::Maps(Box::new(error)))?;
    for name in [FROM_INSTANCE, FROM_ROUTER, FROM_PEER, CONNECTIONS] {
        program(&mut ebpf, name)
            .load()
            .map_err(|source| OpenError::Program {
                name,
                source: Box::new(source),
            })?;
    }
    for &name in &grown {
        growth::copy_rows(&pins.map(name), &pins.successor(name))
            .map_err(|source| OpenError::Growth { name, source })?;
    }
    Ok(Loaded { ebpf, grown })
}

/// Finishes what [`load`] began, once every device has the loaded programs: what has grown takes its
/// place, and the version is written, last of all.
pub(crate) fn settle(loaded: &mut Loaded, pins: &Pins) -> Result<(), OpenError> {
    for name in &loaded.grown {
        pins.succeed(name)?;
    }
    write_version(&mut loaded.ebpf).map_err(|source| OpenError::Map {
        name: VERSION_MAP,
        source: Box::new(source),
    })
}

/// A program of the embedded object.
pub(crate) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .expect("the embedded object has every classifier")
}

/// A program of the embedded object, to be run.
pub(crate) fn program_of<'a>(ebpf: &'a Ebpf, name: &str) -> &'a SchedClassifier {
    ebpf.program(name)
        .and_then(|program| program.try_into().ok())
        .expect("the embedded object has every classifier")
}

/// Takes a map out of the loaded object.
pub(crate) fn take_map(ebpf: &mut Ebpf, name: &str) -> Map {
    ebpf.take_map(name)
        .expect("the embedded object has all maps that `shapes` names")
}

/// Takes an array out of the loaded object, to be mapped.
pub(crate) fn take_array(ebpf: &mut Ebpf, name: &str) -> MapData {
    match take_map(ebpf, name) {
        Map::Array(data) => data,
        other => unreachable!("{name} is declared as an array, found {other:?}"),
    }
}

/// Tells what is missing before anything is made.
pub(crate) fn check_kernel() -> Result<(), OpenError> {
    if let Err(error) = Array::<MapData, u32>::create(1, 0) {
        let source = match error {
            MapError::CreateError { io_error, .. } => io_error,
            other => io::Error::other(other),
        };
        return Err(match source.raw_os_error() {
            Some(libc::EPERM) => OpenError::NotPermitted(source),
            _ => OpenError::NoBpf(source),
        });
    }
    if !Path::new(KERNEL_BTF).exists() {
        return Err(OpenError::NoBtf);
    }
    Ok(())
}

fn write_version(ebpf: &mut Ebpf) -> Result<(), MapError> {
    let mut versions: Array<_, u32> = Array::try_from(take_map(ebpf, VERSION_MAP))?;
    versions.set(0, LAYOUT_VERSION, 0)
}

//! What the kernel's maps hold: the types of `bpf/layout.h`, byte for byte.

use crate::mapped_array::Row;
use margay_core::address::Ipv4Block;
use margay_core::aggregate::{AdmissionKey, AggregateKey, RemoteTarget};
use margay_core::flow_key::{FlowKey, Protocol};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

/// `LAYOUT_VERSION` of `bpf/layout.h`.
pub(crate) const LAYOUT_VERSION: u32 = 7;

/// `SLOT_FORWARD`: client to server.
pub(crate) const SLOT_FORWARD: u32 = 1 << 0;
/// `SLOT_REWRITE`: the packet is delivered otherwise than its sender wrote it.
pub(crate) const SLOT_REWRITE: u32 = 1 << 1;
/// `SLOT_CLOSING`: its entry is being deleted, unless a packet passed.
pub(crate) const SLOT_CLOSING: u32 = 1 << 2;

/// `TCP_SEEN_FIN`.
pub(crate) const TCP_SEEN_FIN: u32 = 1 << 0;
/// `TCP_SEEN_RST`.
pub(crate) const TCP_SEEN_RST: u32 = 1 << 1;

/// `SUPPLIED_WAITING`: not taken, or taken a moment ago.
pub(crate) const SUPPLIED_WAITING: u32 = 0;
/// `SUPPLIED_OPENED`: a flow holds the pair.
pub(crate) const SUPPLIED_OPENED: u32 = 1;
/// `SUPPLIED_UNUSED`: user space took it back.
pub(crate) const SUPPLIED_UNUSED: u32 = 3;

/// `SUPPLY_MAX`.
pub(crate) const SUPPLY_MAX: usize = 1024;
/// `RING_MAX`.
pub(crate) const RING_MAX: usize = 64;
/// `EPOCH_CELLS`.
pub(crate) const EPOCH_CELLS: u32 = 4096;

/// `LOCATION_NOWHERE`.
pub(crate) const LOCATION_NOWHERE: u32 = 0;
/// `LOCATION_LOCAL`: the peer of a veth on this host.
pub(crate) const LOCATION_LOCAL: u32 = 1;
/// `LOCATION_NEIGHBOUR`: another host on the link of a device.
pub(crate) const LOCATION_NEIGHBOUR: u32 = 2;
/// `LOCATION_ENCAPSULATED`: another host, by UDP.
pub(crate) const LOCATION_ENCAPSULATED: u32 = 3;

/// `PEER_INGRESS`: another host sends; the rest is the index of its location.
pub(crate) const PEER_INGRESS: u32 = 1 << 31;

/// Size of `struct fragment_key`, which only the kernel reads and writes.
pub(crate) const FRAGMENT_KEY_BYTES: usize = 48;
/// Size of what it leads to: the last word of a flow key.
pub(crate) const FRAGMENT_BYTES: usize = 8;

/// `struct flow_key` as five words in memory order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct RawKey(pub(crate) [u64; 5]);

// SAFETY: five integers without padding.
unsafe impl aya::Pod for RawKey {}

/// A key in the kernel that no flow of ours can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's flow table holds a key of the unknown protocol {0}")]
pub(crate) struct ForeignKey(u8);

impl RawKey {
    /// `flow_key_fold()` of `bpf/flow.h`: tells a row that still belongs to its key.
    pub(crate) fn fold(self) -> u64 {
        self.0.iter().fold(0, |fold, word| fold ^ word)
    }

    /// The key as core writes it.
    pub(crate) fn flow_key(self) -> Result<FlowKey, ForeignKey> {
        let mut bytes = [0; 40];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        let protocol = match i32::from(bytes[36]) {
            libc::IPPROTO_TCP => Protocol::Tcp,
            libc::IPPROTO_UDP => Protocol::Udp,
            libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => Protocol::Echo,
            _ => return Err(ForeignKey(bytes[36])),
        };
        let socket = |address: usize, port: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[address..address + 16]);
            SocketAddr::new(
                IpAddr::from(octets).to_canonical(),
                u16::from_be_bytes([bytes[port], bytes[port + 1]]),
            )
        };
        Ok(FlowKey {
            source: socket(0, 32),
            destination: socket(16, 34),
            protocol,
        })
    }
}

impl From<FlowKey> for RawKey {
    fn from(key: FlowKey) -> Self {
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(&mapped_octets(key.source.ip()));
        bytes[16..32].copy_from_slice(&mapped_octets(key.destination.ip()));
        bytes[32..34].copy_from_slice(&key.source.port().to_be_bytes());
        bytes[34..36].copy_from_slice(&key.destination.port().to_be_bytes());
        bytes[36] = protocol_number(key.protocol, key.source.is_ipv4());
        RawKey(words(bytes))
    }
}

fn protocol_number(protocol: Protocol, ipv4: bool) -> u8 {
    let number = match (protocol, ipv4) {
        (Protocol::Tcp, _) => libc::IPPROTO_TCP,
        (Protocol::Udp, _) => libc::IPPROTO_UDP,
        (Protocol::Echo, true) => libc::IPPROTO_ICMP,
        (Protocol::Echo, false) => libc::IPPROTO_ICMPV6,
    };
    number as u8
}

/// Bytes as words in memory order.
fn words<const BYTES: usize, const WORDS: usize>(bytes: [u8; BYTES]) -> [u64; WORDS] {
    const { assert!(BYTES == WORDS * 8) }
    let mut words = [0; WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(chunk.try_into().expect("chunks of eight bytes"));
    }
    words
}

/// `union address`: IPv4 as `::ffff:a.b.c.d`.
pub(crate) fn mapped_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// `struct slot`: one direction of a flow.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    pub(crate) location: AtomicU32,
    pub(crate) ingress: AtomicU32,
    pub(crate) flags: AtomicU32,
    pub(crate) tcp_seen: AtomicU32,
    pub(crate) packets: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) last_seen_ns: AtomicU64,
    pub(crate) key_fold: AtomicU64,
    pub(crate) peer: AtomicU32,
    pub(crate) supplied: AtomicU32,
    zero: [AtomicU32; 2],
    delivered: [AtomicU64; 5],
    pub(crate) client: AtomicU64,
    pub(crate) server: AtomicU64,
    pub(crate) opened_ns: AtomicU64,
}

impl Slot {
    pub(crate) fn delivered(&self) -> RawKey {
        RawKey(self.delivered.each_ref().map(|word| word.load(Relaxed)))
    }

    pub(crate) fn set_delivered(&self, key: RawKey) {
        store_all(&self.delivered, key.0);
    }
}

/// `struct supply`: slots that the kernel may open flows with.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct SupplyRow {
    pub(crate) taken: AtomicU64,
    zero_taken: [AtomicU64; 7],
    pub(crate) granted: AtomicU64,
    zero_granted: [AtomicU64; 7],
    pub(crate) slots: [AtomicU32; SUPPLY_MAX],
}

/// `struct aggregate_key` as three words in memory order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct RawAggregateKey([u64; 3]);

// SAFETY: three integers without padding.
unsafe impl aya::Pod for RawAggregateKey {}

impl From<AggregateKey> for RawAggregateKey {
    fn from(key: AggregateKey) -> Self {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&key.client.0.to_ne_bytes());
        bytes[4..6].copy_from_slice(&key.called.port().to_be_bytes());
        bytes[6] = protocol_number(key.protocol, key.called.is_ipv4());
        bytes[8..].copy_from_slice(&mapped_octets(key.called.ip()));
        RawAggregateKey(words(bytes))
    }
}

/// `struct aggregate`: a decision by which the kernel opens further flows itself.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct AggregateRow {
    pub(crate) policy_epoch: AtomicU32,
    pub(crate) service_epoch: AtomicU32,
    pub(crate) service_cell: AtomicU32,
    pub(crate) ring_len: AtomicU32,
    pub(crate) client: AtomicU64,
    pub(crate) turn: AtomicU32,
    zero: [AtomicU32; 9],
    pub(crate) ring: [AtomicU32; RING_MAX],
}

/// `REMOTE_TARGET`: another host serves; the rest is the index of a row of targets there.
pub(crate) const REMOTE_TARGET: u32 = 1 << 31;

/// `struct remote_target`: a target on another host.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RemoteTargetRow {
    called: [AtomicU64; 2],
    instance: AtomicU64,
    location: AtomicU32,
    zero: AtomicU32,
}

impl RemoteTargetRow {
    pub(crate) fn write(&self, target: RemoteTarget) {
        store_all(&self.called, words(mapped_octets(target.address)));
        self.instance.store(target.instance.0, Relaxed);
        self.location.store(target.location.0, Relaxed);
    }
}

/// `struct admission_key` as five words in memory order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct RawAdmissionKey([u64; 5]);

// SAFETY: five integers without padding.
unsafe impl aya::Pod for RawAdmissionKey {}

impl From<AdmissionKey> for RawAdmissionKey {
    fn from(key: AdmissionKey) -> Self {
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(&mapped_octets(key.client));
        bytes[16..32].copy_from_slice(&mapped_octets(key.server.ip()));
        bytes[32..34].copy_from_slice(&key.server.port().to_be_bytes());
        bytes[34] = protocol_number(key.protocol, key.client.is_ipv4());
        RawAdmissionKey(words(bytes))
    }
}

/// `struct admission`: that another host need not ask for further flows of a client of its.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct AdmissionRow {
    pub(crate) policy_epoch: AtomicU32,
    pub(crate) server_epoch: AtomicU32,
    pub(crate) server_cell: AtomicU32,
    pub(crate) endpoint: AtomicU32,
    pub(crate) client: AtomicU64,
    pub(crate) server: AtomicU64,
    pub(crate) from: AtomicU32,
    zero: AtomicU32,
}

/// `struct peer_upcalls`: first packets of other hosts that were handed up.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct PeerUpcalls {
    pub(crate) sent: AtomicU64,
    zero_sent: [AtomicU64; 7],
    pub(crate) done: AtomicU64,
    zero_done: [AtomicU64; 7],
}

/// `struct epoch`: the present number of an epoch.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct EpochCell {
    pub(crate) number: AtomicU32,
    zero: AtomicU32,
}

/// `struct location_cell`: names the row by which an identity is reached.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct LocationCell {
    pub(crate) row: AtomicU32,
    zero: AtomicU32,
}

/// `struct location_row`: one way to a location.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct LocationRow {
    pub(crate) kind: AtomicU32,
    pub(crate) ifindex: AtomicU32,
    to: [AtomicU64; 2],
    from: [AtomicU64; 2],
    /// Both in network byte order.
    to_port: AtomicU16,
    from_port: AtomicU16,
    zero: AtomicU32,
}

impl LocationRow {
    /// Where datagrams or packets go, and where datagrams come from.
    pub(crate) fn ends(&self) -> (SocketAddr, SocketAddr) {
        let end = |address: &[AtomicU64; 2], port: &AtomicU16| {
            let address = address.each_ref().map(|half| half.load(Relaxed));
            let port = u16::from_be(port.load(Relaxed));
            SocketAddr::new(address_of(address), port)
        };
        (
            end(&self.to, &self.to_port),
            end(&self.from, &self.from_port),
        )
    }

    pub(crate) fn set_ends(&self, to: SocketAddr, from: SocketAddr) {
        for (end, address, port) in [
            (to, &self.to, &self.to_port),
            (from, &self.from, &self.from_port),
        ] {
            store_all(address, words(mapped_octets(end.ip())));
            port.store(end.port().to_be(), Relaxed);
        }
    }
}

/// The first address and the mask of a block, in network byte order.
pub(crate) fn raw_block(block: Ipv4Block) -> (u32, u32) {
    let mask = u32::MAX << (32 - u32::from(block.prefix()));
    (block.base().to_bits().to_be(), mask.to_be())
}

/// An address that stands in memory as `union address` does.
fn address_of(halves: [u64; 2]) -> IpAddr {
    let mut octets = [0; 16];
    for (chunk, half) in octets.chunks_exact_mut(8).zip(halves) {
        chunk.copy_from_slice(&half.to_ne_bytes());
    }
    IpAddr::from(octets).to_canonical()
}

/// `struct endpoint`: one instance's attachment to the network.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Endpoint {
    addresses: [AtomicU64; 8],
    pub(crate) upcalls_sent: AtomicU64,
    pub(crate) instance: AtomicU64,
    pub(crate) ifindex: AtomicU32,
    pub(crate) upcall_quota: AtomicU32,
    pub(crate) netns: AtomicU32,
    zero_netns: AtomicU32,
    /// In network byte order.
    pub(crate) pool: AtomicU32,
    /// In network byte order; 0 lets nothing out.
    pub(crate) pool_mask: AtomicU32,
    zero_sent: [AtomicU64; 3],
    pub(crate) upcalls_done: AtomicU64,
    zero_done: [AtomicU64; 7],
}

impl Endpoint {
    pub(crate) fn set_addresses(&self, addresses: [IpAddr; 4]) {
        for (halves, address) in self.addresses.chunks_exact(2).zip(addresses) {
            let octets = u128::from_ne_bytes(mapped_octets(address)).to_ne_bytes();
            for (half, bytes) in halves.iter().zip(octets.chunks_exact(8)) {
                let bytes = bytes.try_into().expect("chunks of eight bytes");
                half.store(u64::from_ne_bytes(bytes), Relaxed);
            }
        }
    }
}

fn store_all<const N: usize>(words: &[AtomicU64; N], values: [u64; N]) {
    for (word, value) in words.iter().zip(values) {
        word.store(value, Relaxed);
    }
}

const _: () = assert!(size_of::<RawKey>() == 40);
const _: () = assert!(size_of::<Slot>() == 128 && std::mem::offset_of!(Slot, delivered) == 64);
const _: () = assert!(size_of::<SupplyRow>() == 128 + 4 * SUPPLY_MAX);
const _: () = assert!(size_of::<AggregateRow>() == 64 + 4 * RING_MAX);
const _: () = assert!(size_of::<RawAggregateKey>() == 24 && size_of::<EpochCell>() == 8);
const _: () = assert!(size_of::<RemoteTargetRow>() == 32);
const _: () = assert!(size_of::<RawAdmissionKey>() == 40 && size_of::<AdmissionRow>() == 40);
const _: () =
    assert!(size_of::<PeerUpcalls>() == 128 && std::mem::offset_of!(PeerUpcalls, done) == 64);
const _: () = assert!(size_of::<LocationCell>() == 8 && size_of::<LocationRow>() == 48);
const _: () = assert!(
    size_of::<Endpoint>() == 192
        && std::mem::offset_of!(Endpoint, upcalls_sent) == 64
        && std::mem::offset_of!(Endpoint, upcalls_done) == 128
);

// SAFETY: atomic integers only, without padding, as asserted above.
unsafe impl Row for Slot {}
// SAFETY: as above.
unsafe impl Row for SupplyRow {}
// SAFETY: as above.
unsafe impl Row for AggregateRow {}
// SAFETY: as above.
unsafe impl Row for RemoteTargetRow {}
// SAFETY: as above.
unsafe impl Row for AdmissionRow {}
// SAFETY: as above.
unsafe impl Row for PeerUpcalls {}
// SAFETY: as above.
unsafe impl Row for EpochCell {}
// SAFETY: as above.
unsafe impl Row for LocationCell {}
// SAFETY: as above.
unsafe impl Row for LocationRow {}
// SAFETY: as above.
unsafe impl Row for Endpoint {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_way_to_the_kernel_and_back() {
        let v4: SocketAddr = "100.64.0.1:40000".parse().unwrap();
        let v6: SocketAddr = "[fd00::7]:80".parse().unwrap();
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Echo] {
            for address in [v4, v6] {
                let key = FlowKey {
                    source: address,
                    destination: SocketAddr::new(address.ip(), 53),
                    protocol,
                };
                assert_eq!(RawKey::from(key).flow_key(), Ok(key));
            }
        }
    }

    #[test]
    fn a_key_of_no_known_protocol_is_foreign() {
        assert_eq!(RawKey([0; 5]).flow_key(), Err(ForeignKey(0)));
    }

    #[test]
    fn layout_version_is_that_of_the_header() {
        let header = include_str!("../bpf/layout.h");
        assert!(header.contains(&format!("#define LAYOUT_VERSION {LAYOUT_VERSION}\n")));
    }
}

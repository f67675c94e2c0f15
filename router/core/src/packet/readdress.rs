//! A packet with other addresses and ports.

use super::network::Network;
use crate::flow_key::{FlowKey, Protocol};
use std::net::IpAddr;

/// Where an IPv4 header has its checksum.
const IPV4_CHECKSUM: usize = 10;

/// A whole packet with the addresses and ports of `to` and with checksums of its own: the kernel that
/// handed it up may have left them to a device that it never reached.
///
/// `None` for what is of another protocol or family, and for fragments, whose checksum is of all of
/// them.
pub fn address_to(packet: &[u8], to: FlowKey) -> Option<Vec<u8>> {
    let mut bytes = readdress(packet, to)?;
    let network = Network::read(&bytes).ok()?;
    if network.is_fragment {
        return None;
    }
    let (start, end) = (
        network.payload_start,
        network.payload_start + network.payload.len(),
    );
    let at = start + checksum_offset(to.protocol);
    let field = bytes.get(at..at + 2)?;
    let none = to.protocol == Protocol::Udp && to.source.is_ipv4() && field == [0, 0];
    if !none {
        let pseudo_header = pseudo_header(to, (end - start) as u32);
        bytes[at..at + 2].copy_from_slice(&[0, 0]);
        let sum = sum(&pseudo_header) + sum(&bytes[start..end]);
        let checksum = match !fold(sum) {
            0 if to.protocol == Protocol::Udp => u16::MAX,
            checksum => checksum,
        };
        bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
    Some(bytes)
}

/// What a transport checksum covers beside the transport's own bytes (RFC 9293 section 3.1, RFC 8200
/// section 8.1); ICMP over IPv4 has none.
fn pseudo_header(key: FlowKey, len: u32) -> Vec<u8> {
    let number = |v4, v6| if key.source.is_ipv4() { v4 } else { v6 };
    let protocol: u8 = match key.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Echo => number(1, 58),
    };
    let mut bytes = Vec::with_capacity(40);
    match (key.source.ip(), key.destination.ip()) {
        (IpAddr::V4(_), _) if key.protocol == Protocol::Echo => return bytes,
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        (source, destination) => {
            for address in [source, destination] {
                if let IpAddr::V6(address) = address {
                    bytes.extend(address.octets());
                }
            }
        }
    }
    bytes.extend(len.to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// Where a transport header has its checksum.
fn checksum_offset(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
        Protocol::Echo => 2,
    }
}

/// A packet, perhaps cut off, with the addresses and ports of `to`.
///
/// Checksums are adjusted rather than computed (RFC 1624): most of what they cover is cut off.
pub(super) fn readdress(packet: &[u8], to: FlowKey) -> Option<Vec<u8>> {
    let network = Network::read(packet).ok()?;
    let transport = network.payload_start;
    let checksum = transport + checksum_offset(to.protocol);
    let is_udp = to.protocol == Protocol::Udp;
    let mut readdressed = Readdressed {
        bytes: packet.to_vec(),
        transport_checksum: checksum,
        zero_is_none: is_udp,
    };
    match (network.source, to.source.ip(), to.destination.ip()) {
        (IpAddr::V4(_), IpAddr::V4(source), IpAddr::V4(destination)) => {
            let covered = to.protocol != Protocol::Echo;
            for (at, address) in [(12, source), (16, destination)] {
                readdressed.replace(at, &address.octets(), true, covered);
            }
        }
        (IpAddr::V6(_), IpAddr::V6(source), IpAddr::V6(destination)) => {
            for (at, address) in [(8, source), (24, destination)] {
                readdressed.replace(at, &address.octets(), false, true);
            }
        }
        _ => return None,
    }
    let (source_port, destination_port) = (to.source.port(), to.destination.port());
    if to.protocol == Protocol::Echo {
        // One of the two is 0, the other the identifier.
        let identifier = source_port | destination_port;
        readdressed.replace(transport + 4, &identifier.to_be_bytes(), false, true);
    } else {
        readdressed.replace(transport, &source_port.to_be_bytes(), false, true);
        readdressed.replace(transport + 2, &destination_port.to_be_bytes(), false, true);
    }
    Some(readdressed.bytes)
}

/// A packet on its way to other addresses.
struct Readdressed {
    bytes: Vec<u8>,
    transport_checksum: usize,
    /// A transport checksum of zero says that there is none (RFC 768).
    zero_is_none: bool,
}

impl Readdressed {
    /// Puts `new` at `at`, and adjusts the checksums that cover it and were not cut off.
    fn replace(&mut self, at: usize, new: &[u8], in_ipv4_header: bool, in_transport: bool) {
        let Some(field) = self.bytes.get_mut(at..at + new.len()) else {
            return;
        };
        // Zero has two forms in a checksum: what stays as it is keeps the one that it has.
        if field == new {
            return;
        }
        let old = field.to_vec();
        field.copy_from_slice(new);
        if in_ipv4_header {
            self.adjust(IPV4_CHECKSUM, &old, new, false);
        }
        if in_transport {
            self.adjust(self.transport_checksum, &old, new, self.zero_is_none);
        }
    }

    fn adjust(&mut self, at: usize, old: &[u8], new: &[u8], zero_is_none: bool) {
        let Some(field) = self.bytes.get_mut(at..at + 2) else {
            return;
        };
        let checksum = u16::from_be_bytes([field[0], field[1]]);
        if checksum == 0 && zero_is_none {
            return;
        }
        let removed: u32 = words(old).map(|word| u32::from(!word)).sum();
        let added: u32 = words(new).map(u32::from).sum();
        let adjusted = !fold(u32::from(!checksum) + removed + added);
        let adjusted = if adjusted == 0 && zero_is_none {
            u16::MAX
        } else {
            adjusted
        };
        field.copy_from_slice(&adjusted.to_be_bytes());
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let pairs = bytes.chunks_exact(2);
    pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

/// The words of some bytes; the last is filled up with zero (RFC 1071).
fn sum(bytes: &[u8]) -> u32 {
    let last = match bytes.len() % 2 {
        0 => 0,
        _ => u32::from(bytes[bytes.len() - 1]) << 8,
    };
    words(bytes).map(u32::from).sum::<u32>() + last
}

/// Adds the carries to a sum of fewer than 65,536 words.
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

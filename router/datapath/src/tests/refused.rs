//! Packets that can have no flow: dropped, each for a counted reason.

use super::frames::{ETHERNET_LEN, ethernet, every_kind_of_key, frame};
use super::lab::{CLIENT, Lab, Verdict, ifindex, in_own_namespaces, ip};
use margay_core::drop_reason::DropReason;
use margay_core::flow_key::{FlowKey, Protocol};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const ARP: u16 = 0x0806;
const LLDP: u16 = 0x88cc;
const IPV4_PROTOCOL: usize = ETHERNET_LEN + 9;
const IPV6_NEXT_HEADER: usize = ETHERNET_LEN + 6;

#[track_caller]
fn assert_refused(packets: &[Vec<u8>], reason: DropReason) {
    let packets = packets.to_vec();
    in_own_namespaces(move || {
        let mut lab = Lab::new();
        for packet in &packets {
            let verdict = lab.instance_sends(lab.client_ifindex, packet);
            assert_eq!(verdict, Verdict::Dropped, "{packet:02x?}");
        }
        lab.assert_drops(&[(reason, packets.len() as u64)]);
        assert_eq!(lab.datapath.upcalls_sent(CLIENT), 0);
    });
}

fn headers_len(key: FlowKey) -> usize {
    let ip = if key.source.is_ipv4() { 20 } else { 40 };
    let transport = match key.protocol {
        Protocol::Tcp => 20,
        Protocol::Udp | Protocol::Echo => 8,
    };
    ETHERNET_LEN + ip + transport
}

/// Sends `packet` as it is, as the instance behind `device` could.
pub(super) fn send_raw(device: &str, packet: &[u8]) {
    let raw = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::empty(),
        None,
    )
    .unwrap();
    let to = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: ifindex(device) as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: both pointers are to live values of the lengths given with them.
    let sent = unsafe {
        libc::sendto(
            raw.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const to).cast(),
            size_of_val(&to) as u32,
        )
    };
    assert_eq!(sent, packet.len() as isize);
}

/// How many packets were found truncated, and how many went up.
fn fates(lab: &Lab) -> (u64, u64) {
    let counts = lab.datapath.drop_counts().unwrap();
    let truncated = counts
        .iter()
        .find(|(reason, _)| *reason == DropReason::Truncated);
    (truncated.unwrap().1, lab.datapath.upcalls_sent(CLIENT))
}

/// ```text
///   [ethernet][ip][transport][payload]
///             ^ every end from here
///                        ^ to here is truncated; from here on it is a packet
/// ```
/// Sent through the device: the kernel does not test-run programs on such frames.
#[test]
fn a_packet_that_ends_inside_a_header_is_truncated_at_every_length() {
    in_own_namespaces(|| {
        let lab = Lab::new();
        for device in ["veth-client", "inside-client", "tap-stand-in", "tap-end"] {
            ip(&format!("link set {device} up"));
        }
        for key in every_kind_of_key() {
            let whole = frame(key);
            for len in ETHERNET_LEN + 1..=whole.len() {
                lab.datapath.upcalls_reset(CLIENT);
                let (truncated, upcalled) = fates(&lab);
                send_raw("inside-client", &whole[..len]);
                let expected = if len < headers_len(key) {
                    (truncated + 1, upcalled)
                } else {
                    (truncated, upcalled + 1)
                };
                let deadline = Instant::now() + Duration::from_secs(5);
                while fates(&lab) == (truncated, upcalled) && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                assert_eq!(fates(&lab), expected, "{key} cut to {len}");
            }
        }
    });
}

#[test]
fn other_protocols_are_unknown() {
    let keys = every_kind_of_key();
    let with_byte = |key: FlowKey, at: usize, byte: u8| {
        let mut packet = frame(key);
        packet[at] = byte;
        packet
    };
    let (v4, v6, echo, echo6) = (keys[1], keys[4], keys[2], keys[5]);
    assert_refused(
        &[
            ethernet(LLDP, &[0; 60]),
            // GRE, ICMPv6 over IPv4.
            with_byte(v4, IPV4_PROTOCOL, 47),
            with_byte(v4, IPV4_PROTOCOL, 58),
            // No next header, encapsulated security, ICMP over IPv6.
            with_byte(v6, IPV6_NEXT_HEADER, 59),
            with_byte(v6, IPV6_NEXT_HEADER, 50),
            with_byte(v6, IPV6_NEXT_HEADER, 1),
            // A redirect, a node information query, an echo with a code.
            with_byte(echo, ETHERNET_LEN + 20, 5),
            with_byte(echo6, ETHERNET_LEN + 40, 139),
            with_byte(echo, ETHERNET_LEN + 21, 1),
            // IPv5, a header shorter than the shortest, IPv6 that says it is 4.
            with_byte(v4, ETHERNET_LEN, 0x55),
            with_byte(v4, ETHERNET_LEN, 0x44),
            with_byte(v6, ETHERNET_LEN, 0x40),
        ],
        DropReason::UnknownProtocol,
    );
}

#[test]
fn link_local_chatter_is_dropped_as_such() {
    let mut packets = vec![ethernet(ARP, &[0; 28])];
    // Listener queries and reports, router and neighbour discovery, redirects.
    for kind in [130, 131, 132, 133, 134, 135, 136, 137, 143] {
        let mut packet = frame(every_kind_of_key()[5]);
        packet[ETHERNET_LEN + 40] = kind;
        packets.push(packet);
    }
    // A listener report behind hop-by-hop options, to ff02::16.
    let mut report = frame(every_kind_of_key()[5]);
    report[IPV6_NEXT_HEADER] = 0;
    report[ETHERNET_LEN + 24] = 0xff;
    packets.push(report);
    assert_refused(&packets, DropReason::LocalControl);
}

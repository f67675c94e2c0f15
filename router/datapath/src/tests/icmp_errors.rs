//! ICMP errors: core's to match with a flow, whoever honestly reports them.

use super::frames::{SENDER_MAC, frame, udp_key};
use super::lab::{CLIENT, Lab, SERVER, Verdict, addresses, in_own_namespaces};
use etherparse::PacketBuilder;
use margay_core::drop_reason::DropReason;
use margay_core::id::EndpointIndex;

/// An error of this type that the server reports to the client, about the client's datagram.
fn error(is_ipv4: bool, kind: u8) -> Vec<u8> {
    let (from, to) = (addresses(2).called, addresses(1).caller);
    let ethernet = PacketBuilder::ethernet2(SENDER_MAC, SENDER_MAC);
    let about = frame(udp_key());
    let mut bytes = Vec::new();
    if is_ipv4 {
        let ip = ethernet.ipv4(from.v4.octets(), to.v4.octets(), 64);
        let icmp = ip.icmpv4_raw(kind, 3, [0; 4]);
        icmp.write(&mut bytes, &about[14..]).unwrap();
    } else {
        let ip = ethernet.ipv6(from.v6.octets(), to.v6.octets(), 64);
        let icmp = ip.icmpv6_raw(kind, 3, [0; 4]);
        icmp.write(&mut bytes, &about[14..]).unwrap();
    }
    bytes
}

/// Unreachable, time exceeded and parameter problem of both families, and too big of IPv6.
fn every_error() -> Vec<Vec<u8>> {
    let v4 = [3, 11, 12].map(|kind| error(true, kind));
    let v6 = [1, 2, 3, 4].map(|kind| error(false, kind));
    v4.into_iter().chain(v6).collect()
}

/// ```text
///   server --[ICMP error about the client's packet]--> TAP
/// ```
#[test]
fn errors_go_up_whether_or_not_a_flow_is_open() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for open in [false, true] {
            if open {
                lab.open(udp_key());
            }
            for packet in every_error() {
                let verdict = lab.instance_sends(lab.server_ifindex, &packet);
                let Verdict::Redirected(up) = verdict else {
                    panic!("{packet:02x?}");
                };
                assert_eq!(up[6..12], [0x02, 0x01, 0, 0, 0x01, 0x02]);
                assert_eq!(up[12..], packet[12..]);
                lab.datapath.upcall_done(SERVER);
            }
        }
        lab.assert_drops(&[]);
    });
}

#[test]
fn errors_take_the_reporters_credits() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let errors = every_error();
        let fates: Vec<bool> = errors
            .iter()
            .map(|packet| lab.instance_sends(lab.server_ifindex, packet) == Verdict::Dropped)
            .collect();
        assert_eq!(fates, [false, false, false, false, true, true, true]);
        lab.assert_drops(&[(DropReason::UpcallQuota, 3)]);
    });
}

#[test]
fn an_error_under_anothers_address_is_forged() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for packet in every_error() {
            let verdict = lab.instance_sends(lab.client_ifindex, &packet);
            assert_eq!(verdict, Verdict::Dropped);
        }
        lab.assert_drops(&[(DropReason::ForgedSource, 7)]);
    });
}

/// What the router passes on is a packet of its own making, never the error as it came.
#[test]
fn an_error_does_not_come_back_as_it_went_up() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        lab.open(udp_key());
        let marked = |kind: u8, endpoint: EndpointIndex| {
            let mut frame = error(true, 3);
            frame[6..8].copy_from_slice(&[0x02, kind]);
            frame[8..12].copy_from_slice(&endpoint.0.to_be_bytes());
            frame
        };
        let returned = marked(1, SERVER);
        assert_eq!(lab.router_sends(&returned), Verdict::Dropped);
        lab.assert_drops(&[(DropReason::UpcallMiss, 1)]);
        let translated = marked(2, CLIENT);
        let verdict = lab.router_sends(&translated);
        assert_eq!(verdict, Verdict::Redirected(translated));
    });
}

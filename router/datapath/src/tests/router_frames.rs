//! What the router writes to the TAP: first packets on their way back, and packets of its own.

use super::frames::{every_kind_of_key, frame, tcp_key, udp_key};
use super::lab::{CLIENT, Lab, SERVER, Verdict, in_own_namespaces};
use margay_core::drop_reason::DropReason;
use margay_core::id::EndpointIndex;

/// `packet` with the source address `02:KIND:` and the endpoint's index.
fn marked(packet: &[u8], kind: u8, endpoint: EndpointIndex) -> Vec<u8> {
    let mut frame = packet.to_vec();
    frame[6..8].copy_from_slice(&[0x02, kind]);
    frame[8..12].copy_from_slice(&endpoint.0.to_be_bytes());
    frame
}

/// ```text
///   client --> TAP --> router opens the flow --> TAP: now it hits, whatever the device
/// ```
#[test]
fn an_upcalled_packet_comes_back_and_finds_its_flow() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in every_kind_of_key() {
            let Verdict::Redirected(up) = lab.instance_sends(lab.client_ifindex, &frame(key))
            else {
                panic!("dropped");
            };
            lab.datapath.upcall_done(CLIENT);
            let entries = lab.open(key);
            assert_eq!(lab.router_sends(&up), Verdict::Redirected(up.clone()));
            assert_eq!(lab.reading(&entries).forward.packets, 1);
            lab.close(&entries);
        }
        lab.assert_drops(&[]);
    });
}

#[test]
fn an_upcalled_packet_without_a_flow_is_not_sent_up_again() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let packet = marked(&frame(tcp_key()), 0x01, CLIENT);
        assert_eq!(lab.router_sends(&packet), Verdict::Dropped);
        lab.assert_drops(&[(DropReason::UpcallMiss, 1)]);
    });
}

#[test]
fn the_routers_own_packet_goes_to_the_endpoint_it_names() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let packet = marked(&frame(tcp_key().reversed()), 0x02, SERVER);
        assert_eq!(
            lab.router_sends(&packet),
            Verdict::Redirected(packet.clone())
        );
        lab.assert_drops(&[]);
    });
}

#[test]
fn frames_for_or_from_nobody_are_dropped() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let packet = frame(udp_key());
        // A free row, one beyond the table, and a frame that no router marked.
        for frame in [
            marked(&packet, 0x02, EndpointIndex(9)),
            marked(&packet, 0x02, EndpointIndex(u32::MAX)),
            marked(&packet, 0x03, CLIENT),
        ] {
            assert_eq!(lab.router_sends(&frame), Verdict::Dropped);
        }
        lab.datapath.remove_endpoint(SERVER).unwrap();
        assert_eq!(
            lab.router_sends(&marked(&packet, 0x02, SERVER)),
            Verdict::Dropped
        );
        lab.assert_drops(&[(DropReason::UnknownEndpoint, 4)]);
    });
}

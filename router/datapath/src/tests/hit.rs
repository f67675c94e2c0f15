//! Packets that find their flow: delivered, counted, remembered.

use super::frames::{TcpFlags, every_kind_of_key, frame, tcp_frame, tcp_key, udp_key};
use super::lab::{Lab, Verdict, in_own_namespaces};
use margay_core::drop_reason::DropReason;
use margay_core::id::LocationIndex;
use margay_core::moment::Moment;
use margay_core::port::{FlowEntries, SlotReading};
use margay_core::way::Way;

/// ```text
///   client --[40000 -> 80]--> hit: to the server, unchanged
///   server --[80 -> 40000]--> hit: to the client, unchanged
/// ```
#[test]
fn both_directions_of_a_flow_are_delivered_unchanged_and_counted() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in every_kind_of_key() {
            let entries = lab.open(key);
            let (there, back) = (frame(key), frame(key.reversed()));
            for _ in 0..3 {
                let verdict = lab.instance_sends(lab.client_ifindex, &there);
                assert_eq!(verdict, Verdict::Redirected(there.clone()), "{key}");
            }
            let verdict = lab.instance_sends(lab.server_ifindex, &back);
            assert_eq!(verdict, Verdict::Redirected(back.clone()), "{key}");

            let reading = lab.reading(&entries);
            assert_eq!(reading.forward.packets, 3);
            assert_eq!(reading.forward.bytes, 3 * there.len() as u64);
            assert_eq!(reading.reverse.packets, 1);
            assert_eq!(reading.reverse.bytes, back.len() as u64);
            assert!(reading.forward.last_seen > Moment::ORIGIN);
            lab.close(&entries);
        }
        lab.assert_drops(&[]);
    });
}

/// ```text
///   server --[source: the client's]--> forged
/// ```
#[test]
fn only_the_flows_own_device_may_send_its_packets() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let entries = lab.open(udp_key());
        for thief in [lab.server_ifindex, lab.stranger_ifindex] {
            assert_eq!(
                lab.instance_sends(thief, &frame(udp_key())),
                Verdict::Dropped
            );
        }
        lab.assert_drops(&[(DropReason::ForgedSource, 2)]);
        assert_eq!(lab.reading(&entries).forward, SlotReading::default());
    });
}

#[test]
fn a_flow_towards_no_location_is_dropped_until_there_is_one() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let entries = lab.open(udp_key());
        let packet = frame(udp_key());
        lab.datapath
            .set_location(LocationIndex(2), Way::Nowhere)
            .unwrap();
        assert_eq!(
            lab.instance_sends(lab.client_ifindex, &packet),
            Verdict::Dropped
        );
        lab.assert_drops(&[(DropReason::NoLocation, 1)]);
        assert_eq!(lab.reading(&entries).forward.packets, 0);

        lab.datapath
            .set_location(LocationIndex(2), Way::Device(lab.server_ifindex))
            .unwrap();
        assert_ne!(
            lab.instance_sends(lab.client_ifindex, &packet),
            Verdict::Dropped
        );
        assert_eq!(lab.reading(&entries).forward.packets, 1);
    });
}

/// (FIN seen, RST seen) of both directions.
fn endings(lab: &Lab, entries: &FlowEntries) -> [(bool, bool); 2] {
    let reading = lab.reading(entries);
    [reading.forward, reading.reverse].map(|slot| (slot.fin_seen, slot.rst_seen))
}

/// ```text
///   client -- FIN --> ; <-- RST -- server ; client -- SYN --> : a new connection
/// ```
#[test]
fn fin_and_rst_are_remembered_until_the_next_syn() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let key = tcp_key();
        let entries = lab.open(key);
        let none = TcpFlags::default();
        let send = |lab: &mut Lab, from_client: bool, flags: TcpFlags| {
            let (device, key) = if from_client {
                (lab.client_ifindex, key)
            } else {
                (lab.server_ifindex, key.reversed())
            };
            let verdict = lab.instance_sends(device, &tcp_frame(key, flags));
            assert_ne!(verdict, Verdict::Dropped);
            endings(lab, &entries)
        };
        let ack = TcpFlags { ack: true, ..none };
        assert_eq!(send(&mut lab, true, ack), [(false, false), (false, false)]);
        let fin = TcpFlags { fin: true, ..ack };
        assert_eq!(send(&mut lab, true, fin), [(true, false), (false, false)]);
        let rst = TcpFlags { rst: true, ..none };
        assert_eq!(send(&mut lab, false, rst), [(true, false), (false, true)]);
        let syn_ack = TcpFlags { syn: true, ..ack };
        let unchanged = send(&mut lab, false, syn_ack);
        assert_eq!(unchanged, [(true, false), (false, true)]);
        let syn = TcpFlags { syn: true, ..none };
        assert_eq!(send(&mut lab, true, syn), [(false, false), (false, false)]);
    });
}

/// IPv4 with options: the ports come later, the flow is the same.
#[test]
fn options_do_not_hide_a_flow() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let entries = lab.open(udp_key());
        let mut packet = frame(udp_key());
        packet[14] = 0x4f;
        packet.splice(34..34, [1; 40]);
        assert_eq!(
            lab.instance_sends(lab.client_ifindex, &packet),
            Verdict::Redirected(packet.clone())
        );
        assert_eq!(lab.reading(&entries).forward.packets, 1);
    });
}

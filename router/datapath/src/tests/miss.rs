//! First packets: handed up to the router, within bounds, if their sender is who it says.

use super::frames::{
    ETHERNET_LEN, every_kind_of_key, frame, tcp_key, udp_key, with_destination, with_source,
};
use super::lab::{CLIENT, Lab, QUOTA, SERVER, TAP_MAC, Verdict, addresses, in_own_namespaces};
use margay_core::drop_reason::DropReason;
use margay_core::flow_key::FlowKey;
use std::net::{IpAddr, Ipv4Addr};

/// The frame as the router gets it from `CLIENT`.
fn upcalled(packet: &[u8]) -> Vec<u8> {
    let mut frame = TAP_MAC.to_vec();
    frame.extend([0x02, 0x01, 0, 0, 0, CLIENT.0 as u8]);
    frame.extend(&packet[12..]);
    frame
}

/// ```text
///   client --[first packet]--> TAP: 02:01:00:00:00:03 -> the TAP's address, IP untouched
/// ```
#[test]
fn a_first_packet_goes_up_with_its_senders_index() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in every_kind_of_key() {
            let packet = frame(key);
            let verdict = lab.instance_sends(lab.client_ifindex, &packet);
            assert_eq!(verdict, Verdict::Redirected(upcalled(&packet)), "{key}");
            lab.datapath.upcall_done(CLIENT);
        }
        assert_eq!(lab.datapath.upcalls_sent(CLIENT), 6);
        assert_eq!(lab.datapath.upcalls_sent(SERVER), 0);
    });
}

#[test]
fn the_index_fills_four_bytes() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let packet = frame(with_source(udp_key(), addresses(2).caller.v4.into()));
        let Verdict::Redirected(up) = lab.instance_sends(lab.server_ifindex, &packet) else {
            panic!("dropped");
        };
        assert_eq!(up[6..12], [0x02, 0x01, 0x00, 0x00, 0x01, 0x02]);
    });
}

#[test]
fn each_of_an_instances_four_addresses_is_its_own() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let own = addresses(1);
        let v4 = [own.called.v4, own.caller.v4].map(|source| with_source(udp_key(), source.into()));
        let v6_key = every_kind_of_key()[4];
        let v6 = [own.called.v6, own.caller.v6].map(|source| with_source(v6_key, source.into()));
        for key in v4.into_iter().chain(v6) {
            let verdict = lab.instance_sends(lab.client_ifindex, &frame(key));
            assert_ne!(verdict, Verdict::Dropped, "{key}");
        }
        lab.assert_drops(&[]);
    });
}

/// ```text
///   client --[source: the server's, or nobody's]--> forged
/// ```
#[test]
fn a_first_packet_from_anothers_address_is_dropped() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let v6 = every_kind_of_key()[3];
        let forged: [FlowKey; 4] = [
            with_source(tcp_key(), addresses(2).called.v4.into()),
            with_source(tcp_key(), Ipv4Addr::new(10, 0, 0, 1).into()),
            with_source(v6, addresses(2).caller.v6.into()),
            with_source(v6, IpAddr::from([0; 16])),
        ];
        for key in forged {
            let verdict = lab.instance_sends(lab.client_ifindex, &frame(key));
            assert_eq!(verdict, Verdict::Dropped, "{key}");
        }
        lab.assert_drops(&[(DropReason::ForgedSource, 4)]);
        assert_eq!(lab.datapath.upcalls_sent(CLIENT), 0);
    });
}

#[test]
fn a_device_of_no_instance_reaches_nothing() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let verdict = lab.instance_sends(lab.stranger_ifindex, &frame(udp_key()));
        assert_eq!(verdict, Verdict::Dropped);
        lab.datapath.remove_endpoint(CLIENT).unwrap();
        let verdict = lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        assert_eq!(verdict, Verdict::Dropped);
        lab.assert_drops(&[(DropReason::UnknownEndpoint, 2)]);
    });
}

/// ```text
///   client --[1][2][3][4]--> TAP   [5] -> dropped   one done   [6]--> TAP   [7] -> dropped
/// ```
#[test]
fn a_flooder_fills_its_own_quota_only() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let packet = frame(udp_key());
        let passes =
            |lab: &mut Lab| lab.instance_sends(lab.client_ifindex, &packet) != Verdict::Dropped;
        for _ in 0..QUOTA {
            assert!(passes(&mut lab));
        }
        assert!(!passes(&mut lab));

        lab.datapath.upcall_done(CLIENT);
        assert!(passes(&mut lab));
        assert!(!passes(&mut lab));

        lab.datapath.upcalls_reset(CLIENT);
        for _ in 0..QUOTA {
            assert!(passes(&mut lab));
        }
        assert!(!passes(&mut lab));
        lab.assert_drops(&[(DropReason::UpcallQuota, 3)]);

        let other = frame(with_source(udp_key(), addresses(2).caller.v4.into()));
        let verdict = lab.instance_sends(lab.server_ifindex, &other);
        assert_ne!(verdict, Verdict::Dropped);
    });
}

/// A credit returned too often may not lock the instance out.
#[test]
fn too_many_credits_are_no_debt() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        lab.datapath.upcall_done(CLIENT);
        let verdict = lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        assert_ne!(verdict, Verdict::Dropped);
    });
}

#[test]
fn a_packet_to_many_is_local_chatter() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let v6 = every_kind_of_key()[4];
        let to_many: [FlowKey; 4] = [
            with_destination(udp_key(), Ipv4Addr::new(224, 0, 0, 251).into()),
            with_destination(udp_key(), Ipv4Addr::BROADCAST.into()),
            with_destination(v6, IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 0xfb])),
            with_destination(v6, IpAddr::from([0xff05, 0, 0, 0, 0, 0, 0, 2])),
        ];
        for key in to_many {
            let verdict = lab.instance_sends(lab.client_ifindex, &frame(key));
            assert_eq!(verdict, Verdict::Dropped, "{key}");
        }
        lab.assert_drops(&[(DropReason::LocalControl, 4)]);
    });
}

/// The IP packet is the sender's own, whatever the headers around it say.
#[test]
fn an_upcall_changes_nothing_behind_the_ethernet_addresses() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let packet = frame(tcp_key());
        let Verdict::Redirected(up) = lab.instance_sends(lab.client_ifindex, &packet) else {
            panic!("dropped");
        };
        assert_eq!(up[ETHERNET_LEN - 2..], packet[ETHERNET_LEN - 2..]);
    });
}

//! A new process over an old one's pins: nothing is lost, halves are deleted.

use super::frames::{frame, tcp_key, udp_key};
use super::lab::{CLIENT, Lab, OPENED, SERVER, Verdict, config, in_own_namespaces};
use crate::datapath::Datapath;
use crate::object::DatapathConfig;
use aya::programs::{SchedClassifier, TcAttachType};
use margay_core::id::{InstanceId, LocationIndex, SlotIndex};
use margay_core::port::{AdoptedFlow, FlowKeys};
use margay_core::way::{Ingress, Way};
use std::time::{Duration, Instant};

/// The ids of the programs on a device.
fn programs_on(device: &str) -> Vec<u32> {
    let (_, programs) = SchedClassifier::query_tcx(device, TcAttachType::Ingress).unwrap();
    programs.iter().map(|program| program.id()).collect()
}

impl Lab {
    /// The process dies and comes back.
    pub(super) fn restart(self) -> Self {
        let Lab {
            datapath,
            client_ifindex,
            server_ifindex,
            stranger_ifindex,
        } = self;
        drop(datapath);
        Lab {
            datapath: Datapath::open(&config()).unwrap(),
            client_ifindex,
            server_ifindex,
            stranger_ifindex,
        }
    }
}

/// Flows in a table that is nearly full.
const MANY: u16 = 5;
const MANY_EACH: u16 = 50_000;

#[test]
fn a_quarter_of_a_million_flows_pass_and_survive_a_restart() {
    in_own_namespaces(|| {
        let flows_max = 2 * 262_144;
        let mut lab = Lab::with_room_for(flows_max);
        let mut last = lab.entries(udp_key());
        let ports = (0..MANY).flat_map(|to| (0..MANY_EACH).map(move |from| (to, from)));
        for (number, (to, from)) in (0..).zip(ports) {
            let mut key = udp_key();
            key.source.set_port(10_000 + from);
            key.destination.set_port(8_000 + to);
            last = lab.entries(key);
            last.forward.slot = SlotIndex(2 * number);
            last.reverse.slot = SlotIndex(2 * number + 1);
            lab.datapath.open_flow(&last, OPENED).unwrap();
        }
        let began = Instant::now();

        drop(lab.datapath);
        lab.datapath = Datapath::open(&DatapathConfig {
            flows_max,
            ..config()
        })
        .unwrap();

        let adopted = lab.datapath.adopt_flows().unwrap();
        println!("{} flows adopted in {:?}", adopted.len(), began.elapsed());
        assert_eq!(adopted.len(), usize::from(MANY) * usize::from(MANY_EACH));
        assert_eq!(adopted[adopted.len() - 1].entries, last);
        for flow in [&adopted[0].entries, &last] {
            lab.instance_sends(lab.client_ifindex, &frame(flow.forward.key));
            assert_eq!(lab.reading(flow).forward.packets, 1);
        }
    });
}

#[test]
fn flows_counters_and_endpoints_survive_a_restart() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let mut delivered = udp_key();
        delivered.destination.set_port(8080);
        let entries = lab.rewritten_entries(udp_key(), delivered);
        lab.datapath.open_flow(&entries, OPENED).unwrap();
        lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        let before = lab.reading(&entries);
        let (client, server) = (lab.client_ifindex, lab.server_ifindex);

        let mut lab = lab.restart();

        let opened = OPENED;
        let whole = AdoptedFlow {
            entries: entries.clone(),
            opened,
        };
        assert_eq!(lab.datapath.adopt_flows().unwrap(), [whole]);
        assert_eq!(lab.reading(&entries), before);
        assert_eq!(
            lab.datapath.endpoints(),
            [
                (CLIENT, InstanceId(1), client),
                (SERVER, InstanceId(2), server)
            ]
        );
        // The location still stands, and opening again what is open is success.
        lab.datapath.open_flow(&entries, OPENED).unwrap();
        let verdict = lab.instance_sends(client, &frame(udp_key()));
        assert_eq!(verdict, Verdict::Redirected(frame(delivered)));
        assert_eq!(lab.reading(&entries).forward.packets, 2);
    });
}

#[test]
fn a_restart_replaces_the_programs_and_leaves_none_out() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        lab.datapath.attach_upcall(config().tap_ifindex).unwrap();
        let devices = ["veth-client", "veth-server", "tap-stand-in"];
        let before = devices.map(programs_on);

        let lab = lab.restart();

        for (device, before) in devices.into_iter().zip(before) {
            let after = programs_on(device);
            assert_eq!((before.len(), after.len()), (1, 1), "{device}");
            assert_ne!(before, after, "{device}");
        }
        drop(lab);
        assert_eq!(programs_on("veth-client").len(), 1, "it outlives us");
    });
}

#[test]
fn attaching_again_what_is_attached_changes_nothing() {
    in_own_namespaces(|| {
        let mut lab = Lab::new().restart();
        let before = programs_on("veth-client");
        lab.attach_both();
        assert_eq!(programs_on("veth-client"), before);
        assert_eq!(lab.datapath.endpoints().len(), 2);
    });
}

#[test]
fn another_device_takes_the_formers_place() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let former = lab.client_ifindex;
        lab.client_ifindex = lab.stranger_ifindex;
        lab.attach_both();
        assert_eq!(programs_on("veth-stranger").len(), 1);
        assert_eq!(
            lab.instance_sends(former, &frame(udp_key())),
            Verdict::Dropped
        );
        assert_eq!(lab.datapath.endpoints().len(), 2);
    });
}

/// ```text
///   died while opening: [reverse]            -> deleted
///   died while closing: [reverse]            -> deleted
///   never happens:                [forward]  -> deleted
/// ```
#[test]
fn adoption_deletes_half_flows() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        let whole = lab.open(udp_key());
        let mut half = lab.entries(tcp_key());
        half.forward.slot = SlotIndex(10);
        half.reverse.slot = SlotIndex(11);
        for lost in [half.forward.key, half.reverse.key] {
            lab.datapath.open_flow(&half, OPENED).unwrap();
            // Closing only one key, as a process does that dies in between.
            let keys = FlowKeys {
                forward: lost,
                reverse: lost,
            };
            lab.datapath.close_flows(&[keys]).unwrap();

            lab = lab.restart();
            let adopted = lab.datapath.adopt_flows().unwrap();

            assert_eq!(adopted.len(), 1);
            assert_eq!(adopted[0].entries, whole);
            for slot in [&half.forward, &half.reverse] {
                lab.instance_sends(device(slot.ingress), &frame(slot.key));
            }
            let reading = lab.reading(&half);
            assert_eq!((reading.forward.packets, reading.reverse.packets), (0, 0));
        }
    });
}

#[test]
fn a_device_that_vanished_is_no_obstacle() {
    in_own_namespaces(|| {
        let lab = Lab::new();
        super::lab::ip("link del veth-client");
        let mut lab = lab.restart();
        assert_eq!(lab.datapath.endpoints().len(), 2, "core decides about it");
        lab.datapath.remove_endpoint(CLIENT).unwrap();
        assert_eq!(lab.datapath.endpoints().len(), 1);
    });
}

#[test]
fn a_location_survives_a_restart_and_can_move_on() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        lab.open(udp_key());
        let mut lab = lab.restart();
        lab.datapath
            .set_location(LocationIndex(2), Way::Nowhere)
            .unwrap();
        let verdict = lab.instance_sends(lab.client_ifindex, &frame(udp_key()));
        assert_eq!(verdict, Verdict::Dropped);
    });
}

#[test]
fn clearing_takes_everything_away() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        lab.open(udp_key());
        drop(lab.datapath);
        Datapath::unpin(&config().pin_dir).unwrap();
        // The kernel ends a link a moment after its last pin has gone.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !programs_on("veth-client").is_empty() {
            assert!(Instant::now() < deadline, "still attached");
            std::thread::yield_now();
        }
        assert!(!config().pin_dir.exists());
        Datapath::unpin(&config().pin_dir).unwrap();

        let mut datapath = Datapath::open(&config()).unwrap();
        assert_eq!(datapath.adopt_flows().unwrap(), []);
        assert_eq!(datapath.endpoints(), []);
    });
}

fn device(ingress: Ingress) -> u32 {
    match ingress {
        Ingress::Device(ifindex) => ifindex,
        Ingress::Peer(location) => panic!("{location} is no device"),
    }
}

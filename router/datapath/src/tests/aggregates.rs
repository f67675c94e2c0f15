//! Flows that the kernel opens by itself: as user space would, or not at all.

use super::frames::{
    TcpFlags, every_kind_of_key, frame, tcp_frame, tcp_key, udp_key, with_destination,
};
use super::lab::{CLIENT, Lab, SERVER, Verdict, addresses, in_own_namespaces};
use margay_core::aggregate::{Aggregate, AggregateKey, Epoch, EpochCell, Target};
use margay_core::flow_key::{FlowKey, Protocol};
use margay_core::id::{EndpointIndex, InstanceId, LocationIndex, SlotIndex};
use margay_core::port::{Supplied, TakenFlow, TakenPair};
use margay_core::way::Way;

const PAIRS: [SlotIndex; 3] = [SlotIndex(4), SlotIndex(6), SlotIndex(8)];
const SERVICE: EpochCell = EpochCell::Service(9);

/// A packet that may open a flow.
fn first_packet(key: FlowKey) -> Vec<u8> {
    match key.protocol {
        Protocol::Tcp => {
            let syn = true;
            tcp_frame(
                key,
                TcpFlags {
                    syn,
                    ..TcpFlags::default()
                },
            )
        }
        _ => frame(key),
    }
}

fn with_port(key: FlowKey, port: u16) -> FlowKey {
    let mut key = key;
    key.source.set_port(port);
    key
}

impl Lab {
    /// Client and server at the locations of their endpoints, and three pairs of slots laid ready.
    fn supplied() -> Self {
        let mut lab = Lab::new();
        for (endpoint, ifindex) in [(CLIENT, lab.client_ifindex), (SERVER, lab.server_ifindex)] {
            let location = LocationIndex(endpoint.0);
            lab.datapath
                .set_location(location, Way::Device(ifindex))
                .unwrap();
        }
        lab.datapath.supply(&PAIRS);
        lab
    }

    fn aggregate(&mut self, key: FlowKey, ring: &[EndpointIndex]) {
        let aggregate = Aggregate {
            key: AggregateKey::covering(CLIENT, key),
            client: InstanceId(1),
            policy_epoch: Epoch::FIRST,
            service_cell: SERVICE,
            service_epoch: Epoch::FIRST,
            ring: ring.iter().copied().map(Target::Here).collect(),
        };
        self.datapath.open_aggregate(&aggregate).unwrap();
    }

    /// Whether the client's packet was handed up.
    fn goes_up(&mut self, packet: &[u8]) -> bool {
        let before = self.datapath.upcalls_sent(CLIENT);
        let verdict = self.instance_sends(self.client_ifindex, packet);
        assert_ne!(verdict, Verdict::Dropped);
        self.datapath.upcalls_reset(CLIENT);
        self.datapath.upcalls_sent(CLIENT) > before
    }

    fn taken(&mut self, pair: SlotIndex) -> TakenFlow {
        let mut read = self.datapath.read_taken(&[pair]);
        let (of, flow) = read.pop().unwrap();
        assert_eq!(of, pair);
        flow.unwrap()
    }
}

fn opened(pair: SlotIndex) -> TakenPair {
    let (client, server) = (InstanceId(1), InstanceId(2));
    let supplied = Supplied::Opened { client, server };
    TakenPair { pair, supplied }
}

/// ```text
///   client --[first packet]--> flow opened --> server
///   client <--[answer]-------- the same flow --- server
/// ```
#[test]
fn a_decided_flow_is_opened_with_its_first_packet() {
    for key in every_kind_of_key() {
        in_own_namespaces(move || {
            let mut lab = Lab::supplied();
            lab.aggregate(key, &[SERVER]);
            assert!(!lab.goes_up(&first_packet(key)), "{key}");
            lab.instance_sends(lab.server_ifindex, &frame(key.reversed()));
            lab.assert_drops(&[]);

            assert_eq!(lab.datapath.taken(), [opened(PAIRS[0])]);
            assert_eq!(lab.datapath.taken(), []);
            let taken = lab.taken(PAIRS[0]);
            let expected = {
                let mut entries = lab.entries(key);
                (entries.forward.slot, entries.reverse.slot) = (SlotIndex(4), SlotIndex(5));
                entries.forward.location = LocationIndex(SERVER.0);
                entries.reverse.location = LocationIndex(CLIENT.0);
                entries
            };
            assert_eq!(taken.flow.entries, expected);
            assert_eq!((taken.forward.packets, taken.reverse.packets), (1, 1));
            assert_eq!(lab.datapath.adopt_flows().unwrap(), [taken.flow]);
        });
    }
}

/// ```text
///   client --[to a dead instance's address]--> rewritten --> server
/// ```
#[test]
fn a_sibling_gets_the_packet_under_its_own_address() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        for key in [every_kind_of_key()[0], every_kind_of_key()[3]] {
            let dead = addresses(9).called;
            let called = with_destination(
                key,
                match key.destination.is_ipv4() {
                    true => dead.v4.into(),
                    false => dead.v6.into(),
                },
            );
            lab.aggregate(called, &[SERVER]);
            let verdict = lab.instance_sends(lab.client_ifindex, &first_packet(called));
            assert_eq!(verdict, Verdict::Redirected(first_packet(key)), "{key}");
            let verdict = lab.instance_sends(lab.server_ifindex, &frame(key.reversed()));
            assert_eq!(verdict, Verdict::Redirected(frame(called.reversed())));
        }
    });
}

#[test]
fn a_packet_that_opens_nothing_goes_up() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        lab.aggregate(tcp_key(), &[SERVER]);
        for (syn, ack, fin, rst) in [
            (false, true, false, false),
            (true, true, false, false),
            (false, false, true, false),
            (true, false, false, true),
            (false, false, false, false),
        ] {
            let packet = tcp_frame(tcp_key(), TcpFlags { syn, ack, fin, rst });
            assert!(lab.goes_up(&packet), "{syn} {ack} {fin} {rst}");
        }
        assert_eq!(lab.datapath.taken(), []);
    });
}

#[test]
fn a_raised_epoch_ends_decisions_at_once() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        lab.aggregate(udp_key(), &[SERVER]);
        lab.datapath.set_epoch(EpochCell::Service(10), Epoch(2));
        assert!(
            !lab.goes_up(&frame(with_port(udp_key(), 1))),
            "another service"
        );
        lab.datapath.set_epoch(SERVICE, Epoch(2));
        assert!(lab.goes_up(&frame(with_port(udp_key(), 2))));
        lab.datapath.set_epoch(SERVICE, Epoch::FIRST);
        lab.datapath.set_epoch(EpochCell::Policy, Epoch(2));
        assert!(lab.goes_up(&frame(with_port(udp_key(), 2))));
        assert!(
            !lab.goes_up(&frame(with_port(udp_key(), 1))),
            "open flows go on"
        );
    });
}

#[test]
fn a_closed_decision_is_over_and_can_be_made_again() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        lab.aggregate(udp_key(), &[SERVER]);
        let key = AggregateKey::covering(CLIENT, udp_key());
        lab.datapath.close_aggregates(&[key, key]).unwrap();
        assert!(lab.goes_up(&frame(udp_key())));
        lab.aggregate(udp_key(), &[SERVER]);
        assert!(!lab.goes_up(&frame(udp_key())));
    });
}

#[test]
fn decisions_for_a_former_tenant_of_the_endpoint_are_void() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        let aggregate = Aggregate {
            key: AggregateKey::covering(CLIENT, udp_key()),
            client: InstanceId(77),
            policy_epoch: Epoch::FIRST,
            service_cell: SERVICE,
            service_epoch: Epoch::FIRST,
            ring: vec![Target::Here(SERVER)],
        };
        lab.datapath.open_aggregate(&aggregate).unwrap();
        assert!(lab.goes_up(&frame(udp_key())));
    });
}

#[test]
fn another_port_or_protocol_is_not_covered() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        lab.aggregate(udp_key(), &[SERVER]);
        let mut other = udp_key();
        other.destination.set_port(81);
        assert!(lab.goes_up(&frame(other)));
        assert!(lab.goes_up(&first_packet(tcp_key())));
    });
}

#[test]
fn an_empty_supply_sends_packets_up_until_it_is_filled() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        lab.aggregate(udp_key(), &[SERVER]);
        for port in 1..=3 {
            assert!(!lab.goes_up(&frame(with_port(udp_key(), port))));
        }
        assert!(lab.goes_up(&frame(with_port(udp_key(), 4))));
        assert_eq!(lab.datapath.taken(), PAIRS.map(opened));
        lab.datapath.supply(&[SlotIndex(10)]);
        assert!(!lab.goes_up(&frame(with_port(udp_key(), 4))));
        assert_eq!(lab.datapath.taken(), [opened(SlotIndex(10))]);
    });
}

#[test]
fn reclaimed_slots_are_told_once_and_can_be_granted_again() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        lab.aggregate(udp_key(), &[SERVER]);
        assert!(!lab.goes_up(&frame(with_port(udp_key(), 1))));
        lab.datapath.reclaim_supply();
        assert!(lab.goes_up(&frame(with_port(udp_key(), 2))));
        let unused = |pair| TakenPair {
            pair,
            supplied: Supplied::Unused,
        };
        let told = [opened(PAIRS[0]), unused(PAIRS[1]), unused(PAIRS[2])];
        assert_eq!(lab.datapath.taken(), told);
        lab.datapath.reclaim_supply();
        assert_eq!(lab.datapath.taken(), []);
        lab.datapath.supply(&[PAIRS[2]]);
        assert!(!lab.goes_up(&frame(with_port(udp_key(), 2))));
        assert_eq!(lab.datapath.taken(), [opened(PAIRS[2])]);
    });
}

/// ```text
///   a flow of core's:   client:40000 -> V, answers server:80 -> client:40000
///   the kernel's flow:  client:40000 -> W, answers the same: core finds another port
/// ```
#[test]
fn a_taken_answers_key_sends_the_packet_up_and_voids_the_pair() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        let first = lab.open_in(udp_key(), SlotIndex(12));
        let other = with_destination(udp_key(), addresses(9).called.v4.into());
        lab.aggregate(other, &[SERVER]);
        assert!(lab.goes_up(&frame(other)));
        let void = TakenPair {
            pair: PAIRS[0],
            supplied: Supplied::Void,
        };
        assert_eq!(lab.datapath.taken(), [void]);
        assert_eq!(lab.datapath.adopt_flows().unwrap()[0].entries, first);
    });
}

#[test]
fn targets_take_turns() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        // Its own turn goes up: it needs another source address.
        lab.aggregate(udp_key(), &[SERVER, CLIENT]);
        let up = (1..=4).map(|port| lab.goes_up(&frame(with_port(udp_key(), port))));
        assert_eq!(up.collect::<Vec<_>>(), [false, true, false, true]);
    });
}

#[test]
fn a_detached_target_sends_packets_up() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        lab.aggregate(udp_key(), &[SERVER]);
        lab.datapath.remove_endpoint(SERVER).unwrap();
        assert!(lab.goes_up(&frame(udp_key())));
        assert_eq!(lab.datapath.taken(), []);
    });
}

#[test]
fn a_new_process_finds_no_decision_and_no_supply() {
    in_own_namespaces(|| {
        let mut lab = Lab::supplied();
        lab.aggregate(udp_key(), &[SERVER]);
        assert!(!lab.goes_up(&frame(with_port(udp_key(), 1))));
        let mut lab = lab.restart();
        assert_eq!(lab.datapath.adopt_flows().unwrap().len(), 1);
        assert_eq!(lab.datapath.taken(), []);
        assert!(lab.goes_up(&frame(with_port(udp_key(), 2))));
        lab.aggregate(udp_key(), &[SERVER]);
        assert!(
            lab.goes_up(&frame(with_port(udp_key(), 2))),
            "no supply yet"
        );
        lab.datapath.supply(&[SlotIndex(10)]);
        assert!(!lab.goes_up(&frame(with_port(udp_key(), 2))));
        assert_eq!(lab.datapath.taken(), [opened(SlotIndex(10))]);
    });
}

//! Flows that two kernels open between them: by an admission at the server's host, and by nothing else.

use super::between_hosts::{Carried, NETWORK, PEER, TwoHosts};
use super::frames::{
    TcpFlags, every_kind_of_key, frame, tcp_frame, tcp_key, udp_key, with_destination,
};
use super::lab::{CLIENT, Lab, OPENED, SERVER, Verdict, addresses, config, in_own_namespaces};
use super::live::{BULK_BYTES, echo_once, flows, send_bulk, udp_socket};
use crate::datapath::Datapath;
use crate::object::{DatapathConfig, FROM_PEER};
use margay_core::aggregate::{
    Admission, AdmissionKey, Aggregate, AggregateKey, Epoch, EpochCell, RemoteTarget, Target,
};
use margay_core::drop_reason::DropReason;
use margay_core::flow_key::{FlowKey, Protocol};
use margay_core::id::{EndpointIndex, InstanceId, LocationIndex, SlotIndex};
use margay_core::port::{Supplied, TakenPair};
use margay_core::way::{Ingress, Path, Way};
use std::net::{IpAddr, SocketAddr, TcpListener};

const PAIRS: [SlotIndex; 3] = [SlotIndex(4), SlotIndex(6), SlotIndex(8)];
const INSTANCE: EpochCell = EpochCell::Service(9);
const SERVICE: EpochCell = EpochCell::Service(10);

/// `PEER_UPCALLS_MAX`.
const PEER_UPCALLS_MAX: usize = 128;

/// That client 1 of the host at [`PEER`] may call what `first_packet` calls, at the server's endpoint.
fn admission(first_packet: FlowKey, endpoint: EndpointIndex) -> Admission {
    Admission {
        key: AdmissionKey::covering(first_packet),
        client: InstanceId(1),
        from: PEER,
        server: InstanceId(2),
        endpoint,
        policy_epoch: Epoch::FIRST,
        server_cell: INSTANCE,
        server_epoch: Epoch::FIRST,
    }
}

/// That client 1 at `endpoint` has server 2 of the host at [`PEER`] for what `first_packet` calls.
fn aggregate(first_packet: FlowKey, endpoint: EndpointIndex, address: IpAddr) -> Aggregate {
    Aggregate {
        key: AggregateKey::covering(endpoint, first_packet),
        client: InstanceId(1),
        policy_epoch: Epoch::FIRST,
        service_cell: SERVICE,
        service_epoch: Epoch::FIRST,
        ring: vec![Target::There(RemoteTarget {
            instance: InstanceId(2),
            location: PEER,
            address,
        })],
    }
}

fn first_packet(key: FlowKey) -> Vec<u8> {
    let syn = true;
    let flags = TcpFlags {
        syn,
        ..TcpFlags::default()
    };
    match key.protocol {
        Protocol::Tcp => tcp_frame(key, flags),
        _ => frame(key),
    }
}

fn with_port(mut key: FlowKey, port: u16) -> FlowKey {
    key.source.set_port(port);
    key
}

fn opened(pair: SlotIndex) -> TakenPair {
    let (client, server) = (InstanceId(1), InstanceId(2));
    let supplied = Supplied::Opened { client, server };
    TakenPair { pair, supplied }
}

/// Whom a frame that was handed up says that it is from; `None`: it was not handed up.
fn handed_up_from(verdict: &Verdict) -> Option<u32> {
    match verdict {
        Verdict::Redirected(frame) if frame[6..8] == [0x02, 0x03] => {
            let index: [u8; 4] = frame[8..12].try_into().unwrap();
            Some(u32::from_be_bytes(index))
        }
        _ => None,
    }
}

impl Lab {
    /// A host of a network, whose peer's packets come by the stranger's device.
    fn of_a_network() -> Self {
        let mut lab = Lab::with(|config| DatapathConfig {
            network: Some(NETWORK),
            ..config
        });
        lab.settle();
        lab
    }

    fn settle(&mut self) {
        for (endpoint, ifindex) in [(CLIENT, self.client_ifindex), (SERVER, self.server_ifindex)] {
            let location = LocationIndex(endpoint.0);
            let way = Way::Device(ifindex);
            self.datapath.set_location(location, way).unwrap();
        }
        let end = |number| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, number], 9));
        let path = Path {
            ifindex: self.stranger_ifindex,
            on_link: true,
            source: end(2),
            destination: end(1),
        };
        let way = Way::Peer(path);
        self.datapath.set_location(PEER, way).unwrap();
        self.datapath.supply(&PAIRS);
    }

    fn admit(&mut self, first_packet: FlowKey) {
        let admission = admission(first_packet, SERVER);
        self.datapath.open_admission(&admission).unwrap();
    }

    /// Hands `frame` to the program on the device to the peer.
    fn peer_sends(&mut self, frame: &[u8]) -> Verdict {
        self.run(FROM_PEER, self.stranger_ifindex, frame)
    }

    fn taken_entries(&mut self, pair: SlotIndex) -> margay_core::port::FlowEntries {
        let mut read = self.datapath.read_taken(&[pair]);
        read.pop().unwrap().1.unwrap().flow.entries
    }
}

/// ```text
///   peer --[first packet]--> flow opened --> server
///   peer <--[answer]-------- the same flow --- server
/// ```
#[test]
fn an_admitted_first_packet_opens_its_flow() {
    for key in every_kind_of_key() {
        in_own_namespaces(move || {
            let mut lab = Lab::of_a_network();
            lab.admit(key);
            let packet = first_packet(key);
            assert_eq!(
                lab.peer_sends(&packet),
                Verdict::Redirected(packet),
                "{key}"
            );
            let answer = frame(key.reversed());
            let verdict = lab.instance_sends(lab.server_ifindex, &answer);
            assert_ne!(verdict, Verdict::Dropped);
            lab.assert_drops(&[]);

            assert_eq!(lab.datapath.taken(), [opened(PAIRS[0])]);
            let mut expected = lab.entries(key);
            (expected.forward.slot, expected.reverse.slot) = (SlotIndex(4), SlotIndex(5));
            expected.forward.ingress = Ingress::Peer(PEER);
            expected.forward.location = LocationIndex(SERVER.0);
            expected.reverse.location = PEER;
            assert_eq!(lab.taken_entries(PAIRS[0]), expected);
        });
    }
}

/// ```text
///   client --[to an address of the service]--> rewritten --> the server's host
/// ```
#[test]
fn a_target_of_another_host_gets_the_packet_under_its_own_address() {
    for key in every_kind_of_key() {
        in_own_namespaces(move || {
            let mut lab = Lab::of_a_network();
            let service = addresses(9).called;
            let service = match key.destination.is_ipv4() {
                true => service.v4.into(),
                false => service.v6.into(),
            };
            let called = with_destination(key, service);
            let aggregate = aggregate(called, CLIENT, key.destination.ip());
            lab.datapath.open_aggregate(&aggregate).unwrap();
            lab.instance_sends(lab.client_ifindex, &first_packet(called));
            lab.assert_drops(&[]);

            assert_eq!(lab.datapath.taken(), [opened(PAIRS[0])]);
            let mut expected = lab.rewritten_entries(called, key);
            (expected.forward.slot, expected.reverse.slot) = (SlotIndex(4), SlotIndex(5));
            expected.forward.location = PEER;
            expected.reverse.ingress = Ingress::Peer(PEER);
            expected.reverse.location = LocationIndex(CLIENT.0);
            assert_eq!(lab.taken_entries(PAIRS[0]), expected);
        });
    }
}

#[test]
fn targets_of_other_hosts_are_renewed_without_rows_of_their_own() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        let key = udp_key();
        for _ in 0..40_000 {
            let aggregate = aggregate(key, CLIENT, key.destination.ip());
            lab.datapath.open_aggregate(&aggregate).unwrap();
        }
        lab.datapath
            .close_aggregates(&[AggregateKey::covering(CLIENT, key)])
            .unwrap();
        let verdict = lab.instance_sends(lab.client_ifindex, &frame(key));
        assert_ne!(verdict, Verdict::Dropped);
        assert_eq!(lab.datapath.taken(), []);
    });
}

#[test]
fn of_tcp_only_a_syn_opens_a_flow() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        lab.admit(tcp_key());
        for (syn, ack, fin, rst) in [
            (false, true, false, false),
            (true, true, false, false),
            (false, false, true, false),
            (true, false, false, true),
            (false, false, false, false),
        ] {
            let packet = tcp_frame(tcp_key(), TcpFlags { syn, ack, fin, rst });
            assert_eq!(lab.peer_sends(&packet), Verdict::Dropped);
        }
        assert_eq!(lab.datapath.taken(), []);
        lab.assert_drops(&[(DropReason::NoAdmission, 5)]);
    });
}

#[test]
fn an_admission_is_for_packets_by_the_way_of_the_clients_host() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        lab.admit(udp_key());
        let ifindex = lab.client_ifindex;
        let verdict = lab.run(FROM_PEER, ifindex, &frame(udp_key()));
        assert_eq!(verdict, Verdict::Dropped);
        lab.datapath.set_location(PEER, Way::Nowhere).unwrap();
        assert_eq!(lab.peer_sends(&frame(udp_key())), Verdict::Dropped);
        assert_eq!(lab.datapath.taken(), []);
        lab.assert_drops(&[(DropReason::ForgedPeer, 2)]);
    });
}

#[test]
fn another_client_port_or_protocol_is_not_covered() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        lab.admit(udp_key());
        let (mut port, mut client) = (udp_key(), udp_key());
        port.destination.set_port(81);
        client.source.set_ip(addresses(1).called.v4.into());
        for key in [port, client, tcp_key()] {
            let verdict = lab.peer_sends(&first_packet(key));
            assert_eq!(handed_up_from(&verdict), Some(0), "{key}");
        }
        assert_eq!(lab.datapath.taken(), []);
    });
}

#[test]
fn a_raised_epoch_ends_admissions_at_once() {
    for cell in [EpochCell::Policy, INSTANCE] {
        in_own_namespaces(move || {
            let mut lab = Lab::of_a_network();
            lab.admit(udp_key());
            lab.datapath.set_epoch(SERVICE, Epoch(2));
            let verdict = lab.peer_sends(&frame(with_port(udp_key(), 1)));
            assert_eq!(handed_up_from(&verdict), None, "another's epoch");
            lab.datapath.set_epoch(cell, Epoch(2));
            let verdict = lab.peer_sends(&frame(with_port(udp_key(), 2)));
            assert_eq!(handed_up_from(&verdict), Some(0));
            assert_eq!(lab.datapath.taken(), [opened(PAIRS[0])]);
        });
    }
}

#[test]
fn a_closed_admission_lets_nothing_in() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        lab.admit(udp_key());
        let key = AdmissionKey::covering(udp_key());
        lab.datapath.close_admissions(&[key]).unwrap();
        lab.datapath.close_admissions(&[key]).unwrap();
        let verdict = lab.peer_sends(&frame(udp_key()));
        assert_eq!(handed_up_from(&verdict), Some(0));
        lab.admit(udp_key());
        let verdict = lab.peer_sends(&frame(udp_key()));
        assert_eq!(handed_up_from(&verdict), None);
    });
}

#[test]
fn an_empty_supply_sends_packets_up_with_the_host_that_they_came_from() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        lab.admit(udp_key());
        for port in 1..=3 {
            let verdict = lab.peer_sends(&frame(with_port(udp_key(), port)));
            assert_eq!(handed_up_from(&verdict), None);
        }
        let verdict = lab.peer_sends(&frame(with_port(udp_key(), 4)));
        assert_eq!(handed_up_from(&verdict), Some(PEER.0));
        assert_eq!(lab.datapath.taken(), PAIRS.map(opened));
    });
}

#[test]
fn a_server_that_is_not_there_any_more_is_admitted_to_by_nobody() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        lab.admit(udp_key());
        let mut another = admission(tcp_key(), SERVER);
        another.server = InstanceId(77);
        lab.datapath.open_admission(&another).unwrap();
        let verdict = lab.peer_sends(&first_packet(tcp_key()));
        assert_eq!(handed_up_from(&verdict), Some(PEER.0), "another's endpoint");
        lab.datapath.remove_endpoint(SERVER).unwrap();
        let verdict = lab.peer_sends(&frame(udp_key()));
        assert_eq!(handed_up_from(&verdict), Some(PEER.0));
        assert_eq!(lab.datapath.taken(), []);
    });
}

#[test]
fn what_comes_from_no_virtual_ip_is_not_handed_up() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        let mut key = udp_key();
        key.source.set_ip([192, 0, 2, 1].into());
        assert_eq!(lab.peer_sends(&frame(key)), Verdict::Dropped);
        lab.assert_drops(&[(DropReason::NoAdmission, 1)]);
    });
}

#[test]
fn packets_of_other_hosts_wait_in_bounded_number() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        let send = |lab: &mut Lab| handed_up_from(&lab.peer_sends(&frame(udp_key())));
        for _ in 0..PEER_UPCALLS_MAX {
            assert_eq!(send(&mut lab), Some(0));
        }
        assert_eq!(send(&mut lab), None);
        lab.assert_drops(&[(DropReason::UpcallQuota, 1)]);
        lab.datapath.peer_upcall_done();
        assert_eq!((send(&mut lab), send(&mut lab)), (Some(0), None));
        lab.datapath.peer_upcalls_reset();
        assert_eq!(send(&mut lab), Some(0));
    });
}

/// ```text
///   core reads: over | marks both rows | a SYN from the peer goes up, a FIN does not
/// ```
#[test]
fn a_first_packet_that_finds_its_flow_closing_goes_up() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        lab.admit(tcp_key());
        lab.peer_sends(&first_packet(tcp_key()));
        let entries = lab.taken_entries(PAIRS[0]);
        let reading = lab.reading(&entries);
        let spent = margay_core::port::SpentFlow {
            keys: entries.keys(),
            forward: entries.forward.slot,
            reverse: entries.reverse.slot,
            read: (reading.forward, reading.reverse),
        };
        assert!(lab.datapath.flow_maps().mark_unless_used(&spent));
        let verdict = lab.peer_sends(&first_packet(tcp_key()));
        assert_eq!(handed_up_from(&verdict), Some(PEER.0));
        assert_eq!(lab.peer_sends(&frame(tcp_key())), Verdict::Dropped);
        lab.assert_drops(&[(DropReason::NoAdmission, 1)]);
    });
}

#[test]
fn a_new_process_finds_no_admission() {
    in_own_namespaces(|| {
        let mut lab = Lab::of_a_network();
        lab.admit(udp_key());
        drop(lab.datapath);
        lab.datapath = Datapath::open(&DatapathConfig {
            network: Some(NETWORK),
            ..config()
        })
        .unwrap();
        lab.settle();
        let verdict = lab.peer_sends(&frame(udp_key()));
        assert_eq!(handed_up_from(&verdict), Some(0));
    });
}

/// ```text
///   [instance 1] -- kernel of a ------ kernel of b -- [instance 2]
///                   opens its entries  opens its entries
/// ```
#[test]
fn two_kernels_open_flows_between_them_in_every_way_and_family() {
    in_own_namespaces(|| {
        let mut hosts = TwoHosts::new();
        let ways = [
            Carried::ToIpv4Neighbour,
            Carried::ToIpv6Neighbour,
            Carried::InIpv4,
            Carried::InIpv6,
        ];
        for (carried, offset) in ways.into_iter().zip((0..).step_by(100)) {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                for (called, delivered) in flows(protocol) {
                    hosts.carry(carried, called.source.ip());
                    let mut key = with_port(called, called.source.port() + offset);
                    // The kernel moves no port.
                    key.destination.set_port(delivered.destination.port());
                    let delivered = with_port(delivered, key.source.port());
                    hosts.open_by_kernels(key, delivered);
                    match protocol {
                        Protocol::Tcp => bulk(&hosts, key, delivered, carried),
                        _ => datagrams(&hosts, key, delivered, carried),
                    }
                    hosts.end_of_both(key, delivered);
                }
            }
        }
    });
}

fn datagrams(hosts: &TwoHosts, key: FlowKey, delivered: FlowKey, carried: Carried) {
    let server = hosts.b.instances[0].run(|| udp_socket(delivered.destination));
    let client = hosts.a.instances[0].run(|| udp_socket(key.source));
    client.connect(key.destination).unwrap();
    let mut buffer = [0; 100];
    for _ in 0..2 {
        client.send(b"hello").unwrap();
        let (read, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((read, from), (5, delivered.source), "{carried:?} {key}");
        server.send_to(b"there", from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 5, "{carried:?} {key}");
    }
}

fn bulk(hosts: &TwoHosts, key: FlowKey, delivered: FlowKey, carried: Carried) {
    let listener = &hosts.b.instances[0];
    let listener = listener.run(|| TcpListener::bind(delivered.destination).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| echo_once(&listener));
        hosts.a.instances[0].run(|| send_bulk(key));
    });
    let read = hosts.b.datapath.read_taken(&[PAIRS[0]]).pop().unwrap().1;
    let bytes = read.unwrap().reverse.bytes;
    assert!(bytes > BULK_BYTES as u64, "{carried:?} {key}");
}

impl TwoHosts {
    /// Lays a pair of slots ready at both hosts, and leaves them the decisions for this flow.
    fn open_by_kernels(&mut self, key: FlowKey, delivered: FlowKey) {
        let aggregate = aggregate(key, EndpointIndex(1), delivered.destination.ip());
        self.a.datapath.open_aggregate(&aggregate).unwrap();
        let admission = admission(delivered, EndpointIndex(2));
        self.b.datapath.open_admission(&admission).unwrap();
        for datapath in [&mut self.a.datapath, &mut self.b.datapath] {
            datapath.supply(&PAIRS[..1]);
        }
    }

    /// Makes sure that both kernels opened this flow, and closes it.
    fn end_of_both(&mut self, key: FlowKey, delivered: FlowKey) {
        for (datapath, key) in [
            (&mut self.a.datapath, key),
            (&mut self.b.datapath, delivered),
        ] {
            assert_eq!(datapath.taken(), [opened(PAIRS[0])]);
            let (_, taken) = datapath.read_taken(&[PAIRS[0]]).pop().unwrap();
            let flow = taken.unwrap().flow;
            assert_eq!(flow.entries.forward.key, key);
            datapath.close_flows(&[flow.entries.keys()]).unwrap();
            assert!(flow.opened > OPENED);
        }
    }
}

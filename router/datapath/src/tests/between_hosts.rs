//! Flows between two hosts over a link of theirs: as they are and in datagrams, in every mixture of
//! families.

use super::lab::{OPENED, ifindex, ip};
use super::lab::{config, in_own_namespaces};
use super::live::{
    BULK_BYTES, Host, Inside, echo_once, flows, send_bulk, udp_socket, wait_until_up,
};
use crate::object::NetworkIdentity;
use margay_core::address::Ipv4Block;
use margay_core::drop_reason::DropReason;
use margay_core::flow_key::{FlowKey, Protocol};
use margay_core::id::{InstanceId, LocationIndex, SlotIndex};
use margay_core::port::{DirectionEntry, FlowEntries, FlowReading, FlowSlots};
use margay_core::way::{Ingress, Path, Way};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// The other host's location cell, on both.
pub(super) const PEER: LocationIndex = LocationIndex(100);

const DATA_PORT: u16 = 4_899;

/// The network of both.
pub(super) const NETWORK: NetworkIdentity = NetworkIdentity {
    data_port: DATA_PORT,
    v4_pool: Ipv4Block::DEFAULT,
    v6_prefix: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0),
};

/// Where no datagram of a host is heard.
const DEAF_PORT: u16 = 9;

/// ```text
///   [instance 1] -- veth1 | host a | under ------ under | host b | veth2 -- [instance 2]
///                             192.0.2.1, 2001:db8::1  192.0.2.2, 2001:db8::2
/// ```
pub(super) struct TwoHosts {
    pub(super) a: Host,
    pub(super) b: Host,
    /// Where host b is.
    namespace: Inside,
}

/// How each host's packets travel to the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Carried {
    ToIpv4Neighbour,
    ToIpv6Neighbour,
    InIpv4,
    InIpv6,
}

impl TwoHosts {
    pub(super) fn new() -> Self {
        let namespace = Inside::new();
        let fd = namespace.namespace.as_raw_fd();
        let place = format!("/proc/{}/fd/{fd}", std::process::id());
        ip(&format!(
            "link add under type veth peer name under netns {place}"
        ));
        let mut a = Host::empty(|config| crate::object::DatapathConfig {
            network: Some(NETWORK),
            ..config
        });
        a.add_instance(1, 1);
        set_up_underlay(1);
        let mut b = namespace.run(|| {
            let mut host = Host::empty(|config| crate::object::DatapathConfig {
                pin_dir: PathBuf::from("/sys/fs/bpf/other"),
                network: Some(NETWORK),
                ..config
            });
            host.add_instance(2, 2);
            set_up_underlay(2);
            host
        });
        a.datapath.attach_underlay(ifindex("under")).unwrap();
        namespace.run(|| b.datapath.attach_underlay(ifindex("under")).unwrap());
        wait_until_up("under");
        namespace.run(|| wait_until_up("under"));
        TwoHosts { a, b, namespace }
    }

    /// Has the hosts' packets travel so.
    pub(super) fn carry(&mut self, carried: Carried, family: IpAddr) {
        let way = |own: u16, other: u16| Way::Peer(path(carried, family, own, other));
        self.a.datapath.set_location(PEER, way(1, 2)).unwrap();
        let b = &mut self.b.datapath;
        self.namespace
            .run(|| b.set_location(PEER, way(2, 1)).unwrap());
    }

    /// Opens the flow of instance 1, which calls `key`, to instance 2, which sees `delivered`.
    fn open(&mut self, key: FlowKey, delivered: FlowKey) {
        let here = entries(key, delivered, Side::Client(ifindex("veth1")));
        self.a.datapath.open_flow(&here, OPENED).unwrap();
        let b = &mut self.b.datapath;
        self.namespace.run(|| {
            let there = entries(delivered, delivered, Side::Server(ifindex("veth2")));
            b.open_flow(&there, OPENED).unwrap();
        });
    }

    fn close(&mut self, key: FlowKey, delivered: FlowKey) {
        let here = entries(key, delivered, Side::Client(1)).keys();
        let there = entries(delivered, delivered, Side::Server(1)).keys();
        self.a.datapath.close_flows(&[here]).unwrap();
        self.b.datapath.close_flows(&[there]).unwrap();
    }

    /// What both hosts counted: at the client's, at the server's.
    fn readings(&self, key: FlowKey, delivered: FlowKey) -> [FlowReading; 2] {
        [self.a.reading(slots(key)), self.b.reading(slots(delivered))]
    }
}

fn set_up_underlay(number: u8) {
    ip(&format!("addr add 192.0.2.{number}/24 dev under"));
    ip(&format!("addr add 2001:db8::{number}/64 dev under nodad"));
    ip("link set under up");
}

fn path(carried: Carried, family: IpAddr, own: u16, other: u16) -> Path {
    let v4 = |number: u16| IpAddr::from([192, 0, 2, number as u8]);
    let v6 = |number: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number]);
    let (on_link, address): (bool, &dyn Fn(u16) -> IpAddr) = match carried {
        Carried::ToIpv4Neighbour => (true, &v4),
        Carried::ToIpv6Neighbour => (true, &v6),
        Carried::InIpv4 => (false, &v4),
        Carried::InIpv6 => (false, &v6),
    };
    // What goes as it is needs no port; a datagram instead of it would be lost.
    let is_plain = on_link && (family.is_ipv4() || address(other).is_ipv6());
    let port = if is_plain { DEAF_PORT } else { DATA_PORT };
    Path {
        ifindex: ifindex("under"),
        on_link,
        source: SocketAddr::new(address(own), port),
        destination: SocketAddr::new(address(other), port),
    }
}

/// On whose host the entries stand, and by which device its instance is attached.
enum Side {
    Client(u32),
    Server(u32),
}

fn entries(key: FlowKey, delivered: FlowKey, side: Side) -> FlowEntries {
    let peer = (Ingress::Peer(PEER), PEER);
    let (client, server) = match side {
        Side::Client(device) => ((Ingress::Device(device), LocationIndex(1)), peer),
        Side::Server(device) => (peer, (Ingress::Device(device), LocationIndex(2))),
    };
    FlowEntries {
        client: InstanceId(1),
        server: InstanceId(2),
        forward: DirectionEntry {
            key,
            delivered,
            slot: SlotIndex(0),
            ingress: client.0,
            location: server.1,
        },
        reverse: DirectionEntry {
            key: delivered.reversed(),
            delivered: key.reversed(),
            slot: SlotIndex(1),
            ingress: server.0,
            location: client.1,
        },
    }
}

fn slots(key: FlowKey) -> FlowSlots {
    FlowSlots {
        forward_key: key,
        forward: SlotIndex(0),
        reverse: SlotIndex(1),
    }
}

#[test]
fn udp_and_bulk_tcp_pass_in_every_way_and_family() {
    in_own_namespaces(|| {
        let mut hosts = TwoHosts::new();
        let ways = [
            Carried::ToIpv4Neighbour,
            Carried::ToIpv6Neighbour,
            Carried::InIpv4,
            Carried::InIpv6,
        ];
        for (carried, offset) in ways.into_iter().zip((0..).step_by(100)) {
            for (key, delivered) in flows(Protocol::Udp) {
                hosts.carry(carried, key.source.ip());
                hosts.open(key, delivered);
                let server = hosts.b.instances[0].run(|| udp_socket(delivered.destination));
                let client = hosts.a.instances[0].run(|| udp_socket(key.source));
                client.connect(key.destination).unwrap();
                let mut buffer = [0; 2_000];
                for len in [1, 1_300] {
                    client.send(&vec![7; len]).unwrap();
                    let (read, from) = server.recv_from(&mut buffer).unwrap();
                    assert_eq!((read, from), (len, delivered.source), "{carried:?} {key}");
                    server.send_to(&buffer[..len], from).unwrap();
                    assert_eq!(client.recv(&mut buffer).unwrap(), len, "{carried:?} {key}");
                }
                for reading in hosts.readings(key, delivered) {
                    assert_eq!((reading.forward.packets, reading.reverse.packets), (2, 2));
                }
                hosts.close(key, delivered);
            }
            for flow in flows(Protocol::Tcp) {
                // A closed connection's port rests.
                let (key, delivered) = moved(flow, offset);
                hosts.carry(carried, key.source.ip());
                hosts.open(key, delivered);
                let listener = &hosts.b.instances[0];
                let listener = listener.run(|| TcpListener::bind(delivered.destination).unwrap());
                std::thread::scope(|scope| {
                    scope.spawn(|| echo_once(&listener));
                    hosts.a.instances[0].run(|| send_bulk(key));
                });
                for reading in hosts.readings(key, delivered) {
                    for slot in [reading.forward, reading.reverse] {
                        assert!(
                            slot.bytes > BULK_BYTES as u64,
                            "{carried:?} {key}: {slot:?}"
                        );
                        assert!(slot.fin_seen && !slot.rst_seen, "{carried:?} {key}");
                    }
                }
                hosts.close(key, delivered);
            }
        }
    });
}

/// The flow from another port.
fn moved((mut key, mut delivered): (FlowKey, FlowKey), offset: u16) -> (FlowKey, FlowKey) {
    for key in [&mut key, &mut delivered] {
        key.source.set_port(key.source.port() + offset);
    }
    (key, delivered)
}

#[test]
fn packets_of_no_flow_or_of_another_way_are_not_delivered() {
    in_own_namespaces(|| {
        let mut hosts = TwoHosts::new();
        let (key, delivered) = flows(Protocol::Udp)[0];
        let here = entries(key, delivered, Side::Client(ifindex("veth1")));
        hosts.a.datapath.open_flow(&here, OPENED).unwrap();
        hosts.carry(Carried::ToIpv4Neighbour, key.source.ip());
        let client = hosts.a.instances[0].run(|| udp_socket(key.source));
        client.connect(key.destination).unwrap();
        let dropped = |hosts: &TwoHosts, reason| {
            let counts = hosts.b.datapath.drop_counts().unwrap();
            let found = counts.into_iter().find(|(counted, _)| *counted == reason);
            found.unwrap().1
        };

        client.send(b"unheard").unwrap();
        assert_eq!(hosts.b.datapath.peer_upcalls_sent(), 1, "its host is told");

        hosts.close(key, delivered);
        hosts.open(key, delivered);
        let server = hosts.b.instances[0].run(|| udp_socket(delivered.destination));
        let way = Way::Peer(path(Carried::InIpv4, key.source.ip(), 1, 2));
        hosts.a.datapath.set_location(PEER, way).unwrap();
        client.send(b"by datagram of another port").unwrap();
        assert_eq!(dropped(&hosts, DropReason::ForgedPeer), 1);

        hosts.carry(Carried::InIpv4, key.source.ip());
        let way = Way::Peer(path(Carried::ToIpv4Neighbour, key.source.ip(), 1, 2));
        hosts.a.datapath.set_location(PEER, way).unwrap();
        client.send(b"as it is from beyond the link").unwrap();
        assert_eq!(dropped(&hosts, DropReason::ForgedPeer), 2);

        hosts.carry(Carried::InIpv4, key.source.ip());
        client.send(b"heard").unwrap();
        let mut buffer = [0; 100];
        assert_eq!(
            server.recv(&mut buffer).unwrap(),
            5,
            "and nothing before it"
        );
    });
}

#[test]
fn what_is_not_for_virtual_ips_passes_to_the_host() {
    in_own_namespaces(|| {
        let hosts = TwoHosts::new();
        for address in ["192.0.2.2", "2001:db8::2"] {
            let there: IpAddr = address.parse().unwrap();
            let server = hosts
                .namespace
                .run(|| udp_socket(SocketAddr::new(there, 7)));
            let any: IpAddr = if there.is_ipv4() {
                [0, 0, 0, 0].into()
            } else {
                [0_u16; 8].into()
            };
            let client = udp_socket(SocketAddr::new(any, 0));
            client.send_to(b"hello", (there, 7)).unwrap();
            let mut buffer = [0; 100];
            assert_eq!(server.recv(&mut buffer).unwrap(), 5, "{address}");
        }
        assert_eq!(config().network, None);
    });
}

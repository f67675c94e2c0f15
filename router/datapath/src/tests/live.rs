//! Real sockets in real namespaces: what no made-up packet shows (offloads, delivery, moves).

use super::frames::ETHERNET_LEN;
use super::lab::{OPENED, addresses, config, ifindex, in_own_namespaces, ip};
use crate::datapath::Datapath;
use crate::endpoints::EndpointConfig;
use crate::namespaced::runtime;
use crate::network::{INSTANCE_MTU, peer_namespace};
use crate::object::DatapathConfig;
use margay_core::flow_key::{FlowKey, Protocol};
use margay_core::id::{EndpointIndex, InstanceId, LocationIndex, SlotIndex};
use margay_core::port::{DirectionEntry, FlowEntries, FlowReading, FlowSlots};
use margay_core::way::{Ingress, Way};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, recv, setsockopt,
    socket,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

/// Longer than any test needs; so that a lost packet fails a test instead of hanging it.
const DEADLINE: Duration = Duration::from_secs(5);

/// Enough for super-packets and several windows.
pub(super) const BULK_BYTES: usize = 4 << 20;

const SERVER_PORT: u16 = 8080;

/// An instance's network namespace, entered by threads of its own.
pub(super) struct Inside {
    pub(super) namespace: File,
}

impl Inside {
    pub(super) fn new() -> Self {
        let namespace = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        })
        .join()
        .unwrap();
        Inside { namespace }
    }

    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            entered.join().unwrap()
        })
    }
}

/// ```text
///   [instance 1]            host             [instance 2]
///    lo: addresses    veth1      veth2       lo: addresses
///    eth0 ------------+            +----------- eth0
///                     from_instance
/// ```
pub(super) struct Host {
    pub(super) datapath: Datapath,
    pub(super) instances: Vec<Inside>,
}

impl Host {
    pub(super) fn new(instances: u8) -> Self {
        let mut host = Host::empty(|config| config);
        for n in 1..=instances {
            host.add_instance(n, n);
        }
        host
    }

    /// A host without instances, whose configuration is as `change` makes it.
    pub(super) fn empty(change: impl FnOnce(DatapathConfig) -> DatapathConfig) -> Self {
        ip("link add tap-stand-in type veth peer name tap-end");
        Host {
            datapath: Datapath::open(&change(config())).unwrap(),
            instances: Vec::new(),
        }
    }

    /// Attaches instance `n`, which holds the addresses of `identity`.
    pub(super) fn add_instance(&mut self, n: u8, identity: u8) {
        let inside = Inside::new();
        let namespace = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            inside.namespace.as_raw_fd()
        );
        let own = addresses(identity);
        ip(&format!(
            "link add veth{n} address 02:aa:00:00:00:{n:02x} type veth peer name eth0 netns {namespace}"
        ));
        ip(&format!("link set veth{n} up"));
        let gateway = format!("lladdr 02:aa:00:00:00:{n:02x} dev eth0 nud permanent");
        inside.run(|| {
            ip("link set lo up");
            for address in [own.called.v4, own.caller.v4] {
                ip(&format!("addr add {address}/32 dev lo"));
            }
            for address in [own.called.v6, own.caller.v6] {
                ip(&format!("addr add {address}/128 dev lo nodad"));
            }
            ip(&format!("link set eth0 mtu {INSTANCE_MTU} up"));
            ip(&format!("neigh add 169.254.0.1 {gateway}"));
            ip(&format!("neigh add fe80::1 {gateway}"));
            ip("route add 169.254.0.1 dev eth0");
            ip(&format!(
                "route add default via 169.254.0.1 src {}",
                own.caller.v4
            ));
            ip(&format!(
                "-6 route add default via fe80::1 dev eth0 src {}",
                own.caller.v6
            ));
        });
        wait_until_up(&format!("veth{n}"));
        inside.run(|| wait_until_up("eth0"));
        let ifindex = ifindex(&format!("veth{n}"));
        let config = EndpointConfig {
            instance: InstanceId(u64::from(n)),
            ifindex,
            addresses: own,
            netns_id: runtime().block_on(peer_namespace(ifindex)).unwrap(),
            upcall_quota: 8,
            leaves: None,
        };
        self.datapath
            .attach_endpoint(EndpointIndex(u32::from(n)), &config)
            .unwrap();
        self.datapath
            .set_location(LocationIndex(u32::from(n)), Way::Device(ifindex))
            .unwrap();
        self.instances.push(inside);
    }

    /// Opens the flow from instance 1, which calls `key`, to instance 2, which sees `delivered`.
    pub(super) fn open(&mut self, key: FlowKey, delivered: FlowKey) -> FlowSlots {
        let entries = FlowEntries {
            client: InstanceId(1),
            server: InstanceId(2),
            forward: DirectionEntry {
                key,
                delivered,
                slot: SlotIndex(0),
                ingress: Ingress::Device(ifindex("veth1")),
                location: LocationIndex(2),
            },
            reverse: DirectionEntry {
                key: delivered.reversed(),
                delivered: key.reversed(),
                slot: SlotIndex(1),
                ingress: Ingress::Device(ifindex("veth2")),
                location: LocationIndex(1),
            },
        };
        self.datapath.open_flow(&entries, OPENED).unwrap();
        FlowSlots {
            forward_key: key,
            forward: SlotIndex(0),
            reverse: SlotIndex(1),
        }
    }

    pub(super) fn reading(&self, slots: FlowSlots) -> FlowReading {
        self.datapath.read_flows(&[slots])[0]
    }
}

/// A device that was brought up drops what it is given until the kernel has seen its carrier.
pub(super) fn wait_until_up(device: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let shown = Command::new("ip")
            .args(["-o", "link", "show", device])
            .output();
        if String::from_utf8_lossy(&shown.unwrap().stdout).contains("state UP") {
            return;
        }
        assert!(Instant::now() < deadline, "{device} stays down");
    }
}

/// From instance 1 to instance 2, in the family of choice, as written and as delivered: to the
/// server itself, and to another's address and port with another source.
pub(super) fn flows(protocol: Protocol) -> Vec<(FlowKey, FlowKey)> {
    let (client, server) = (addresses(1).caller, addresses(2).called);
    let elsewhere = addresses(9).called;
    let families: [[IpAddr; 3]; 2] = [
        [client.v4.into(), server.v4.into(), elsewhere.v4.into()],
        [client.v6.into(), server.v6.into(), elsewhere.v6.into()],
    ];
    let mut flows = Vec::new();
    for (family, [client, server, elsewhere]) in families.into_iter().enumerate() {
        let port = 40_000 + family as u16;
        let delivered = |port| FlowKey::new((client, port), (server, SERVER_PORT), protocol);
        flows.push((delivered(port), delivered(port)));
        let called = FlowKey::new((client, port + 10), (elsewhere, 80), protocol);
        flows.push((called, delivered(port + 20)));
    }
    flows
}

pub(super) fn udp_socket(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Connects from a chosen port, which `TcpStream::connect` cannot.
pub(super) fn tcp_connect(key: FlowKey) -> TcpStream {
    let family = if key.source.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(key.source)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    connect(stream.as_raw_fd(), &SockaddrStorage::from(key.destination)).unwrap();
    stream
}

#[test]
fn udp_sockets_talk_with_and_without_rewriting() {
    in_own_namespaces(|| {
        for (key, delivered) in flows(Protocol::Udp) {
            let mut host = Host::new(2);
            let slots = host.open(key, delivered);
            let server = host.instances[1].run(|| udp_socket(delivered.destination));
            let client = host.instances[0].run(|| udp_socket(key.source));
            client.connect(key.destination).unwrap();
            for n in 0..10u8 {
                let mut buffer = [0; 1000];
                client.send(&[n; 900]).unwrap();
                let (len, from) = server.recv_from(&mut buffer).unwrap();
                assert_eq!((len, from), (900, delivered.source), "{key}");
                server.send_to(&buffer[..len], from).unwrap();
                assert_eq!(client.recv(&mut buffer).unwrap(), 900, "{key}");
                assert_eq!(buffer[..900], [n; 900]);
            }
            let reading = host.reading(slots);
            assert_eq!((reading.forward.packets, reading.reverse.packets), (10, 10));
            clear(host);
        }
    });
}

/// Takes the devices away with the data path, so that the next host can have theirs.
pub(super) fn clear(host: Host) {
    let pin_dir = config().pin_dir;
    ip("link del tap-stand-in");
    for n in 1..=host.instances.len() {
        ip(&format!("link del veth{n}"));
    }
    drop(host.datapath);
    Datapath::unpin(&pin_dir).unwrap();
}

/// Echoes one connection until its peer has said all.
pub(super) fn echo_once(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = reader.read(&mut buffer).unwrap();
        if len == 0 {
            return;
        }
        stream.write_all(&buffer[..len]).unwrap();
    }
}

/// Sends `BULK_BYTES` and checks that every one comes back.
pub(super) fn send_bulk(key: FlowKey) {
    let stream = tcp_connect(key);
    let sent: Vec<u8> = (0..BULK_BYTES).map(|n| (n / 251) as u8).collect();
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&sent).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        });
        (&stream).read_to_end(&mut received).unwrap();
    });
    assert!(received == sent, "{key}: bytes differ");
}

/// Super-packets with checksums left to the device, in both directions.
#[test]
fn tcp_sockets_move_bulk_with_and_without_rewriting() {
    in_own_namespaces(|| {
        for (key, delivered) in flows(Protocol::Tcp) {
            let mut host = Host::new(2);
            let slots = host.open(key, delivered);
            let listener =
                host.instances[1].run(|| TcpListener::bind(delivered.destination).unwrap());
            std::thread::scope(|scope| {
                scope.spawn(|| echo_once(&listener));
                host.instances[0].run(|| send_bulk(key));
            });
            let reading = host.reading(slots);
            for slot in [reading.forward, reading.reverse] {
                assert!(slot.bytes > BULK_BYTES as u64, "{key}: {slot:?}");
                assert!(slot.fin_seen && !slot.rst_seen, "{key}: {slot:?}");
            }
            let segments = reading.forward.bytes / 1600;
            assert!(reading.forward.packets > segments, "segments are counted");
            clear(host);
        }
    });
}

/// The sum that a sender leaves in the checksum field for the device to complete: addresses,
/// protocol and length of `datagram_len` bytes (RFC 768).
fn pseudo_header_sum(key: FlowKey, datagram_len: u16) -> u16 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let addresses = [octets(key.source.ip()), octets(key.destination.ip())].concat();
    let words = addresses
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>() + libc::IPPROTO_UDP as u32 + u32::from(datagram_len);
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

/// Every IP packet that reaches `eth0`, with its Ethernet header.
fn sniffer() -> OwnedFd {
    const ETH_P_ALL_BIG_ENDIAN: i32 = (libc::ETH_P_ALL as u16).to_be() as i32;
    // SAFETY: no pointer is passed, and the descriptor is fresh.
    let sniffer = unsafe {
        let raw = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, ETH_P_ALL_BIG_ENDIAN);
        assert!(raw >= 0);
        OwnedFd::from_raw_fd(raw)
    };
    setsockopt(&sniffer, ReceiveTimeout, &TimeVal::seconds(5)).unwrap();
    sniffer
}

/// A checksum that is left to the device stays left to it, over the addresses that are delivered.
/// No veth completes it, so that only a look at the frame can tell.
#[test]
fn a_checksum_left_to_the_device_covers_the_delivered_addresses() {
    in_own_namespaces(|| {
        for (key, delivered) in flows(Protocol::Udp) {
            let mut host = Host::new(2);
            host.open(key, delivered);
            let sniffer = host.instances[1].run(sniffer);
            let client = host.instances[0].run(|| udp_socket(key.source));
            client.send_to(&[1; 32], key.destination).unwrap();

            let udp = ETHERNET_LEN + if key.source.is_ipv4() { 20 } else { 40 };
            let mut frame = [0; 200];
            let port = delivered.destination.port().to_be_bytes();
            loop {
                let len = recv(sniffer.as_raw_fd(), &mut frame, MsgFlags::empty()).unwrap();
                if len == udp + 8 + 32 && frame[udp + 2..udp + 4] == port {
                    break;
                }
            }
            let checksum = u16::from_be_bytes([frame[udp + 6], frame[udp + 7]]);
            assert_eq!(checksum, pseudo_header_sum(delivered, 8 + 32), "{key}");
            clear(host);
        }
    });
}

/// ```text
///   client --> location 2 --> instance 2      then, after one store,      --> instance 3
/// ```
#[test]
fn a_live_flow_follows_its_location() {
    in_own_namespaces(|| {
        let mut host = Host::new(2);
        host.add_instance(3, 2);
        let (key, _) = flows(Protocol::Udp)[0];
        host.open(key, key);
        let old = host.instances[1].run(|| udp_socket(key.destination));
        let new = host.instances[2].run(|| udp_socket(key.destination));
        let client = host.instances[0].run(|| udp_socket(key.source));
        client.connect(key.destination).unwrap();
        let mut buffer = [0; 8];

        client.send(b"before").unwrap();
        assert_eq!(old.recv(&mut buffer).unwrap(), 6);
        host.datapath
            .set_location(LocationIndex(2), Way::Device(ifindex("veth3")))
            .unwrap();
        client.send(b"after").unwrap();
        assert_eq!(new.recv(&mut buffer).unwrap(), 5);
    });
}

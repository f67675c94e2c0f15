//! A resolver with instances whose sockets are on loopback, and what clients of it do.

use arc_swap::ArcSwap;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use margay_core::id::InstanceId;
use margay_core::names::NamesSnapshot;
use margay_resolver::{Limits, Resolver, ResolverCounts, ResolverHandle};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once: generous, for busy machines.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How long to watch for what must not happen.
pub(crate) const WATCH: Duration = Duration::from_millis(300);

/// An instance's addresses, and duplicates of its sockets such as the keeper holds.
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) udp_addr: SocketAddr,
    pub(crate) tcp_addr: SocketAddr,
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
}

impl Instance {
    pub(crate) fn new(id: u64) -> Instance {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        Instance {
            id: InstanceId(id),
            udp_addr: udp.local_addr().unwrap(),
            tcp_addr: tcp.local_addr().unwrap(),
            udp,
            tcp,
        }
    }

    pub(crate) fn join(&self, resolver: &ResolverHandle) {
        let udp = self.udp.try_clone().unwrap();
        let tcp = self.tcp.try_clone().unwrap();
        resolver.add(self.id, udp, tcp).unwrap();
    }
}

/// A resolver without names and with `count` instances.
pub(crate) fn resolver_with(count: u64, limits: Limits) -> (ResolverHandle, Vec<Instance>) {
    let names = Arc::new(ArcSwap::default());
    resolver_over(names, count, limits)
}

/// A resolver over `names` with `count` instances.
pub(crate) fn resolver_over(
    names: Arc<ArcSwap<NamesSnapshot>>,
    count: u64,
    limits: Limits,
) -> (ResolverHandle, Vec<Instance>) {
    let resolver = Resolver::spawn_limited(names, limits).unwrap();
    let instances: Vec<_> = (0..count).map(Instance::new).collect();
    for instance in &instances {
        instance.join(&resolver);
    }
    (resolver, instances)
}

/// The bytes of a query for an address.
pub(crate) fn query(id: u16) -> Vec<u8> {
    query_for(id, "web.matrix.", RecordType::A)
}

/// The bytes of a query.
pub(crate) fn query_for(id: u16, name: &str, record_type: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(name).unwrap();
    message.add_query(Query::query(name, record_type));
    message.to_vec().unwrap()
}

/// A client's socket, connected to an instance's resolver.
pub(crate) fn client_of(instance: &Instance) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(instance.udp_addr).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

/// The next reply.
pub(crate) fn next_reply(client: &UdpSocket) -> Message {
    let mut bytes = [0; 2048];
    let length = client.recv(&mut bytes).expect("a reply in time");
    Message::from_vec(&bytes[..length]).unwrap()
}

/// The id of the next reply.
pub(crate) fn reply_id(client: &UdpSocket) -> u16 {
    next_reply(client).metadata.id
}

/// Waits until the counters satisfy `condition`.
pub(crate) fn until(resolver: &ResolverHandle, condition: impl Fn(&ResolverCounts) -> bool) {
    let start = Instant::now();
    while !condition(&resolver.counts()) {
        assert!(start.elapsed() < DEADLINE, "{:#?}", resolver.counts());
        std::thread::yield_now();
    }
}

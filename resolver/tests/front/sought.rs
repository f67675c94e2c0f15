//! Services that are sought beyond the site: questions wait, and are answered when names say more.

use crate::lab::{DEADLINE, Instance, WATCH, client_of, next_reply, query_for, until};
use crate::names::web;
use arc_swap::ArcSwap;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use margay_core::id::InstanceId;
use margay_core::name::AutomatonName;
use margay_core::names::NamesSnapshot;
use margay_resolver::{Resolver, ResolverHandle, Searches, serve_host};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The longest that a question waits.
const HELD_FOR: Duration = Duration::from_millis(1_800);

/// A resolver whose names hold `web` without instances, and what is wanted of it.
struct World {
    names: Arc<ArcSwap<NamesSnapshot>>,
    searches: Searches,
    wanted: Receiver<AutomatonName>,
    resolver: ResolverHandle,
    instance: Instance,
}

impl World {
    fn new() -> World {
        let names = Arc::new(ArcSwap::from_pointee(web(0).with_seeking()));
        let searches = Searches::default();
        let (sender, wanted) = channel();
        searches.begin(move |service| sender.send(service).unwrap());
        let resolver = Resolver::spawn_seeking(names.clone(), searches.clone()).unwrap();
        // The caller that may see `web`.
        let instance = Instance::new(0);
        instance.join(&resolver);
        World {
            names,
            searches,
            wanted,
            resolver,
            instance,
        }
    }

    fn publish(&self, names: NamesSnapshot) {
        self.names.store(Arc::new(names));
        self.searches.names_published();
    }

    /// Names that say that `web` was not found.
    fn not_found() -> NamesSnapshot {
        let mut names = web(0).with_seeking();
        names.note_not_found(&"web".parse().unwrap());
        names
    }

    fn asked(&self, record_type: RecordType) -> UdpSocket {
        let client = client_of(&self.instance);
        let query = query_for(7, "web.matrix.", record_type);
        client.send(&query).unwrap();
        client
    }
}

fn connected(server: SocketAddr, query: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(server).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    client.write_all(&[&length, query].concat()).unwrap();
    client
}

fn reply_of(client: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    client.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    client.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap()
}

#[test]
fn questions_for_one_service_wait_for_one_search_and_are_answered_when_it_is_found() {
    let world = World::new();
    let start = Instant::now();
    let v4 = world.asked(RecordType::A);
    let v6 = world.asked(RecordType::AAAA);
    let query = query_for(7, "web.matrix.", RecordType::A);
    let mut tcp = connected(world.instance.tcp_addr, &query);
    until(&world.resolver, |counts| counts.held_for_search == 3);
    v4.set_read_timeout(Some(WATCH)).unwrap();
    let early = v4.recv(&mut [0; 512]).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    v4.set_read_timeout(Some(DEADLINE)).unwrap();

    world.publish(web(2).with_seeking());

    assert_eq!(next_reply(&v4).answers.len(), 2);
    assert_eq!(next_reply(&v6).answers.len(), 2);
    assert_eq!(reply_of(&mut tcp).answers.len(), 2);
    assert!(start.elapsed() < HELD_FOR, "publication woke the resolver");
    let wanted: Vec<_> = world.wanted.try_iter().collect();
    assert_eq!(wanted, ["web".parse().unwrap()]);
    assert_eq!(world.resolver.counts().held_in_vain, 0);
}

#[test]
fn what_is_not_found_is_denied_as_ever_as_soon_as_that_is_known() {
    let world = World::new();
    let start = Instant::now();
    let client = world.asked(RecordType::A);
    until(&world.resolver, |counts| counts.held_for_search == 1);

    world.publish(World::not_found());

    let reply = next_reply(&client);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.answers.is_empty());
    assert!(start.elapsed() < HELD_FOR);
    let again = world.asked(RecordType::A);
    next_reply(&again);
    assert_eq!(world.resolver.counts().held_for_search, 1, "not held again");
}

#[test]
fn news_of_others_let_a_question_wait_on() {
    let world = World::new();
    let client = world.asked(RecordType::A);
    until(&world.resolver, |counts| counts.held_for_search == 1);
    world.publish(web(0).with_seeking());
    client.set_read_timeout(Some(WATCH)).unwrap();
    assert!(client.recv(&mut [0; 512]).is_err());
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    world.publish(web(1).with_seeking());
    assert_eq!(next_reply(&client).answers.len(), 1);
}

#[test]
fn question_waits_no_longer_than_its_client() {
    let world = World::new();
    let start = Instant::now();
    let client = world.asked(RecordType::A);
    let reply = next_reply(&client);
    assert!(reply.answers.is_empty());
    assert!(start.elapsed() >= HELD_FOR);
    assert_eq!(world.resolver.counts().held_in_vain, 1);
}

#[test]
fn more_questions_than_may_wait_are_answered_at_once() {
    let world = World::new();
    let clients: Vec<_> = (0..65).map(|_| world.asked(RecordType::A)).collect();
    until(&world.resolver, |counts| counts.not_held_full == 1);
    assert_eq!(world.resolver.counts().held_for_search, 64);
    world.publish(web(1).with_seeking());
    for client in &clients {
        next_reply(client);
    }
    let last = world.asked(RecordType::A);
    assert_eq!(next_reply(&last).answers.len(), 1);
}

#[test]
fn question_of_an_instance_that_is_gone_is_dropped_and_counted() {
    let world = World::new();
    let client = world.asked(RecordType::A);
    until(&world.resolver, |counts| counts.held_for_search == 1);
    world.resolver.remove(world.instance.id).unwrap();
    world.publish(web(1).with_seeking());
    until(&world.resolver, |counts| counts.dropped_asker_gone == 1);
    client.set_read_timeout(Some(WATCH)).unwrap();
    assert!(client.recv(&mut [0; 512]).is_err());
}

#[test]
fn questions_of_the_host_wait_too() {
    let names = Arc::new(ArcSwap::from_pointee(web_of_the_host(0)));
    let (searches, (sender, wanted)) = (Searches::default(), channel());
    searches.begin(move |service| sender.send(service).unwrap());
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = udp.local_addr().unwrap();
    let tcp = std::net::TcpListener::bind(addr).unwrap();
    udp.set_nonblocking(true).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let (served, shared) = (names.clone(), searches.clone());
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let udp = tokio::net::UdpSocket::from_std(udp).unwrap();
            let tcp = tokio::net::TcpListener::from_std(tcp).unwrap();
            serve_host(served, shared, udp, tcp).await
        })
    });
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(addr).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let start = Instant::now();
    client
        .send(&query_for(7, "web.matrix.", RecordType::A))
        .unwrap();
    wanted.recv_timeout(DEADLINE).unwrap();

    names.store(Arc::new(web_of_the_host(1)));
    searches.names_published();

    assert_eq!(next_reply(&client).answers.len(), 1);
    assert!(start.elapsed() < HELD_FOR);
}

fn web_of_the_host(instances: u8) -> NamesSnapshot {
    crate::names::web_for(InstanceId::HOST, instances).with_seeking()
}

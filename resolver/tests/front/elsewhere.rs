//! Names of other zones: servers of the host that are right, slow, lying, too small or gone.

use crate::lab::{DEADLINE, Instance, WATCH, client_of, next_reply, query_for};
use arc_swap::ArcSwap;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, Record, RecordType};
use margay_core::id::InstanceId;
use margay_core::names::NamesSnapshot;
use margay_resolver::{Outside, Resolver, ResolverHandle, Searches};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Who is let out.
const LET_OUT: InstanceId = InstanceId(1);

/// A server of the host's; servers are named without a port, so each has an address of its own.
struct Server {
    asked: Arc<AtomicUsize>,
    names: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each UDP query with what `answer` makes of it, until the test's process ends.
    fn at(
        addr: &'static str,
        answer: impl Fn(&Message, &UdpSocket) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Server {
        let socket = UdpSocket::bind((addr, 53)).expect("this test needs root");
        let (asked, names) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let server = Server {
            asked: Arc::clone(&asked),
            names: Arc::clone(&names),
        };
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
                let query = Message::from_vec(&bytes[..length]).unwrap();
                asked.fetch_add(1, Ordering::SeqCst);
                let name = query.queries[0].name.to_ascii();
                names.lock().unwrap().push(name);
                for reply in answer(&query, &socket) {
                    socket.send_to(&reply, peer).unwrap();
                }
            }
        });
        server
    }
}

/// A right answer to an A query.
fn answered(query: &Message, last: u8) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_available = true;
    let question = query.queries[0].clone();
    let data = RData::A(A([192, 0, 2, last].into()));
    reply
        .answers
        .push(Record::from_rdata(question.name.clone(), 60, data));
    reply.queries.push(question);
    reply
}

/// A resolver that asks servers at `servers`, and two instances, of which the first is let out.
struct World {
    _conf: tempfile::NamedTempFile,
    _runtime: tokio::runtime::Runtime,
    resolver: ResolverHandle,
    instances: Vec<Instance>,
}

fn world(servers: &[&str]) -> World {
    let mut conf = tempfile::NamedTempFile::new().unwrap();
    for server in servers {
        writeln!(conf, "nameserver {server}").unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let names = NamesSnapshot::default().with_outgoing([LET_OUT].into());
    let outside = Outside {
        runtime: runtime.handle().clone(),
        resolv_conf: conf.path().to_owned(),
        ours: vec![IpAddr::from([127, 9, 0, 99])],
    };
    let names = Arc::new(ArcSwap::from_pointee(names));
    let resolver = Resolver::spawn_forwarding(names, outside, Searches::default()).unwrap();
    let instances: Vec<_> = (1..3).map(Instance::new).collect();
    for instance in &instances {
        instance.join(&resolver);
    }
    World {
        _conf: conf,
        _runtime: runtime,
        resolver,
        instances,
    }
}

fn ask(world: &World, instance: usize, id: u16, name: &str) -> Message {
    let client = client_of(&world.instances[instance]);
    client.send(&query_for(id, name, RecordType::A)).unwrap();
    let reply = next_reply(&client);
    assert_eq!(reply.metadata.id, id);
    reply
}

fn addresses(reply: &Message) -> Vec<String> {
    let answers = reply.answers.iter();
    answers.map(|record| record.data.to_string()).collect()
}

#[test]
fn right_answer_is_passed_on_and_remembered_for_those_who_are_let_out_only() {
    let server = Server::at("127.9.0.1", |query, _| {
        vec![answered(query, 1).to_vec().unwrap()]
    });
    let world = world(&["127.9.0.1"]);

    for id in 1..4 {
        let reply = ask(&world, 0, id, "www.example.com.");
        assert_eq!(addresses(&reply), ["192.0.2.1"]);
        assert!(reply.metadata.recursion_available && !reply.metadata.authoritative);
        assert_eq!(reply.queries[0].name.to_ascii(), "www.example.com.");
    }
    assert_eq!(server.asked.load(Ordering::SeqCst), 1, "it is remembered");
    let denied = ask(&world, 1, 7, "www.example.com.");
    assert_eq!(denied.metadata.response_code, ResponseCode::NXDomain);
    let ours = ask(&world, 0, 8, "web.matrix.");
    assert_eq!(ours.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn letters_and_ids_of_questions_are_drawn_by_chance() {
    let server = Server::at("127.9.0.2", |query, _| {
        vec![answered(query, 1).to_vec().unwrap()]
    });
    let world = world(&["127.9.0.2"]);

    for number in 0..8 {
        ask(&world, 0, 1, &format!("host{number}.some.example.com."));
    }

    let names = server.names.lock().unwrap();
    let mixed = |name: &&String| name.bytes().any(|byte| byte.is_ascii_uppercase());
    assert!(names.iter().filter(mixed).count() >= 6, "{names:?}");
}

#[test]
fn lies_are_not_believed_and_the_truth_behind_them_is() {
    let _server = Server::at("127.9.0.3", |query, _| {
        let mut other_id = answered(query, 66);
        other_id.metadata.id = query.metadata.id.wrapping_add(1);
        let mut other_question = answered(query, 67);
        other_question.queries[0].name = "bank.example.com.".parse().unwrap();
        other_question.answers[0].name = "bank.example.com.".parse().unwrap();
        let mut no_response = answered(query, 68);
        no_response.metadata.message_type = MessageType::Query;
        let noise = b"noise".to_vec();
        let oversized = vec![0xff; 9000];
        let lies = [other_id, other_question, no_response];
        let lies = lies.iter().map(|lie| lie.to_vec().unwrap());
        let truth = answered(query, 1).to_vec().unwrap();
        lies.chain([noise, oversized, truth]).collect()
    });
    let world = world(&["127.9.0.3"]);

    let reply = ask(&world, 0, 1, "www.example.com.");

    let found = addresses(&reply);
    let believed = |lie: &str| found.iter().any(|addr| addr == lie);
    assert!(
        !["192.0.2.66", "192.0.2.67", "192.0.2.68"]
            .into_iter()
            .any(believed),
        "{found:?}"
    );
    let told = reply.metadata.response_code;
    assert!(
        found == ["192.0.2.1"] || told == ResponseCode::ServFail,
        "{told} {found:?}"
    );
}

#[test]
fn slow_server_holds_up_nobody_else() {
    let _slow = Server::at("127.9.0.4", |query, _| {
        let name = query.queries[0].name.to_ascii().to_lowercase();
        if name.starts_with("slow") {
            thread::sleep(Duration::from_millis(1500));
        }
        vec![answered(query, 1).to_vec().unwrap()]
    });
    let world = world(&["127.9.0.4"]);
    let slow = client_of(&world.instances[0]);
    slow.send(&query_for(1, "slow.example.com.", RecordType::A))
        .unwrap();

    let begun = Instant::now();
    let inside = ask(&world, 0, 2, "web.matrix.");
    let other = ask(&world, 1, 3, "web.matrix.");

    assert!(begun.elapsed() < Duration::from_secs(1), "they waited");
    for reply in [inside, other] {
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }
    assert_eq!(addresses(&next_reply(&slow)), ["192.0.2.1"]);
}

#[test]
fn reply_to_an_instance_that_was_removed_is_dropped_and_counted() {
    let (asked, answering) = std::sync::mpsc::channel();
    let (answer, wait) = std::sync::mpsc::channel();
    let _server = Server::at("127.9.0.8", move |query, _| {
        asked.send(()).unwrap();
        wait.recv().unwrap();
        vec![answered(query, 1).to_vec().unwrap()]
    });
    let world = world(&["127.9.0.8"]);
    let client = client_of(&world.instances[0]);
    client
        .send(&query_for(1, "www.example.com.", RecordType::A))
        .unwrap();
    answering.recv_timeout(DEADLINE).unwrap();

    world.resolver.remove(LET_OUT).unwrap();
    // What the second instance is answered shows that the first is removed.
    ask(&world, 1, 2, "web.matrix.");
    answer.send(()).unwrap();

    let deadline = Instant::now() + DEADLINE;
    while world.resolver.counts().dropped_asker_gone == 0 {
        assert!(Instant::now() < deadline, "{:?}", world.resolver.counts());
        thread::yield_now();
    }
}

#[test]
fn gone_servers_are_a_failure_that_is_told() {
    // Nobody listens there; the second is ourselves, and never asked.
    for servers in [&["127.9.0.5"][..], &["127.9.0.99"]] {
        let world = world(servers);
        let reply = ask(&world, 0, 1, "www.example.com.");
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        assert!(reply.answers.is_empty());
    }
}

#[test]
fn answer_too_large_for_a_datagram_is_fetched_over_tcp_and_told_over_tcp() {
    let long = |query: &Message| {
        let mut reply = answered(query, 1);
        let text = TXT::new(vec!["x".repeat(250); 12]);
        reply.answers[0] = Record::from_rdata(reply.queries[0].name.clone(), 60, RData::TXT(text));
        reply
    };
    let _server = Server::at("127.9.0.6", |query, _| {
        let mut reply = answered(query, 1);
        reply.answers.clear();
        reply.metadata.truncation = true;
        vec![reply.to_vec().unwrap()]
    });
    let listener = TcpListener::bind("127.9.0.6:53").unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let query = read_message(&mut stream);
            let reply = long(&query).to_vec().unwrap();
            let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
            stream
                .write_all(&[&length, reply.as_slice()].concat())
                .unwrap();
        }
    });
    let world = world(&["127.9.0.6"]);
    let query = query_for(5, "long.example.com.", RecordType::TXT);

    let datagram = client_of(&world.instances[0]);
    datagram.send(&query).unwrap();
    assert!(next_reply(&datagram).metadata.truncation);
    let mut stream = std::net::TcpStream::connect(world.instances[0].tcp_addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream
        .write_all(&[&length, query.as_slice()].concat())
        .unwrap();
    let whole = read_message(&mut stream);
    assert_eq!((whole.metadata.id, whole.answers.len()), (5, 1));
    assert!(!whole.metadata.truncation);
}

#[test]
fn instance_that_floods_is_refused_its_excess_and_others_are_not() {
    let _silent = Server::at("127.9.0.7", |_, _| Vec::new());
    let world = world(&["127.9.0.7"]);
    let client = client_of(&world.instances[0]);

    for id in 0..80 {
        let name = format!("host{id}.example.com.");
        client.send(&query_for(id, &name, RecordType::A)).unwrap();
    }

    client.set_read_timeout(Some(WATCH)).unwrap();
    let mut refused = 0;
    let mut bytes = [0; 2048];
    while let Ok(length) = client.recv(&mut bytes) {
        let reply = Message::from_vec(&bytes[..length]).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        refused += 1;
    }
    assert_eq!(refused, 80 - 64);
}

fn read_message(stream: &mut std::net::TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap()
}

//! Connections: pipelining, idleness, slow peers and the bounds on all of them.

use crate::lab::{DEADLINE, Instance, query, resolver_with, until};
use hickory_proto::op::Message;
use margay_resolver::Limits;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Short, so that tests end soon; long enough for a busy machine to answer within.
const IDLE: Duration = Duration::from_secs(1);

fn connect(instance: &Instance) -> TcpStream {
    let stream = TcpStream::connect(instance.tcp_addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn framed(id: u16) -> Vec<u8> {
    let query = query(id);
    let length = u16::try_from(query.len()).unwrap();
    [length.to_be_bytes().to_vec(), query].concat()
}

fn reply_id(stream: &mut TcpStream) -> u16 {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a reply in time");
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap().metadata.id
}

/// Reads until the resolver has closed the connection.
fn assert_closed(stream: &mut TcpStream) {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn pipelined_queries_are_answered_in_order_on_one_connection() {
    let (resolver, instances) = resolver_with(1, Limits::default());
    let mut stream = connect(&instances[0]);
    let queries: Vec<u8> = (0..500).flat_map(framed).collect();

    stream.write_all(&queries).unwrap();

    for id in 0..500 {
        assert_eq!(reply_id(&mut stream), id);
    }
    stream.write_all(&framed(500)).unwrap();
    assert_eq!(reply_id(&mut stream), 500);
    assert_eq!(resolver.counts().queries_tcp, 501);
}

#[test]
fn a_query_in_single_bytes_is_answered() {
    let (_resolver, instances) = resolver_with(1, Limits::default());
    let mut stream = connect(&instances[0]);

    for byte in framed(9) {
        stream.write_all(&[byte]).unwrap();
    }

    assert_eq!(reply_id(&mut stream), 9);
}

#[test]
fn a_peer_that_ended_its_side_still_gets_its_replies() {
    let (resolver, instances) = resolver_with(1, Limits::default());
    // Small buffers, so that most replies still wait in the resolver when it sees the end.
    setsockopt(&instances[0].tcp, sockopt::SndBuf, &4096).unwrap();
    let mut stream = connect(&instances[0]);
    setsockopt(&stream, sockopt::RcvBuf, &4096).unwrap();
    let queries: Vec<u8> = (0..120).flat_map(framed).collect();

    stream.write_all(&queries).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    until(&resolver, |counts| counts.queries_tcp == 120);

    for id in 0..120 {
        assert_eq!(reply_id(&mut stream), id);
    }
    assert_closed(&mut stream);
    until(&resolver, |counts| counts.connections_finished == 1);
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let limits = Limits {
        idle: IDLE,
        ..Limits::default()
    };
    let (resolver, instances) = resolver_with(1, limits);
    let start = Instant::now();
    let mut stream = connect(&instances[0]);

    assert_closed(&mut stream);

    assert!(start.elapsed() >= IDLE);
    until(&resolver, |counts| counts.connections_idle == 1);
}

#[test]
fn dribbled_bytes_do_not_keep_a_connection_open() {
    let limits = Limits {
        idle: IDLE,
        ..Limits::default()
    };
    let (resolver, instances) = resolver_with(1, limits);
    let mut stream = connect(&instances[0]);
    let pause = Duration::from_millis(20);
    stream.set_read_timeout(Some(pause)).unwrap();
    let start = Instant::now();

    // A query of 4096 bytes would take well over a minute to arrive this way.
    stream.write_all(&4096_u16.to_be_bytes()).unwrap();
    while stream
        .read(&mut [0])
        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    {
        assert!(start.elapsed() < DEADLINE, "still open");
        if stream.write_all(&[0]).is_err() {
            break;
        }
    }

    until(&resolver, |counts| counts.connections_idle == 1);
}

#[test]
fn a_peer_that_reads_no_replies_is_dropped_and_counted() {
    let limits = Limits {
        idle: IDLE,
        ..Limits::default()
    };
    let (resolver, instances) = resolver_with(1, limits);
    setsockopt(&instances[0].tcp, sockopt::SndBuf, &4096).unwrap();
    let mut stream = connect(&instances[0]);
    setsockopt(&stream, sockopt::RcvBuf, &4096).unwrap();
    let queries: Vec<u8> = (0..1000).flat_map(framed).collect();

    // Ends when the resolver stops reading, and then closes.
    while stream.write_all(&queries).is_ok() {}

    until(&resolver, |counts| counts.connections_slow_reader == 1);
    // Replies are longer than 64 bytes; they wait in the resolver and in two small kernel buffers.
    let answered = resolver.counts().queries_tcp;
    assert!(answered * 64 < 128 * 1024, "{answered} queries answered");
}

#[test]
fn a_slow_peer_that_does_read_gets_every_reply() {
    let limits = Limits {
        waiting_bytes_max: 256,
        ..Limits::default()
    };
    let (_resolver, instances) = resolver_with(1, limits);
    setsockopt(&instances[0].tcp, sockopt::SndBuf, &4096).unwrap();
    let mut stream = connect(&instances[0]);
    setsockopt(&stream, sockopt::RcvBuf, &4096).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let queries: Vec<u8> = (0..1000).flat_map(framed).collect();

    let writing = std::thread::spawn(move || writer.write_all(&queries).unwrap());

    for id in 0..1000 {
        assert_eq!(reply_id(&mut stream), id);
    }
    writing.join().unwrap();
}

#[test]
fn an_announced_query_above_the_limit_closes_the_connection() {
    let (resolver, instances) = resolver_with(1, Limits::default());
    let mut stream = connect(&instances[0]);

    stream.write_all(&u16::MAX.to_be_bytes()).unwrap();

    assert_closed(&mut stream);
    until(&resolver, |counts| counts.connections_query_too_long == 1);
}

#[test]
fn one_instance_cannot_take_more_connections_than_its_share() {
    let limits = Limits {
        connections_per_instance_max: 3,
        ..Limits::default()
    };
    let (resolver, instances) = resolver_with(2, limits);
    let mut held: Vec<_> = (0..3).map(|_| connect(&instances[0])).collect();
    until(&resolver, |counts| counts.connections_accepted == 3);

    assert_closed(&mut connect(&instances[0]));

    assert_eq!(resolver.counts().connections_refused_instance, 1);
    let mut neighbour = connect(&instances[1]);
    for stream in held.iter_mut().chain([&mut neighbour]) {
        stream.write_all(&framed(4)).unwrap();
        assert_eq!(reply_id(stream), 4);
    }
    held.pop();
    until(&resolver, |counts| counts.connections_finished == 1);
    let mut admitted = connect(&instances[0]);
    admitted.write_all(&framed(5)).unwrap();
    assert_eq!(reply_id(&mut admitted), 5);
}

#[test]
fn all_instances_together_cannot_take_more_connections_than_the_total() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let (resolver, instances) = resolver_with(3, limits);
    let _held = (connect(&instances[0]), connect(&instances[1]));
    until(&resolver, |counts| counts.connections_accepted == 2);

    assert_closed(&mut connect(&instances[2]));

    assert_eq!(resolver.counts().connections_refused_total, 1);
}

#[test]
fn removing_an_instance_closes_its_connections_and_leaves_its_listener() {
    let (resolver, instances) = resolver_with(1, Limits::default());
    let mut stream = connect(&instances[0]);
    stream.write_all(&framed(1)).unwrap();
    assert_eq!(reply_id(&mut stream), 1);

    resolver.remove(instances[0].id).unwrap();

    assert_closed(&mut stream);
    until(&resolver, |counts| counts.connections_removed == 1);
    // The listener lives in its duplicate: the next resolver accepts what has queued meanwhile.
    let mut waiting = connect(&instances[0]);
    waiting.write_all(&framed(2)).unwrap();
    let (next_resolver, _) = resolver_with(0, Limits::default());
    instances[0].join(&next_resolver);
    assert_eq!(reply_id(&mut waiting), 2);
}

#[test]
fn stopping_closes_every_connection() {
    let (resolver, instances) = resolver_with(1, Limits::default());
    let mut stream = connect(&instances[0]);
    stream.write_all(&framed(1)).unwrap();
    assert_eq!(reply_id(&mut stream), 1);

    resolver.stop();

    assert_closed(&mut stream);
}

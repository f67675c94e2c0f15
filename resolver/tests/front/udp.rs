//! Datagrams: batches, fairness, removal and hand-over.

use crate::lab::{DEADLINE, Instance, WATCH, client_of, query, reply_id, resolver_with, until};
use margay_resolver::Limits;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[test]
fn bursts_on_many_sockets_are_all_answered() {
    const BURST: u16 = 100;
    let (resolver, instances) = resolver_with(12, Limits::default());
    let clients: Vec<_> = instances.iter().map(client_of).collect();

    for id in 0..BURST {
        for client in &clients {
            client.send(&query(id)).unwrap();
        }
    }

    for client in &clients {
        let ids: BTreeSet<_> = (0..BURST).map(|_| reply_id(client)).collect();
        assert_eq!(ids.len(), usize::from(BURST));
    }
    let counts = resolver.counts();
    assert_eq!(counts.queries_udp, 12 * u64::from(BURST));
    assert_eq!(counts.answered_name_error, counts.queries_udp);
}

#[test]
fn clients_that_share_a_batch_each_get_their_own_reply() {
    let (resolver, _) = resolver_with(0, Limits::default());
    let instance = Instance::new(0);
    let clients: Vec<_> = (0..60).map(|_| client_of(&instance)).collect();

    // Sent before the resolver reads, so that they lie in batches; every other one gets silence.
    for (id, client) in (0..).zip(&clients) {
        client.send(&[0; 3]).unwrap();
        client.send(&query(id)).unwrap();
    }
    instance.join(&resolver);

    for (id, client) in (0..).zip(&clients) {
        assert_eq!(reply_id(client), id);
    }
}

#[test]
fn hostile_datagrams_are_counted_and_cost_nobody_else_a_reply() {
    let (resolver, instances) = resolver_with(1, Limits::default());
    let client = client_of(&instances[0]);
    let mut response = query(1);
    response[2] |= 0x80;
    let mut question_cut_short = query(2);
    question_cut_short.pop();

    client.send(&[]).unwrap();
    client.send(&[0; 11]).unwrap();
    client.send(&response).unwrap();
    client.send(&[0xff; 9000]).unwrap();
    client.send(&question_cut_short).unwrap();
    client.send(&query(3)).unwrap();

    assert_eq!((reply_id(&client), reply_id(&client)), (2, 3));
    let counts = resolver.counts();
    assert_eq!(
        (counts.dropped_too_short, counts.dropped_not_a_query),
        (2, 2)
    );
    assert_eq!(counts.answered_format_error, 1);
}

#[test]
fn a_removed_instances_queries_wait_for_the_next_resolver() {
    let (resolver, instances) = resolver_with(1, Limits::default());
    let client = client_of(&instances[0]);
    client.send(&query(1)).unwrap();
    assert_eq!(reply_id(&client), 1);

    resolver.remove(instances[0].id).unwrap();
    resolver.stop();
    client.send(&query(2)).unwrap();
    client.set_read_timeout(Some(WATCH)).unwrap();
    let unanswered = client.recv(&mut [0; 512]).unwrap_err();
    assert_eq!(unanswered.kind(), ErrorKind::WouldBlock);

    let (next_resolver, _) = resolver_with(0, Limits::default());
    instances[0].join(&next_resolver);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(reply_id(&client), 2);
}

#[test]
fn a_removed_instance_is_silent_while_its_neighbour_is_answered() {
    let (resolver, instances) = resolver_with(2, Limits::default());
    let (removed, neighbour) = (client_of(&instances[0]), client_of(&instances[1]));

    resolver.remove(instances[0].id).unwrap();
    // The second of these is replied to in a later round than the one that the command met.
    for id in [1, 2] {
        neighbour.send(&query(id)).unwrap();
        assert_eq!(reply_id(&neighbour), id);
    }
    removed.send(&query(3)).unwrap();

    removed.set_read_timeout(Some(WATCH)).unwrap();
    let unanswered = removed.recv(&mut [0; 512]).unwrap_err();
    assert_eq!(unanswered.kind(), ErrorKind::WouldBlock);
    assert_eq!(resolver.counts().queries_udp, 2);
}

#[test]
fn a_removed_instance_can_come_back_with_the_same_sockets() {
    let (resolver, instances) = resolver_with(1, Limits::default());
    let client = client_of(&instances[0]);

    for id in 0..10 {
        client.send(&query(id)).unwrap();
        assert_eq!(reply_id(&client), id);
        resolver.remove(instances[0].id).unwrap();
        instances[0].join(&resolver);
    }

    assert_eq!(resolver.counts().sockets_not_registered, 0);
}

#[test]
fn adding_an_instance_again_replaces_its_sockets() {
    let (resolver, instances) = resolver_with(1, Limits::default());
    let old = client_of(&instances[0]);
    old.send(&query(1)).unwrap();
    assert_eq!(reply_id(&old), 1);
    let replacement = Instance::new(0);

    replacement.join(&resolver);

    let new = client_of(&replacement);
    new.send(&query(2)).unwrap();
    assert_eq!(reply_id(&new), 2);
    old.send(&query(3)).unwrap();
    old.set_read_timeout(Some(WATCH)).unwrap();
    assert_eq!(
        old.recv(&mut [0; 512]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn a_flood_on_one_socket_leaves_another_answered() {
    let (resolver, instances) = resolver_with(2, Limits::default());
    let over = AtomicBool::new(false);

    std::thread::scope(|scope| {
        for _ in 0..2 {
            let flooder = client_of(&instances[0]);
            let (over, query) = (&over, query(0));
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // A full queue refuses; that is the flooder's own loss.
                    let _ = flooder.send(&query);
                }
            });
        }
        until(&resolver, |counts| counts.queries_udp > 1000);

        let client = client_of(&instances[1]);
        let start = Instant::now();
        for id in 0..50 {
            client.send(&query(id)).unwrap();
            assert_eq!(reply_id(&client), id);
        }
        over.store(true, Ordering::Relaxed);
        assert!(start.elapsed() < DEADLINE);
    });
}

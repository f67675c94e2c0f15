//! The flow table: what it opens, refuses, forgets and when.

mod random_walk;

use super::*;
use crate::choice::Choice;
use crate::flow_key::Protocol;
use crate::id::LocationIndex;
use crate::port::SlotReading;
use crate::way::Ingress;
use std::net::{IpAddr, Ipv4Addr};

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

fn addr(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(100, 64, 0, number))
}

fn party(number: u8) -> Party {
    Party {
        instance: InstanceId(number.into()),
        ingress: Ingress::Device(number.into()),
        location: LocationIndex(number.into()),
    }
}

/// A flow from `client` to the address of `called`, served by `server`.
fn request(client: u8, port: u16, called: u8, server: u8, protocol: Protocol) -> OpenRequest {
    let source = (addr(client), port);
    OpenRequest {
        key: FlowKey::new(source, (addr(called), 80), protocol),
        delivered: FlowKey::new(source, (addr(server), 80), protocol),
        client: party(client),
        server: party(server),
        choice: Choice::Called,
        hops: 0,
    }
}

fn tcp(port: u16) -> OpenRequest {
    request(1, port, 2, 2, Protocol::Tcp)
}

fn table(slots: u32) -> FlowTable {
    FlowTable::new(FlowLimits::for_slots(slots), 7, at(0))
}

fn drain(table: &mut FlowTable) -> Vec<Output> {
    std::iter::from_fn(|| table.poll_output()).collect()
}

fn closed(outputs: &[Output]) -> usize {
    let flows = |output: &Output| match output {
        Output::CloseFlows(flows) => flows.len(),
        Output::CloseUnused(flows) => flows.len(),
        _ => 0,
    };
    outputs.iter().map(flows).sum()
}

fn slot(packets: u64, last_seen: Moment) -> SlotReading {
    SlotReading {
        packets,
        bytes: packets * 60,
        last_seen,
        ..SlotReading::default()
    }
}

/// Runs the table alone until `end`; `read` says what the kernel would have counted.
fn run(
    table: &mut FlowTable,
    end: Moment,
    read: impl Fn(FlowKey) -> (SlotReading, SlotReading),
) -> (usize, usize) {
    let (mut closes, mut looks) = (closed(&drain(table)), 0);
    while let Some(now) = table.poll_timeout().filter(|now| *now <= end) {
        table.handle_timeout(now);
        for output in drain(table) {
            match output {
                Output::ReadFlows(batch) => {
                    assert!(batch.len() <= READ_BATCH_MAX);
                    looks += batch.len();
                    let readings = batch.iter().map(|slots| {
                        let (forward, reverse) = read(slots.forward_key);
                        FlowReading {
                            forward_key: slots.forward_key,
                            forward,
                            reverse,
                        }
                    });
                    table.handle_input(FlowInput::Read(readings.collect()), now);
                }
                other => {
                    assert!(closed(std::slice::from_ref(&other)) > 0, "{other:?}");
                    closes += closed(&[other]);
                }
            }
        }
        closes += closed(&drain(table));
    }
    (closes, looks)
}

/// When a flow that was opened at 0 and is read as `read` says is closed, in milliseconds.
fn lifetime(protocol: Protocol, forward: SlotReading, reverse: SlotReading) -> u64 {
    let mut table = table(64);
    table
        .open(request(1, 1_000, 2, 2, protocol), at(0))
        .unwrap();
    drain(&mut table);
    loop {
        let now = table.poll_timeout().expect("an open flow is looked at");
        if run(&mut table, now, |_| (forward, reverse)).0 > 0 {
            return now.as_nanos() / 1_000_000;
        }
    }
}

#[test]
fn reverse_direction_undoes_what_the_forward_one_does() {
    let mut table = table(64);
    table
        .open(request(1, 1_000, 9, 2, Protocol::Tcp), at(0))
        .unwrap();
    let outputs = drain(&mut table);
    let [Output::OpenFlow(entries)] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!(entries.forward.delivered.destination.ip(), addr(2));
    assert_eq!(entries.reverse.key, entries.forward.delivered.reversed());
    assert_eq!(entries.reverse.delivered, entries.forward.key.reversed());
    let ingress = (entries.forward.ingress, entries.reverse.ingress);
    assert_eq!(ingress, (Ingress::Device(1), Ingress::Device(2)));
    assert_eq!(
        (entries.forward.location, entries.reverse.location),
        (LocationIndex(2), LocationIndex(1))
    );
}

/// ```text
///   1:1000 -> 2:80   directly        answers come from 2:80 to 1:1000
///   1:1000 -> 9:80   rebound to 2    answers would come from 2:80 to 1:1000 too
/// ```
#[test]
fn colliding_answers_get_another_source_port_and_both_flows_hold() {
    let mut table = table(64);
    for called in [2, 9, 8] {
        let colliding = request(1, 1_000, called, 2, Protocol::Tcp);
        table.open(colliding, at(0)).unwrap();
    }
    let reverse: BTreeSet<_> = table.iter().map(|flow| flow.entries.reverse.key).collect();
    assert_eq!(reverse.len(), 3);
    for flow in table.iter() {
        assert_eq!(
            flow.entries.reverse.delivered,
            flow.entries.forward.key.reversed()
        );
        assert_eq!(
            flow.entries.reverse.key,
            flow.entries.forward.delivered.reversed()
        );
    }
}

#[test]
fn flow_is_refused_when_no_port_is_left() {
    let mut table = FlowTable::new(
        FlowLimits {
            flows_max: 100_000,
            flows_per_instance_max: 100_000,
        },
        7,
        at(0),
    );
    table.open(tcp(1_000), at(0)).unwrap();
    for port in REMAP_PORT_FIRST..=u16::MAX {
        table.open(tcp(port), at(0)).unwrap();
    }
    let colliding = request(1, 1_000, 9, 2, Protocol::Tcp);
    let before = table.len();
    assert_eq!(table.open(colliding, at(0)), Err(DropReason::NoPortLeft));
    assert_eq!(table.len(), before);
}

#[test]
fn full_table_refuses_new_flows_and_keeps_live_ones() {
    let mut table = table(16);
    for client in [1, 3] {
        for port in 0..4 {
            table
                .open(request(client, port, 2, 2, Protocol::Tcp), at(0))
                .unwrap();
        }
    }
    drain(&mut table);
    let refused = table.open(request(4, 1, 2, 2, Protocol::Tcp), at(0));
    assert_eq!(refused, Err(DropReason::FlowTableFull));
    assert_eq!(table.len(), 8);
    assert!(drain(&mut table).is_empty());
}

#[test]
fn one_instance_cannot_fill_the_table() {
    let mut table = table(16);
    for port in 0..4 {
        table.open(tcp(port), at(0)).unwrap();
    }
    assert_eq!(
        table.open(tcp(9), at(0)),
        Err(DropReason::FlowLimitInstance)
    );
    table
        .open(request(3, 9, 2, 2, Protocol::Tcp), at(0))
        .unwrap();
}

#[test]
fn refused_flow_is_forgotten_without_touching_the_kernel() {
    let mut table = table(16);
    table.open(tcp(1), at(0)).unwrap();
    drain(&mut table);
    table.handle_input(FlowInput::Refused(tcp(1).key), at(0));
    assert!(table.is_empty());
    assert!(drain(&mut table).is_empty());
    assert_eq!(table.poll_timeout(), None);
}

#[test]
fn table_of_lifetimes() {
    let nothing = SlotReading::default();
    let some = slot(5, at(100));
    let late = slot(5, at(5_000));
    let fin = |reading| SlotReading {
        fin_seen: true,
        ..reading
    };
    let rst = |reading| SlotReading {
        rst_seen: true,
        ..reading
    };
    let tcp = Protocol::Tcp;
    let cases = [
        ("SYN without answer", tcp, slot(1, at(0)), nothing, 10_000),
        (
            "SYN and answer, no more",
            tcp,
            slot(1, at(0)),
            slot(1, at(100)),
            10_100,
        ),
        ("silent connection", tcp, some, some, 432_000_100),
        ("half closed connection", tcp, fin(some), some, 432_000_100),
        ("both closed", tcp, fin(some), fin(some), 2_100),
        (
            "reset by the server",
            tcp,
            slot(1, at(0)),
            rst(slot(1, at(0))),
            2_000,
        ),
        (
            "question without answer",
            Protocol::Udp,
            slot(1, at(0)),
            nothing,
            30_000,
        ),
        ("question and answer", Protocol::Udp, some, some, 30_100),
        ("lasting exchange", Protocol::Udp, late, late, 185_000),
        ("echo", Protocol::Echo, some, some, 30_100),
    ];
    for (what, protocol, forward, reverse, expected) in cases {
        let found = lifetime(protocol, forward, reverse);
        assert!(
            (expected..=expected + 1_000).contains(&found),
            "{what}: {found}"
        );
    }
}

#[test]
fn busy_connection_is_never_closed() {
    let mut table = table(64);
    table.open(tcp(1), at(0)).unwrap();
    for second in 0..20_000 {
        let now = at(second * 1_000);
        let (closes, _) = run(&mut table, now, |_| (slot(9, now), slot(9, now)));
        assert_eq!(closes, 0);
    }
}

#[test]
fn short_connections_end_together_at_their_first_look() {
    let mut table = table(64);
    for port in 0..9 {
        table
            .open(request(1, port, 2, 2, Protocol::Tcp), at(0))
            .unwrap();
    }
    let over = |_| {
        let slot = SlotReading {
            fin_seen: true,
            ..slot(5, at(200))
        };
        (slot, slot)
    };
    assert_eq!(run(&mut table, at(2_300), over), (9, 9));
}

#[test]
fn connection_that_uses_a_closed_ones_entry_is_looked_at_soon() {
    let mut table = table(64);
    table.open(tcp(1), at(0)).unwrap();
    let long = at(3_600_000);
    run(&mut table, long, |_| (slot(9, long), slot(9, long)));
    let rst = SlotReading {
        rst_seen: true,
        ..slot(9, at(3_640_000))
    };
    // The kernel cleared the RST as the next SYN passed.
    run(&mut table, at(3_640_500), |_| (rst, rst));
    run(&mut table, at(3_642_000), |_| {
        (slot(12, at(3_641_000)), slot(12, at(3_641_000)))
    });
    let (closes, _) = run(&mut table, at(3_645_000), |_| (rst, rst));
    assert_eq!(closes, 1);
}

#[test]
fn idle_connections_cost_almost_nothing() {
    let mut table = table(2_000);
    for client in [1, 3] {
        for port in 0..500 {
            table
                .open(request(client, port, 2, 2, Protocol::Tcp), at(0))
                .unwrap();
        }
    }
    let idle = |_| (slot(9, at(10)), slot(9, at(10)));
    run(&mut table, at(600_000), idle);
    let (closes, looks) = run(&mut table, at(1_200_000), idle);
    assert_eq!(closes, 0);
    assert!(looks <= 1_000 * 21, "{looks} looks in ten minutes");
}

/// Ten thousand idle ones, for two hours and a half.
#[test]
fn idle_connections_stay_for_hours() {
    const IDLE: usize = 10_000;
    let mut table = table(8 * IDLE as u32);
    for port in 0..IDLE {
        table.open(tcp(port as u16), at(0)).unwrap();
    }
    let idle = |_| (slot(9, at(10)), slot(9, at(10)));
    let (closes, looks) = run(&mut table, at(9_000_000), idle);
    assert_eq!((closes, table.len()), (0, IDLE));
    let looks_per_second = looks / 9_000;
    assert!(looks_per_second <= IDLE / 25, "{looks_per_second}");
}

#[test]
fn short_connections_can_come_as_fast_as_they_rest() {
    let mut table = FlowTable::new(FlowLimits::default(), 7, at(0));
    let gone = |_| {
        let rst = SlotReading {
            rst_seen: true,
            ..slot(5, at(0))
        };
        (rst, rst)
    };
    // 30,000 connections a second over two clients, for six seconds.
    for milli in 0..6_000 {
        for count in 0..30u32 {
            let number = (milli as u32 * 30 + count) % 60_000;
            let client = 1 + 2 * (count % 2) as u8;
            let request = request(client, number as u16, 2, 2, Protocol::Tcp);
            if table.direction(&request.key).is_none() {
                table.open(request, at(milli)).unwrap();
            }
        }
        run(&mut table, at(milli), gone);
    }
}

#[test]
fn ended_program_loses_its_datagrams_at_once_and_its_connections_soon() {
    let mut table = table(64);
    table.open(tcp(1), at(0)).unwrap();
    table
        .open(request(1, 2, 2, 2, Protocol::Udp), at(0))
        .unwrap();
    table
        .open(request(1, 3, 2, 2, Protocol::Echo), at(0))
        .unwrap();
    table
        .open(request(2, 4, 1, 1, Protocol::Udp), at(0))
        .unwrap();
    drain(&mut table);
    table.handle_input(FlowInput::ProgramEnded(InstanceId(2)), at(0));
    assert_eq!(closed(&drain(&mut table)), 2);
    table.open(tcp(5), at(500)).unwrap();
    let live = |_| (slot(5, at(900)), slot(5, at(900)));
    let (closes, _) = run(&mut table, at(1_500), live);
    assert_eq!(closes, 1);
    assert!(
        table.direction(&tcp(5).key).is_some(),
        "it came after the end"
    );
}

#[test]
fn instance_without_network_loses_every_flow() {
    let mut table = table(64);
    table.open(tcp(1), at(0)).unwrap();
    table
        .open(request(2, 4, 1, 1, Protocol::Udp), at(0))
        .unwrap();
    table
        .open(request(1, 4, 3, 3, Protocol::Tcp), at(0))
        .unwrap();
    drain(&mut table);
    table.handle_input(FlowInput::NetworkGone(InstanceId(2)), at(0));
    assert_eq!(closed(&drain(&mut table)), 2);
    assert_eq!(
        (table.load(InstanceId(2)), table.load(InstanceId(3))),
        (0, 1)
    );
}

#[test]
fn adopted_flows_keep_their_slots_and_unsound_ones_are_closed() {
    let mut before = table(64);
    for port in 1..=4 {
        before.open(tcp(port), at(0)).unwrap();
    }
    let found = |flow: &Flow| AdoptedFlow {
        entries: flow.entries.clone(),
        opened: flow.opened,
    };
    let mut adopted: Vec<_> = before.iter().map(found).collect();
    adopted[3].entries.reverse.slot = SlotIndex(50); // no pair
    adopted[2]
        .entries
        .forward
        .delivered
        .destination
        .set_port(81); // halves do not match
    adopted[1].entries.forward.slot = SlotIndex(0); // taken
    adopted[1].entries.reverse.slot = SlotIndex(1);
    let mut after = table(64);
    for flow in adopted {
        after.adopt(flow, at(10));
    }
    assert_eq!(closed(&drain(&mut after)), 3);
    assert_eq!(after.len(), 1);
    let kept = after.direction(&tcp(1).key).unwrap();
    assert_eq!(kept.slot, SlotIndex(0));
    after.open(tcp(9), at(20)).unwrap();
    let new = after.direction(&tcp(9).key).unwrap();
    assert_ne!(new.slot, SlotIndex(0));
}

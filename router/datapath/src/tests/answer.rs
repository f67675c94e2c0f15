//! Answers from a server's caller address: they are delivered in the flow that called the server.

use super::frames::{every_kind_of_key, frame, with_source};
use super::lab::{Lab, OPENED, Verdict, addresses, in_own_namespaces};
use margay_core::flow_key::{FlowKey, Protocol};
use std::net::{IpAddr, SocketAddr};

/// The caller address of server 2, in the family of `key`.
fn servers_caller_address(key: FlowKey) -> IpAddr {
    let caller = addresses(2).caller;
    if key.source.is_ipv4() {
        caller.v4.into()
    } else {
        caller.v6.into()
    }
}

fn udp_keys() -> impl Iterator<Item = FlowKey> {
    every_kind_of_key()
        .into_iter()
        .filter(|key| key.protocol == Protocol::Udp)
}

/// ```text
///   client --[A -> called B]----------------------------------> server, bound to no address
///   client <--[called B -> A]-- rewritten <--[caller B -> A]--- server
/// ```
#[test]
fn udp_answer_from_the_caller_address_comes_from_the_address_that_was_called() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in udp_keys() {
            let entries = lab.open(key);
            let answer = with_source(key.reversed(), servers_caller_address(key));
            assert_eq!(
                lab.instance_sends(lab.server_ifindex, &frame(answer)),
                Verdict::Redirected(frame(key.reversed()))
            );
            assert_eq!(lab.reading(&entries).reverse.packets, 1);
            lab.close(&entries);
        }
        lab.assert_drops(&[]);
    });
}

/// The client called a dead sibling's address: the answer comes from that one.
#[test]
fn answer_in_a_rewritten_flow_is_rewritten_to_what_the_client_called() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for delivered in udp_keys() {
            let sibling = addresses(9).called;
            let sibling = if delivered.source.is_ipv4() {
                sibling.v4.into()
            } else {
                sibling.v6.into()
            };
            let key = FlowKey {
                destination: SocketAddr::new(sibling, 80),
                ..delivered
            };
            let entries = lab.rewritten_entries(key, delivered);
            lab.datapath.open_flow(&entries, OPENED).unwrap();
            let answer = with_source(delivered.reversed(), servers_caller_address(key));
            assert_eq!(
                lab.instance_sends(lab.server_ifindex, &frame(answer)),
                Verdict::Redirected(frame(key.reversed()))
            );
            lab.close(&entries);
        }
    });
}

/// What merely looks like an answer is a first packet of the server's own, or forged.
#[test]
fn only_the_server_of_a_udp_flow_answers_in_it() {
    in_own_namespaces(|| {
        let mut lab = Lab::new();
        for key in every_kind_of_key() {
            let entries = lab.open(key);
            let answer = with_source(key.reversed(), servers_caller_address(key));
            lab.instance_sends(lab.client_ifindex, &frame(answer));
            if key.protocol != Protocol::Udp {
                lab.instance_sends(lab.server_ifindex, &frame(answer));
            }
            let called = addresses(1).called;
            let called = if key.source.is_ipv4() {
                called.v4.into()
            } else {
                called.v6.into()
            };
            lab.instance_sends(lab.client_ifindex, &frame(with_source(key, called)));
            let reading = lab.reading(&entries);
            assert_eq!(
                (reading.forward.packets, reading.reverse.packets),
                (0, 0),
                "{key}"
            );
            lab.close(&entries);
        }
    });
}

//! Packets to the outside: passed to the host's stack for those who may, and only as their own.

use super::frames::{every_kind_of_key, frame, with_destination, with_source};
use super::lab::{CLIENT, Lab, QUOTA, Verdict, addresses, in_own_namespaces};
use crate::endpoints::EndpointConfig;
use margay_core::address::Ipv4Block;
use margay_core::drop_reason::DropReason;
use margay_core::flow_key::FlowKey;
use margay_core::id::InstanceId;
use std::net::IpAddr;

const OUTSIDE: &str = "192.0.2.1";

/// A lab whose client may reach all but the pool.
fn lab() -> Lab {
    let mut lab = Lab::new();
    let config = EndpointConfig {
        instance: InstanceId(1),
        ifindex: lab.client_ifindex,
        addresses: addresses(1),
        netns_id: None,
        upcall_quota: QUOTA,
        leaves: Some(Ipv4Block::DEFAULT),
    };
    lab.datapath.attach_endpoint(CLIENT, &config).unwrap();
    lab
}

fn to(key: FlowKey, addr: &str) -> FlowKey {
    with_destination(key, addr.parse().unwrap())
}

/// The client's keys over IPv4: TCP, UDP, echo.
fn v4_keys() -> Vec<FlowKey> {
    let keys = every_kind_of_key().into_iter();
    keys.filter(|key| key.source.is_ipv4()).collect()
}

/// ```text
///   client --[to 192.0.2.1]--> the host's stack, untouched
///          --[to the pool]---> TAP
/// ```
#[test]
fn what_is_outside_the_pool_is_the_hosts_to_route() {
    in_own_namespaces(|| {
        let mut lab = lab();
        for key in v4_keys() {
            let away = frame(to(key, OUTSIDE));
            let verdict = lab.instance_sends(lab.client_ifindex, &away);
            assert_eq!(verdict, Verdict::Passed(away), "{key}");
            for pool in ["100.64.0.9", "100.127.255.254"] {
                let inside = frame(to(key, pool));
                let verdict = lab.instance_sends(lab.client_ifindex, &inside);
                assert!(matches!(verdict, Verdict::Redirected(_)), "{key} {pool}");
                lab.datapath.upcall_done(CLIENT);
            }
        }
        lab.assert_drops(&[]);
    });
}

#[test]
fn nobody_leaves_under_another_address_or_without_leave() {
    in_own_namespaces(|| {
        let mut lab = lab();
        let key = to(v4_keys()[0], OUTSIDE);
        let forged: IpAddr = addresses(2).caller.v4.into();
        let verdict = lab.instance_sends(lab.client_ifindex, &frame(with_source(key, forged)));
        assert_eq!(verdict, Verdict::Dropped);
        lab.assert_drops(&[(DropReason::ForgedSource, 1)]);

        let called: IpAddr = addresses(1).called.v4.into();
        let as_called = frame(with_source(key, called));
        let verdict = lab.instance_sends(lab.client_ifindex, &as_called);
        assert!(
            matches!(verdict, Verdict::Redirected(_)),
            "a caller calls from one address"
        );

        let own: IpAddr = addresses(2).caller.v4.into();
        let stays = frame(with_source(key, own));
        let verdict = lab.instance_sends(lab.server_ifindex, &stays);
        assert!(
            matches!(verdict, Verdict::Redirected(_)),
            "it may not leave"
        );
    });
}

#[test]
fn link_local_addresses_and_ipv6_stay_with_the_router() {
    in_own_namespaces(|| {
        let mut lab = lab();
        let v6 = every_kind_of_key()
            .into_iter()
            .find(|key| key.source.is_ipv6());
        for key in [
            to(v4_keys()[0], "169.254.169.254"),
            to(v6.unwrap(), "2001:db8::1"),
        ] {
            let verdict = lab.instance_sends(lab.client_ifindex, &frame(key));
            assert!(matches!(verdict, Verdict::Redirected(_)), "{key}");
        }
    });
}

//! The inside of an instance's namespace: its settings, addresses and routes.

use super::netlink::Netlink;
use super::{HOST_MAC, INSTANCE_DEVICE, NetworkError};
use crate::namespace::DNS_ADDRESS;
use crate::sysctl;
use margay_core::address::InstanceAddresses;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteMessage, RouteType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The IPv4 next hop of every instance; nobody holds it, its MAC is written down.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The IPv6 next hop of every instance; nobody holds it, its MAC is written down.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The loopback device's index in every namespace.
const LOOPBACK_IFINDEX: u32 = 1;

/// How often the kernel is asked for a local route that it has yet to add; seldom more than once.
const LOCAL_ROUTE_POLL: Duration = Duration::from_millis(1);

/// How long the kernel may take to add a local route, on a host under the worst of loads.
const LOCAL_ROUTE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Settings of the namespace; those of `default` must stand before the device is made.
const SETTINGS: &[(&str, &str)] = &[
    // Instances run unprivileged and still serve port 80 and ping.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
    // A new namespace takes over the host's filter. Sources are checked outside, where an
    // instance cannot reach; here the filter could only lose packets.
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    // A host may run without IPv6; its instances do not.
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    // Nothing is discovered, announced or made up: addresses and routes are given.
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/autoconf", "0"),
    ("net/ipv6/conf/default/addr_gen_mode", "1"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
];

/// Writes the settings of the calling thread's namespace.
pub(super) fn write_settings() -> Result<(), NetworkError> {
    for (key, value) in SETTINGS {
        sysctl::write(key, value)?;
    }
    Ok(())
}

/// Brings up the devices of the namespace; the pair exists and its host side is up. Answers the index
/// of the instance's side.
pub(super) async fn bring_up(instance: &Netlink) -> Result<u32, NetworkError> {
    instance.bring_up("lo", LOOPBACK_IFINDEX).await?;
    let ifindex = instance.expect(INSTANCE_DEVICE).await?;
    instance.bring_up(INSTANCE_DEVICE, ifindex).await?;
    for gateway in [IpAddr::from(GATEWAY_V4), IpAddr::from(GATEWAY_V6)] {
        instance
            .add_neighbour(INSTANCE_DEVICE, ifindex, gateway, HOST_MAC)
            .await?;
    }
    Ok(ifindex)
}

/// Gives the instance, whose device is `ifindex`, its addresses and routes.
pub(super) async fn address(
    instance: &Netlink,
    ifindex: u32,
    addresses: &InstanceAddresses,
) -> Result<(), NetworkError> {
    // Those of IPv6 first: the kernel still works on them while the others are added.
    let held: [IpAddr; 5] = [
        addresses.called.v6.into(),
        addresses.caller.v6.into(),
        addresses.called.v4.into(),
        addresses.caller.v4.into(),
        DNS_ADDRESS.into(),
    ];
    for address in held {
        instance
            .add_address("lo", LOOPBACK_IFINDEX, address)
            .await?;
    }
    for route in default_routes(ifindex, addresses) {
        instance.add_route(INSTANCE_DEVICE, route).await?;
    }
    for address in [addresses.called.v6, addresses.caller.v6] {
        delivered_here(instance, address).await?;
    }
    Ok(())
}

/// Waits until packets to `address` are delivered.
///
/// The kernel adds the local route of an IPv6 address from a work queue, even where it detects no
/// duplicates (addrconf_dad_work); a connection that is faster finds no route and fails.
async fn delivered_here(instance: &Netlink, address: Ipv6Addr) -> Result<(), NetworkError> {
    let delivered = async {
        while instance.route_kind(address).await? != Some(RouteType::Local) {
            tokio::time::sleep(LOCAL_ROUTE_POLL).await;
        }
        Ok(())
    };
    tokio::time::timeout(LOCAL_ROUTE_WAIT_MAX, delivered)
        .await
        .unwrap_or(Err(NetworkError::NotDelivered(address)))
}

/// One default route per family, from the caller address (Linux would pick the called one).
fn default_routes(ifindex: u32, addresses: &InstanceAddresses) -> [RouteMessage; 2] {
    [
        RouteMessageBuilder::<Ipv4Addr>::new()
            .output_interface(ifindex)
            .gateway(GATEWAY_V4)
            .onlink()
            .pref_source(addresses.caller.v4)
            .build(),
        RouteMessageBuilder::<Ipv6Addr>::new()
            .output_interface(ifindex)
            .gateway(GATEWAY_V6)
            .pref_source(addresses.caller.v6)
            .build(),
    ]
}

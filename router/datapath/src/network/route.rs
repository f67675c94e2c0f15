//! How packets get to an address, by the host's own routes.

use super::NetworkError;
use super::netlink::Netlink;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteVia};
use std::net::IpAddr;

/// The way of a packet to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// By which device it leaves.
    pub ifindex: u32,
    /// From which address, if its sender does not say.
    pub source: IpAddr,
    /// To whom it goes first; `None` if the address is on the device's own link.
    pub gateway: Option<IpAddr>,
}

/// Asks the kernel for the route to `address`.
///
/// Runs within a Tokio runtime whose threads are all in the host's namespace.
pub async fn route_to(address: IpAddr) -> Result<Route, NetworkError> {
    let message = Netlink::connect()?.route_of(address).await?;
    read(&message).ok_or(NetworkError::NoRoute(address))
}

fn read(message: &RouteMessage) -> Option<Route> {
    let (mut ifindex, mut source, mut gateway) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some((*address).into()),
            _ => {}
        }
    }
    Some(Route {
        ifindex: ifindex?,
        source: source?,
        gateway,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespaced::isolated_async;
    use std::process::Command;

    fn ip(words: &str) {
        let status = Command::new("ip").args(words.split(' ')).status();
        assert!(status.unwrap().success(), "ip {words}");
    }

    #[test]
    fn neighbours_are_on_the_link_and_others_behind_a_gateway() {
        isolated_async(async || {
            for words in [
                "link add eth0 type veth peer name eth1",
                "link set eth1 up",
                "addr add 192.0.2.1/24 dev eth0",
                "addr add 2001:db8::1/64 dev eth0 nodad",
                "link set eth0 up",
                "route add default via 192.0.2.254",
            ] {
                ip(words);
            }
            let near = route_to([192, 0, 2, 7].into()).await.unwrap();
            assert_eq!((near.source, near.gateway), ([192, 0, 2, 1].into(), None));
            let near = route_to("2001:db8::7".parse().unwrap()).await.unwrap();
            assert_eq!(near.gateway, None);
            let far = route_to([198, 51, 100, 1].into()).await.unwrap();
            assert_eq!(far.gateway, Some([192, 0, 2, 254].into()));
            assert_eq!(far.ifindex, near.ifindex);
            assert!(route_to("2001:db8:1::1".parse().unwrap()).await.is_err());
        });
    }
}

//! Gives an instance its network: addresses, a device pair and routes, with nothing to discover.
//!
//! ```text
//!  host's namespace        | instance's namespace
//!                          |   lo    called, caller (v4, v6), 169.254.53.53
//!  mgX  02:4d:..:02  ------+-- eth0  02:4d:..:03
//!  no address, no IPv6     |   default via 169.254.1.1 and fe80::1, src caller,
//!                          |   both with the MAC of mgX for ever
//! ```

mod inside;
mod netlink;
mod route;

pub use route::{Route, route_to};

use margay_core::address::InstanceAddresses;
use margay_core::composition::Egress;
use margay_core::id::EndpointIndex;
use netlink::Netlink;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The MTU of every instance of a network, in bytes: what any path between two hosts carries in
/// its encapsulation, so that moving an instance never changes a segment size.
pub const INSTANCE_MTU: u32 = 1400;

/// The MAC of every host side: the same everywhere, so that a moved instance finds its neighbour.
const HOST_MAC: [u8; 6] = [0x02, 0x4d, 0x47, 0x00, 0x00, 0x02];

/// The MAC of every instance; each is alone on its link.
const INSTANCE_MAC: [u8; 6] = [0x02, 0x4d, 0x47, 0x00, 0x00, 0x03];

/// What an instance calls its only device.
const INSTANCE_DEVICE: &str = "eth0";

/// An instance's network but for what is the instance's own: its addresses, and routes from them.
pub struct EmptyNetwork {
    ifindex: u32,
    netns_id: Option<u32>,
    name: String,
    host: Netlink,
    instance: Netlink,
    /// The instance's device, inside.
    inner_ifindex: u32,
}

/// Why an instance has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no netlink socket.
    #[error("cannot open a netlink socket: {0}; are too many files open?")]
    Connect(#[source] io::Error),
    /// The namespace could not be entered.
    #[error("cannot enter the instance's network namespace: {0}; was it deleted?")]
    Enter(#[source] io::Error),
    /// A kernel setting could not be written.
    #[error(transparent)]
    Sysctl(#[from] crate::sysctl::SysctlError),
    /// The host is no router, and becomes none by itself.
    #[error(
        "`egress = \"all\"` needs a host that forwards packets, and this one does not: let it with \
         `sysctl -w net.ipv4.ip_forward=1`, or leave `egress` out"
    )]
    NotForwarding,
    /// Somebody else's device has the name.
    #[error("the network device {0} exists and is not ours; rename or delete it")]
    NameTaken(String),
    /// A device was deleted while it was being set up.
    #[error("the network device {0} vanished while it was being set up; try again")]
    Vanished(String),
    /// An address of the instance never became its own.
    #[error("the kernel delivers no packets to {0} though lo holds it; try again")]
    NotDelivered(Ipv6Addr),
    /// No route leads there.
    #[error("no route leads to {0}; add one, as `ip route` shows them")]
    NoRoute(IpAddr),
    /// The kernel refused a request.
    #[error("cannot {action} {device}: {source}; the daemon must be root in its namespace")]
    Request {
        /// What was tried.
        action: String,
        /// On which device.
        device: String,
        /// What the kernel said.
        source: Box<rtnetlink::Error>,
    },
}

impl NetworkError {
    fn request(action: impl Into<String>, device: &str, error: rtnetlink::Error) -> NetworkError {
        NetworkError::Request {
            action: action.into(),
            device: device.to_owned(),
            source: Box::new(error),
        }
    }
}

/// Makes the network of an instance to come, whose namespace is `netns`; `endpoint` names the host side
/// of its device, which lies in the caller's namespace.
///
/// What an earlier try left behind is taken away first; after an error nothing is left. Runs within
/// a Tokio runtime whose threads are all in the host's namespace.
pub async fn make_network(
    netns: BorrowedFd<'_>,
    endpoint: EndpointIndex,
) -> Result<EmptyNetwork, NetworkError> {
    let name = device_name(endpoint);
    let host = Netlink::connect()?;
    if let Some(found) = host.find(&name).await? {
        if !found.is_veth || found.mac != HOST_MAC {
            return Err(NetworkError::NameTaken(name));
        }
        host.delete(found.ifindex).await?;
    }

    let instance = Netlink::connect_in(netns, inside::write_settings)?;
    if let Some(found) = instance.find(INSTANCE_DEVICE).await? {
        instance.delete(found.ifindex).await?;
    }

    host.add_device(&name, device_pair(&name, netns)).await?;
    let ifindex = host.expect(&name).await?;
    let outcome = async {
        crate::sysctl::disable_ipv6(&name)?;
        host.bring_up(&name, ifindex).await?;
        let netns_id = host.peer_namespace(ifindex).await?;
        Ok((netns_id, inside::bring_up(&instance).await?))
    };
    let outcome = outcome.await;
    let (netns_id, inner_ifindex) = or_delete(&host, &name, ifindex, outcome).await?;
    Ok(EmptyNetwork {
        ifindex,
        netns_id,
        name,
        host,
        instance,
        inner_ifindex,
    })
}

impl EmptyNetwork {
    /// The interface index of the host side.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The host's number for the namespace inside, if the kernel says it.
    pub fn netns_id(&self) -> Option<u32> {
        self.netns_id
    }

    /// Gives the network to the instance that has these addresses, and for which the host routes or
    /// not. After an error nothing of the network is left.
    pub async fn settle(
        self,
        addresses: &InstanceAddresses,
        egress: Egress,
    ) -> Result<(), NetworkError> {
        let outcome = async {
            if egress == Egress::All {
                let caller = addresses.caller.v4;
                lead_back(&self.host, &self.name, self.ifindex, caller).await?;
            }
            inside::address(&self.instance, self.inner_ifindex, addresses).await
        };
        let outcome = outcome.await;
        or_delete(&self.host, &self.name, self.ifindex, outcome).await
    }
}

/// Deletes the device of a network that could not be made.
async fn or_delete<T>(
    host: &Netlink,
    name: &str,
    ifindex: u32,
    outcome: Result<T, NetworkError>,
) -> Result<T, NetworkError> {
    if outcome.is_err()
        && let Err(left_behind) = host.delete(ifindex).await
    {
        tracing::warn!(device = name, %left_behind, "a half-made device stays");
    }
    outcome
}

/// Answers the host's number for the network namespace that the other half of a device pair lies in.
#[cfg(test)]
pub(crate) async fn peer_namespace(ifindex: u32) -> Result<Option<u32>, NetworkError> {
    Netlink::connect()?.peer_namespace(ifindex).await
}

/// Has the host route answers from outside back to the instance, and nothing else: its device has no
/// address, and nobody is asked who holds the instance's.
async fn lead_back(
    host: &Netlink,
    name: &str,
    ifindex: u32,
    caller: Ipv4Addr,
) -> Result<(), NetworkError> {
    if crate::sysctl::read("net/ipv4/ip_forward")? != "1" {
        return Err(NetworkError::NotForwarding);
    }
    crate::sysctl::write(&format!("net/ipv4/conf/{name}/forwarding"), "1")?;
    host.add_neighbour(name, ifindex, caller.into(), INSTANCE_MAC)
        .await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(caller, 32)
        .output_interface(ifindex)
        .scope(RouteScope::Link)
        .build();
    host.add_route(name, route).await
}

/// Takes the host side of a device down, so that nothing comes out of the instance any more; one that
/// is gone already is a success.
///
/// Runs within a Tokio runtime whose threads are all in the host's namespace.
pub async fn silence_device(ifindex: u32) -> Result<(), NetworkError> {
    Netlink::connect()?.take_down(ifindex).await
}

/// Deletes a device pair by the index of its host side; one that is gone already is a success.
///
/// Runs within a Tokio runtime whose threads are all in the host's namespace.
pub async fn remove_device(ifindex: u32) -> Result<(), NetworkError> {
    Netlink::connect()?.delete(ifindex).await
}

/// The name of the host side: at most ten characters, so no index is too long for it.
fn device_name(endpoint: EndpointIndex) -> String {
    format!("mg{:x}", endpoint.0)
}

/// Both sides of the pair, the peer made inside `netns` directly.
fn device_pair(name: &str, netns: BorrowedFd<'_>) -> LinkMessage {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(INSTANCE_DEVICE.to_owned())
        .address(INSTANCE_MAC.to_vec())
        .mtu(INSTANCE_MTU)
        .setns_by_fd(netns.as_raw_fd())
        .build();
    LinkVeth::new(name, INSTANCE_DEVICE)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .address(HOST_MAC.to_vec())
        .mtu(INSTANCE_MTU)
        .build()
}

#[cfg(test)]
mod tests;

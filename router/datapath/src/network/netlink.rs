//! Speaks rtnetlink in one namespace: the few requests that an instance's network is made of.

use super::NetworkError;
use crate::namespace::in_namespace;
use futures_util::stream::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteMessage, RouteType};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

/// A connection to the kernel's network configuration in one namespace.
pub(super) struct Netlink(Handle);

/// A device that exists.
pub(super) struct Device {
    pub(super) ifindex: u32,
    pub(super) mac: Vec<u8>,
    pub(super) is_veth: bool,
}

impl Netlink {
    /// Connects in the calling thread's namespace, from within a Tokio runtime.
    pub(super) fn connect() -> Result<Netlink, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Connect)?;
        // Ends by itself once the handle is dropped.
        tokio::spawn(connection);
        Ok(Netlink(handle))
    }

    /// Connects inside `netns`, after `before` ran there.
    pub(super) fn connect_in(
        netns: BorrowedFd<'_>,
        before: impl FnOnce() -> Result<(), NetworkError> + Send,
    ) -> Result<Netlink, NetworkError> {
        let runtime = tokio::runtime::Handle::current();
        in_namespace(netns, || {
            let _runtime = runtime.enter();
            before()?;
            Netlink::connect()
        })
        .map_err(NetworkError::Enter)?
    }

    /// Makes a device.
    pub(super) async fn add_device(
        &self,
        name: &str,
        device: LinkMessage,
    ) -> Result<(), NetworkError> {
        let added = self.0.link().add(device).execute().await;
        added.map_err(|error| NetworkError::request("make", name, error))
    }

    /// Finds a device by name.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Device>, NetworkError> {
        let request = self.0.link().get().match_name(name.to_owned());
        match request.execute().try_next().await {
            Ok(Some(link)) => Ok(Some(device_of(&link))),
            Ok(None) => Ok(None),
            Err(error) if is_missing_device(&error) => Ok(None),
            Err(error) => Err(NetworkError::request("look up", name, error)),
        }
    }

    /// This namespace's number for the one in which the other half of a device pair lies.
    pub(super) async fn peer_namespace(&self, ifindex: u32) -> Result<Option<u32>, NetworkError> {
        let request = self.0.link().get().match_index(ifindex);
        let link = request.execute().try_next().await.map_err(|error| {
            let device = format!("device {ifindex}");
            NetworkError::request("look up", &device, error)
        })?;
        let attributes = link.map(|link| link.attributes).unwrap_or_default();
        Ok(attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkNetNsId(id) => u32::try_from(*id).ok(),
            _ => None,
        }))
    }

    /// Finds a device that was just made.
    pub(super) async fn expect(&self, name: &str) -> Result<u32, NetworkError> {
        let found = self.find(name).await?;
        let device = found.ok_or_else(|| NetworkError::Vanished(name.to_owned()))?;
        Ok(device.ifindex)
    }

    /// Brings a device up.
    pub(super) async fn bring_up(&self, name: &str, ifindex: u32) -> Result<(), NetworkError> {
        let up = LinkUnspec::new_with_index(ifindex).up().build();
        let changed = self.0.link().change(up).execute().await;
        changed.map_err(|error| NetworkError::request("bring up", name, error))
    }

    /// Takes a device down; one that does not exist is down.
    pub(super) async fn take_down(&self, ifindex: u32) -> Result<(), NetworkError> {
        let down = LinkUnspec::new_with_index(ifindex).down().build();
        let changed = self.0.link().change(down).execute().await;
        unless_missing(changed, "take down", ifindex)
    }

    /// Deletes a device; one that does not exist is deleted.
    pub(super) async fn delete(&self, ifindex: u32) -> Result<(), NetworkError> {
        let deleted = self.0.link().del(ifindex).execute().await;
        unless_missing(deleted, "delete", ifindex)
    }

    /// Gives a device one single address, at once and without asking who else has it.
    pub(super) async fn add_address(
        &self,
        name: &str,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<(), NetworkError> {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self.0.address().add(ifindex, address, whole).replace();
        let message = request.message_mut();
        // The library adds a broadcast address: a route that shadows the address itself.
        let attributes = &mut message.attributes;
        attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
        if address.is_ipv6() {
            message.header.flags |= AddressHeaderFlags::Nodad;
        }
        let added = request.execute().await;
        added.map_err(|error| NetworkError::request(format!("add {address} to"), name, error))
    }

    /// Writes down for ever which MAC a neighbour has.
    pub(super) async fn add_neighbour(
        &self,
        name: &str,
        ifindex: u32,
        neighbour: IpAddr,
        mac: [u8; 6],
    ) -> Result<(), NetworkError> {
        let request = self.0.neighbours().add(ifindex, neighbour);
        let added = request.link_local_address(&mac).replace().execute().await;
        added.map_err(|error| {
            NetworkError::request(format!("add the neighbour {neighbour} to"), name, error)
        })
    }

    /// Answers what kind of route a packet to `address` takes; `None` when there is none.
    pub(super) async fn route_kind(
        &self,
        address: Ipv6Addr,
    ) -> Result<Option<RouteType>, NetworkError> {
        let mut question = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, 128)
            .build();
        // A question names only its destination.
        question.header.kind = RouteType::Unspec;
        match self.0.route().get(question).execute().try_next().await {
            Ok(route) => Ok(route.map(|route| route.header.kind)),
            Err(error) if is_unreachable(&error) => Ok(None),
            Err(error) => {
                let action = format!("find the route to {address} on");
                Err(NetworkError::request(action, "lo", error))
            }
        }
    }

    /// Answers by which route a packet to `address` leaves.
    pub(super) async fn route_of(&self, address: IpAddr) -> Result<RouteMessage, NetworkError> {
        let mut question = match address {
            IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(v4, 32)
                .build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(v6, 128)
                .build(),
        };
        // A question names only its destination.
        question.header.kind = RouteType::Unspec;
        let found = self.0.route().get(question).execute().try_next().await;
        let found = found.map_err(|error| {
            NetworkError::request("find a route on", &format!("the way to {address}"), error)
        })?;
        found.ok_or(NetworkError::NoRoute(address))
    }

    /// Adds a route.
    pub(super) async fn add_route(
        &self,
        name: &str,
        route: RouteMessage,
    ) -> Result<(), NetworkError> {
        let added = self.0.route().add(route).execute().await;
        added.map_err(|error| NetworkError::request("route through", name, error))
    }
}

fn device_of(link: &LinkMessage) -> Device {
    let mut device = Device {
        ifindex: link.header.index,
        mac: Vec::new(),
        is_veth: false,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(mac) => device.mac.clone_from(mac),
            LinkAttribute::LinkInfo(info) => {
                device.is_veth = info.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            _ => {}
        }
    }
    device
}

/// What became of a request after which a device need not exist.
fn unless_missing(
    outcome: Result<(), rtnetlink::Error>,
    action: &str,
    ifindex: u32,
) -> Result<(), NetworkError> {
    match outcome {
        Err(error) if !is_missing_device(&error) => {
            let device = format!("device {ifindex}");
            Err(NetworkError::request(action, &device, error))
        }
        _ => Ok(()),
    }
}

fn is_missing_device(error: &rtnetlink::Error) -> bool {
    kernel_says(error, libc::ENODEV)
}

fn is_unreachable(error: &rtnetlink::Error) -> bool {
    kernel_says(error, libc::ENETUNREACH) || kernel_says(error, libc::EHOSTUNREACH)
}

fn kernel_says(error: &rtnetlink::Error, errno: libc::c_int) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno)
}

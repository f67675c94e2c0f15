//! Tells of network devices that disappear, whoever deleted them.

use futures_util::future::FutureExt;
use futures_util::ready;
use futures_util::stream::{BoxStream, StreamExt};
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::proto::Connection;
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Handle, MulticastGroup};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// Receive buffer of the watch, in bytes: the only queue between the kernel and whoever watches.
/// A thousand devices deleted at once fit; what does not fit is told as [`DeviceEvent::Missed`].
const RECEIVE_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// What happened to the namespace's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// The device of this interface index is gone.
    Deleted(u32),
    /// More happened than the queue could hold: look at every device again.
    Missed,
}

/// A watch over the devices of the namespace that it was opened in.
pub struct DeviceWatch {
    connection: Connection<RouteNetlinkMessage>,
    messages: BoxStream<'static, (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    // A connection without a handle shuts down.
    _handle: Handle,
}

impl DeviceWatch {
    /// Opens a watch in the calling thread's network namespace, from within a Tokio runtime.
    pub fn open() -> io::Result<DeviceWatch> {
        let (mut connection, handle, messages) =
            rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        let socket = connection.socket_mut().socket_ref();
        setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES)?;
        Ok(DeviceWatch {
            connection,
            messages: messages.boxed(),
            _handle: handle,
        })
    }

    /// Waits for the next event; a call that is given up loses none.
    pub async fn next(&mut self) -> io::Result<DeviceEvent> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Reads from the kernel only when all that was read before has been told, so that messages
    /// queue in the kernel's bounded buffer while nobody asks for them.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<DeviceEvent>> {
        if let Poll::Ready(event) = self.poll_read(context) {
            return Poll::Ready(event);
        }
        if self.connection.poll_unpin(context).is_ready() {
            return Poll::Ready(Err(closed()));
        }
        self.poll_read(context)
    }

    /// Takes the next event among the messages that were read already.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<DeviceEvent>> {
        while let Some((message, _)) = ready!(self.messages.poll_next_unpin(context)) {
            if let Some(event) = event_of(&message.payload) {
                return Poll::Ready(Ok(event));
            }
        }
        Poll::Ready(Err(closed()))
    }
}

/// What a message says about a device that is gone.
fn event_of(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<DeviceEvent> {
    match payload {
        // A bridge that lets go of a port says so with the same message in its own family.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
            if link.header.interface_family == AddressFamily::Unspec =>
        {
            Some(DeviceEvent::Deleted(link.header.index))
        }
        NetlinkPayload::Overrun(_) => Some(DeviceEvent::Missed),
        _ => None,
    }
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the kernel's device messages ended; open a new watch and look at every device again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespaced::isolated_async;
    use nix::net::if_::if_nametoindex;
    use rtnetlink::{LinkBridge, LinkUnspec, LinkVeth};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Makes `count` veth pairs and answers the index of each first half.
    async fn make_pairs(handle: &Handle, count: u32) -> Vec<u32> {
        let mut indices = Vec::new();
        for pair in 0..count {
            let (name, peer) = (format!("a{pair}"), format!("b{pair}"));
            let pair = LinkVeth::new(&name, &peer).build();
            handle.link().add(pair).execute().await.unwrap();
            indices.push(if_nametoindex(name.as_str()).unwrap());
        }
        indices
    }

    fn connect() -> Handle {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        handle
    }

    #[test]
    fn deleted_devices_are_told_in_order() {
        isolated_async(async || {
            let handle = connect();
            let indices = make_pairs(&handle, 2).await;
            let mut watch = DeviceWatch::open().unwrap();

            for index in &indices {
                handle.link().del(*index).execute().await.unwrap();
            }

            let mut told = Vec::new();
            while !indices.iter().all(|index| told.contains(index)) {
                let event = tokio::time::timeout(PATIENCE, watch.next()).await;
                match event.expect("a deletion in time").unwrap() {
                    DeviceEvent::Deleted(index) => told.push(index),
                    DeviceEvent::Missed => panic!("nothing was missed"),
                }
            }
            told.retain(|index| indices.contains(index));
            assert_eq!(told, indices);
        });
    }

    #[test]
    fn a_port_that_leaves_its_bridge_is_not_told_as_deleted() {
        isolated_async(async || {
            let handle = connect();
            let indices = make_pairs(&handle, 2).await;
            let bridge = LinkBridge::new("bridge").build();
            handle.link().add(bridge).execute().await.unwrap();
            let bridge = if_nametoindex("bridge").unwrap();
            let join = LinkUnspec::new_with_index(indices[0]).controller(bridge);
            handle.link().change(join.build()).execute().await.unwrap();
            let mut watch = DeviceWatch::open().unwrap();

            let leave = LinkUnspec::new_with_index(indices[0]).nocontroller();
            handle.link().change(leave.build()).execute().await.unwrap();
            handle.link().del(indices[1]).execute().await.unwrap();

            let event = tokio::time::timeout(PATIENCE, watch.next()).await;
            let DeviceEvent::Deleted(told) = event.expect("a deletion in time").unwrap() else {
                panic!("nothing was missed");
            };
            assert_ne!(told, indices[0], "the port still exists");
        });
    }

    #[test]
    fn a_watcher_that_fell_behind_is_told_to_look_again() {
        isolated_async(async || {
            let handle = connect();
            let mut watch = DeviceWatch::open().unwrap();
            let socket = watch.connection.socket_mut().socket_ref();
            setsockopt(socket, sockopt::RcvBufForce, &4096).unwrap();

            for index in make_pairs(&handle, 10).await {
                handle.link().del(index).execute().await.unwrap();
            }

            let mut event = DeviceEvent::Deleted(0);
            while event != DeviceEvent::Missed {
                let next = tokio::time::timeout(PATIENCE, watch.next()).await;
                event = next.expect("a hint that something was missed").unwrap();
            }
        });
    }
}

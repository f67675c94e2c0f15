//! The keeper's clients: who may connect, and what is sent to whom.

use crate::message::{Event, Notice, Reply};
use crate::system;
use crate::wire::{self, Packet, WireError};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockFlag, accept4, getsockopt, sockopt};
use nix::unistd::geteuid;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The most connections at once: a daemon, its successor, their subscriptions, a dozen of an
/// operator's tools, and room for each of them to be sloppy.
const CONNECTIONS_MAX: usize = 64;

/// How much a subscriber may leave unread, in the kernel's count of bytes: some hundred events,
/// and well below the 212,992 bytes of a default socket buffer.
const UNREAD_BYTES_MAX: usize = 128 * 1024;

/// Names one connection; never used twice in a keeper's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId(u64);

/// One client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// Whether it receives events.
    pub(super) subscribed: bool,
}

/// All clients.
#[derive(Debug, Default)]
pub(super) struct Connections {
    table: BTreeMap<ConnectionId, Connection>,
    next: u64,
}

impl Connections {
    /// Accepts one client, if it may be one and there is room.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>) -> Result<(), Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = match accept4(listener.as_raw_fd(), flags) {
            // SAFETY: the kernel has just made this descriptor for this process.
            Ok(raw) => unsafe { OwnedFd::from_raw_fd(raw) },
            // The client went away meanwhile.
            Err(Errno::EAGAIN | Errno::ECONNABORTED) => return Ok(()),
            Err(error) => return Err(error),
        };
        let connection = Connection {
            socket,
            subscribed: false,
        };
        let peer = getsockopt(&connection.socket, sockopt::PeerCredentials)?.uid();
        if peer != 0 && peer != geteuid().as_raw() {
            super::note(&format!(
                "refused a client (reason not_permitted): its user id is {peer}"
            ));
            connection.refuse("only root and the keeper's own user may use it");
        } else if self.table.len() >= CONNECTIONS_MAX {
            super::note("refused a client (reason too_many_clients)");
            connection.refuse(&format!(
                "{CONNECTIONS_MAX} clients are connected; close some"
            ));
        } else {
            self.insert(connection);
        }
        Ok(())
    }

    /// Takes a connection in.
    pub(super) fn insert(&mut self, connection: Connection) -> ConnectionId {
        let id = ConnectionId(self.next);
        self.next += 1;
        self.table.insert(id, connection);
        id
    }

    /// All sockets.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.table.iter().map(|(id, connection)| (*id, connection))
    }

    /// Receives the packet that `id` has sent; `None`: there is none, or the client is gone.
    pub(super) fn receive(&mut self, id: ConnectionId) -> Option<Packet> {
        let socket = self.table.get(&id)?.socket.as_fd();
        match wire::receive(socket, MsgFlags::MSG_DONTWAIT) {
            Ok(packet) => Some(packet),
            Err(WireError::NotNow) => None,
            Err(error @ WireError::TooLarge) => {
                self.answer(
                    id,
                    &Reply::Refused {
                        reason: error.to_string(),
                    },
                    &[],
                );
                None
            }
            Err(_) => {
                self.table.remove(&id);
                None
            }
        }
    }

    /// Answers `id`; a client that does not take its answer is dropped.
    pub(super) fn answer(&mut self, id: ConnectionId, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        let Some(connection) = self.table.get(&id) else {
            return;
        };
        match wire::send(
            connection.socket.as_fd(),
            reply,
            fds,
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(()) => {}
            Err(error) => {
                super::note(&format!(
                    "dropped a client (reason answer_not_taken): {error}"
                ));
                self.table.remove(&id);
            }
        }
    }

    /// Sends `id` all events from now on.
    pub(super) fn subscribe(&mut self, id: ConnectionId) {
        if let Some(connection) = self.table.get_mut(&id) {
            connection.subscribed = true;
        }
    }

    /// Tells every subscriber of `event`; those that do not read are told so and dropped.
    pub(super) fn publish(&mut self, event: &Event) {
        let notice = Notice::Event(event.clone());
        self.table.retain(|_, connection| {
            if !connection.subscribed {
                return true;
            }
            let kept = connection.notify(&notice);
            if !kept {
                super::note("dropped a subscriber (reason subscriber_too_slow)");
            }
            kept
        });
    }
}

impl Connection {
    /// Sends one notice; false if this was the last.
    fn notify(&self, notice: &Notice) -> bool {
        let socket = self.socket.as_fd();
        let unread = system::unread_bytes(socket).unwrap_or(usize::MAX);
        if unread > UNREAD_BYTES_MAX {
            // The rest of the socket's buffer is room for this.
            let reason = "subscriber_too_slow: it left too many events unread".into();
            let _ = wire::send(
                socket,
                &Notice::Dropped { reason },
                &[],
                MsgFlags::MSG_DONTWAIT,
            );
            return false;
        }
        wire::send(socket, notice, &[], MsgFlags::MSG_DONTWAIT).is_ok()
    }

    /// Says why, and ends.
    fn refuse(self, reason: &str) {
        let reply = Reply::Refused {
            reason: reason.into(),
        };
        let _ = wire::send(self.socket.as_fd(), &reply, &[], MsgFlags::MSG_DONTWAIT);
    }
}

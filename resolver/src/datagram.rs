//! UDP in batches: one system call receives many queries, one sends their replies.

use crate::counts::Count;
use crate::forward::Asker;
use crate::limits::QUERY_BYTES_MAX;
use crate::reply::Transport;
use crate::responder::{Responder, Response};
use margay_core::id::InstanceId;
use mio::Token;
use std::array::from_fn;
use std::fmt;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Datagrams in one batch: enough to spread the cost of a system call thin, few enough that a
/// flooded socket's turn ends within about a hundred microseconds.
pub(crate) const BATCH: usize = 32;

/// Room for one batch of queries and their replies, used again for each batch.
pub(crate) struct Batch {
    queries: Box<[Datagram]>,
    replies: Box<[Reply]>,
}

/// A query as received.
#[derive(Clone)]
struct Datagram {
    bytes: [u8; QUERY_BYTES_MAX],
    bytes_len: usize,
    peer: libc::sockaddr_storage,
    peer_len: libc::socklen_t,
}

/// Who sent a datagram, as the kernel writes it.
#[derive(Clone)]
pub(crate) struct Peer {
    addr: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer of family {}", self.addr.ss_family)
    }
}

/// A reply to be sent to the peer of the batch's query number `to`.
#[derive(Clone, Default)]
struct Reply {
    to: usize,
    bytes: Vec<u8>,
}

impl Batch {
    /// Empty room.
    pub(crate) fn new() -> Batch {
        // SAFETY: sockaddr_storage is plain numbers, for which all zero is a value (AF_UNSPEC).
        let peer = unsafe { zeroed() };
        let empty = Datagram {
            bytes: [0; QUERY_BYTES_MAX],
            bytes_len: 0,
            peer,
            peer_len: 0,
        };
        Batch {
            queries: vec![empty; BATCH].into_boxed_slice(),
            replies: vec![Reply::default(); BATCH].into_boxed_slice(),
        }
    }

    /// Takes one turn on a socket of `caller`: receives a batch, replies to it.
    ///
    /// Returns whether more may be waiting; if not, the socket's next readiness event tells.
    pub(crate) fn turn(
        &mut self,
        socket: BorrowedFd<'_>,
        token: Token,
        caller: InstanceId,
        responder: &mut Responder,
    ) -> bool {
        let received = match self.receive(socket) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                // Not tried again at once, lest a lasting error spin; a caller's retry is an event.
                tracing::debug!(%caller, %error, "reading queries failed");
                responder.tally().count(Count::ReceiveFailed);
                return false;
            }
        };
        let mut replies = 0;
        for (index, query) in self.queries[..received].iter().enumerate() {
            let reply = &mut self.replies[replies];
            let bytes = &query.bytes[..query.bytes_len];
            let asker = || {
                let (addr, len) = (query.peer, query.peer_len);
                Asker::Datagram(token, Peer { addr, len })
            };
            if responder.respond(caller, bytes, Transport::Udp, asker, &mut reply.bytes)
                == Response::Ready
            {
                reply.to = index;
                replies += 1;
            }
        }
        let refused = self.send(socket, replies);
        responder.tally().count_many(Count::SendRefused, refused);
        received == BATCH
    }

    fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut pieces: [libc::iovec; BATCH] = from_fn(|index| libc::iovec {
            iov_base: self.queries[index].bytes.as_mut_ptr().cast(),
            iov_len: QUERY_BYTES_MAX,
        });
        let mut headers: [libc::mmsghdr; BATCH] = from_fn(|index| {
            let peer = &raw mut self.queries[index].peer;
            header(
                &raw mut pieces[index],
                peer,
                size_of::<libc::sockaddr_storage>(),
            )
        });
        // SAFETY: each of the BATCH headers points at one piece and one address, both alive and
        // borrowed by nobody else until the call returns; each piece spans its own query's bytes.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (query, header) in self.queries.iter_mut().zip(&headers[..received]) {
            query.bytes_len = (header.msg_len as usize).min(QUERY_BYTES_MAX);
            query.peer_len = header.msg_hdr.msg_namelen;
        }
        Ok(received)
    }

    /// Sends the first `count` replies; returns how many the kernel refused. Their callers ask
    /// again, as after any lost datagram.
    fn send(&mut self, socket: BorrowedFd<'_>, count: usize) -> usize {
        let mut pieces: [libc::iovec; BATCH] = from_fn(|index| {
            let bytes = &mut self.replies[index].bytes;
            libc::iovec {
                iov_base: bytes.as_mut_ptr().cast(),
                iov_len: bytes.len(),
            }
        });
        let mut headers: [libc::mmsghdr; BATCH] = from_fn(|index| {
            let query = &mut self.queries[self.replies[index].to];
            let peer_bytes = query.peer_len as usize;
            header(&raw mut pieces[index], &raw mut query.peer, peer_bytes)
        });
        let (mut next, mut refused) = (0, 0);
        while next < count {
            // SAFETY: each header points at one piece and one address, both alive until the call
            // returns and only read by it; each piece spans its own reply's bytes.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    headers[next..count].as_mut_ptr(),
                    (count - next) as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => next += sent,
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => {
                    return refused + (count - next);
                }
                // The error is of the first one left (a peer without a route, say): step over it.
                Err(_) => {
                    refused += 1;
                    next += 1;
                }
            }
        }
        refused
    }
}

/// Sends one reply to a peer; returns whether the kernel took it.
pub(crate) fn send_to(socket: BorrowedFd<'_>, bytes: &[u8], peer: &Peer) -> bool {
    // SAFETY: the bytes and the address are alive until the call returns and only read by it; the
    // address is as long as the kernel said when it wrote it.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT,
            (&raw const peer.addr).cast(),
            peer.len,
        )
    };
    sent >= 0
}

fn header(
    piece: *mut libc::iovec,
    peer: *mut libc::sockaddr_storage,
    peer_bytes: usize,
) -> libc::mmsghdr {
    // SAFETY: mmsghdr is plain numbers and pointers, for which all zero is a value.
    let mut header: libc::mmsghdr = unsafe { zeroed() };
    header.msg_hdr.msg_iov = piece;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_name = peer.cast();
    header.msg_hdr.msg_namelen = peer_bytes as libc::socklen_t;
    header
}

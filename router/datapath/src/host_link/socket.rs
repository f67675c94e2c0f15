//! The link's UDP socket: both families on one port, many datagrams a system call.

use super::message::DATAGRAM_BYTES_MAX;
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrStorage, bind,
    recvmmsg, sendto, setsockopt, socket, sockopt,
};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Datagrams that one system call brings.
const BATCH: usize = 32;

/// One byte more than the longest, so that a longer one is not taken for it.
const BUFFER_BYTES: usize = DATAGRAM_BYTES_MAX + 1;

/// What the kernel keeps while the router is busy: some tens of milliseconds of a busy host's frames.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// The link's UDP socket, without blocking.
#[derive(Debug)]
pub struct LinkSocket {
    socket: UdpSocket,
    is_v6: bool,
    buffers: Vec<[u8; BUFFER_BYTES]>,
    /// Who sent what is in the buffers, and how long it is; those before `next` were handed out.
    batch: Vec<(SocketAddr, usize)>,
    next: usize,
    unsent: u64,
}

impl LinkSocket {
    /// Opens a socket on `port` of all addresses of the calling thread's network namespace, which it
    /// shares with the host's echo. A host without IPv6 gets one for IPv4 only.
    pub fn open(port: u16) -> io::Result<LinkSocket> {
        Ok(LinkSocket::new(bound(port, true)?))
    }

    /// Opens a socket on any free port.
    pub fn open_anywhere() -> io::Result<LinkSocket> {
        Ok(LinkSocket::new(bound(0, false)?))
    }

    fn new((fd, is_v6): (OwnedFd, bool)) -> LinkSocket {
        // The kernel gives what it may; more is only asked for.
        let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES);
        LinkSocket {
            socket: UdpSocket::from(fd),
            is_v6,
            buffers: vec![[0; BUFFER_BYTES]; BATCH],
            batch: Vec::with_capacity(BATCH),
            next: 0,
            unsent: 0,
        }
    }

    /// The port.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Datagrams that the kernel did not take.
    pub fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Hands out the next datagram and its sender; `None` when none waits.
    pub fn receive(&mut self) -> io::Result<Option<(SocketAddr, &[u8])>> {
        if self.next == self.batch.len() {
            // A batch that was not full took all that waited: to ask again would tell the same.
            let took_all = (1..BATCH).contains(&self.batch.len());
            self.batch.clear();
            self.next = 0;
            if took_all || !self.fill()? {
                return Ok(None);
            }
        }
        let (from, length) = self.batch[self.next];
        let datagram = &self.buffers[self.next][..length];
        self.next += 1;
        Ok(Some((from, datagram)))
    }

    /// Sends a datagram. One that the kernel does not take is lost, as any datagram may be, and
    /// counted.
    pub fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        let to = SockaddrStorage::from(if self.is_v6 { mapped(to) } else { to });
        let sent = sendto(
            self.socket.as_raw_fd(),
            datagram,
            &to,
            MsgFlags::MSG_DONTWAIT,
        );
        if let Err(error) = sent {
            tracing::debug!(%error, "a datagram of the host link was not sent");
            self.unsent += 1;
        }
    }

    /// Reads as many datagrams as wait, up to a batch; answers whether there was any.
    fn fill(&mut self) -> io::Result<bool> {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = self
            .buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let received = recvmmsg(
            self.socket.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        );
        match received {
            Ok(messages) => {
                let read = messages.map(|it| (it.address.as_ref().and_then(plain), it.bytes));
                // The kernel names a sender of each datagram; one that it did not has no answer.
                let unnamed = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                self.batch
                    .extend(read.map(|(from, length)| (from.unwrap_or(unnamed), length)));
                Ok(!self.batch.is_empty())
            }
            Err(nix::Error::EAGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for LinkSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Opens a socket of both families, if the host has both, or of IPv4; says which. Others of the same user
/// may have its port as well if it is shared.
pub(super) fn bound(port: u16, is_shared: bool) -> io::Result<(OwnedFd, bool)> {
    match bound_v6(port, is_shared) {
        Ok(fd) => Ok((fd, true)),
        Err(nix::Error::EAFNOSUPPORT | nix::Error::EADDRNOTAVAIL) => {
            Ok((bound_v4(port, is_shared)?, false))
        }
        Err(error) => Err(error.into()),
    }
}

fn bound_v6(port: u16, is_shared: bool) -> nix::Result<OwnedFd> {
    let fd = open(AddressFamily::Inet6)?;
    setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
    setsockopt(&fd, sockopt::ReusePort, &is_shared)?;
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    bind(fd.as_raw_fd(), &SockaddrStorage::from(everywhere))?;
    Ok(fd)
}

fn bound_v4(port: u16, is_shared: bool) -> nix::Result<OwnedFd> {
    let fd = open(AddressFamily::Inet)?;
    setsockopt(&fd, sockopt::ReusePort, &is_shared)?;
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    bind(fd.as_raw_fd(), &SockaddrStorage::from(everywhere))?;
    Ok(fd)
}

fn open(family: AddressFamily) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(family, SockType::Datagram, flags, SockProtocol::Udp)
}

/// An address as an IPv6 socket wants it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        SocketAddr::V6(_) => address,
    }
}

/// An address as everyone but an IPv6 socket writes it.
fn plain(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    let v6 = address.as_sockaddr_in6()?;
    match v6.ip().to_ipv4_mapped() {
        Some(v4) => Some(SocketAddr::new(IpAddr::V4(v4), v6.port())),
        None => Some(SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespaced::wait_for;
    use std::net::UdpSocket;

    fn receive(socket: &mut LinkSocket) -> (SocketAddr, Vec<u8>) {
        wait_for("a datagram", || {
            let received = socket.receive().unwrap();
            received.map(|(from, datagram)| (from, datagram.to_vec()))
        })
    }

    #[test]
    fn datagrams_of_both_families_come_and_go_on_one_port() {
        let mut link = LinkSocket::open_anywhere().unwrap();
        let port = link.port().unwrap();
        for home in ["127.0.0.1", "::1"] {
            let home: IpAddr = home.parse().unwrap();
            let other = UdpSocket::bind((home, 0)).unwrap();
            other.send_to(b"hello", (home, port)).unwrap();
            let (from, datagram) = receive(&mut link);
            assert_eq!(from, other.local_addr().unwrap());
            assert_eq!(datagram, b"hello");
            link.send(from, b"welcome");
            let mut buffer = [0; 16];
            let (length, from) = other.recv_from(&mut buffer).unwrap();
            assert_eq!((from.port(), &buffer[..length]), (port, &b"welcome"[..]));
        }
        assert_eq!(link.unsent(), 0);
    }

    #[test]
    fn a_batch_keeps_order_and_too_long_datagrams_stay_too_long() {
        let mut link = LinkSocket::open_anywhere().unwrap();
        let port = link.port().unwrap();
        let other = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        for number in 0..100u8 {
            other.send_to(&[number], ("127.0.0.1", port)).unwrap();
        }
        other.send_to(&[0; 9000], ("127.0.0.1", port)).unwrap();
        for number in 0..100u8 {
            assert_eq!(receive(&mut link).1, [number]);
        }
        assert_eq!(receive(&mut link).1.len(), DATAGRAM_BYTES_MAX + 1);
        assert!(link.receive().unwrap().is_none());
    }

    #[test]
    fn what_comes_while_a_batch_is_read_is_left_to_the_next_look() {
        let mut link = LinkSocket::open_anywhere().unwrap();
        let port = link.port().unwrap();
        let other = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        other.send_to(&[1], ("127.0.0.1", port)).unwrap();
        assert_eq!(receive(&mut link).1, [1]);
        other.send_to(&[2], ("127.0.0.1", port)).unwrap();
        assert!(link.receive().unwrap().is_none());
        assert_eq!(receive(&mut link).1, [2]);
    }

    #[test]
    fn what_the_kernel_does_not_take_is_counted() {
        let mut link = LinkSocket::open_anywhere().unwrap();
        link.send("127.0.0.1:0".parse().unwrap(), b"to no port");
        assert_eq!(link.unsent(), 1);
    }
}

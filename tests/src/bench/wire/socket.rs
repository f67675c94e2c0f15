//! Sockets with the congestion control that the run demands, checked by reading it back.

use crate::bench::conditions::CongestionControl;
use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, listen,
    setsockopt, socket, sockopt,
};
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};

/// Connections that may wait for `accept`; more than one client ever has open.
const BACKLOG: i32 = 4096;

/// Receive buffer of a counting server, in bytes: a scheduling pause must not become loss.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Opens a TCP connection with `congestion` and without Nagle's delay.
pub(super) fn dial(to: SocketAddr, congestion: CongestionControl) -> Result<TcpStream> {
    let descriptor = tcp_socket(to, congestion)?;
    connect(descriptor.as_raw_fd(), &SockaddrStorage::from(to))
        .with_context(|| format!("connect to {to}"))?;
    Ok(TcpStream::from(descriptor))
}

/// Listens for TCP connections, which inherit `congestion` and no delay.
pub(super) fn listen_at(at: SocketAddr, congestion: CongestionControl) -> Result<TcpListener> {
    let descriptor = tcp_socket(at, congestion)?;
    setsockopt(&descriptor, sockopt::ReuseAddr, &true)?;
    bind(descriptor.as_raw_fd(), &SockaddrStorage::from(at))
        .with_context(|| format!("bind tcp {at}"))?;
    listen(&descriptor, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(descriptor))
}

/// Opens a UDP server whose buffer outlasts a scheduling pause.
pub(super) fn datagrams_at(at: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(at).with_context(|| format!("bind udp {at}"))?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES)
        .context("enlarge the receive buffer (needs CAP_NET_ADMIN)")?;
    Ok(socket)
}

/// Makes connections that end by reset: a client's ports are then free again at once.
pub(super) fn reset_on_close(stream: &TcpStream) -> Result<()> {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(stream, sockopt::Linger, &linger).context("set SO_LINGER")
}

fn tcp_socket(address: SocketAddr, congestion: CongestionControl) -> Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let descriptor = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&descriptor, sockopt::TcpNoDelay, &true)?;
    let wanted = OsString::from(congestion.name());
    setsockopt(&descriptor, sockopt::TcpCongestion, &wanted).with_context(|| {
        format!("set congestion control {congestion} (needs CAP_NET_ADMIN and the algorithm)")
    })?;
    let set = getsockopt(&descriptor, sockopt::TcpCongestion)?;
    if !set.to_string_lossy().starts_with(congestion.name()) {
        bail!(
            "congestion control {congestion} was set, but {} is in force",
            set.display()
        );
    }
    Ok(descriptor)
}

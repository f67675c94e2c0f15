//! Reaches into an instance's network namespace for a socket, and leaves again.

pub use margay_core::address::DNS_ADDRESS;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// The port of DNS (RFC 1035 section 4.2).
pub const DNS_PORT: u16 = 53;

/// Receive buffer of an instance's DNS socket, in bytes: about a thousand queries wait there while
/// the daemon restarts.
const DNS_RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;

/// An instance's DNS sockets, bound inside its namespace and usable from any other.
#[derive(Debug)]
pub struct DnsSockets {
    /// Queries by datagram; non-blocking.
    pub udp: UdpSocket,
    /// Queries by stream; non-blocking.
    pub tcp: TcpListener,
}

/// Why an instance has no DNS sockets.
#[derive(Debug, thiserror::Error)]
pub enum DnsSocketsError {
    /// The namespace could not be entered.
    #[error("cannot enter the instance's network namespace: {0}; was it deleted?")]
    Enter(#[source] io::Error),
    /// A socket could not be bound or set up.
    #[error(
        "cannot {action} at {DNS_ADDRESS}:{DNS_PORT} in the instance's network namespace: \
         {source}; prepare the instance's network first and let nothing else listen there"
    )]
    Socket {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Makes a network namespace in which nothing is; it lives as long as its descriptor.
pub fn new_namespace() -> io::Result<OwnedFd> {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    })
}

/// Runs `body` on a short-lived thread inside the network namespace `netns`.
///
/// Sockets that `body` opens belong to that namespace for life, whoever holds them. The caller
/// waits for the thread, so `body` must not block for long.
pub fn in_namespace<T: Send>(
    netns: BorrowedFd<'_>,
    body: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    on_a_thread(|| {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        Ok(body())
    })
}

/// Runs `body` on a thread that ends with it, and with which its namespace is left.
fn on_a_thread<T: Send>(body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("in-namespace".to_owned())
            .spawn_scoped(scope, body)?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Binds an instance's DNS sockets inside its namespace.
pub fn dns_sockets(netns: BorrowedFd<'_>) -> Result<DnsSockets, DnsSocketsError> {
    in_namespace(netns, bind_dns_sockets).map_err(DnsSocketsError::Enter)?
}

/// Starts to connect to `addr` from inside `netns`; the stream is writable when the outcome is
/// known, which `TcpStream::take_error` then tells.
pub fn connect_tcp_in(netns: BorrowedFd<'_>, addr: SocketAddr) -> io::Result<TcpStream> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let open = || socket(family, SockType::Stream, flags, None);
    let stream = in_namespace(netns, open)??;
    match connect(stream.as_raw_fd(), &SockaddrStorage::from(addr)) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => Ok(TcpStream::from(stream)),
        Err(error) => Err(error.into()),
    }
}

/// Binds both sockets in the calling thread's namespace.
fn bind_dns_sockets() -> Result<DnsSockets, DnsSocketsError> {
    let failed_to = |action| move |source| DnsSocketsError::Socket { action, source };

    let udp = UdpSocket::bind((DNS_ADDRESS, DNS_PORT)).map_err(failed_to("bind UDP"))?;
    setsockopt(&udp, sockopt::RcvBufForce, &DNS_RECEIVE_BUFFER_BYTES)
        .map_err(io::Error::from)
        .map_err(failed_to("enlarge the receive buffer"))?;
    udp.set_nonblocking(true)
        .map_err(failed_to("make UDP non-blocking"))?;

    let tcp = TcpListener::bind((DNS_ADDRESS, DNS_PORT)).map_err(failed_to("listen on TCP"))?;
    tcp.set_nonblocking(true)
        .map_err(failed_to("make TCP non-blocking"))?;
    Ok(DnsSockets { udp, tcp })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespaced::{
        NetworkPlan, isolated, isolated_async, prepare_instance_network, wait_for,
    };
    use margay_core::address::{InstanceAddresses, VirtualIp};
    use margay_core::composition::Egress;
    use margay_core::id::EndpointIndex;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::io::{Read, Write};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::os::fd::AsFd;

    const CALLED: VirtualIp = VirtualIp {
        v4: Ipv4Addr::new(100, 64, 0, 1),
        v6: Ipv6Addr::new(0xfd4d, 0, 0, 0, 0, 0, 0, 1),
    };

    /// An instance's namespace with its network prepared.
    fn instance() -> OwnedFd {
        let caller = VirtualIp {
            v4: Ipv4Addr::new(100, 96, 0, 1),
            v6: Ipv6Addr::new(0xfd4d, 0, 0, 0x8000, 0, 0, 0, 1),
        };
        let plan = NetworkPlan {
            egress: Egress::None,
            endpoint: EndpointIndex(1),
            addresses: InstanceAddresses {
                called: CALLED,
                caller,
            },
        };
        isolated_async(async || {
            let netns = new_namespace().unwrap();
            prepare_instance_network(netns.as_fd(), &plan)
                .await
                .unwrap();
            netns
        })
    }

    fn this_namespace() -> std::path::PathBuf {
        std::fs::read_link("/proc/thread-self/ns/net").unwrap()
    }

    #[test]
    fn the_body_runs_inside_and_the_caller_stays_outside() {
        isolated(|| {
            let netns = new_namespace().unwrap();
            let before = this_namespace();

            let inside = in_namespace(netns.as_fd(), this_namespace).unwrap();

            assert_ne!(inside, before);
            assert_eq!(this_namespace(), before);
        });
    }

    #[test]
    fn what_is_no_namespace_is_not_entered() {
        isolated(|| {
            let null = std::fs::File::open("/dev/null").unwrap();

            assert!(in_namespace(null.as_fd(), || ()).is_err());
        });
    }

    #[test]
    fn dns_sockets_answer_the_instance_from_a_thread_outside() {
        let netns = instance();
        let DnsSockets { udp, tcp } = dns_sockets(netns.as_fd()).unwrap();
        for socket in [udp.as_fd(), tcp.as_fd()] {
            let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL).unwrap());
            assert!(flags.contains(OFlag::O_NONBLOCK));
        }
        let server = std::thread::spawn(move || {
            let mut query = [0; 16];
            let (length, from) = wait_for("a query", || udp.recv_from(&mut query).ok());
            udp.send_to(&query[..length], from).unwrap();
            let (mut stream, _) = wait_for("a connection", || tcp.accept().ok());
            stream.write_all(b"by stream").unwrap();
        });

        let (by_datagram, by_stream) = in_namespace(netns.as_fd(), || {
            let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            client
                .set_read_timeout(Some(std::time::Duration::from_secs(10)))
                .unwrap();
            client.send_to(b"query", (DNS_ADDRESS, DNS_PORT)).unwrap();
            let mut answer = [0; 16];
            let (length, from) = client.recv_from(&mut answer).unwrap();
            assert_eq!(from, (DNS_ADDRESS, DNS_PORT).into());
            let mut text = String::new();
            let mut stream = TcpStream::connect((DNS_ADDRESS, DNS_PORT)).unwrap();
            stream.read_to_string(&mut text).unwrap();
            (answer[..length].to_vec(), text)
        })
        .unwrap();

        assert_eq!(by_datagram, b"query");
        assert_eq!(by_stream, "by stream");
        server.join().unwrap();
    }

    #[test]
    fn a_program_on_the_dns_port_is_told_of() {
        let netns = instance();
        let _squatter = in_namespace(netns.as_fd(), || {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DNS_PORT)).unwrap()
        });

        let error = dns_sockets(netns.as_fd()).unwrap_err();

        let text = error.to_string();
        assert!(text.contains("bind UDP at 169.254.53.53:53"), "{text}");
    }

    #[test]
    fn a_probe_connects_inside_and_a_closed_port_refuses() {
        let netns = instance();
        for address in [IpAddr::from(CALLED.v4), CALLED.v6.into()] {
            let listener = in_namespace(netns.as_fd(), || TcpListener::bind((address, 80)))
                .unwrap()
                .unwrap();

            let mut open = connect_tcp_in(netns.as_fd(), (address, 80).into()).unwrap();
            listener.set_nonblocking(true).unwrap();
            let (mut accepted, _) = wait_for("the probe", || listener.accept().ok());
            accepted.write_all(b"ready").unwrap();
            let mut answer = [0; 5];
            wait_for("the server's word", || open.read_exact(&mut answer).ok());
            assert_eq!(&answer, b"ready");

            let refusal = match connect_tcp_in(netns.as_fd(), (address, 81).into()) {
                Ok(closed) => wait_for("the refusal", || closed.take_error().unwrap()),
                Err(error) => error,
            };
            assert_eq!(refusal.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}

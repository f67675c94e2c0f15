//! ICMP echoes: a host's kernel answers them while its daemon is away.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
    socket,
};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long an answer is waited for: the next question comes soon.
const PATIENCE: Duration = Duration::from_secs(1);

/// ICMP type 8 (RFC 792) and ICMPv6 type 128 (RFC 4443), with identifier and sequence that the kernel
/// or we set; the checksum of the first is fixed, that of the second the kernel computes.
const QUESTION_V4: [u8; 8] = [8, 0, 0xaa, 0xb1, 0x4d, 0x4d, 0, 1];
const QUESTION_V6: [u8; 8] = [128, 0, 0, 0, 0x4d, 0x4d, 0, 1];

/// An IPv4 header without options stands before what a raw socket reads.
const HEADER_V4: usize = 20;

/// Whether a host answers an echo.
pub async fn answers(address: IpAddr) -> bool {
    match tokio::time::timeout(PATIENCE, ask(address)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "no echo");
            false
        }
        Err(_late) => false,
    }
}

async fn ask(address: IpAddr) -> std::io::Result<()> {
    // SAFETY: the descriptor is the socket's own, which closes it only after it is deregistered.
    let socket = unsafe { AsyncFd::register_with_interest(open(address)?, Interest::READABLE) }?;
    let question = match address {
        IpAddr::V4(_) => QUESTION_V4,
        IpAddr::V6(_) => QUESTION_V6,
    };
    let to = SockaddrStorage::from(SocketAddr::new(address, 0));
    let raw = socket.get_ref().as_raw_fd();
    sendto(raw, &question, &to, MsgFlags::empty())?;
    loop {
        let mut ready = socket.readable().await?;
        let mut packet = [0; 128];
        match recv(raw, &mut packet, MsgFlags::MSG_DONTWAIT) {
            Ok(length) if is_answer(address, &packet[..length]) => return Ok(()),
            Ok(_) => {}
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Only what this host sends comes in by a connected raw socket.
fn open(address: IpAddr) -> nix::Result<OwnedFd> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Raw, flags, protocol)?;
    let peer = SockaddrStorage::from(SocketAddr::new(address, 0));
    nix::sys::socket::connect(fd.as_raw_fd(), &peer)?;
    Ok(fd)
}

fn is_answer(address: IpAddr, packet: &[u8]) -> bool {
    let (message, kind, question) = match address {
        IpAddr::V4(_) => (packet.get(HEADER_V4..).unwrap_or_default(), 0, QUESTION_V4),
        IpAddr::V6(_) => (packet, 129, QUESTION_V6),
    };
    message.first() == Some(&kind) && message.get(4..8) == question.get(4..8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_answers_for_a_host_and_nobody_for_none() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        assert!(runtime.block_on(answers("127.0.0.1".parse().unwrap())));
        assert!(runtime.block_on(answers("::1".parse().unwrap())));
        assert!(!runtime.block_on(answers("255.255.255.255".parse().unwrap())));
    }

    #[test]
    fn checksum_of_the_question_adds_up() {
        let words = QUESTION_V4.chunks(2);
        let words = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum: u32 = words.sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}

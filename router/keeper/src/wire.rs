//! Packets with descriptors over a `SOCK_SEQPACKET` unix socket.

use crate::message::{DESCRIPTORS_PER_NAME_MAX, MESSAGE_BYTES_MAX};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socket,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use thiserror::Error;

/// The most descriptors that one message can carry (the kernel's `SCM_MAX_FD`): room for all, so
/// that none is lost uncounted when a message carries more than its bound.
const DESCRIPTORS_RECEIVABLE: usize = 253;

/// Why a packet could not be sent or received.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    /// The other side closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The socket would block, or its deadline passed.
    #[error("the other side did not take or send a message in time")]
    NotNow,
    /// A packet was larger than its bound.
    #[error(
        "a message of more than {MESSAGE_BYTES_MAX} bytes or {DESCRIPTORS_PER_NAME_MAX} descriptors"
    )]
    TooLarge,
    /// A packet held something else than a message.
    #[error("not a message of this protocol: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The socket failed.
    #[error("{0}")]
    Socket(Errno),
}

impl From<Errno> for WireError {
    fn from(error: Errno) -> Self {
        match error {
            // One errno on Linux; EINTR cannot happen where signals are blocked.
            Errno::EAGAIN => WireError::NotNow,
            Errno::EPIPE | Errno::ECONNRESET => WireError::Closed,
            Errno::EMSGSIZE => WireError::TooLarge,
            other => WireError::Socket(other),
        }
    }
}

/// A packet: a message's bytes and the descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Packet {
    /// Reads the packet as a message.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        Ok(serde_json::from_slice(&self.bytes)?)
    }
}

/// Makes a socket of the keeper's kind.
pub(crate) fn new_socket() -> Result<OwnedFd, Errno> {
    socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
}

/// Sends one message with `descriptors`.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> Result<(), WireError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_BYTES_MAX || descriptors.len() > DESCRIPTORS_PER_NAME_MAX {
        return Err(WireError::TooLarge);
    }
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() {
        &rights[..0]
    } else {
        &rights[..]
    };
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(&bytes)],
        control,
        flags | MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one packet; its descriptors are closed on exec.
pub(crate) fn receive(socket: BorrowedFd<'_>, flags: MsgFlags) -> Result<Packet, WireError> {
    let mut bytes = vec![0_u8; MESSAGE_BYTES_MAX];
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS_RECEIVABLE]);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut buffers,
        Some(&mut control),
        flags | MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: the kernel has just made these descriptors for this process.
            descriptors.extend(
                raw.into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    let cut = received.flags.contains(MsgFlags::MSG_TRUNC);
    let length = received.bytes;
    if cut || descriptors.len() > DESCRIPTORS_PER_NAME_MAX {
        return Err(WireError::TooLarge);
    }
    if length == 0 {
        return Err(WireError::Closed);
    }
    bytes.truncate(length);
    Ok(Packet { bytes, descriptors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::socketpair;
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap()
    }

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (left, right) = pair();
        let file = std::fs::File::open("/dev/null").unwrap();

        send(left.as_fd(), &"hello", &[file.as_fd()], MsgFlags::empty()).unwrap();
        let packet = receive(right.as_fd(), MsgFlags::empty()).unwrap();

        assert_eq!(packet.parse::<String>().unwrap(), "hello");
        assert_eq!(packet.descriptors.len(), 1);
    }

    #[test]
    fn a_message_above_its_bound_is_not_sent() {
        let (left, _right) = pair();
        let long = "x".repeat(MESSAGE_BYTES_MAX);

        let sent = send(left.as_fd(), &long, &[], MsgFlags::empty());

        assert!(matches!(sent, Err(WireError::TooLarge)));
    }

    #[test]
    fn a_packet_above_its_bound_is_refused_and_the_next_one_read() {
        let (left, right) = pair();
        let long = vec![b'x'; MESSAGE_BYTES_MAX + 1];
        nix::sys::socket::send(left.as_raw_fd(), &long, MsgFlags::empty()).unwrap();
        send(left.as_fd(), &1, &[], MsgFlags::empty()).unwrap();

        let first = receive(right.as_fd(), MsgFlags::empty());
        let second = receive(right.as_fd(), MsgFlags::empty()).unwrap();

        assert!(matches!(first, Err(WireError::TooLarge)));
        assert_eq!(second.parse::<u8>().unwrap(), 1);
    }

    #[test]
    fn a_closed_peer_is_noticed() {
        let (left, right) = pair();
        drop(left);

        assert!(matches!(
            receive(right.as_fd(), MsgFlags::empty()),
            Err(WireError::Closed)
        ));
    }
}

//! Network devices as a cable needs them: the system calls.

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket};
use std::ffi::{c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Sets whether a device completes checksums (include/uapi/linux/ethtool.h).
const ETHTOOL_STXCSUM: u32 = 0x17;

/// Room for frames that come while the cable's process waits for a processor.
const RECEIVE_BYTES: usize = 8 << 20;

/// What `SIOCETHTOOL` reads: a command and its value.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    value: u32,
}

nix::ioctl_write_ptr_bad!(
    /// Sets an offload of a device.
    ethtool, libc::SIOCETHTOOL, libc::ifreq);

/// Opens the device `name` for frames; reading and writing never wait.
pub fn open(name: &str) -> Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(name).with_context(|| format!("no device {name}"))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)
        .context("cannot open a packet socket")?;
    setsockopt(
        &socket,
        nix::sys::socket::sockopt::RcvBufForce,
        &RECEIVE_BYTES,
    )
    .context("cannot give a packet socket room")?;
    ignore_outgoing(&socket).context("cannot look at incoming frames only")?;
    bind(&socket, index).with_context(|| format!("cannot read from {name}"))?;
    Ok(socket)
}

/// Makes the kernel complete checksums and segments before frames leave the device `name`.
///
/// Without checksums a device cannot segment either, so that this one setting does for both.
pub fn finish_frames(name: &str) -> Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let control = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    let mut value = EthtoolValue {
        command: ETHTOOL_STXCSUM,
        value: 0,
    };
    // SAFETY: an ifreq is integers, bytes and pointers, for which all zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    let bytes = name.bytes().take(room);
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = from as c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads one ifreq, and by its pointer one ethtool_value; both live here.
    unsafe { ethtool(control.as_raw_fd(), &request) }
        .with_context(|| format!("cannot set the offloads of {name}"))?;
    Ok(())
}

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let protocol = SockProtocol::EthAll as c_int;
    // SAFETY: a sockaddr_ll is plain integers, for which all zeroes are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol as u16;
    address.sll_ifindex = index as i32;
    let bytes = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer leads to one sockaddr_ll of the length that is told.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes) };
    nix::errno::Errno::result(bound)?;
    Ok(())
}

/// What the cable itself sends must not come back to it (packet(7)).
fn ignore_outgoing(socket: &OwnedFd) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: the option is one int of the length that is told.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    nix::errno::Errno::result(set)?;
    Ok(())
}

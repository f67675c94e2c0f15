//! Makes a TAP device and reads what it is: the system calls behind the upcall TAP.

use super::TapError;
use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The device from which every TAP is opened.
const TUN_PATH: &str = "/dev/net/tun";

/// The largest MTU that a TAP takes: a super-packet of 64 KiB less its Ethernet header.
const TAP_MTU: libc::c_int = 65_521;

/// Frames that wait in the TAP for the router. First packets of a busy second fit while the daemon
/// restarts; the quota per instance keeps any one of them from filling it.
pub const TAP_QUEUE_FRAMES: u32 = 4096;

/// The TAP's own address: locally administered and set by us, so that no device manager replaces
/// it as it does with random ones.
const TAP_MAC: [u8; 6] = [0x02, 0x4d, 0x47, 0x00, 0x00, 0x01];

/// How the router opens a TAP: Ethernet frames, each behind a virtio_net_hdr.
const TAP_FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// What the router takes unfinished: checksums to complete, and super-packets of every kind that an
/// instance can send. One that the kernel cut here would come up as many frames for one credit.
const TAP_OFFLOADS: libc::c_uint = libc::TUN_F_CSUM
    | libc::TUN_F_TSO4
    | libc::TUN_F_TSO6
    | libc::TUN_F_TSO_ECN
    | libc::TUN_F_USO4
    | libc::TUN_F_USO6;

nix::ioctl_write_ptr_bad!(tun_set_interface, libc::TUNSETIFF, libc::ifreq);
nix::ioctl_read_bad!(tun_interface, libc::TUNGETIFF, libc::ifreq);
nix::ioctl_write_int_bad!(tun_set_offload, libc::TUNSETOFFLOAD);
nix::ioctl_read_bad!(tun_vnet_header_size, libc::TUNGETVNETHDRSZ, libc::c_int);
nix::ioctl_read_bad!(device_mac, libc::SIOCGIFHWADDR, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_device_mac, libc::SIOCSIFHWADDR, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_device_mtu, libc::SIOCSIFMTU, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_device_queue, libc::SIOCSIFTXQLEN, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_device_flags, libc::SIOCSIFFLAGS, libc::ifreq);

/// Makes the TAP `name` in the calling thread's network namespace and brings it up.
///
/// The device lives as long as its descriptor, which is non-blocking.
pub fn create_tap(name: &str) -> Result<OwnedFd, TapError> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let tap = nix::fcntl::open(Path::new(TUN_PATH), flags, Mode::empty())
        .map_err(|errno| TapError::Open(errno.into()))?;
    let setup = |action| {
        move |errno: nix::Error| TapError::Setup {
            action,
            name: name.to_owned(),
            source: errno.into(),
        }
    };

    let mut request = request_for(name)?;
    request.ifr_ifru.ifru_flags = TAP_FLAGS as libc::c_short;
    // SAFETY: TUNSETIFF reads one ifreq, which `request` is.
    unsafe { tun_set_interface(tap.as_raw_fd(), &request) }.map_err(setup("create"))?;
    // SAFETY: TUNSETOFFLOAD takes its flags by value and touches no memory.
    unsafe { tun_set_offload(tap.as_raw_fd(), TAP_OFFLOADS as libc::c_int) }
        .map_err(setup("set the offloads of"))?;
    crate::sysctl::disable_ipv6(name)?;
    configure(name).map_err(|(action, errno)| setup(action)(errno))?;
    Ok(tap)
}

/// Sets address, MTU and queue of the device `name`, then brings it up.
fn configure(name: &str) -> Result<(), (&'static str, nix::Error)> {
    let control = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| ("reach", errno))?;
    let control = control.as_raw_fd();
    let mut request = request_for(name).map_err(|_| ("name", nix::Error::EINVAL))?;

    request.ifr_ifru.ifru_hwaddr = hardware_address(TAP_MAC);
    // SAFETY: each of these requests reads one ifreq, which `request` is, with the member of its
    // union set that the request looks at.
    unsafe { set_device_mac(control, &request) }.map_err(|errno| ("set the MAC of", errno))?;
    request.ifr_ifru.ifru_mtu = TAP_MTU;
    // SAFETY: as above.
    unsafe { set_device_mtu(control, &request) }.map_err(|errno| ("set the MTU of", errno))?;
    request.ifr_ifru.ifru_metric = TAP_QUEUE_FRAMES as libc::c_int;
    // SAFETY: as above; the queue length is an int at the union's start, as the metric is.
    unsafe { set_device_queue(control, &request) }.map_err(|errno| ("set the queue of", errno))?;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: as above.
    unsafe { set_device_flags(control, &request) }.map_err(|errno| ("bring up", errno))?;
    Ok(())
}

/// What a descriptor of a TAP tells about its device.
pub(super) struct TapDevice {
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    pub(super) is_tap: bool,
    pub(super) vnet_header_bytes: usize,
}

/// Reads what device `tap` is a descriptor of.
pub(super) fn inspect(tap: BorrowedFd<'_>) -> io::Result<TapDevice> {
    let mut request = empty_request();
    // SAFETY: TUNGETIFF writes one ifreq, which `request` is.
    unsafe { tun_interface(tap.as_raw_fd(), &mut request) }?;
    let name = name_of(&request)?;
    // SAFETY: TUNGETIFF set the flags, and every bit pattern is a valid integer.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });

    let mut vnet_header_bytes = 0;
    // SAFETY: TUNGETVNETHDRSZ writes one int.
    unsafe { tun_vnet_header_size(tap.as_raw_fd(), &mut vnet_header_bytes) }?;

    // SAFETY: SIOCGIFHWADDR writes one ifreq.
    unsafe { device_mac(tap.as_raw_fd(), &mut request) }?;
    // SAFETY: SIOCGIFHWADDR set the address, and every byte is a valid one.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(address.sa_data) {
        *to = from as u8;
    }
    Ok(TapDevice {
        name,
        mac,
        is_tap: flags & TAP_FLAGS == TAP_FLAGS,
        vnet_header_bytes: usize::try_from(vnet_header_bytes).unwrap_or(0),
    })
}

fn empty_request() -> libc::ifreq {
    // SAFETY: an ifreq is plain integers, for which all zeroes are valid.
    unsafe { std::mem::zeroed() }
}

/// A request about the device `name`.
fn request_for(name: &str) -> Result<libc::ifreq, TapError> {
    let mut request = empty_request();
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains(['/', '%', '\0']) {
        return Err(TapError::Name(name.to_owned()));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn name_of(request: &libc::ifreq) -> io::Result<String> {
    let bytes = request.ifr_name.map(|byte| byte as u8);
    let name = CStr::from_bytes_until_nul(&bytes).map_err(io::Error::other)?;
    Ok(name.to_string_lossy().into_owned())
}

fn hardware_address(mac: [u8; 6]) -> libc::sockaddr {
    let mut address = libc::sockaddr {
        sa_family: libc::ARPHRD_ETHER,
        sa_data: [0; 14],
    };
    for (to, from) in address.sa_data.iter_mut().zip(mac) {
        *to = from as libc::c_char;
    }
    address
}

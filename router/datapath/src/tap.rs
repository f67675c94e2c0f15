//! The upcall TAP: the kernel's first packets come in here, and go back into the kernel.
//!
//! ```text
//!  0            10                    24
//!  | virtio_net  | Ethernet            | IP packet ...
//!  | header      | to, from, type      |
//! ```
//! The kernel writes the sender's endpoint into the Ethernet source (`02:01` and the index, big
//! endian); a packet that core made names the endpoint that shall get it (`02:02` and the index). Of
//! another host's packet the kernel writes that host's location (`02:03` and the index, or 0).

mod device;

pub use device::create_tap;

pub use device::TAP_QUEUE_FRAMES;
use margay_core::drop_reason::DropReason;
use margay_core::id::{EndpointIndex, LocationIndex};
use margay_core::port::{Frame, Input};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::net::if_::if_nametoindex;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The virtio_net_hdr before each frame: checksum and segmentation left to do
/// (include/uapi/linux/virtio_net.h).
pub const VNET_HEADER_BYTES: usize = 10;

/// Destination, source and type (IEEE 802.3).
pub const ETHERNET_HEADER_BYTES: usize = 14;

/// Where the IP packet begins in a frame.
const PACKET_START: usize = VNET_HEADER_BYTES + ETHERNET_HEADER_BYTES;

/// The longest frame: both headers and an IP super-packet.
const FRAME_BYTES_MAX: usize = PACKET_START + 65_535;

/// First bytes of the source address of a frame that the kernel hands up.
const UPCALL_TAG: [u8; 2] = [0x02, 0x01];

/// First bytes of the source address of a frame that core made.
const INJECT_TAG: [u8; 2] = [0x02, 0x02];

/// First bytes of the source address of another host's frame that the kernel hands up.
const PEER_TAG: [u8; 2] = [0x02, 0x03];

/// Buffers kept for later frames: as many as a busy router has in its hands at once.
const POOL_BUFFERS_MAX: usize = 256;

/// The largest buffer worth keeping: a first packet is seldom longer than the MTU.
const POOL_BUFFER_BYTES_MAX: usize = 2048;

/// Why there is no upcall TAP.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// A device cannot have this name.
    #[error("`{0}` cannot name a network device; take 1 to 15 characters without `/` and `%`")]
    Name(String),
    /// The TUN driver is out of reach.
    #[error("cannot open /dev/net/tun: {0}; run as root and load the tun module")]
    Open(#[source] io::Error),
    /// The device could not be made as it must be.
    #[error("cannot {action} the TAP {name}: {source}; is another daemon using that name?")]
    Setup {
        /// What was tried.
        action: &'static str,
        /// The device.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A setting of the device could not be written.
    #[error(transparent)]
    Sysctl(#[from] crate::sysctl::SysctlError),
    /// The descriptor does not tell what it is.
    #[error("cannot adopt the upcall TAP: {0}; give a descriptor that `create_tap` made")]
    Inspect(#[source] io::Error),
    /// The descriptor is of another kind of device.
    #[error(
        "{name} is not an upcall TAP: it must be a TAP with virtio_net headers of \
         {VNET_HEADER_BYTES} bytes and no packet information; delete it and let it be made anew"
    )]
    WrongKind {
        /// The device.
        name: String,
    },
}

/// Frames that never reached core, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapDrops {
    /// [`DropReason::Truncated`]: too short for its headers.
    pub truncated: u64,
    /// [`DropReason::UnknownEndpoint`]: not marked by our program in the kernel.
    pub unknown_endpoint: u64,
    /// Thrown away by [`UpcallTap::drain`].
    pub drained: u64,
}

/// Who sent a frame that the kernel hands up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// An instance of this host.
    Endpoint(EndpointIndex),
    /// The host at this location, or one that the kernel does not know.
    Peer(Option<LocationIndex>),
}

impl Sender {
    /// What core is told.
    pub fn upcall(self, frame: Frame) -> Input {
        match self {
            Sender::Endpoint(endpoint) => Input::Upcall { endpoint, frame },
            Sender::Peer(from) => Input::PeerUpcall { from, frame },
        }
    }
}

/// The router's end of the upcall TAP.
#[derive(Debug)]
pub struct UpcallTap {
    device: File,
    ifindex: u32,
    mac: [u8; 6],
    /// Every frame passes here, so that the buffers given to core are only as long as their frame.
    scratch: Box<[u8]>,
    pool: Vec<Vec<u8>>,
    drops: TapDrops,
}

impl UpcallTap {
    /// Takes over a TAP that [`create_tap`] made, in this process or another, in the calling
    /// thread's network namespace.
    pub fn adopt(fd: OwnedFd) -> Result<UpcallTap, TapError> {
        let inspect = |errno: nix::Error| TapError::Inspect(errno.into());
        let found = device::inspect(fd.as_fd()).map_err(TapError::Inspect)?;
        if !found.is_tap || found.vnet_header_bytes != VNET_HEADER_BYTES {
            return Err(TapError::WrongKind { name: found.name });
        }
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(inspect)?;
        Ok(UpcallTap {
            device: File::from(fd),
            ifindex: if_nametoindex(found.name.as_str()).map_err(inspect)?,
            mac: found.mac,
            scratch: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
            pool: Vec::with_capacity(POOL_BUFFERS_MAX),
            drops: TapDrops::default(),
        })
    }

    /// The interface index of the TAP.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The Ethernet address of the TAP.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// What never reached core, and why.
    pub fn drops(&self) -> TapDrops {
        self.drops
    }

    /// Reads the next first packet and who sent it; `None` when none waits.
    ///
    /// A frame that is none of ours is counted and passed over. After a queue's length of those
    /// the answer is `None` too: poll the descriptor level-triggered.
    pub fn read(&mut self) -> io::Result<Option<(Sender, Frame)>> {
        for _ in 0..TAP_QUEUE_FRAMES {
            let Some(length) = self.receive()? else {
                return Ok(None);
            };
            match sender(&self.scratch[..length]) {
                Ok(sender) => return Ok(Some((sender, self.take_frame(length)))),
                Err(DropReason::Truncated) => self.drops.truncated += 1,
                Err(_) => self.drops.unknown_endpoint += 1,
            }
        }
        Ok(None)
    }

    /// Sends a frame that was read back into the kernel, unchanged, and keeps its buffer.
    pub fn forward(&mut self, frame: Frame) -> io::Result<()> {
        let outcome = send(&mut self.device, &frame.buffer);
        self.recycle(frame);
        outcome
    }

    /// Keeps the buffer of a frame that needs no sending.
    pub fn recycle(&mut self, frame: Frame) {
        let reusable = frame.buffer.capacity() <= POOL_BUFFER_BYTES_MAX;
        if reusable && self.pool.len() < POOL_BUFFERS_MAX {
            self.pool.push(frame.buffer);
        }
    }

    /// Sends an IP packet with complete checksums into the kernel, for `endpoint` to receive.
    pub fn inject(&mut self, endpoint: EndpointIndex, packet: &[u8]) -> io::Result<()> {
        let length = self.write_frame(INJECT_TAG, endpoint, packet)?;
        send(&mut self.device, &self.scratch[..length])
    }

    /// The frame as which the kernel would hand up an IP packet with complete checksums that the
    /// instance at `endpoint` sent.
    pub fn as_handed_up(&mut self, endpoint: EndpointIndex, packet: &[u8]) -> io::Result<Frame> {
        let length = self.write_frame(UPCALL_TAG, endpoint, packet)?;
        Ok(self.take_frame(length))
    }

    /// Writes a frame around an IP packet into `scratch` and answers its length.
    fn write_frame(
        &mut self,
        tag: [u8; 2],
        endpoint: EndpointIndex,
        packet: &[u8],
    ) -> io::Result<usize> {
        let ethernet_type = ethernet_type(packet)?;
        let length = PACKET_START + packet.len();
        let Some(frame) = self.scratch.get_mut(..length) else {
            return Err(invalid("an IP packet to inject is longer than 65535 bytes"));
        };
        let (vnet_header, ethernet) = frame.split_at_mut(VNET_HEADER_BYTES);
        vnet_header.fill(0);
        ethernet[0..6].copy_from_slice(&self.mac);
        ethernet[6..8].copy_from_slice(&tag);
        ethernet[8..12].copy_from_slice(&endpoint.0.to_be_bytes());
        ethernet[12..14].copy_from_slice(&ethernet_type.to_be_bytes());
        ethernet[14..].copy_from_slice(packet);
        Ok(length)
    }

    /// Throws away what is queued now, and answers how many frames that were.
    pub fn drain(&mut self) -> io::Result<u64> {
        let before = self.drops.drained;
        // What arrives meanwhile is not of the queue that was to be drained.
        for _ in 0..TAP_QUEUE_FRAMES {
            if self.receive()?.is_none() {
                break;
            }
            self.drops.drained += 1;
        }
        Ok(self.drops.drained - before)
    }

    /// Reads one frame into `scratch` and answers its length.
    fn receive(&mut self) -> io::Result<Option<usize>> {
        match self.device.read(&mut self.scratch) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copies the frame in `scratch` into a buffer for core.
    fn take_frame(&mut self, length: usize) -> Frame {
        let mut buffer = self.pool.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(&self.scratch[..length]);
        Frame {
            buffer,
            packet_start: PACKET_START,
        }
    }
}

impl AsFd for UpcallTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl AsRawFd for UpcallTap {
    fn as_raw_fd(&self) -> RawFd {
        self.device.as_raw_fd()
    }
}

/// Reads whom the kernel wrote into the frame's source address.
fn sender(frame: &[u8]) -> Result<Sender, DropReason> {
    if frame.len() <= PACKET_START {
        return Err(DropReason::Truncated);
    }
    let source = &frame[VNET_HEADER_BYTES + 6..VNET_HEADER_BYTES + 12];
    let &[tag0, tag1, i3, i2, i1, i0] = source else {
        return Err(DropReason::Truncated);
    };
    match ([tag0, tag1], u32::from_be_bytes([i3, i2, i1, i0])) {
        (UPCALL_TAG, index) => Ok(Sender::Endpoint(EndpointIndex(index))),
        (PEER_TAG, 0) => Ok(Sender::Peer(None)),
        (PEER_TAG, index) => Ok(Sender::Peer(Some(LocationIndex(index)))),
        _ => Err(DropReason::UnknownEndpoint),
    }
}

/// The Ethernet type of an IP packet, by its version.
fn ethernet_type(packet: &[u8]) -> io::Result<u16> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => Ok(libc::ETH_P_IP as u16),
        Some(6) => Ok(libc::ETH_P_IPV6 as u16),
        _ => Err(invalid("a packet to inject is neither IPv4 nor IPv6")),
    }
}

/// Writes one whole frame.
fn send(device: &mut File, frame: &[u8]) -> io::Result<()> {
    let written = device.write(frame)?;
    if written == frame.len() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::WriteZero,
            format!("the TAP took {written} of {} bytes of a frame", frame.len()),
        ))
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests;

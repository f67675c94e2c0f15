//! The upcall TAP in namespaces of its own, with a packet socket in the kernel's place.

use super::*;
use crate::namespaced::{isolated, wait_for};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send as send_on, socket,
};

/// A program in the kernel's place: it sees and sends Ethernet frames on the TAP's kernel side.
///
/// ```text
///  KernelSide (packet socket) <--- TAP device ---> UpcallTap (descriptor)
/// ```
struct KernelSide(OwnedFd);

impl KernelSide {
    fn on(tap: &UpcallTap) -> KernelSide {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let all = SockProtocol::EthAll;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, all).unwrap();
        let headers: libc::c_int = 1;
        // SAFETY: PACKET_VNET_HDR reads one int.
        let answer = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_VNET_HDR,
                (&raw const headers).cast(),
                size_of_val(&headers) as u32,
            )
        };
        Errno::result(answer).unwrap();
        // SAFETY: a sockaddr_ll is plain integers, for which all zeroes are valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = tap.ifindex() as i32;
        // SAFETY: bind reads as many bytes of the address as it is told.
        let answer = unsafe {
            let length = size_of_val(&address) as u32;
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length)
        };
        Errno::result(answer).unwrap();
        KernelSide(fd)
    }

    /// Sends a frame (virtio_net header first) out of the device, so that the router reads it.
    fn send(&self, frame: &[u8]) {
        send_on(self.0.as_raw_fd(), frame, MsgFlags::empty()).unwrap();
    }

    /// Waits for a frame that came out of the TAP's descriptor.
    fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let length = wait_for("a frame from the TAP", || {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => Some(length),
                Err(Errno::EAGAIN) => None,
                Err(error) => panic!("{error}"),
            }
        });
        buffer.truncate(length);
        buffer
    }
}

fn new_tap() -> UpcallTap {
    UpcallTap::adopt(create_tap("mg-test").unwrap()).unwrap()
}

/// A frame as the kernel hands it up: any virtio_net header, from endpoint `index`.
fn frame_from(tap: &UpcallTap, index: u32, vnet_header: [u8; 10], packet: &[u8]) -> Vec<u8> {
    let mut frame = vnet_header.to_vec();
    frame.extend(tap.mac());
    frame.extend([0x02, 0x01]);
    frame.extend(index.to_be_bytes());
    frame.extend([0x08, 0x00]);
    frame.extend(packet);
    frame
}

/// A TCP packet of `payload` bytes whose checksum is left to be done.
fn tcp_packet(payload: usize) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4([100, 96, 0, 1], [100, 64, 0, 2], 64)
        .tcp(40000, 80, 1, 1000)
        .ack(1);
    let mut packet = Vec::new();
    builder.write(&mut packet, &vec![7; payload]).unwrap();
    packet
}

/// Checksum needed at byte 34 + 16, cut into segments of 1,340 bytes (TCP over IPv4).
const SUPER_PACKET_HEADER: [u8; 10] = [1, 1, 54, 0, 60, 5, 34, 0, 16, 0];

fn read_one(tap: &mut UpcallTap) -> (EndpointIndex, Frame) {
    match wait_for("an upcall", || tap.read().unwrap()) {
        (Sender::Endpoint(endpoint), frame) => (endpoint, frame),
        (other, _) => panic!("{other:?} is no instance"),
    }
}

/// A UDP packet of `payload` bytes whose checksum is left to be done.
fn udp_packet(payload: usize) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4([100, 96, 0, 1], [100, 64, 0, 2], 64);
    let mut packet = Vec::new();
    let datagrams = builder.udp(40000, 80);
    datagrams.write(&mut packet, &vec![7; payload]).unwrap();
    packet
}

/// [`SUPER_PACKET_HEADER`] of a sender that was told of congestion (RFC 3168).
const ECN_HEADER: [u8; 10] = [1, 0x81, 54, 0, 60, 5, 34, 0, 16, 0];

/// Checksum needed at byte 34 + 6, cut into datagrams of 1,000 bytes.
const SUPER_DATAGRAM_HEADER: [u8; 10] = [1, 5, 42, 0, 0xe8, 3, 34, 0, 6, 0];

#[test]
fn a_super_packet_comes_up_whole_with_its_sender_and_goes_back_unchanged() {
    isolated(|| {
        let mut tap = new_tap();
        for (header, packet) in [
            (SUPER_PACKET_HEADER, tcp_packet(20_000)),
            (ECN_HEADER, tcp_packet(20_000)),
            (SUPER_DATAGRAM_HEADER, udp_packet(20_000)),
        ] {
            let frame = frame_from(&tap, 0x0102_0304, header, &packet);
            KernelSide::on(&tap).send(&frame);

            let (endpoint, upcall) = read_one(&mut tap);

            assert_eq!(endpoint, EndpointIndex(0x0102_0304));
            assert_eq!(upcall.packet(), packet);
            assert_eq!(upcall.buffer, frame);
            let kernel = KernelSide::on(&tap);
            tap.forward(upcall).unwrap();
            assert_eq!(kernel.receive(), frame);
        }
    });
}

#[test]
fn nothing_waiting_is_none() {
    isolated(|| {
        let mut tap = new_tap();

        assert_eq!(tap.read().unwrap(), None);
    });
}

#[test]
fn frames_that_are_not_upcalls_are_counted_and_passed_over() {
    isolated(|| {
        let mut tap = new_tap();
        let kernel = KernelSide::on(&tap);
        let mut foreign = frame_from(&tap, 7, [0; 10], &tcp_packet(0));
        foreign[VNET_HEADER_BYTES + 7] = 0x02;
        kernel.send(&foreign);
        kernel.send(&frame_from(&tap, 7, [0; 10], &[]));
        kernel.send(&frame_from(&tap, 8, [0; 10], &tcp_packet(0)));

        let (endpoint, _) = read_one(&mut tap);

        assert_eq!(endpoint, EndpointIndex(8));
        let expected = TapDrops {
            truncated: 1,
            unknown_endpoint: 1,
            drained: 0,
        };
        assert_eq!(tap.drops(), expected);
    });
}

#[test]
fn a_made_packet_names_its_receiver_and_needs_no_checksum() {
    isolated(|| {
        let mut tap = new_tap();
        // Whatever was read before leaves no trace in what is made.
        let earlier = frame_from(&tap, 1, SUPER_PACKET_HEADER, &tcp_packet(20_000));
        KernelSide::on(&tap).send(&earlier);
        read_one(&mut tap);
        let kernel = KernelSide::on(&tap);
        let v4 = tcp_packet(0);
        let mut v6 = vec![0; 40];
        v6[0] = 0x60;

        for (packet, ethernet_type) in [(&v4, [0x08, 0x00]), (&v6, [0x86, 0xdd])] {
            tap.inject(EndpointIndex(0x0a0b_0c0d), packet).unwrap();

            let frame = kernel.receive();
            assert_eq!(frame[..10], [0; 10]);
            assert_eq!(frame[10..16], tap.mac());
            assert_eq!(frame[16..22], [0x02, 0x02, 0x0a, 0x0b, 0x0c, 0x0d]);
            assert_eq!(frame[22..24], ethernet_type);
            assert_eq!(frame[24..], packet[..]);
        }
    });
}

#[test]
fn what_is_no_ip_packet_is_not_sent() {
    isolated(|| {
        let mut tap = new_tap();
        let too_long = vec![0x45; 65_536];
        for packet in [&[][..], &[0x50; 40], &too_long] {
            let error = tap.inject(EndpointIndex(1), packet).unwrap_err();

            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn draining_counts_and_empties_the_queue() {
    isolated(|| {
        let mut tap = new_tap();
        let kernel = KernelSide::on(&tap);
        let frame = frame_from(&tap, 1, [0; 10], &tcp_packet(0));
        for _ in 0..5 {
            kernel.send(&frame);
        }

        let mut drained = 0;
        wait_for("five frames", || {
            drained += tap.drain().unwrap();
            (drained == 5).then_some(())
        });

        assert_eq!(tap.read().unwrap(), None);
        assert_eq!(tap.drops().drained, 5);
    });
}

#[test]
fn buffers_are_used_again_but_large_ones_are_not_kept() {
    isolated(|| {
        let mut tap = new_tap();
        let kernel = KernelSide::on(&tap);
        kernel.send(&frame_from(&tap, 1, [0; 10], &tcp_packet(0)));
        kernel.send(&frame_from(
            &tap,
            1,
            SUPER_PACKET_HEADER,
            &tcp_packet(20_000),
        ));
        let (_, small) = read_one(&mut tap);
        let (_, large) = read_one(&mut tap);
        let address = small.buffer.as_ptr();

        tap.forward(small).unwrap();
        tap.forward(large).unwrap();

        assert_eq!(tap.pool.len(), 1);
        kernel.send(&frame_from(&tap, 1, [0; 10], &tcp_packet(0)));
        let (_, again) = read_one(&mut tap);
        assert_eq!(again.buffer.as_ptr(), address);
    });
}

#[test]
fn the_queue_is_bounded_and_a_full_one_is_read_to_its_end() {
    isolated(|| {
        let mut tap = new_tap();
        let kernel = KernelSide::on(&tap);
        let frame = frame_from(&tap, 1, [0; 10], &tcp_packet(0));
        let beyond = TAP_QUEUE_FRAMES + 100;
        for _ in 0..beyond {
            // A full queue refuses the frame.
            let _refused = send_on(kernel.0.as_raw_fd(), &frame, MsgFlags::empty());
        }

        let mut read = 0;
        while let Some((_, upcall)) = tap.read().unwrap() {
            read += 1;
            tap.recycle(upcall);
        }

        assert_eq!(read, TAP_QUEUE_FRAMES);
    });
}

#[test]
fn a_tap_outlives_the_router_that_reads_it() {
    isolated(|| {
        let kept = create_tap("mg-test").unwrap();
        let first = UpcallTap::adopt(kept.try_clone().unwrap()).unwrap();
        let kernel = KernelSide::on(&first);
        let (ifindex, mac) = (first.ifindex(), first.mac());
        let frame = frame_from(&first, 3, [0; 10], &tcp_packet(0));
        drop(first);
        kernel.send(&frame);

        let mut second = UpcallTap::adopt(kept).unwrap();

        assert_eq!((second.ifindex(), second.mac()), (ifindex, mac));
        assert_eq!(read_one(&mut second).0, EndpointIndex(3));
    });
}

#[test]
fn the_kernel_sends_nothing_of_its_own_through_the_tap() {
    isolated(|| {
        let _tap = new_tap();

        let setting = "/proc/sys/net/ipv6/conf/mg-test/disable_ipv6";
        assert_eq!(std::fs::read_to_string(setting).unwrap().trim(), "1");
    });
}

#[test]
fn a_name_that_is_taken_or_impossible_is_refused_with_the_name() {
    isolated(|| {
        let _first = create_tap("mg-test").unwrap();
        for name in ["mg-test", "", "a/b", "tap%d", "sixteen-letters-"] {
            let error = create_tap(name).unwrap_err();

            assert!(error.to_string().contains(name), "{error}");
        }
    });
}

#[test]
fn another_kind_of_descriptor_is_not_adopted() {
    isolated(|| {
        let null = File::open("/dev/null").unwrap();

        let error = UpcallTap::adopt(null.into()).unwrap_err();

        assert!(matches!(error, TapError::Inspect(_)), "{error}");
    });
}

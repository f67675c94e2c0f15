//! The socket to which the kernel brings questions for the host's echo, beside the link's on its port.

use super::socket;
use margay_core::echo::QUESTION;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The place of the socket that is bound first among those of a port.
const FIRST: u32 = 0;

/// That of the link's socket.
const SECOND: u32 = 1;

/// Opens the socket, for the keeper. It must be bound before the link's own: of two sockets the kernel
/// gives questions to the first and everything else to the second. While there is one only, it gets all.
/// Beside one that the keeper has already it is of no use, and harms nobody.
pub fn open(port: u16) -> io::Result<OwnedFd> {
    let (fd, _) = socket::bound(port, true)?;
    attach(&fd)?;
    Ok(fd)
}

/// Has the kernel choose by the first byte of each datagram (socket(7), `SO_ATTACH_REUSEPORT_CBPF`).
fn attach(fd: &OwnedFd) -> nix::Result<()> {
    let instruction = |code: u32, on_true, on_false, value| libc::sock_filter {
        code: u16::try_from(code).expect("classic instructions have 16 bits"),
        jt: on_true,
        jf: on_false,
        k: value,
    };
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            QUESTION.into(),
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, FIRST),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, SECOND),
    ];
    let filter = libc::sock_fprog {
        len: 4,
        filter: program.as_mut_ptr(),
    };
    let length = libc::socklen_t::try_from(size_of_val(&filter)).expect("a few bytes");
    // SAFETY: the kernel copies the program, which lives as long as the call, and changes nothing here.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            length,
        )
    };
    nix::errno::Errno::result(set).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::socket::LinkSocket;
    use super::*;
    use crate::namespaced::{isolated, wait_for};
    use nix::sys::socket::{MsgFlags, recv};
    use std::net::UdpSocket;
    use std::process::Command;

    const PORT: u16 = 7400;

    /// Runs in a namespace whose loopback device is up.
    fn with_loopback(body: impl FnOnce() + Send) {
        isolated(|| {
            let mut command = Command::new("ip");
            let up = command.args(["link", "set", "lo", "up"]).status();
            assert!(up.unwrap().success());
            body();
        });
    }

    fn next(fd: &OwnedFd) -> Vec<u8> {
        let mut buffer = [0; 64];
        let length = wait_for("a datagram", || {
            recv(fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).ok()
        });
        buffer[..length].to_vec()
    }

    fn next_of(link: &mut LinkSocket) -> Vec<u8> {
        wait_for("a datagram", || {
            let received = link.receive().unwrap();
            received.map(|(_, datagram)| datagram.to_vec())
        })
    }

    #[test]
    fn questions_go_to_the_keeper_and_the_rest_to_whichever_daemon_there_is() {
        with_loopback(|| {
            let echoes = open(PORT).unwrap();
            for home in ["127.0.0.1", "::1"] {
                let other = UdpSocket::bind((home, 0)).unwrap();
                other.connect((home, PORT)).unwrap();
                for _daemon in 0..2 {
                    drop(open(PORT).unwrap());
                    let mut link = LinkSocket::open(PORT).unwrap();
                    for number in 0..20 {
                        other.send(&[QUESTION, number]).unwrap();
                        other.send(&[4, number]).unwrap();
                    }
                    for number in 0..20 {
                        assert_eq!(next(&echoes), [QUESTION, number]);
                        assert_eq!(next_of(&mut link), [4, number]);
                    }
                }
                // Without a daemon nothing is refused, and questions are heard all the same.
                other.send(&[4]).unwrap();
                other.send(&[QUESTION]).unwrap();
                assert_eq!(next(&echoes), [4]);
                assert_eq!(next(&echoes), [QUESTION]);
            }
        });
    }
}

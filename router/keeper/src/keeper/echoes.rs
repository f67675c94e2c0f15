//! Echoes: answered on the host link's port, whatever the daemon does.
//!
//! The socket is one of two on that port; the kernel gives it the questions and the daemon's the rest.
//! While there is no daemon it gets the rest as well, and lets it fall.

use crate::message::Reply;
use margay_core::echo::{ECHO_BYTES, EchoSecret};
use margay_core::moment::Moment;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// In how much time a budget is spent anew.
const ROUND: Duration = Duration::from_millis(100);

/// Datagrams taken in a round, some microseconds each: a thousand peers ask as often, and a flood costs
/// no more than a hundredth of a processor.
const TAKEN_MAX: u32 = 200;

/// The host's echo.
#[derive(Debug)]
pub(super) struct Echoes {
    pub(super) socket: OwnedFd,
    pub(super) port: u16,
    pub(super) secret: EchoSecret,
    /// When the round began.
    began: Moment,
    /// How many datagrams were taken in it.
    taken: u32,
}

impl Echoes {
    /// Answers on `socket`, which is bound to `port`.
    pub(super) fn new(socket: OwnedFd, port: u16, secret: EchoSecret) -> Self {
        Echoes {
            socket,
            port,
            secret,
            began: Moment::ORIGIN,
            taken: 0,
        }
    }

    /// The socket, unless the round's budget is spent.
    pub(super) fn listener(&self, now: Moment) -> Option<BorrowedFd<'_>> {
        let rests = self.rests_until().is_some_and(|until| now < until);
        (!rests).then(|| self.socket.as_fd())
    }

    /// When it listens again, if its budget is spent.
    pub(super) fn rests_until(&self) -> Option<Moment> {
        (self.taken >= TAKEN_MAX).then(|| self.began + ROUND)
    }

    /// Answers the questions that wait, as far as the budget goes.
    pub(super) fn answer(&mut self, now: Moment) {
        if now >= self.began + ROUND {
            (self.began, self.taken) = (now, 0);
        }
        while self.taken < TAKEN_MAX {
            // One byte more than a question has, so that a longer one is not taken for it.
            let mut datagram = [0; ECHO_BYTES + 1];
            match recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), &mut datagram) {
                Ok((length, Some(from))) => self.answer_one(&datagram[..length], &from),
                // An error that a datagram of before brought back, or no sender: of no use to anybody.
                Ok(_) | Err(Errno::EINTR | Errno::ECONNREFUSED) => {}
                Err(_) => return,
            }
            self.taken += 1;
        }
    }

    fn answer_one(&self, datagram: &[u8], from: &SockaddrStorage) {
        if let Some(answer) = self.secret.answer(datagram) {
            // Lost, as any datagram may be, if the kernel does not take it.
            let _ = sendto(
                self.socket.as_raw_fd(),
                &answer,
                from,
                MsgFlags::MSG_DONTWAIT,
            );
        }
    }
}

/// Answers echoes on the socket that came along, unless it is done on that port already. What answered
/// on another port ends; its secret, once drawn, lasts for the keeper's life.
pub(super) fn begin(
    echoes: &mut Option<Echoes>,
    port: u16,
    mut descriptors: Vec<OwnedFd>,
) -> Result<Reply, String> {
    let secret = match echoes.as_ref() {
        Some(echoes) => echoes.secret.clone(),
        None => draw().map_err(|error| format!("cannot draw a secret: {error}"))?,
    };
    if echoes.as_ref().is_none_or(|echoes| echoes.port != port) {
        let socket = descriptors.pop().ok_or("no socket came along")?;
        *echoes = Some(Echoes::new(socket, port, secret.clone()));
    }
    Ok(Reply::Echoes { secret })
}

fn draw() -> std::io::Result<EchoSecret> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(EchoSecret::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_core::echo::{Echo, TicketName};
    use std::net::{SocketAddr, UdpSocket};

    fn echoes() -> (Echoes, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let addr = socket.local_addr().unwrap();
        let secret = EchoSecret::from_bytes([1; 32]);
        (Echoes::new(socket.into(), addr.port(), secret), addr)
    }

    #[test]
    fn questions_are_answered_and_nothing_else_is() {
        let (mut echoes, addr) = echoes();
        let ticket = echoes.secret.ticket(TicketName([2; 16]));
        let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
        for datagram in [&b""[..], b"hello", &[5; ECHO_BYTES], &ticket.ask(1)] {
            asker.send_to(datagram, addr).unwrap();
        }
        let longer = [&ticket.ask(2)[..], b"more"].concat();
        asker.send_to(&longer, addr).unwrap();
        echoes.answer(Moment::ORIGIN);
        let mut answer = [0; 128];
        let length = asker.recv(&mut answer).unwrap();
        let echo = Echo::answer(&answer[..length]).unwrap();
        assert!(ticket.wrote(&echo) && echo.number == 1);
        asker.set_nonblocking(true).unwrap();
        assert!(asker.recv(&mut answer).is_err(), "one answer only");
    }

    #[test]
    fn a_flood_is_left_lying_until_the_next_round() {
        let (mut echoes, addr) = echoes();
        let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..=TAKEN_MAX {
            asker.send_to(b"flood", addr).unwrap();
        }
        let start = Moment::ORIGIN + Duration::from_secs(9);
        echoes.answer(start);
        assert!(echoes.listener(start).is_none());
        let next = echoes.rests_until().unwrap();
        assert_eq!(next, start + ROUND);
        assert!(echoes.listener(next).is_some());
        echoes.answer(next);
        assert_eq!(echoes.taken, 1, "what was left");
        assert_eq!(echoes.rests_until(), None);
    }
}

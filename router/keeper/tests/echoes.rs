//! The keeper answers echoes as long as it lives, whoever else lives or not.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod common;

use common::{DEADLINE, KEEPER, Lab};
use margay_core::echo::{ECHO_BYTES, Echo, EchoSecret, EchoTicket, TicketName};
use margay_keeper::KeeperClient;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;

/// A socket for the keeper, and where it is.
fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// Has the keeper answer at a new socket, and lets our own copy go.
fn begin(client: &KeeperClient) -> (EchoSecret, SocketAddr) {
    let (socket, addr) = socket();
    let secret = client.answer_echoes(addr.port(), socket.as_fd()).unwrap();
    (secret, addr)
}

fn is_answered(ticket: &EchoTicket, number: u64, at: SocketAddr) -> bool {
    let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
    asker.set_read_timeout(Some(DEADLINE)).unwrap();
    asker.send_to(&ticket.ask(number), at).unwrap();
    let mut answer = [0; ECHO_BYTES];
    let length = asker.recv(&mut answer).unwrap();
    let echo = Echo::answer(&answer[..length]).unwrap();
    ticket.wrote(&echo) && echo.number == number
}

#[test]
fn echoes_are_answered_when_whoever_asked_for_it_is_gone() {
    let lab = Lab::new();
    let daemon = KeeperClient::connect(&lab.socket()).unwrap();
    let (secret, at) = begin(&daemon);
    drop(daemon);
    let ticket = secret.ticket(TicketName([1; 16]));
    assert!(is_answered(&ticket, 1, at));
}

#[test]
fn the_secret_stays_for_the_next_daemon_and_the_next_program_of_the_keeper() {
    let lab = Lab::new();
    let (secret, at) = begin(&lab.client);
    lab.client.upgrade(Path::new(KEEPER)).unwrap();
    let (unneeded, _) = socket();
    let again = lab.client.answer_echoes(at.port(), unneeded.as_fd());
    assert_eq!(again.unwrap(), secret);
    let ticket = secret.ticket(TicketName([1; 16]));
    assert!(is_answered(&ticket, 1, at), "at the first socket");
}

#[test]
fn another_port_takes_the_place_of_the_first_and_another_keeper_has_another_secret() {
    let lab = Lab::new();
    let (secret, first) = begin(&lab.client);
    let (same, second) = begin(&lab.client);
    assert_eq!(same, secret);
    assert!(is_answered(&secret.ticket(TicketName([1; 16])), 1, second));
    // Nobody has the first port any more.
    assert!(UdpSocket::bind(first).is_ok());
    assert_ne!(begin(&Lab::new().client).0, secret);
}

//! Echoes of a host: asked by whoever holds a ticket of it, answered by its keeper without its daemon.
//!
//! A host gives each peer a ticket of its own and remembers none: the ticket's key follows from its name
//! and the host's secret. Question and answer are of one length, laid out as in
//! docs/protocol/host-link.md.

use blake2::Blake2sMac;
use blake2::digest::consts::{U16, U32};
use blake2::digest::{FixedOutput, KeyInit, Mac, Update};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The type of a question, among the messages of the host link.
pub const QUESTION: u8 = 5;

/// The type of an answer.
pub const ANSWER: u8 = 6;

/// Type, version, two zeroes; the ticket's name; the number; what authenticates them.
pub const ECHO_BYTES: usize = COVERED_BYTES + MAC_BYTES;

/// What is authenticated.
const COVERED_BYTES: usize = 4 + TicketName::BYTES + 8;

/// What proves that the sender has the ticket's key.
const MAC_BYTES: usize = 16;

/// The version of the host link's protocol.
const VERSION: u8 = 1;

/// By which a ticket is known: drawn at random, so that it tells nobody whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TicketName(pub [u8; TicketName::BYTES]);

impl TicketName {
    /// Bytes of a name.
    pub const BYTES: usize = 16;
}

/// A question or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// [`QUESTION`] or [`ANSWER`].
    kind: u8,
    /// By whose ticket.
    pub ticket: TicketName,
    /// Which question it is: higher than all before it by the same ticket.
    pub number: u64,
    mac: [u8; MAC_BYTES],
}

impl Echo {
    /// Reads a question; `None` if the datagram is none.
    pub fn question(datagram: &[u8]) -> Option<Self> {
        Echo::parse(QUESTION, datagram)
    }

    /// Reads an answer; `None` if the datagram is none.
    pub fn answer(datagram: &[u8]) -> Option<Self> {
        Echo::parse(ANSWER, datagram)
    }

    fn parse(kind: u8, datagram: &[u8]) -> Option<Self> {
        let datagram: &[u8; ECHO_BYTES] = datagram.try_into().ok()?;
        let (header, rest) = datagram.split_first_chunk()?;
        let (ticket, rest) = rest.split_first_chunk()?;
        let (number, mac) = rest.split_first_chunk()?;
        (*header == [kind, VERSION, 0, 0]).then_some(Echo {
            kind,
            ticket: TicketName(*ticket),
            number: u64::from_be_bytes(*number),
            mac: mac.try_into().ok()?,
        })
    }

    /// Writes the datagram.
    pub fn to_bytes(&self) -> [u8; ECHO_BYTES] {
        let mut bytes = [0; ECHO_BYTES];
        let (covered, mac) = bytes.split_at_mut(COVERED_BYTES);
        covered.copy_from_slice(&self.covered());
        mac.copy_from_slice(&self.mac);
        bytes
    }

    fn covered(&self) -> [u8; COVERED_BYTES] {
        let mut covered = [0; COVERED_BYTES];
        let (header, rest) = covered.split_at_mut(4);
        let (ticket, number) = rest.split_at_mut(TicketName::BYTES);
        header.copy_from_slice(&[self.kind, VERSION, 0, 0]);
        ticket.copy_from_slice(&self.ticket.0);
        number.copy_from_slice(&self.number.to_be_bytes());
        covered
    }
}

/// From which a host's tickets follow, and by which it knows them again. As long as its keeper lives it
/// has one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EchoSecret([u8; 32]);

impl EchoSecret {
    /// Takes 32 bytes that nobody can guess.
    pub const fn from_bytes(secret: [u8; 32]) -> Self {
        EchoSecret(secret)
    }

    /// The ticket of a name.
    pub fn ticket(&self, name: TicketName) -> EchoTicket {
        let mac = <Blake2sMac<U32> as KeyInit>::new_from_slice(&self.0);
        let mut mac = mac.expect("BLAKE2s takes keys of 32 bytes");
        Update::update(&mut mac, &name.0);
        let key = mac.finalize_fixed().into();
        EchoTicket { name, key }
    }

    /// The answer to a datagram, if that is a question of somebody with a ticket: as long as the question,
    /// so that nobody gains by a forged address.
    pub fn answer(&self, datagram: &[u8]) -> Option<[u8; ECHO_BYTES]> {
        let question = Echo::question(datagram)?;
        let ticket = self.ticket(question.ticket);
        ticket.wrote(&question).then(|| {
            let answer = ticket.write(ANSWER, question.number);
            answer.to_bytes()
        })
    }
}

impl fmt::Debug for EchoSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EchoSecret")
    }
}

/// What its holder asks one host by.
#[derive(Clone, PartialEq, Eq)]
pub struct EchoTicket {
    name: TicketName,
    key: [u8; 32],
}

impl EchoTicket {
    /// Bytes of a ticket: its name and its key.
    pub const BYTES: usize = TicketName::BYTES + 32;

    /// Reads a ticket.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (name, key) = bytes.split_first_chunk()?;
        Some(EchoTicket {
            name: TicketName(*name),
            key: key.try_into().ok()?,
        })
    }

    /// Writes the ticket, for its holder only.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.name.0[..], &self.key].concat()
    }

    /// By which it is known.
    pub fn name(&self) -> TicketName {
        self.name
    }

    /// Asks; no number may be used twice.
    pub fn ask(&self, number: u64) -> [u8; ECHO_BYTES] {
        self.write(QUESTION, number).to_bytes()
    }

    /// Whether somebody with this ticket's key wrote it; takes the same time wherever it differs.
    pub fn wrote(&self, echo: &Echo) -> bool {
        let mac = self.over(&echo.covered());
        echo.ticket == self.name && mac.verify(&echo.mac.into()).is_ok()
    }

    fn write(&self, kind: u8, number: u64) -> Echo {
        let unproven = Echo {
            kind,
            ticket: self.name,
            number,
            mac: [0; MAC_BYTES],
        };
        let mac = self.over(&unproven.covered()).finalize_fixed().into();
        Echo { mac, ..unproven }
    }

    fn over(&self, covered: &[u8; COVERED_BYTES]) -> Blake2sMac<U16> {
        let mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&self.key);
        let mut mac = mac.expect("BLAKE2s takes keys of 32 bytes");
        Update::update(&mut mac, covered);
        mac
    }
}

impl fmt::Debug for EchoTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EchoTicket of {:?}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: EchoSecret = EchoSecret::from_bytes([1; 32]);
    const NAME: TicketName = TicketName([2; 16]);

    #[test]
    fn who_holds_a_ticket_is_answered_and_knows_the_answer() {
        let ticket = EchoTicket::from_bytes(&SECRET.ticket(NAME).to_bytes()).unwrap();
        let answer = SECRET.answer(&ticket.ask(7)).unwrap();
        let echo = Echo::answer(&answer).unwrap();
        assert_eq!((echo.ticket, echo.number), (NAME, 7));
        assert!(ticket.wrote(&echo));
    }

    #[test]
    fn nobody_else_is_answered() {
        let question = SECRET.ticket(NAME).ask(7);
        for byte in 0..ECHO_BYTES {
            let mut changed = question;
            changed[byte] ^= 1;
            assert_eq!(SECRET.answer(&changed), None, "byte {byte}");
        }
        assert_eq!(SECRET.answer(&question[..ECHO_BYTES - 1]), None);
        let of_another = EchoSecret::from_bytes([9; 32]).ticket(NAME);
        assert_eq!(SECRET.answer(&of_another.ask(7)), None);
    }

    #[test]
    fn no_other_holder_answers_for_a_host_and_no_question_is_its_own_answer() {
        let ticket = SECRET.ticket(NAME);
        let neighbour = SECRET.ticket(TicketName([3; 16]));
        let mut forged = neighbour.write(ANSWER, 7);
        forged.ticket = NAME;
        assert!(!ticket.wrote(&forged));
        let mut mirrored = ticket.ask(7);
        mirrored[0] = ANSWER;
        assert!(!ticket.wrote(&Echo::answer(&mirrored).unwrap()));
    }

    #[test]
    fn a_datagram_is_laid_out_as_the_table_says() {
        let asked = SECRET.ticket(NAME).ask(0x0102_0304_0506_0708);
        assert_eq!(asked[..4], [5, 1, 0, 0]);
        assert_eq!(asked[4..20], [2; 16]);
        assert_eq!(asked[20..28], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(asked.len(), 44);
    }

    #[test]
    fn secrets_do_not_show_themselves() {
        let shown = format!("{:?} {:?}", SECRET, SECRET.ticket(NAME));
        let key = format!("{:?}", SECRET.ticket(NAME).key);
        assert!(!shown.contains(&key) && !shown.contains("[1, 1"), "{shown}");
    }
}

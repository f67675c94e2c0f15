//! An instance's resolver, asked from outside: does it know a name, and an address for it?

use crate::bench::namespace::Namespace;
use anyhow::{Context as _, Result, bail, ensure};
use std::net::UdpSocket;
use std::time::Duration;

/// Where an instance's resolver listens.
const RESOLVER: &str = "169.254.53.53:53";

/// How long one question waits for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// What the resolver says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does not exist, for who asks.
    NoSuchName,
    /// It exists, and nothing there can be called.
    NoAddress,
    /// It has an address.
    Address,
}

/// Where an instance's resolver is asked.
#[derive(Debug)]
pub struct Asker {
    socket: UdpSocket,
}

impl Asker {
    /// Opens a socket in the instance's network namespace.
    pub fn inside(namespace: &Namespace) -> Result<Asker> {
        namespace.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").context("open a socket for questions")?;
            socket.connect(RESOLVER)?;
            socket.set_read_timeout(Some(ANSWER_MAX))?;
            Ok(Asker { socket })
        })
    }

    /// Asks once and waits for the answer.
    pub fn ask(&self, question: &[u8]) -> Result<Answer> {
        let mut answer = [0; 512];
        self.socket.send(question)?;
        let length = self
            .socket
            .recv(&mut answer)
            .context("wait for an answer")?;
        ensure!(
            length > 12 && answer[..2] == question[..2],
            "a strange answer"
        );
        let (code, addresses) = (answer[3] & 0x0f, u16::from_be_bytes([answer[6], answer[7]]));
        match (code, addresses) {
            (0, 0) => Ok(Answer::NoAddress),
            (0, _) => Ok(Answer::Address),
            (3, _) => Ok(Answer::NoSuchName),
            (code, _) => bail!("the resolver answers with code {code}"),
        }
    }
}

/// A question for the IPv4 address of `name`, whose labels are short (RFC 1035 section 4).
pub fn question(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_whom_it_asks_for() {
        let question = question(300, "fresh-300.matrix");
        assert_eq!(question[..2], [1, 44]);
        assert_eq!(&question[12..], b"\x09fresh-300\x06matrix\0\0\x01\0\x01");
    }
}

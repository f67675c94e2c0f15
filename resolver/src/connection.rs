//! One TCP connection: length-prefixed queries in, replies out, both bounded (RFC 7766).

use crate::counts::Count;
use crate::forward::Asker;
use crate::limits::{Limits, QUERY_BYTES_MAX};
use crate::reply::Transport;
use crate::responder::{Responder, Response};
use margay_core::id::InstanceId;
use mio::Token;
use mio::net::TcpStream;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

/// The bytes of the length before each message (RFC 1035 section 4.2.2).
const PREFIX: usize = 2;

/// Queries answered in one turn, as many as in a turn of a UDP socket.
const QUERIES_PER_TURN: usize = 32;

/// Questions of one connection that are asked elsewhere at a time; its further queries wait.
const ELSEWHERE_PER_CONNECTION_MAX: usize = 8;

/// A connection and what is buffered for it.
pub(crate) struct Connection {
    /// Whose namespace it came from.
    pub(crate) caller: InstanceId,
    /// The stream itself.
    pub(crate) stream: TcpStream,
    /// Bytes of queries not yet answered: at most one whole query's worth.
    inbound: Vec<u8>,
    /// Bytes of replies, of which the first `written` are with the kernel.
    outbound: Vec<u8>,
    written: usize,
    peer_ended: bool,
    /// Its questions that are asked elsewhere.
    elsewhere: usize,
    deadline: Instant,
}

/// What a connection wants after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another turn: more may be waiting.
    Turn,
    /// A readiness event.
    Event,
    /// To be closed, for this reason.
    Close(Count),
}

/// Room shared by all connections during their turns.
pub(crate) struct Scratch {
    chunk: Box<[u8]>,
    reply: Vec<u8>,
}

impl Scratch {
    /// Empty room.
    pub(crate) fn new() -> Scratch {
        Scratch {
            chunk: vec![0; PREFIX + QUERY_BYTES_MAX].into_boxed_slice(),
            reply: Vec::new(),
        }
    }
}

/// What one attempt to read brought.
#[derive(PartialEq, Eq)]
enum Filled {
    Bytes,
    Nothing,
}

impl Connection {
    /// A fresh connection of `caller`.
    pub(crate) fn new(
        caller: InstanceId,
        stream: TcpStream,
        limits: &Limits,
        now: Instant,
    ) -> Connection {
        Connection {
            caller,
            stream,
            inbound: Vec::new(),
            outbound: Vec::new(),
            written: 0,
            peer_ended: false,
            elsewhere: 0,
            deadline: now + limits.idle,
        }
    }

    /// Why the connection must close, if at `now` its time is over.
    pub(crate) fn expired(&self, now: Instant) -> Option<Count> {
        let reason = if self.outbound.is_empty() {
            Count::Idle
        } else {
            Count::SlowReader
        };
        (now >= self.deadline).then_some(reason)
    }

    /// Takes a reply that came from elsewhere; the next turn writes it.
    pub(crate) fn deliver(&mut self, reply: &[u8]) {
        self.elsewhere = self.elsewhere.saturating_sub(1);
        if !reply.is_empty() {
            push(&mut self.outbound, reply);
        }
    }

    /// Takes one turn: writes what waits, reads one chunk, answers some of what is whole in it.
    pub(crate) fn turn(
        &mut self,
        token: Token,
        responder: &mut Responder,
        scratch: &mut Scratch,
        limits: &Limits,
        now: Instant,
    ) -> Next {
        match self.step(token, responder, scratch, limits, now) {
            Ok(true) => Next::Turn,
            Ok(false) if self.peer_ended && self.outbound.is_empty() && self.elsewhere == 0 => {
                Next::Close(Count::Finished)
            }
            Ok(false) => Next::Event,
            Err(reason) => Next::Close(reason),
        }
    }

    /// Does one turn's work; returns whether more could be done without a readiness event.
    fn step(
        &mut self,
        token: Token,
        responder: &mut Responder,
        scratch: &mut Scratch,
        limits: &Limits,
        now: Instant,
    ) -> Result<bool, Count> {
        // First, because waiting replies keep whole queries from being answered.
        self.flush()?;
        let filled = self.fill(&mut scratch.chunk)?;
        let answered = self.answer(token, responder, &mut scratch.reply, limits)?;
        if answered {
            // Only a whole query counts as life: dribbled bytes do not keep a connection open.
            self.deadline = now + limits.idle;
        }
        self.flush()?;
        // With replies unwritten the kernel's buffer is full: its writability is the next event.
        let all_written = self.outbound.is_empty();
        Ok(filled == Filled::Bytes || (answered && all_written))
    }

    fn fill(&mut self, chunk: &mut [u8]) -> Result<Filled, Count> {
        let room = PREFIX + QUERY_BYTES_MAX - self.inbound.len();
        if room == 0 || self.peer_ended {
            return Ok(Filled::Nothing);
        }
        match self.stream.read(&mut chunk[..room]) {
            Ok(0) => {
                self.peer_ended = true;
                Ok(Filled::Nothing)
            }
            Ok(read) => {
                self.inbound.extend_from_slice(&chunk[..read]);
                Ok(Filled::Bytes)
            }
            Err(error) => stall(&error).map(|()| Filled::Nothing),
        }
    }

    /// Answers whole queries at hand while there is room for replies; returns whether any was there.
    fn answer(
        &mut self,
        token: Token,
        responder: &mut Responder,
        reply: &mut Vec<u8>,
        limits: &Limits,
    ) -> Result<bool, Count> {
        let mut consumed = 0;
        for _ in 0..QUERIES_PER_TURN {
            if self.outbound.len() >= limits.waiting_bytes_max
                || self.elsewhere >= ELSEWHERE_PER_CONNECTION_MAX
            {
                break;
            }
            let rest = &self.inbound[consumed..];
            let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX>() else {
                break;
            };
            let length = usize::from(u16::from_be_bytes(*prefix));
            if length > QUERY_BYTES_MAX {
                return Err(Count::QueryTooLong);
            }
            let Some(query) = rest.get(..length) else {
                break;
            };
            let asker = || Asker::Connection(token);
            let response = responder.respond(self.caller, query, Transport::Tcp, asker, reply);
            consumed += PREFIX + length;
            match response {
                Response::Ready => push(&mut self.outbound, reply),
                Response::Later => self.elsewhere += 1,
                Response::None => {}
            }
        }
        self.inbound.drain(..consumed);
        Ok(consumed > 0)
    }

    fn flush(&mut self) -> Result<(), Count> {
        while self.written < self.outbound.len() {
            match self.stream.write(&self.outbound[self.written..]) {
                Ok(0) => return Err(Count::Broken),
                Ok(written) => self.written += written,
                Err(error) => return stall(&error),
            }
        }
        self.outbound.clear();
        self.written = 0;
        Ok(())
    }
}

fn push(outbound: &mut Vec<u8>, reply: &[u8]) {
    let length = u16::try_from(reply.len()).expect("a reply fits a TCP message");
    outbound.extend_from_slice(&length.to_be_bytes());
    outbound.extend_from_slice(reply);
}

/// Tells a stream that is not ready from one that is broken. (What never sleeps is never
/// interrupted.)
fn stall(error: &io::Error) -> Result<(), Count> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(()),
        _ => Err(Count::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Tally;
    use crate::sample::query;
    use hickory_proto::rr::RecordType;
    use nix::sys::socket::{setsockopt, sockopt};
    use std::sync::Arc;

    /// A connection whose kernel buffers are small, and its peer.
    struct Pair {
        peer: std::net::TcpStream,
        connection: Connection,
        responder: Responder,
        scratch: Scratch,
        limits: Limits,
        now: Instant,
    }

    impl Pair {
        fn new(waiting_bytes_max: usize) -> Pair {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            peer.set_nonblocking(true).unwrap();
            setsockopt(&peer, sockopt::RcvBuf, &4096).unwrap();
            let stream = listener.accept().unwrap().0;
            stream.set_nonblocking(true).unwrap();
            setsockopt(&stream, sockopt::SndBuf, &4096).unwrap();
            let stream = TcpStream::from_std(stream);
            let (now, limits) = (Instant::now(), Limits::default());
            Pair {
                peer,
                connection: Connection::new(InstanceId(1), stream, &limits, now),
                responder: Responder::new(Arc::default(), Arc::new(Tally::new())),
                scratch: Scratch::new(),
                limits: Limits {
                    waiting_bytes_max,
                    ..limits
                },
                now,
            }
        }

        /// Sends a few queries, too few for a turn to end by its own bounds.
        fn send(&mut self) -> io::Result<()> {
            let query = query("web.matrix.", RecordType::A).to_vec().unwrap();
            let length = u16::try_from(query.len()).unwrap().to_be_bytes();
            let framed = [length.as_slice(), &query].concat();
            self.peer.write_all(&framed.repeat(4))
        }

        fn turn(&mut self) -> Next {
            let (responder, scratch) = (&mut self.responder, &mut self.scratch);
            self.connection
                .turn(Token(1), responder, scratch, &self.limits, self.now)
        }

        fn waiting_bytes(&self) -> usize {
            self.connection.outbound.len() - self.connection.written
        }
    }

    #[test]
    fn replies_that_nobody_reads_wait_only_up_to_the_bound() {
        let mut pair = Pair::new(1024);

        // Until the connection reads no more and the kernel's buffers are full.
        while pair.send().is_ok() {
            let next = pair.turn();

            assert!(!matches!(next, Next::Close(_)), "{next:?}");
            let longest_reply = 256;
            assert!(pair.waiting_bytes() <= 1024 + longest_reply);
            assert!(pair.connection.inbound.len() <= PREFIX + QUERY_BYTES_MAX);
        }
        let expired = pair.connection.expired(pair.now + pair.limits.idle);
        assert_eq!(expired, Some(Count::SlowReader));
    }

    #[test]
    fn an_ended_peers_replies_are_written_before_its_connection_closes() {
        let mut pair = Pair::new(16 * 1024);
        while pair.waiting_bytes() == 0 {
            pair.send().unwrap();
            pair.turn();
        }

        pair.peer.shutdown(std::net::Shutdown::Write).unwrap();

        let mut received = Vec::new();
        let last = loop {
            let next = pair.turn();
            if matches!(next, Next::Close(_)) {
                break next;
            }
            // Ends where nothing more has come yet.
            let _ = pair.peer.read_to_end(&mut received);
        };
        let answered = pair.responder.tally().read().queries_tcp;
        assert_eq!(last, Next::Close(Count::Finished));
        drop(pair.connection);
        pair.peer.set_nonblocking(false).unwrap();
        pair.peer.read_to_end(&mut received).unwrap();
        let reply_length = PREFIX + usize::from(u16::from_be_bytes([received[0], received[1]]));
        assert_eq!(received.len() as u64, answered * reply_length as u64);
    }
}

//! The resolver's thread: waits for readiness, gives each ready socket one bounded turn a round.

use crate::connection::{Connection, Next, Scratch};
use crate::counts::Count;
use crate::datagram::{Batch, send_to};
use crate::forward::{Asker, Delivery};
use crate::limits::Limits;
use crate::responder::Responder;
use crate::sources::{Source, Sources};
use margay_core::id::InstanceId;
use mio::{Events, Poll, Token};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// The token of the waker.
pub(crate) const WAKE: Token = Token(0);

/// Events taken from the kernel at a time; what is beyond stays there for the next round.
const EVENTS_MAX: usize = 256;

/// Connections accepted in one turn of a listener.
const ACCEPTS_PER_TURN: usize = 8;

/// How many sweeps for expired connections there are in one idle time: a connection outlives its
/// deadline by at most a quarter.
const SWEEPS_PER_IDLE: u32 = 4;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Answer on these sockets.
    Add {
        /// Who asks there.
        instance: InstanceId,
        /// Bound, non-blocking.
        udp: UdpSocket,
        /// Listening, non-blocking.
        tcp: TcpListener,
    },
    /// Answer this instance no more.
    Remove(InstanceId),
    /// End.
    Stop,
}

/// What the thread owns.
pub(crate) struct Worker {
    poll: Poll,
    commands: Receiver<Command>,
    /// Replies from elsewhere, if any can come.
    deliveries: Option<Receiver<Delivery>>,
    sources: Sources,
    responder: Responder,
    batch: Batch,
    scratch: Scratch,
    limits: Limits,
    next_sweep: Instant,
    /// Listeners whose accept failed: no event announces that the kernel has recovered.
    stalled: Vec<Token>,
}

impl Worker {
    /// A thread's worth of state, without sockets yet.
    pub(crate) fn new(
        poll: Poll,
        commands: Receiver<Command>,
        responder: Responder,
        limits: Limits,
    ) -> io::Result<Worker> {
        let registry = poll.registry().try_clone()?;
        Ok(Worker {
            poll,
            commands,
            deliveries: None,
            sources: Sources::new(registry, WAKE.0 + 1),
            responder,
            batch: Batch::new(),
            scratch: Scratch::new(),
            limits,
            next_sweep: Instant::now(),
            stalled: Vec::new(),
        })
    }

    /// The same, with replies from elsewhere coming out of `deliveries`.
    pub(crate) fn with_deliveries(mut self, deliveries: Option<Receiver<Delivery>>) -> Worker {
        self.deliveries = deliveries;
        self
    }

    /// Works until told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, self.patience(Instant::now())) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    tracing::error!(%error, "the resolver cannot poll its sockets and ends");
                    return;
                }
                _ => {}
            }
            for event in &events {
                self.sources.enqueue(event.token());
            }
            if !self.obey() {
                return;
            }
            self.deliver();
            self.round();
            self.answer_held(Instant::now());
            self.sweep(Instant::now());
        }
    }

    /// How long to wait for events: not at all with turns due, for ever with nothing to time out.
    fn patience(&self, now: Instant) -> Option<Duration> {
        if self.sources.ready_count() > 0 {
            return Some(Duration::ZERO);
        }
        let sweeps = self.sources.connection_count() > 0 || !self.stalled.is_empty();
        let sweep = sweeps.then_some(self.next_sweep);
        let due = sweep.into_iter().chain(self.responder.held_until()).min()?;
        Some(due.saturating_duration_since(now))
    }

    /// Passes on the replies to questions that waited for searches.
    fn answer_held(&mut self, now: Instant) {
        // Bounded by how many may wait.
        for (to, bytes) in self.responder.answer_held(now) {
            if let Err(reason) = self.pass_on(&to, &bytes) {
                self.responder.tally().count(reason);
            }
        }
    }

    /// Follows all commands that wait; returns whether to go on.
    fn obey(&mut self) -> bool {
        // Bounded by the channel: whoever sends more is let in only as this loop takes some.
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Add { instance, udp, tcp } => self.add(instance, udp, tcp),
                Command::Remove(instance) => self.remove(instance),
                Command::Stop => return false,
            }
        }
        true
    }

    /// Passes on the replies that came from elsewhere.
    fn deliver(&mut self) {
        // Bounded by how many questions can be under way.
        while let Some(Ok(Delivery { to, bytes, place })) = self
            .deliveries
            .as_ref()
            .map(|deliveries| deliveries.try_recv())
        {
            if let Err(reason) = self.pass_on(&to, &bytes) {
                self.responder.tally().count(reason);
            }
            drop(place);
        }
    }

    /// Passes one reply on, or says why it is dropped.
    fn pass_on(&mut self, to: &Asker, bytes: &[u8]) -> Result<(), Count> {
        let (Asker::Datagram(token, _) | Asker::Connection(token)) = to;
        let source = self.sources.source_mut(*token).ok_or(Count::AskerGone)?;
        let sent = match (source, to) {
            (Source::Udp(_, socket), Asker::Datagram(_, peer)) => {
                bytes.is_empty() || send_to(socket.as_fd(), bytes, peer)
            }
            (Source::Connection(connection), _) => {
                connection.deliver(bytes);
                self.sources.enqueue(*token);
                true
            }
            _ => return Err(Count::AskerGone),
        };
        if sent {
            Ok(())
        } else {
            Err(Count::SendRefused)
        }
    }

    fn add(&mut self, instance: InstanceId, udp: UdpSocket, tcp: TcpListener) {
        self.remove(instance);
        let udp = Source::Udp(instance, mio::net::UdpSocket::from_std(udp));
        let tcp = Source::Listener(instance, mio::net::TcpListener::from_std(tcp));
        for source in [udp, tcp] {
            if let Err(error) = self.sources.insert(source) {
                tracing::error!(%instance, %error, "cannot poll a dns socket; raise fs.epoll.max_user_watches");
                self.responder.tally().count(Count::NotRegistered);
            }
        }
    }

    fn remove(&mut self, instance: InstanceId) {
        let connections = self.sources.close_instance(instance);
        let tally = self.responder.tally();
        tally.count_many(Count::Removed, connections);
    }

    /// Gives one turn to each socket that was ready when the round began.
    fn round(&mut self) {
        for _ in 0..self.sources.ready_count() {
            let Some(token) = self.sources.dequeue() else {
                return;
            };
            self.turn(token);
        }
    }

    fn turn(&mut self, token: Token) {
        let next = match self.sources.source_mut(token) {
            None => return,
            Some(Source::Udp(caller, socket)) => {
                let more = self
                    .batch
                    .turn(socket.as_fd(), token, *caller, &mut self.responder);
                if more { Next::Turn } else { Next::Event }
            }
            Some(Source::Listener(..)) => self.accept(token),
            Some(Source::Connection(connection)) => connection.turn(
                token,
                &mut self.responder,
                &mut self.scratch,
                &self.limits,
                Instant::now(),
            ),
        };
        match next {
            Next::Turn => self.sources.enqueue(token),
            Next::Event => {}
            Next::Close(reason) => self.close(token, reason),
        }
    }

    fn accept(&mut self, token: Token) -> Next {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(Source::Listener(caller, listener)) = self.sources.source_mut(token) else {
                return Next::Event;
            };
            let caller = *caller;
            match listener.accept() {
                Ok((stream, _)) => self.admit(caller, stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Event,
                // The peer gave up while it waited; the next one may not have.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%caller, %error, "accepting a dns connection failed");
                    self.responder.tally().count(Count::AcceptFailed);
                    self.stalled.push(token);
                    return Next::Event;
                }
            }
        }
        Next::Turn
    }

    /// Takes a connection in, or closes it at once where a bound is reached.
    fn admit(&mut self, caller: InstanceId, stream: mio::net::TcpStream) {
        let tally = self.responder.tally();
        tally.count(Count::Accepted);
        let held = self.sources.connection_count_of(caller);
        if held >= self.limits.connections_per_instance_max {
            tally.count(Count::RefusedInstance);
        } else if self.sources.connection_count() >= self.limits.connections_max {
            tally.count(Count::RefusedTotal);
        } else {
            let connection = Connection::new(caller, stream, &self.limits, Instant::now());
            if let Err(error) = self.sources.insert(Source::Connection(connection)) {
                tracing::warn!(%caller, %error, "cannot poll a dns connection");
                self.responder.tally().count(Count::NotRegistered);
            }
        }
    }

    fn close(&mut self, token: Token, reason: Count) {
        self.responder.tally().count(reason);
        self.sources.close(token);
    }

    /// Closes connections whose time is over and tries failed accepts again, every so often.
    fn sweep(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + self.limits.idle / SWEEPS_PER_IDLE;
        let expired: Vec<_> = self
            .sources
            .connections()
            .filter_map(|(token, connection)| Some((token, connection.expired(now)?)))
            .collect();
        for (token, reason) in expired {
            self.close(token, reason);
        }
        for token in std::mem::take(&mut self.stalled) {
            self.sources.enqueue(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Tally;
    use crate::datagram::BATCH;
    use crate::sample::query;
    use hickory_proto::rr::RecordType;
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn a_socket_with_many_queries_gets_one_batch_a_round() {
        let tally = Arc::new(Tally::new());
        let responder = Responder::new(Arc::default(), Arc::clone(&tally));
        let (_sender, commands) = sync_channel(1);
        let poll = Poll::new().unwrap();
        let mut worker = Worker::new(poll, commands, responder, Limits::default()).unwrap();
        let query = query("web.matrix.", RecordType::A).to_vec().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (instance, queries) in [(1, 4 * BATCH), (2, 1)] {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            udp.set_nonblocking(true).unwrap();
            tcp.set_nonblocking(true).unwrap();
            for _ in 0..queries {
                client.send_to(&query, udp.local_addr().unwrap()).unwrap();
            }
            worker.add(InstanceId(instance), udp, tcp);
        }

        let mut answered = Vec::new();
        for _ in 0..4 {
            worker.round();
            answered.push(tally.read().queries_udp);
        }

        let batch = BATCH as u64;
        assert_eq!(
            answered,
            [batch + 1, 2 * batch + 1, 3 * batch + 1, 4 * batch + 1]
        );
    }
}

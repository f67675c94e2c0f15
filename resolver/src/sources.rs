//! Every socket of the resolver, whose it is, and whose turn is next.

use crate::connection::Connection;
use margay_core::id::InstanceId;
use mio::event;
use mio::net::{TcpListener, UdpSocket};
use mio::{Interest, Registry, Token};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

/// A socket that takes turns.
pub(crate) enum Source {
    /// An instance's UDP socket.
    Udp(InstanceId, UdpSocket),
    /// An instance's listening TCP socket.
    Listener(InstanceId, TcpListener),
    /// A connection to one.
    Connection(Connection),
}

impl Source {
    fn caller(&self) -> InstanceId {
        match self {
            Source::Udp(caller, _) | Source::Listener(caller, _) => *caller,
            Source::Connection(connection) => connection.caller,
        }
    }

    fn pollable(&mut self) -> (&mut dyn event::Source, Interest) {
        match self {
            Source::Udp(_, socket) => (socket, Interest::READABLE),
            Source::Listener(_, listener) => (listener, Interest::READABLE),
            Source::Connection(connection) => (
                &mut connection.stream,
                Interest::READABLE | Interest::WRITABLE,
            ),
        }
    }
}

/// The sockets by token, and the queue of those that may have work.
///
/// Readiness is edge-triggered: an event puts a token into the queue, where it stays until a turn
/// finds nothing left. A token is in the queue at most once, so the queue is as bounded as the
/// sockets are. Tokens are never used twice, so a late event of a closed socket means nothing.
pub(crate) struct Sources {
    registry: Registry,
    by_token: BTreeMap<Token, Source>,
    by_instance: BTreeMap<InstanceId, BTreeSet<Token>>,
    connections: usize,
    ready: VecDeque<Token>,
    queued: BTreeSet<Token>,
    next_token: usize,
}

impl Sources {
    /// None yet; tokens start at `first_token`.
    pub(crate) fn new(registry: Registry, first_token: usize) -> Sources {
        Sources {
            registry,
            by_token: BTreeMap::new(),
            by_instance: BTreeMap::new(),
            connections: 0,
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            next_token: first_token,
        }
    }

    /// Takes a socket in; it gets its first turn at once.
    pub(crate) fn insert(&mut self, mut source: Source) -> io::Result<()> {
        let token = Token(self.next_token);
        let (pollable, interest) = source.pollable();
        self.registry.register(pollable, token, interest)?;
        self.next_token += 1;
        let of_instance = self.by_instance.entry(source.caller()).or_default();
        of_instance.insert(token);
        self.connections += usize::from(matches!(source, Source::Connection(_)));
        self.by_token.insert(token, source);
        self.enqueue(token);
        Ok(())
    }

    /// Closes a socket. It is taken out of the poll first: where another process holds a duplicate
    /// of it, closing alone would leave it in.
    pub(crate) fn close(&mut self, token: Token) {
        let Some(mut source) = self.by_token.remove(&token) else {
            return;
        };
        if let Err(error) = self.registry.deregister(source.pollable().0) {
            tracing::warn!(%error, "the kernel's poll did not give a dns socket back");
        }
        self.connections -= usize::from(matches!(source, Source::Connection(_)));
        if let Some(of_instance) = self.by_instance.get_mut(&source.caller()) {
            of_instance.remove(&token);
        }
    }

    /// Closes every socket of `instance`; returns how many connections were among them.
    pub(crate) fn close_instance(&mut self, instance: InstanceId) -> usize {
        let connections_before = self.connections;
        let tokens = self.by_instance.remove(&instance).unwrap_or_default();
        for token in tokens {
            self.close(token);
        }
        connections_before - self.connections
    }

    /// The socket behind a token, if it is still open.
    pub(crate) fn source_mut(&mut self, token: Token) -> Option<&mut Source> {
        self.by_token.get_mut(&token)
    }

    /// Every open connection.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (Token, &Connection)> {
        self.by_token
            .iter()
            .filter_map(|(token, source)| match source {
                Source::Connection(connection) => Some((*token, connection)),
                Source::Udp(..) | Source::Listener(..) => None,
            })
    }

    /// How many connections all instances hold.
    pub(crate) fn connection_count(&self) -> usize {
        self.connections
    }

    /// How many connections `instance` holds.
    pub(crate) fn connection_count_of(&self, instance: InstanceId) -> usize {
        // Two of an instance's sockets are its UDP socket and its listener.
        self.by_instance
            .get(&instance)
            .map_or(0, |tokens| tokens.len().saturating_sub(2))
    }

    /// Puts a token at the end of the queue, unless it is there already.
    pub(crate) fn enqueue(&mut self, token: Token) {
        if self.by_token.contains_key(&token) && self.queued.insert(token) {
            self.ready.push_back(token);
        }
    }

    /// Takes the token whose turn is next.
    pub(crate) fn dequeue(&mut self) -> Option<Token> {
        let token = self.ready.pop_front()?;
        self.queued.remove(&token);
        Some(token)
    }

    /// How many tokens wait for their turn.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }
}

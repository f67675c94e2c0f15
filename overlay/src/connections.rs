//! Connections: which stand, which to keep, whom to call again and when, and which to close.
//!
//! Who called hangs up: a connection that nobody keeps is closed by the side that made it. Gossip
//! holds every connection open as long as it stands, so that without this rule those which Kademlia
//! makes would grow into a full mesh.

use crate::config::Pace;
use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Before a host is called for the second time; doubled each time after.
const CALL_AGAIN_MIN: Duration = Duration::from_millis(250);

/// The most between two calls: so late is a host found that came back and does not call itself.
const CALL_AGAIN_MAX: Duration = Duration::from_secs(10);

/// A connection that stood so long was worth the call, and the next wait begins anew.
const WORTH_CALLING: Duration = Duration::from_secs(10);

/// Calls are early or late by up to this part of the wait, so that hosts do not call in step.
const JITTER: f64 = 0.25;

/// The connections of one host.
pub(crate) struct Connections {
    own: PeerId,
    kept: BTreeMap<PeerId, Calls>,
    standing: BTreeMap<PeerId, Standing>,
    handshake_timeout: Duration,
    idle_timeout: Duration,
    random: SmallRng,
}

/// How often a host that is to be kept was called in vain, and when to call it next.
#[derive(Debug)]
struct Calls {
    in_vain: u32,
    next: Instant,
}

/// What stands to one host.
#[derive(Debug)]
struct Standing {
    connections: BTreeMap<ConnectionId, Connection>,
    /// When it was last wanted by core.
    used: Instant,
}

#[derive(Debug)]
struct Connection {
    called: bool,
    since: Instant,
    /// Whether the other side said what it speaks; who does not let this host in never does.
    speaks: bool,
}

impl Standing {
    fn speaks(&self) -> bool {
        self.connections.values().any(|it| it.speaks)
    }
}

/// Which connections to close.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ToClose {
    /// Nobody needs them.
    pub(crate) unneeded: Vec<ConnectionId>,
    /// Their hosts never said what they speak.
    pub(crate) silent: Vec<ConnectionId>,
}

impl Connections {
    /// None stand. `seed` is for the jitter only.
    pub(crate) fn new(own: PeerId, pace: &Pace, seed: u64) -> Self {
        Connections {
            own,
            kept: BTreeMap::new(),
            standing: BTreeMap::new(),
            handshake_timeout: pace.handshake_timeout,
            idle_timeout: pace.idle_timeout,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Keeps a connection from now on, and calls at once if there is none.
    pub(crate) fn keep(&mut self, peer: PeerId, now: Instant) {
        self.kept.entry(peer).or_insert(Calls {
            in_vain: 0,
            next: now,
        });
    }

    /// Keeps it no longer.
    pub(crate) fn release(&mut self, peer: &PeerId, now: Instant) {
        self.kept.remove(peer);
        self.use_now(peer, now);
    }

    /// Calls at once if the host is to be kept: it may be somewhere else now.
    pub(crate) fn call_now(&mut self, peer: &PeerId, now: Instant) {
        if let Some(calls) = self.kept.get_mut(peer) {
            *calls = Calls {
                in_vain: 0,
                next: now,
            };
        }
    }

    /// Notes that core wants something of a host now.
    pub(crate) fn use_now(&mut self, peer: &PeerId, now: Instant) {
        if let Some(standing) = self.standing.get_mut(peer) {
            standing.used = now;
        }
    }

    /// Takes in a new connection, which this host made by calling or was called for.
    pub(crate) fn opened(&mut self, peer: PeerId, id: ConnectionId, called: bool, now: Instant) {
        let standing = self.standing.entry(peer).or_insert_with(|| Standing {
            connections: BTreeMap::new(),
            used: now,
        });
        standing.used = now;
        let connection = Connection {
            called,
            since: now,
            speaks: false,
        };
        standing.connections.insert(id, connection);
    }

    /// Notes that the other side speaks; whether it is the first connection of its host that does.
    pub(crate) fn speaks(&mut self, peer: &PeerId, id: ConnectionId) -> bool {
        let Some(standing) = self.standing.get_mut(peer) else {
            return false;
        };
        let spoke = standing.speaks();
        if let Some(connection) = standing.connections.get_mut(&id) {
            connection.speaks = true;
        }
        !spoke && standing.speaks()
    }

    /// Takes out a connection; whether it was the last of its host that spoke.
    pub(crate) fn closed(&mut self, peer: &PeerId, id: ConnectionId, now: Instant) -> bool {
        let Some(standing) = self.standing.get_mut(peer) else {
            return false;
        };
        let spoke = standing.speaks();
        let closed = standing.connections.remove(&id);
        let speaks = standing.speaks();
        if standing.connections.is_empty() {
            self.standing.remove(peer);
            let worth = closed.is_some_and(|it| it.speaks && now - it.since >= WORTH_CALLING);
            if worth {
                self.call_now(peer, now);
            }
        }
        spoke && !speaks
    }

    /// Whom to call now. Each counts as called in vain until its connection has stood for a while.
    pub(crate) fn due_calls(&mut self, now: Instant) -> Vec<PeerId> {
        let mut due = Vec::new();
        for (peer, calls) in &mut self.kept {
            if calls.next <= now && !self.standing.contains_key(peer) {
                let jitter = self.random.random_range(1.0 - JITTER..1.0 + JITTER);
                calls.next = now + wait(calls.in_vain).mul_f64(jitter);
                calls.in_vain += 1;
                due.push(*peer);
            }
        }
        due
    }

    /// What to close now: what nobody needs, what is silent, and one of two of which each side made
    /// one. Of these the host with the greater ID closes its own.
    pub(crate) fn to_close(&self, now: Instant) -> ToClose {
        let mut close = ToClose::default();
        for (id, connection, unneeded_at) in self.ends() {
            if !connection.speaks && now >= connection.since + self.handshake_timeout {
                close.silent.push(id);
            } else if unneeded_at.is_some_and(|at| at <= now) {
                close.unneeded.push(id);
            }
        }
        close
    }

    /// When there is somebody to call or something to close next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let absent = self.kept.iter();
        let absent = absent.filter(|(peer, _)| !self.standing.contains_key(peer));
        let calls = absent.map(|(_, calls)| calls.next);
        let ends = self.ends().filter_map(|(_, connection, unneeded_at)| {
            let silent_at = connection.since + self.handshake_timeout;
            let silent_at = (!connection.speaks).then_some(silent_at);
            [silent_at, unneeded_at].into_iter().flatten().min()
        });
        calls.chain(ends).min()
    }

    /// All connections, and from when on nobody needs them, as things stand.
    fn ends(&self) -> impl Iterator<Item = (ConnectionId, &Connection, Option<Instant>)> {
        self.standing.iter().flat_map(|(peer, standing)| {
            let connections = standing.connections.values();
            let twice = self.own > *peer && { connections }.any(|it| it.speaks && !it.called);
            let kept = self.kept.contains_key(peer);
            let idle_at = (!kept).then_some(standing.used + self.idle_timeout);
            standing.connections.iter().map(move |(id, connection)| {
                let at = if twice {
                    Some(connection.since)
                } else {
                    idle_at
                };
                (*id, connection, at.filter(|_| connection.called))
            })
        })
    }
}

/// The wait after so many calls in vain.
fn wait(in_vain: u32) -> Duration {
    let factor = 2u32.saturating_pow(in_vain);
    CALL_AGAIN_MIN.saturating_mul(factor).min(CALL_AGAIN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    /// A host, a peer with a greater ID or a lesser one, and now.
    fn between(own_is_greater: bool) -> (Connections, PeerId, Instant) {
        let (a, b) = (PeerId::random(), PeerId::random());
        let (lesser, greater) = (a.min(b), a.max(b));
        let (own, peer) = if own_is_greater {
            (greater, lesser)
        } else {
            (lesser, greater)
        };
        let connections = Connections::new(own, &Pace::default(), 7);
        (connections, peer, Instant::now())
    }

    #[test]
    fn a_kept_host_is_called_at_once_and_ever_more_rarely_up_to_a_bound() {
        let (mut connections, peer, start) = between(true);
        connections.keep(peer, start);

        let mut calls = Vec::new();
        for tick in 0..600 {
            let now = start + tick * (SECOND / 10);
            if !connections.due_calls(now).is_empty() {
                calls.push(now);
            }
        }

        assert_eq!(calls[0], start);
        let gaps: Vec<_> = calls.windows(2).map(|it| it[1] - it[0]).collect();
        assert!(gaps[0] < SECOND, "{gaps:?}");
        let longest = CALL_AGAIN_MAX.mul_f64(1.0 + JITTER) + SECOND / 10;
        assert!(gaps.iter().all(|it| *it <= longest), "{gaps:?}");
        assert!((8..=14).contains(&calls.len()), "{gaps:?}");
    }

    #[test]
    fn a_connection_that_is_refused_again_and_again_is_called_rarely() {
        let (mut connections, peer, start) = between(true);
        connections.keep(peer, start);

        let mut calls = 0;
        for tick in 0..600 {
            let now = start + tick * (SECOND / 10);
            if !connections.due_calls(now).is_empty() {
                connections.opened(peer, id(calls), true, now);
                assert!(!connections.closed(&peer, id(calls), now));
                calls += 1;
            }
        }

        assert!(calls <= 14, "{calls}");
    }

    #[test]
    fn a_lost_connection_that_stood_is_called_at_once() {
        let (mut connections, peer, start) = between(true);
        connections.keep(peer, start);
        assert_eq!(connections.next_due(), Some(start));
        assert_eq!(connections.due_calls(start), [peer]);
        connections.opened(peer, id(1), true, start);
        assert!(connections.speaks(&peer, id(1)));

        let lost = start + WORTH_CALLING;
        assert_eq!(connections.due_calls(lost), []);
        assert!(connections.closed(&peer, id(1), lost));
        assert_eq!(connections.due_calls(lost), [peer]);
    }

    #[test]
    fn of_two_connections_one_is_told_and_the_greater_host_closes_its_own() {
        for own_is_greater in [true, false] {
            let (mut connections, peer, start) = between(own_is_greater);
            connections.keep(peer, start);
            connections.opened(peer, id(1), true, start);
            connections.opened(peer, id(2), false, start);
            assert!(connections.speaks(&peer, id(1)));
            assert!(!connections.speaks(&peer, id(2)));

            let expected = if own_is_greater { vec![id(1)] } else { vec![] };
            assert_eq!(connections.to_close(start).unneeded, expected);
            assert!(!connections.closed(&peer, id(1), start));
            assert!(connections.closed(&peer, id(2), start));
        }
    }

    #[test]
    fn who_called_hangs_up_once_nobody_needs_it() {
        let (mut connections, peer, start) = between(false);
        connections.keep(peer, start);
        connections.opened(peer, id(1), true, start);
        connections.speaks(&peer, id(1));
        let idle = Pace::default().idle_timeout;
        assert_eq!(connections.to_close(start + idle), ToClose::default());
        assert_eq!(connections.next_due(), None);

        connections.release(&peer, start + idle);
        assert_eq!(connections.next_due(), Some(start + 2 * idle));
        assert_eq!(connections.to_close(start + idle), ToClose::default());
        assert_eq!(connections.to_close(start + 2 * idle).unneeded, [id(1)]);

        connections.use_now(&peer, start + 2 * idle);
        assert_eq!(connections.to_close(start + 2 * idle), ToClose::default());

        connections.opened(peer, id(2), false, start);
        connections.closed(&peer, id(1), start);
        connections.speaks(&peer, id(2));
        assert_eq!(connections.to_close(start + 5 * idle), ToClose::default());
    }

    #[test]
    fn who_never_says_what_it_speaks_is_hung_up_on() {
        let (mut connections, peer, start) = between(false);
        connections.opened(peer, id(1), false, start);
        let late = start + Pace::default().handshake_timeout;
        assert_eq!(connections.to_close(start), ToClose::default());
        assert_eq!(connections.to_close(late).silent, [id(1)]);
        assert_eq!(connections.next_due(), Some(late));
    }
}

//! The gate before all protocols: who was not admitted is neither called nor let in.

use crate::drops::{Drops, OverlayDrop};
use crate::identity::socket_addr;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Handshakes under way with callers at one address: strangers who say nothing hold a place for as long
/// as one may take, and members who call at once are done in a moment, or call again.
const HANDSHAKES_FROM_SOURCE_MAX: usize = 8;

/// Why the gate stayed shut.
#[derive(Debug, thiserror::Error)]
enum Shut {
    #[error("{0} was not admitted")]
    Stranger(PeerId),
    #[error("{0} flooded this host a moment ago")]
    Flooder(PeerId),
    #[error("too many handshakes with callers at {0} are under way")]
    Source(IpAddr),
}

/// All protocols, behind the one rule who may use them.
///
/// Hosts are called at the addresses by which they were admitted and at no other, whatever a
/// protocol was told.
pub(crate) struct Gate<P> {
    admitted: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Who is not let in, and until when.
    shunned: BTreeMap<PeerId, Instant>,
    /// Callers whose handshakes are under way, and where they call from.
    callers: BTreeMap<ConnectionId, IpAddr>,
    pub(crate) protocols: P,
    drops: Arc<Drops>,
}

impl<P> Gate<P> {
    /// Lets nobody in yet.
    pub(crate) fn new(protocols: P, drops: Arc<Drops>) -> Self {
        Gate {
            admitted: BTreeMap::new(),
            shunned: BTreeMap::new(),
            callers: BTreeMap::new(),
            protocols,
            drops,
        }
    }

    /// Lets a host in and lets it be called.
    pub(crate) fn admit(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.admitted.insert(peer, addresses);
    }

    /// Shuts the gate; connections that stand are for the caller to close.
    pub(crate) fn expel(&mut self, peer: &PeerId) {
        self.admitted.remove(peer);
    }

    /// Where an admitted host listens.
    pub(crate) fn addresses(&self, peer: &PeerId) -> Option<&[Multiaddr]> {
        self.admitted.get(peer).map(Vec::as_slice)
    }

    /// Lets an admitted host neither in nor be called until then.
    pub(crate) fn shun(&mut self, peer: PeerId, until: Instant) {
        self.shunned.insert(peer, until);
    }

    fn pass(&mut self, peer: &PeerId) -> Result<&[Multiaddr], ConnectionDenied> {
        let now = Instant::now();
        self.shunned.retain(|_, until| *until > now);
        if self.shunned.contains_key(peer) {
            self.drops.count(OverlayDrop::Shunned);
            return Err(ConnectionDenied::new(Shut::Flooder(*peer)));
        }
        self.addresses(peer).ok_or_else(|| {
            self.drops.count(OverlayDrop::NotAdmitted);
            ConnectionDenied::new(Shut::Stranger(*peer))
        })
    }

    /// Takes note of a caller, unless too many others at its address are on their way in.
    fn hear_caller(
        &mut self,
        id: ConnectionId,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let Some(source) = socket_addr(remote).map(|remote| source(remote.ip())) else {
            return Ok(());
        };
        let same = self.callers.values().filter(|it| **it == source).count();
        if same >= HANDSHAKES_FROM_SOURCE_MAX {
            self.drops.count(OverlayDrop::SourceLimit);
            return Err(ConnectionDenied::new(Shut::Source(source)));
        }
        self.callers.insert(id, source);
        Ok(())
    }
}

/// How a host is called, by whatever protocol wants it: once at a time, at the addresses that the
/// gate knows, and from a port of its own, for two hosts that called each other from the ports at
/// which they listen would end up with one connection that both of them began.
pub(crate) fn call(peer: PeerId) -> DialOpts {
    DialOpts::peer_id(peer)
        .condition(PeerCondition::DisconnectedAndNotDialing)
        .addresses(Vec::new())
        .extend_addresses_through_behaviour()
        .allocate_new_port()
        .build()
}

/// Of whom an address is: an IPv6 host has all of its /64, as the host link sees it.
fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

impl<P: NetworkBehaviour> NetworkBehaviour for Gate<P> {
    type ConnectionHandler = P::ConnectionHandler;
    type ToSwarm = P::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.hear_caller(id, remote)?;
        let protocols = &mut self.protocols;
        protocols.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.callers.remove(&id);
        self.pass(&peer)?;
        let protocols = &mut self.protocols;
        protocols.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Some(peer) = peer else {
            return Ok(Vec::new());
        };
        let admitted = self.pass(&peer)?.to_vec();
        let protocols = &mut self.protocols;
        protocols.handle_pending_outbound_connection(id, Some(peer), addresses, role)?;
        Ok(admitted)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pass(&peer)?;
        let protocols = &mut self.protocols;
        protocols.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ListenFailure(failure) = &event {
            self.callers.remove(&failure.connection_id);
        }
        self.protocols.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.protocols.on_connection_handler_event(peer, id, event);
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.protocols.poll(context).map(|wanted| match wanted {
            ToSwarm::Dial { opts } => ToSwarm::Dial {
                opts: opts.get_peer_id().map_or(opts, call),
            },
            other => other,
        })
    }
}

//! The gate before all protocols: who was not admitted is neither called nor let in.

use crate::drops::{Drops, OverlayDrop};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Why the gate stayed shut.
#[derive(Debug, thiserror::Error)]
#[error("{0} was not admitted")]
struct Stranger(PeerId);

/// All protocols, behind the one rule who may use them.
///
/// Hosts are called at the addresses by which they were admitted and at no other, whatever a
/// protocol was told.
pub(crate) struct Gate<P> {
    admitted: BTreeMap<PeerId, Vec<Multiaddr>>,
    pub(crate) protocols: P,
    drops: Arc<Drops>,
}

impl<P> Gate<P> {
    /// Lets nobody in yet.
    pub(crate) fn new(protocols: P, drops: Arc<Drops>) -> Self {
        Gate {
            admitted: BTreeMap::new(),
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

    fn pass(&self, peer: &PeerId) -> Result<&[Multiaddr], ConnectionDenied> {
        self.addresses(peer).ok_or_else(|| {
            self.drops.count(OverlayDrop::NotAdmitted);
            ConnectionDenied::new(Stranger(*peer))
        })
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

impl<P: NetworkBehaviour> NetworkBehaviour for Gate<P> {
    type ConnectionHandler = P::ConnectionHandler;
    type ToSwarm = P::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
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

//! What a host speaks, and over what: all protocols behind the gate, on TCP, Noise and Yamux.

use crate::codec::Codec;
use crate::config::{OverlayConfig, Pace};
use crate::drops::Drops;
use crate::gate::Gate;
use crate::gossip::{Subscriptions, gossip};
use crate::identity::keypair;
use crate::kademlia::{protocol, table};
use crate::providers::ProviderStore;
use crate::questions::asking;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::gossipsub::IdentityTransform;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{
    PeerId, Swarm, Transport, gossipsub, identify, kad, noise, ping, request_response, swarm, tcp,
    yamux,
};
use std::sync::Arc;
use std::time::Duration;

/// Handshakes under way, each way: strangers can hold this many for as long as one may take.
const HANDSHAKES_MAX: u32 = 64;

/// Connections in all, and of those that others made, lest they take all.
const CONNECTIONS_MAX: u32 = 1024;
const CONNECTIONS_FROM_OTHERS_MAX: u32 = 768;

/// Connections to one host: one that each made, and as many that are dead and not known to be.
const CONNECTIONS_TO_HOST_MAX: u32 = 4;

/// Streams of one connection, and those of them whose protocol is not agreed upon yet.
const STREAMS_MAX: usize = 128;
const NEGOTIATING_MAX: usize = 32;

/// Between repetitions of what a host speaks; what changes is said at once.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// What connections are closed by: ping's failures and who called, never libp2p's own idea of idle.
const NEVER_IDLE: Duration = Duration::MAX;

/// All protocols.
#[derive(NetworkBehaviour)]
pub(crate) struct Protocols {
    limits: connection_limits::Behaviour,
    pub(crate) identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) gossip: gossipsub::Behaviour<IdentityTransform, Subscriptions>,
    pub(crate) asking: request_response::Behaviour<Codec>,
    pub(crate) table: kad::Behaviour<ProviderStore>,
}

/// Makes the swarm of a host, which speaks to nobody yet.
pub(crate) fn swarm(
    config: &OverlayConfig,
    pace: &Pace,
    drops: Arc<Drops>,
) -> Result<Swarm<Gate<Protocols>>, String> {
    let keypair = keypair(&config.key);
    let own = keypair.public().to_peer_id();
    let protocols = Protocols {
        limits: connection_limits::Behaviour::new(limits()),
        identify: identify::Behaviour::new(identity(config, &keypair)),
        ping: ping::Behaviour::new(
            ping::Config::new()
                .with_interval(pace.ping_interval)
                .with_timeout(pace.ping_timeout),
        ),
        gossip: gossip(config)?,
        asking: asking(config, pace)?,
        table: table(protocol(config)?, own),
    };
    let settings = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(NEVER_IDLE)
        .with_max_negotiating_inbound_streams(NEGOTIATING_MAX);
    let transport = transport(config, &keypair, pace)?;
    Ok(Swarm::new(
        transport,
        Gate::new(protocols, drops),
        own,
        settings,
    ))
}

/// TCP, Noise and Yamux. The network is part of what both sides of a handshake must agree upon.
pub(crate) fn transport(
    config: &OverlayConfig,
    keypair: &Keypair,
    pace: &Pace,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, String> {
    let prologue = [b"margay overlay ", &config.network.root().as_bytes()[..]].concat();
    let noise = noise::Config::new(keypair)
        .map_err(|error| error.to_string())?
        .with_prologue(prologue);
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS_MAX);
    let tcp = tcp::Config::default().nodelay(true);
    Ok(tcp::tokio::Transport::new(tcp)
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .timeout(pace.handshake_timeout)
        .boxed())
}

/// Says which network and which protocols, and nothing of addresses: members know them.
fn identity(config: &OverlayConfig, keypair: &Keypair) -> identify::Config {
    identify::Config::new(config.protocol("1"), keypair.public())
        .with_agent_version("margay".into())
        .with_interval(IDENTIFY_INTERVAL)
        .with_cache_size(0)
        .with_hide_listen_addrs(true)
}

fn limits() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(HANDSHAKES_MAX))
        .with_max_pending_outgoing(Some(HANDSHAKES_MAX))
        .with_max_established_incoming(Some(CONNECTIONS_FROM_OTHERS_MAX))
        .with_max_established(Some(CONNECTIONS_MAX))
        .with_max_established_per_peer(Some(CONNECTIONS_TO_HOST_MAX))
}

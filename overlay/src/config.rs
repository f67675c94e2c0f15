//! What an overlay is told at its start, and the times it keeps.

use crate::floods::Share;
use margay_core::admission::NetworkId;
use margay_core::signature::PrivateKey;
use std::net::SocketAddr;
use std::time::Duration;

/// What an overlay is told at its start.
#[derive(Clone, Debug)]
pub struct OverlayConfig {
    /// The host's key: what proves to others who this host is.
    pub key: PrivateKey,
    /// The network: hosts of two networks never speak, whatever their keys.
    pub network: NetworkId,
    /// Where to listen (TCP); port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
}

impl OverlayConfig {
    /// The name of a protocol of this network.
    pub(crate) fn protocol(&self, name: &str) -> String {
        format!("/margay/{}/{name}", self.network.short())
    }
}

/// How long the overlay waits for what. Tests of silence cannot wait as long as hosts do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between pings of a connection. Not all silence is told by TCP.
    pub(crate) ping_interval: Duration,
    /// For a ping's answer; the second that fails in a row closes the connection.
    pub(crate) ping_timeout: Duration,
    /// For a handshake, and for a host to say what it speaks.
    pub(crate) handshake_timeout: Duration,
    /// For an answer.
    pub(crate) answer_timeout: Duration,
    /// For a search.
    pub(crate) search_timeout: Duration,
    /// A connection that this host made and nobody asked to keep is closed after so long.
    pub(crate) idle_timeout: Duration,
    /// What one host may bring.
    pub(crate) share: Share,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(2),
            search_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(60),
            share: Share::default(),
        }
    }
}

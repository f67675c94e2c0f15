//! The link's contract with the world: what it is told, and what it wants done.

use super::budget::Allowance;
use super::gate::GateLimits;
use super::key::{NetworkSecret, NoiseKey, NoisePrivateKey};
use super::sealed::Statement;
use margay_core::echo::EchoTicket;
use margay_core::host::{HostId, OriginEpoch};
use std::net::SocketAddr;

/// What a link is told once.
#[derive(Clone, Debug)]
pub struct HostLinkConfig {
    /// This host's key on the link.
    pub private_key: NoisePrivateKey,
    /// The network's secret.
    pub network: NetworkSecret,
    /// How often this host has started: raised before each start, or peers take its initiations for
    /// copies of old ones.
    pub epoch: OriginEpoch,
    /// Who this host is, as its peers' core checks it.
    pub introduction: Statement,
    /// Bounds.
    pub limits: HostLinkLimits,
}

/// How much there may be of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLinkLimits {
    /// What strangers may cost.
    pub gate: GateLimits,
    /// Peers, those that core set and those that it admitted.
    pub peers_max: usize,
    /// Initiations that wait for core's word.
    pub exchanges_max: usize,
    /// Requests to be introduced that are under way.
    pub requests_max: usize,
    /// Payloads that wait for one peer's handshake.
    pub waiting_max: usize,
    /// What one peer may send.
    pub peer: Allowance,
    /// How many datagrams beyond that a peer may send before it is dropped.
    pub excess_max: u32,
    /// How many messages that mean nothing a peer may send before it is dropped.
    pub nonsense_max: u32,
    /// How many datagrams a session seals before it is renewed.
    pub renew_after_datagrams: u64,
}

impl Default for HostLinkLimits {
    /// A whole leaf site knows each other; a peer may bring what a busy host's first packets are.
    fn default() -> Self {
        HostLinkLimits {
            gate: GateLimits::default(),
            peers_max: 4096,
            exchanges_max: 64,
            requests_max: 8,
            waiting_max: 16,
            peer: Allowance {
                burst: 20_000,
                per_second: 20_000,
            },
            excess_max: 20_000,
            nonsense_max: 8,
            renew_after_datagrams: 1 << 60,
        }
    }
}

/// One initiation that waits for core's word; its answer repeats the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// Whom a handshake of ours is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A peer.
    Host(HostId),
    /// Whoever was asked at this address by [`Input::Introduce`].
    Address(SocketAddr),
}

/// What happens to a link.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A datagram came in.
    Received {
        /// From where.
        from: SocketAddr,
        /// The datagram.
        datagram: &'a [u8],
    },
    /// A link to this host is wanted, or it is found elsewhere from now on.
    SetPeer {
        /// The host.
        host: HostId,
        /// Its key on the link.
        noise_key: NoiseKey,
        /// Where to try it; none if it can only call us.
        addresses: Vec<SocketAddr>,
    },
    /// No link to this host is wanted, nor will one be kept.
    RemovePeer {
        /// The host.
        host: HostId,
    },
    /// A payload for a peer; it may be lost like any datagram.
    Send {
        /// The peer.
        to: HostId,
        /// At most [`super::sealed::PAYLOAD_BYTES_MAX`] bytes.
        payload: Vec<u8>,
    },
    /// This host says this of itself from now on.
    SetIntroduction(Statement),
    /// Core admits whoever introduced itself.
    Admit {
        /// The exchange.
        exchange: ExchangeId,
        /// Who it is.
        host: HostId,
        /// What it is told.
        answer: Statement,
    },
    /// Core does not.
    Refuse {
        /// The exchange.
        exchange: ExchangeId,
        /// Why, for a person; cut after [`super::sealed::REFUSAL_BYTES_MAX`] bytes.
        reason: String,
    },
    /// Asks a host once for an answer, with another introduction: a newcomer asks to join.
    Introduce {
        /// Where the host is.
        to: SocketAddr,
        /// Its key on the link.
        noise_key: NoiseKey,
        /// Who asks.
        introduction: Statement,
    },
    /// A peer gave a ticket for its echo.
    HoldTicket {
        /// The peer.
        host: HostId,
        /// The ticket.
        ticket: EchoTicket,
    },
    /// Asks a peer's keeper for an echo, where the peer was heard from last.
    AskKeeper {
        /// The peer.
        host: HostId,
    },
    /// This host's own addresses changed: its peers shall hear from it at once.
    Moved,
}

/// What a link wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// Somebody introduced itself: admit or refuse it. Until then it is told nothing.
    Introduced {
        /// The exchange.
        exchange: ExchangeId,
        /// From where.
        from: SocketAddr,
        /// Whose private key the initiator holds; whether a host's is what core has to check.
        noise_key: NoiseKey,
        /// Who it claims to be.
        introduction: Statement,
    },
    /// A handshake of ours was answered.
    Answered {
        /// By whom.
        by: Party,
        /// What it says.
        answer: Statement,
    },
    /// A handshake of ours was refused.
    Refused {
        /// By whom.
        by: Party,
        /// Why, for a person.
        reason: String,
    },
    /// A request to be introduced was not answered in time.
    Unanswered {
        /// Where it was tried.
        to: SocketAddr,
    },
    /// Both directions of the link to this host work.
    Up {
        /// The host.
        host: HostId,
        /// Where it is.
        address: SocketAddr,
    },
    /// They no longer do, or the link is over.
    Down {
        /// The host.
        host: HostId,
        /// Why.
        reason: DownReason,
    },
    /// A payload came in.
    Deliver {
        /// From which peer.
        from: HostId,
        /// The payload.
        payload: Vec<u8>,
    },
    /// A peer's keeper answered [`Input::AskKeeper`].
    KeeperAnswered {
        /// The peer.
        host: HostId,
    },
    /// A peer speaks from another address.
    Roamed {
        /// The host.
        host: HostId,
        /// Where it is now.
        address: SocketAddr,
    },
}

/// Why a link is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DownReason {
    /// The peer answers no echo: it is gone, or one direction does not work.
    Silent,
    /// The session's life ended before another came about.
    Expired,
    /// The peer ended it.
    Farewell,
    /// Core wants it no more.
    Removed,
    /// The peer's key changed, or proved to be another host's.
    KeyChanged,
    /// The peer sent far more than it may.
    Flood,
    /// The peer sent messages that mean nothing.
    Nonsense,
}

impl DownReason {
    /// Every reason.
    pub const ALL: &'static [DownReason] = &[
        DownReason::Silent,
        DownReason::Expired,
        DownReason::Farewell,
        DownReason::Removed,
        DownReason::KeyChanged,
        DownReason::Flood,
        DownReason::Nonsense,
    ];

    /// The name in the CLI and logs.
    pub fn name(self) -> &'static str {
        match self {
            DownReason::Silent => "silent",
            DownReason::Expired => "expired",
            DownReason::Farewell => "farewell",
            DownReason::Removed => "removed",
            DownReason::KeyChanged => "key_changed",
            DownReason::Flood => "flood",
            DownReason::Nonsense => "nonsense",
        }
    }
}

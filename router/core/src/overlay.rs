//! The overlay: what core wants of gossip, questions and Kademlia, and what it hears of them.
//!
//! The adapter knows no site, no record and no summary: it carries bytes between hosts that it was
//! told to admit. Whatever may be lost may be lost here; core asks again.

#![allow(
    missing_docs,
    reason = "each variant says in one sentence what its fields are"
)]

use crate::host::HostId;
use std::net::SocketAddr;

/// The longest message that is published, asked or answered: gossipsub's own default bound.
pub const OVERLAY_BYTES_MAX: usize = 64 << 10;

/// Something that hosts publish about and listen to: `site/rack1.paris`, `tier/paris`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub String);

/// What Kademlia is asked for: the hash of a service's name, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OverlayKey(pub [u8; 32]);

/// Tells a question, or a search, of core from its others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(pub u64);

/// Tells a question of another host, for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskedId(pub u64);

/// What core wants of the overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverlayCommand {
    /// Let a host in, which listens at these addresses (TCP); again when they change. Who was not
    /// admitted is neither called nor let in.
    Admit {
        host: HostId,
        addresses: Vec<SocketAddr>,
    },
    /// Hang up on a host, and let it in no more.
    Expel { host: HostId },
    /// Keep a connection to an admitted host, and call it again whenever it is lost.
    Keep { host: HostId },
    /// Let the connection to a host go when nobody needs it.
    Release { host: HostId },
    /// Hear what is published about a topic, and pass it on.
    Subscribe { topic: Topic },
    /// Hear no more of it.
    Unsubscribe { topic: Topic },
    /// Publish to all who subscribed.
    Publish { topic: Topic, bytes: Vec<u8> },
    /// Ask a host; answered by [`OverlayEvent::Answered`].
    Ask {
        to: HostId,
        question: QuestionId,
        bytes: Vec<u8>,
    },
    /// Answer a host that asked.
    Answer { asked: AskedId, bytes: Vec<u8> },
    /// Serve Kademlia, as gateways do, or only use it.
    ServeKademlia(bool),
    /// Make known through Kademlia that this host is one to ask about a key, and keep it known.
    Provide { key: OverlayKey },
    /// Make it known no more.
    StopProviding { key: OverlayKey },
    /// Find hosts to ask about a key; answered by [`OverlayEvent::Found`].
    Find {
        key: OverlayKey,
        question: QuestionId,
    },
}

/// What core hears of the overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverlayEvent {
    /// A connection to a host stands.
    Connected { host: HostId },
    /// The last connection to a host is gone.
    Disconnected { host: HostId },
    /// Something was published; `from` passed it on, and need not be who wrote it.
    Heard {
        topic: Topic,
        from: HostId,
        bytes: Vec<u8>,
    },
    /// A host asks; answer with [`OverlayCommand::Answer`], or let it wait in vain.
    Asked {
        from: HostId,
        asked: AskedId,
        bytes: Vec<u8>,
    },
    /// An answer, or none: the host could not be asked or did not answer in time.
    Answered {
        question: QuestionId,
        answer: Option<Vec<u8>>,
    },
    /// Who is said to know about a key; admitted hosts only, and maybe none.
    Found {
        question: QuestionId,
        hosts: Vec<HostId>,
    },
}

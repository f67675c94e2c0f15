//! Why the host link dropped something: named, explained and counted.

/// Declares the reasons with their names and explanations.
macro_rules! reasons {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// Why the host link dropped a datagram or a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum LinkDrop {
            $(#[doc = $doc] $variant,)*
        }

        impl LinkDrop {
            /// Every reason, in the order of the protocol page.
            pub const ALL: &'static [LinkDrop] = &[$(LinkDrop::$variant,)*];

            /// The name in metrics and the CLI.
            pub fn name(self) -> &'static str {
                match self { $(LinkDrop::$variant => $name,)* }
            }

            /// What happened, in one sentence.
            pub fn explanation(self) -> &'static str {
                match self { $(LinkDrop::$variant => $doc,)* }
            }
        }
    };
}

reasons! {
    // What came from outside and is no message of ours.
    Malformed = "malformed", "A datagram of a length or with a header that no message has.";
    UnknownVersion = "unknown_version", "A datagram of a version of the protocol that this host does not speak.";
    UnknownType = "unknown_type", "A datagram of a type that this version does not know.";
    // Initiations.
    WrongMac = "wrong_mac", "An initiation whose sender does not know this host's public key.";
    CookieAsked = "cookie_asked", "An initiation beyond what strangers may have unasked: its sender must first return a cookie.";
    CookieBudget = "cookie_budget", "An initiation beyond that budget, and beyond the cookies that this host gives out.";
    SourceBudget = "source_budget", "An initiation with a cookie beyond what one source may have.";
    HandshakeBudget = "handshake_budget", "An initiation with a cookie beyond what this host computes in all.";
    OwnKey = "own_key", "An initiation with this host's own key: it reached itself, or another holds its key.";
    ReplayedInitiation = "replayed_initiation", "An initiation that is not newer than one seen before.";
    Shunned = "shunned", "An initiation of a peer that was dropped for flooding or nonsense a moment ago.";
    ExchangesFull = "exchanges_full", "An initiation while too many wait for core's word.";
    ExchangeExpired = "exchange_expired", "An initiation about which core said nothing in time.";
    ExchangeUnknown = "exchange_unknown", "Core's word about an initiation that is over or was replaced by a newer one.";
    PeersFull = "peers_full", "A peer beyond those that one host may have.";
    // Whatever is sealed.
    Forged = "forged", "A message that does not open: forged, damaged, or made with another network's key.";
    UnknownSession = "unknown_session", "A message for a session or a handshake that is over.";
    SessionExpired = "session_expired", "A datagram sealed with a session past its life.";
    Replayed = "replayed", "A datagram that was seen before, or is too old to tell.";
    Nonsense = "nonsense", "A message that opens and means nothing.";
    Flood = "flood", "A datagram beyond what one peer may send.";
    // What core asked for.
    NoSuchPeer = "no_such_peer", "A payload for a host that is no peer.";
    PayloadTooLong = "payload_too_long", "A payload longer than one datagram holds.";
    WaitingFull = "waiting_full", "A payload while too many wait for the same handshake.";
    WaitedTooLong = "waited_too_long", "A payload that waited for a handshake in vain.";
    RequestsFull = "requests_full", "A request to be introduced while too many are under way.";
    NoTicket = "no_ticket", "A question for the echo of a host that gave no ticket, or was never found.";
    AddressesFull = "addresses_full", "An address of a peer beyond those that are tried.";
}

/// How often each reason occurred.
#[derive(Clone, Debug)]
pub struct LinkDrops([u64; LinkDrop::ALL.len()]);

impl Default for LinkDrops {
    fn default() -> Self {
        LinkDrops([0; LinkDrop::ALL.len()])
    }
}

impl LinkDrops {
    /// Counts one more.
    pub(super) fn count(&mut self, reason: LinkDrop) {
        self.0[reason as usize] += 1;
    }

    /// How often `reason` occurred.
    pub fn of(&self, reason: LinkDrop) -> u64 {
        self.0[reason as usize]
    }
}

//! When a flow has ended, from what the kernel counted.

use super::Flow;
use crate::flow_key::Protocol;
use crate::moment::Moment;
use crate::port::SlotReading;
use std::time::Duration;

/// How long a connection may take to open: the fourth SYN is sent after seven seconds (RFC 6298), and
/// a later one opens the flow anew.
pub const HALF_OPEN_MAX: Duration = Duration::from_secs(10);

/// How long an open connection may be silent. RFC 5382 REQ-5 asks for two hours at least; but most
/// programs never speak unasked, and no end of a connection goes unseen while its instances live. As
/// long as Linux's own connection tracking waits.
pub const TCP_IDLE_MAX: Duration = Duration::from_secs(5 * 24 * 3_600);

/// How long a closed connection's last segments may be repeated: three retransmissions on one host.
/// Its entries stand as long, and carry the next connection of a client that comes round to the same
/// port by then: half as long costs such a client 4 % more.
pub const CLOSED_LINGER: Duration = Duration::from_secs(2);

/// How long a UDP flow with a lasting exchange may be silent (RFC 4787 REQ-5 asks for two minutes).
pub const UDP_STREAM_IDLE_MAX: Duration = Duration::from_secs(180);

/// How long a UDP flow without a lasting exchange may be silent: a question, perhaps its answer.
pub const UDP_UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// When an answered UDP flow is taken for a lasting exchange rather than for one question.
const UDP_STREAM_AFTER: Duration = Duration::from_secs(2);

/// How long an echo flow may be silent.
pub const ECHO_IDLE_MAX: Duration = Duration::from_secs(30);

/// When a connection is first looked at. One that was over in a quarter of a second has lingered by
/// then: a single look frees it.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(2_250);

/// The soonest that a connection is looked at again. Short ones are over by then, and are freed
/// within four seconds.
const LOOK_SOONEST: Duration = Duration::from_secs(2);

/// The latest that a connection is looked at again: a full table of idle ones costs 4,400 looks a
/// second.
const LOOK_LATEST: Duration = Duration::from_secs(30);

/// A connection that lived for `t` is looked at again after a quarter of `t`: connections that
/// lived long tend to live on.
const LOOK_FRACTION: u32 = 4;

/// What the counters say of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowState {
    /// Nothing, or not enough, came back yet.
    HalfOpen,
    /// Both sides speak.
    Established,
    /// Both sides said FIN, or one RST.
    Closed,
}

impl FlowState {
    /// What was counted of both directions says.
    pub fn of(protocol: Protocol, forward: &SlotReading, reverse: &SlotReading) -> FlowState {
        let closes_by_itself = protocol == Protocol::Tcp;
        let closed = (forward.fin_seen && reverse.fin_seen) || forward.rst_seen || reverse.rst_seen;
        // A handshake takes two segments of the client and one of the server.
        let client_packets_min = if closes_by_itself { 2 } else { 1 };
        if closed && closes_by_itself {
            FlowState::Closed
        } else if forward.packets >= client_packets_min && reverse.packets >= 1 {
            FlowState::Established
        } else {
            FlowState::HalfOpen
        }
    }

    /// The name in the CLI.
    pub fn name(self) -> &'static str {
        match self {
            FlowState::HalfOpen => "half-open",
            FlowState::Established => "established",
            FlowState::Closed => "closed",
        }
    }
}

/// What follows from looking at a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is over.
    Ended,
    /// It lives; look at it again at this time.
    LookAgain(Moment),
}

/// When to look at a new flow first.
pub(super) fn first_look(protocol: Protocol, now: Moment) -> Moment {
    now + match protocol {
        Protocol::Tcp => FIRST_LOOK,
        Protocol::Udp => UDP_UNANSWERED_MAX,
        Protocol::Echo => ECHO_IDLE_MAX,
    }
}

impl Flow {
    /// What the counters said when they were last read.
    pub fn state(&self) -> FlowState {
        let protocol = self.entries.forward.key.protocol;
        FlowState::of(protocol, &self.forward, &self.reverse)
    }

    /// When a packet last passed, as far as was read.
    pub fn last_seen(&self) -> Moment {
        self.opened
            .max(self.forward.last_seen)
            .max(self.reverse.last_seen)
    }

    /// Whether its own packets say when it ends.
    pub(super) fn closes_by_itself(&self) -> bool {
        self.entries.forward.key.protocol == Protocol::Tcp
    }

    pub(super) fn verdict(&self, now: Moment) -> Verdict {
        let end = self.last_seen() + self.silence_max();
        if end <= now {
            return Verdict::Ended;
        }
        if !self.closes_by_itself() {
            return Verdict::LookAgain(end);
        }
        let lived = now.since(self.paced_from);
        let interval = (lived / LOOK_FRACTION).clamp(LOOK_SOONEST, LOOK_LATEST);
        Verdict::LookAgain(end.min(now + interval))
    }

    /// How long it may be silent before it counts as over.
    fn silence_max(&self) -> Duration {
        match (self.entries.forward.key.protocol, self.state()) {
            (Protocol::Tcp, FlowState::HalfOpen) => HALF_OPEN_MAX,
            (Protocol::Tcp, FlowState::Established) => TCP_IDLE_MAX,
            (Protocol::Tcp, FlowState::Closed) => CLOSED_LINGER,
            (Protocol::Udp, state) => {
                let lasting = self.last_seen().since(self.opened) >= UDP_STREAM_AFTER;
                if state == FlowState::Established && lasting {
                    UDP_STREAM_IDLE_MAX
                } else {
                    UDP_UNANSWERED_MAX
                }
            }
            (Protocol::Echo, _) => ECHO_IDLE_MAX,
        }
    }
}

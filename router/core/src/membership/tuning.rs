//! SWIM's figures: quick enough that a flow seldom goes to a host that is dead, slow enough that a busy
//! one is not taken for it.

use foca::{Config, PeriodicParams};
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

/// The longest datagram, sent or taken: with the host link's own header it fits every path that
/// carries IPv6 (1,280 bytes, RFC 8200 section 5).
pub const DATAGRAM_BYTES_MAX: usize = 1_120;

/// How often one member is probed: with 1.5 s of suspicion a death is known within 2.5 s.
pub const PROBE_EVERY: Duration = Duration::from_millis(300);

/// A direct answer later than this is asked for through others.
const PROBE_ANSWER: Duration = Duration::from_millis(100);

/// How long a suspect may defend itself: five probes' time.
pub const SUSPECT_FOR: Duration = Duration::from_millis(1_500);

/// How often a random member is asked for all members: what a lost datagram hid is found so.
const ASK_FOR_MEMBERS_EVERY: Duration = Duration::from_secs(5);

/// How soon news go out first: several that come at once go together.
pub(super) const GOSSIP_SOON: Duration = Duration::from_millis(20);

/// How often news go out beside the probes, while there are any.
pub(super) const GOSSIP_EVERY: Duration = Duration::from_millis(200);

/// Whom a probe that found no answer goes through; as many hear news beside the probes.
const INDIRECT_PROBES: NonZeroUsize = NonZeroUsize::new(3).expect("not zero");

/// SWIM's figures for a site of so many other hosts.
pub(super) fn tuned(peers: usize) -> Config {
    let few = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    // News reach n hosts after log(n) hand-overs; four times as many forgive losses.
    let transmissions = 4 * (peers + 2).ilog2().max(1);
    let transmissions = u8::try_from(transmissions).unwrap_or(u8::MAX);
    Config {
        probe_period: PROBE_EVERY,
        probe_rtt: PROBE_ANSWER,
        num_indirect_probes: INDIRECT_PROBES,
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: SUSPECT_FOR,
        // Peers bound what is remembered; a death must not be forgotten before everyone knows it.
        remove_down_after: None,
        max_packet_size: few(DATAGRAM_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams {
            frequency: ASK_FOR_MEMBERS_EVERY,
            num_members: few(1),
        }),
        // We greet hosts that are down ourselves: those never seen, too.
        periodic_announce_to_down_members: None,
        // We send news ourselves: a timer that mostly finds none would wake idle hosts.
        periodic_gossip: None,
    }
}

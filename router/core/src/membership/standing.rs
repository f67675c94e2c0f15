//! What each host's ups and downs mean for those who use it: damped when it flaps, and echoed when
//! it is down.
//!
//! ```text
//!            up, and it did not flap
//!   Down ─────────────────────────────▶ Up        Up: new flows and records
//!    │ ▲ ─▶ Held (it flapped) ─────────▶ │        Held: alive, but not trusted yet
//!    │ └─────────────────────────────────┘        Down: no new flows; its echo is asked for
//!    └─▶ Silent (no echo either)                  Silent: its live flows have failed
//! ```

use super::MembershipOutput;
use crate::host::{HostId, OriginEpoch};
use crate::moment::Moment;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How often the keeper of a host that is down is asked for an echo.
pub const ECHO_EVERY: Duration = Duration::from_millis(500);

/// After so long without an echo a host's live flows fail: a restart of a daemon takes less, and
/// five lost echoes in a row are no accident.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);

/// How long a host that went down for the second time in a row must stay up before it counts as up;
/// doubled for each further time. The first time is a restart, which nobody should wait for.
pub const HELD_FIRST: Duration = Duration::from_secs(2);

/// The longest that a flapping host is held back.
pub const HELD_MAX: Duration = Duration::from_secs(60);

/// A host that stayed up for so long does not flap.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Up,
    Held { until: Moment },
    Down { echoed: Moment, ask: Moment },
    Silent,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    stage: Stage,
    epoch: OriginEpoch,
    /// How often in a row it went down soon after it came up.
    flaps: u32,
    /// When it was last seen to come up.
    up_since: Moment,
}

/// The standing of every host that was ever up.
#[derive(Debug, Default)]
pub(super) struct Standings {
    hosts: BTreeMap<HostId, Standing>,
    /// Those of them for whom something is due: few, where many are up.
    unsettled: BTreeSet<HostId>,
}

impl Standing {
    /// When something is due for it.
    fn due(&self) -> Option<Moment> {
        match self.stage {
            Stage::Held { until } => Some(until),
            Stage::Down { echoed, ask } => Some(ask.min(echoed + SILENT_AFTER)),
            Stage::Up | Stage::Silent => None,
        }
    }

    fn handle_timeout(
        &mut self,
        host: HostId,
        now: Moment,
        outputs: &mut VecDeque<MembershipOutput>,
    ) {
        match &mut self.stage {
            Stage::Held { until } if *until <= now => {
                self.stage = Stage::Up;
                let epoch = self.epoch;
                outputs.push_back(MembershipOutput::Up { host, epoch });
            }
            Stage::Down { echoed, .. } if *echoed + SILENT_AFTER <= now => {
                self.stage = Stage::Silent;
                outputs.push_back(MembershipOutput::Silent { host });
            }
            Stage::Down { ask, .. } if *ask <= now => {
                *ask = now + ECHO_EVERY;
                outputs.push_back(MembershipOutput::Echo { to: host });
            }
            _ => {}
        }
    }
}

impl Standings {
    /// Whether `host` lives, for all that is known; it may still be held back.
    pub(super) fn lives(&self, host: &HostId) -> bool {
        let standing = self.hosts.get(host);
        standing.is_some_and(|it| matches!(it.stage, Stage::Up | Stage::Held { .. }))
    }

    /// The hosts that others may use, with their epochs.
    pub(super) fn up(&self) -> impl Iterator<Item = (HostId, OriginEpoch)> {
        let up = self.hosts.iter().filter(|(_, it)| it.stage == Stage::Up);
        up.map(|(host, it)| (*host, it.epoch))
    }

    /// Takes note that `host` came up, or that it came back in a later life before anyone missed it.
    pub(super) fn seen_up(
        &mut self,
        host: HostId,
        epoch: OriginEpoch,
        now: Moment,
        outputs: &mut VecDeque<MembershipOutput>,
    ) {
        let known = self.hosts.get(&host).copied();
        if known.is_some_and(|it| it.epoch == epoch && self.lives(&host)) {
            return;
        }
        if self.lives(&host) {
            self.seen_down(host, now, outputs);
        }
        let flaps = self.hosts.get(&host).map_or(0, |it| it.flaps);
        let hold = hold(flaps);
        let stage = if hold.is_zero() {
            outputs.push_back(MembershipOutput::Up { host, epoch });
            self.unsettled.remove(&host);
            Stage::Up
        } else {
            self.unsettled.insert(host);
            Stage::Held { until: now + hold }
        };
        let standing = Standing {
            stage,
            epoch,
            flaps,
            up_since: now,
        };
        self.hosts.insert(host, standing);
    }

    /// Takes note that `host` went down.
    pub(super) fn seen_down(
        &mut self,
        host: HostId,
        now: Moment,
        outputs: &mut VecDeque<MembershipOutput>,
    ) {
        let Some(standing) = self.hosts.get_mut(&host) else {
            return;
        };
        match standing.stage {
            Stage::Down { .. } | Stage::Silent => return,
            Stage::Up => outputs.push_back(MembershipOutput::Down { host }),
            Stage::Held { .. } => {}
        }
        let stayed = now.since(standing.up_since) >= FORGIVEN_AFTER;
        standing.flaps = if stayed { 1 } else { standing.flaps + 1 };
        standing.stage = Stage::Down {
            echoed: now,
            ask: now,
        };
        self.unsettled.insert(host);
    }

    /// Takes note that `host`'s keeper answered.
    pub(super) fn echoed(&mut self, host: &HostId, now: Moment) {
        if let Some(standing) = self.hosts.get_mut(host)
            && let Stage::Down { echoed, .. } = &mut standing.stage
        {
            *echoed = now;
        }
    }

    /// Forgets a host that no longer belongs here; nothing of it goes on.
    pub(super) fn forget(&mut self, host: &HostId, outputs: &mut VecDeque<MembershipOutput>) {
        let Some(standing) = self.hosts.remove(host) else {
            return;
        };
        let host = *host;
        self.unsettled.remove(&host);
        if standing.stage == Stage::Up {
            outputs.push_back(MembershipOutput::Down { host });
        }
        if standing.stage != Stage::Silent {
            outputs.push_back(MembershipOutput::Silent { host });
        }
    }

    /// Lets held hosts up, asks for echoes, and gives up those who send none.
    pub(super) fn handle_timeout(&mut self, now: Moment, outputs: &mut VecDeque<MembershipOutput>) {
        let hosts = &mut self.hosts;
        self.unsettled.retain(|host| {
            let standing = hosts.get_mut(host).expect("who is unsettled is known");
            standing.handle_timeout(*host, now, outputs);
            standing.due().is_some()
        });
    }

    /// When something is due next.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        let unsettled = self.unsettled.iter();
        unsettled
            .filter_map(|host| self.hosts.get(host)?.due())
            .min()
    }
}

fn hold(flaps: u32) -> Duration {
    match flaps {
        0 | 1 => Duration::ZERO,
        more => HELD_FIRST
            .saturating_mul(1 << (more - 2).min(16))
            .min(HELD_MAX),
    }
}

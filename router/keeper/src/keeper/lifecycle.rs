//! One instance's life as a value: running, waiting to be started again, ending, ended.

use margay_core::moment::Moment;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

/// The first wait before a restart: below what a person notices, above what a crash loop may cost.
pub(super) const RESTART_DELAY_MIN: Duration = Duration::from_millis(100);

/// The longest wait before a restart: a broken program costs next to nothing, and a repaired one
/// is back within half a minute.
pub(super) const RESTART_DELAY_MAX: Duration = Duration::from_secs(30);

/// A program that ran this long had started well: its next restart waits the least again.
pub(super) const RAN_WELL: Duration = Duration::from_secs(10);

/// An instance's life; it decides, the supervisor acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lifecycle {
    phase: Phase,
    restart: bool,
    restarts: u32,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Running {
        #[serde(with = "nanos")]
        since: Moment,
    },
    Waiting {
        #[serde(with = "nanos")]
        until: Moment,
    },
    Ending {
        #[serde(with = "nanos")]
        kill_at: Moment,
    },
    Killed,
    Ended,
}

/// What the end of a program means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is started again after this time.
    RestartAfter(Duration),
    /// It stays as it is.
    Final,
    /// It was asked for.
    AsAsked,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Start the program; if that fails, tell [`Lifecycle::handle_exit`].
    Start,
    /// Kill all of the instance.
    Kill,
}

/// How an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Alive,
    Waiting,
    Ended,
}

impl Lifecycle {
    /// A program that was started at `now`.
    pub(super) fn new(restart: bool, now: Moment) -> Self {
        Lifecycle {
            phase: Phase::Running { since: now },
            restart,
            restarts: 0,
            failures: 0,
        }
    }

    /// The program has ended, or could not be started.
    pub(super) fn handle_exit(&mut self, now: Moment) -> Ending {
        match self.phase {
            Phase::Running { since } if self.restart => {
                if now.since(since) >= RAN_WELL {
                    self.failures = 0;
                }
                let delay = delay_after(self.failures);
                self.failures = self.failures.saturating_add(1);
                self.phase = Phase::Waiting { until: now + delay };
                Ending::RestartAfter(delay)
            }
            Phase::Ending { .. } | Phase::Killed => {
                self.phase = Phase::Ended;
                Ending::AsAsked
            }
            Phase::Running { .. } | Phase::Waiting { .. } | Phase::Ended => {
                self.phase = Phase::Ended;
                Ending::Final
            }
        }
    }

    /// The instance shall end within `grace`; true if there is a program to tell.
    pub(super) fn handle_stop(&mut self, grace: Duration, now: Moment) -> bool {
        match self.phase {
            Phase::Running { .. } => {
                self.phase = Phase::Ending {
                    kill_at: now + grace,
                }
            }
            Phase::Ending { kill_at } => {
                self.phase = Phase::Ending {
                    kill_at: kill_at.min(now + grace),
                };
            }
            Phase::Killed => {}
            Phase::Waiting { .. } | Phase::Ended => {
                self.phase = Phase::Ended;
                return false;
            }
        }
        true
    }

    /// Says what is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Moment) -> Option<Due> {
        match self.phase {
            Phase::Waiting { until } if until <= now => {
                self.phase = Phase::Running { since: now };
                self.restarts = self.restarts.saturating_add(1);
                Some(Due::Start)
            }
            Phase::Ending { kill_at } if kill_at <= now => {
                self.phase = Phase::Killed;
                Some(Due::Kill)
            }
            _ => None,
        }
    }

    /// When [`Lifecycle::handle_timeout`] next has something to say; ask again after every call.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Ending { kill_at } => Some(kill_at),
            Phase::Running { .. } | Phase::Killed | Phase::Ended => None,
        }
    }

    /// How it stands.
    pub(super) fn standing(&self) -> Standing {
        match self.phase {
            Phase::Running { .. } | Phase::Ending { .. } | Phase::Killed => Standing::Alive,
            Phase::Waiting { .. } => Standing::Waiting,
            Phase::Ended => Standing::Ended,
        }
    }

    /// How often it was started again.
    pub(super) fn restarts(&self) -> u32 {
        self.restarts
    }
}

/// The wait before the restart that follows `failures` failures in a row: doubled for each.
fn delay_after(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    RESTART_DELAY_MIN
        .saturating_mul(factor)
        .min(RESTART_DELAY_MAX)
}

/// A moment on the wire of an upgrade: the monotonic clock goes on across it.
mod nanos {
    use super::{Deserialize, Deserializer, Moment, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(moment: &Moment, to: S) -> Result<S::Ok, S::Error> {
        moment.as_nanos().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Moment, D::Error> {
        u64::deserialize(from).map(Moment::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::ORIGIN;
    const GRACE: Duration = Duration::from_secs(1);

    /// Lets the program fail at once and start again, `times` times; the last wait.
    fn crash(life: &mut Lifecycle, times: u32, now: &mut Moment) -> Duration {
        let mut last = Duration::ZERO;
        for _ in 0..times {
            let Ending::RestartAfter(delay) = life.handle_exit(*now) else {
                panic!("no restart: {life:?}");
            };
            assert_eq!(life.handle_timeout(*now), None, "restarted too early");
            *now = *now + delay;
            assert_eq!(life.handle_timeout(*now), Some(Due::Start));
            assert_eq!(life.poll_timeout(), None);
            last = delay;
        }
        last
    }

    #[test]
    fn each_crash_doubles_the_wait_up_to_its_bound() {
        let mut now = START;
        let mut life = Lifecycle::new(true, now);

        assert_eq!(crash(&mut life, 1, &mut now), RESTART_DELAY_MIN);
        assert_eq!(crash(&mut life, 1, &mut now), RESTART_DELAY_MIN * 2);
        assert_eq!(crash(&mut life, 60, &mut now), RESTART_DELAY_MAX);
        assert_eq!(life.restarts(), 62);
    }

    #[test]
    fn a_program_that_ran_well_restarts_soon() {
        let mut now = START;
        let mut life = Lifecycle::new(true, now);
        crash(&mut life, 5, &mut now);

        now = now + RAN_WELL;

        assert_eq!(crash(&mut life, 1, &mut now), RESTART_DELAY_MIN);
    }

    #[test]
    fn a_program_that_shall_not_restart_stays_ended() {
        let mut life = Lifecycle::new(false, START);

        assert_eq!(life.handle_exit(START), Ending::Final);
        assert_eq!(life.standing(), Standing::Ended);
        assert_eq!(life.poll_timeout(), None);
    }

    #[test]
    fn a_stopped_program_is_killed_once_its_grace_is_over() {
        let mut life = Lifecycle::new(true, START);

        assert!(life.handle_stop(GRACE, START));
        assert_eq!(life.handle_timeout(START), None);
        assert_eq!(life.poll_timeout(), Some(START + GRACE));
        assert_eq!(life.handle_timeout(START + GRACE), Some(Due::Kill));
        assert_eq!(life.poll_timeout(), None);
        assert_eq!(life.handle_exit(START + GRACE), Ending::AsAsked);
    }

    #[test]
    fn a_second_stop_can_only_shorten_the_grace() {
        let mut life = Lifecycle::new(true, START);
        life.handle_stop(GRACE, START);

        life.handle_stop(GRACE * 2, START);
        assert_eq!(life.poll_timeout(), Some(START + GRACE));

        life.handle_stop(Duration::ZERO, START);
        assert_eq!(life.poll_timeout(), Some(START));
    }

    #[test]
    fn a_stop_while_waiting_ends_it_at_once() {
        let mut life = Lifecycle::new(true, START);
        life.handle_exit(START);

        assert!(!life.handle_stop(GRACE, START));
        assert_eq!(life.standing(), Standing::Ended);
        assert_eq!(life.poll_timeout(), None);
    }

    #[test]
    fn a_life_reads_back_as_it_was_written() {
        let mut life = Lifecycle::new(true, START);
        life.handle_exit(START + GRACE);

        let written = serde_json::to_string(&life).unwrap();

        assert_eq!(serde_json::from_str::<Lifecycle>(&written).unwrap(), life);
    }
}

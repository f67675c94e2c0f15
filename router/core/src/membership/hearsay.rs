//! Hearsay: what others say of a host's life counts until the host itself goes on to say otherwise.
//!
//! A life that is later than any that a host ever had would win over all that it can say: one lie would
//! keep it down for ever.

use super::member::Member;
use super::tuning::PROBE_EVERY;
use crate::host::HostId;
use crate::moment::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a host must contradict. A datagram of its earlier life may be a little late, and a host that
/// lives says something by then.
const CONTRADICTED_FOR: Duration = PROBE_EVERY.saturating_mul(2);

/// For how long after that others are not believed about later lives of it: what they heard before goes
/// round for a few seconds more.
const REFUTED_FOR: Duration = Duration::from_secs(60);

/// What a host's word makes of what is held of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// They agree, or what is held is the host's own word as well.
    Agrees,
    /// Others say something later; the host's word is not taken yet.
    Contradicts,
    /// It did so long enough: what others said is to be forgotten.
    Refutes,
}

/// What each host itself said of its lives.
#[derive(Debug, Default)]
pub(super) struct Hearsay {
    spoken: BTreeMap<HostId, Spoken>,
}

#[derive(Debug)]
struct Spoken {
    latest: Member,
    contradicts_since: Option<Moment>,
    refuted_until: Moment,
}

impl Hearsay {
    /// Takes note of what a host says it is, while it is held for something.
    pub(super) fn hear(&mut self, said: Member, held: Option<Member>, now: Moment) -> Word {
        let fresh = || Spoken {
            latest: said,
            contradicts_since: None,
            refuted_until: Moment::ORIGIN,
        };
        let spoken = self.spoken.entry(said.host).or_insert_with(fresh);
        spoken.latest = spoken.latest.max(said);
        if held.is_none_or(|held| held <= spoken.latest) {
            spoken.contradicts_since = None;
            return Word::Agrees;
        }
        let since = *spoken.contradicts_since.get_or_insert(now);
        if now.since(since) < CONTRADICTED_FOR {
            return Word::Contradicts;
        }
        spoken.contradicts_since = None;
        spoken.refuted_until = now + REFUTED_FOR;
        Word::Refutes
    }

    /// Whether others may say this of a host.
    pub(super) fn may_be(&self, told: &Member, now: Moment) -> bool {
        let spoken = self.spoken.get(&told.host);
        spoken.is_none_or(|spoken| *told <= spoken.latest || spoken.refuted_until <= now)
    }

    /// Forgets all hosts but these.
    pub(super) fn retain(&mut self, belongs: impl Fn(&HostId) -> bool) {
        self.spoken.retain(|host, _| belongs(host));
    }
}

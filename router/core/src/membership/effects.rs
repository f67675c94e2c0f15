//! What the failure detector wants done, kept until the membership looks at it.

use super::member::Member;
use crate::host::HostId;
use crate::moment::Moment;
use foca::{Notification, Runtime, Timer};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Takes what `foca` calls out with. One call of it makes a few entries at most, and they are taken
/// at once; its timers are as many as its probes and suspicions.
#[derive(Debug)]
pub(super) struct Effects {
    pub(super) now: Moment,
    pub(super) sent: VecDeque<(HostId, Vec<u8>)>,
    /// Who came up (true) or went down.
    pub(super) seen: VecDeque<(Member, bool)>,
    timers: BTreeMap<(Moment, u64), Timer<Member>>,
    /// Tells timers apart that are due at once, in the order in which they were set.
    set: u64,
}

impl Effects {
    pub(super) fn new(now: Moment) -> Self {
        Effects {
            now,
            sent: VecDeque::new(),
            seen: VecDeque::new(),
            timers: BTreeMap::new(),
            set: 0,
        }
    }

    pub(super) fn next_due(&self) -> Option<Moment> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    pub(super) fn take_due(&mut self) -> Option<Timer<Member>> {
        self.next_due().filter(|due| *due <= self.now)?;
        self.timers.pop_first().map(|(_, timer)| timer)
    }

    /// Sets every timer later.
    pub(super) fn postpone(&mut self, by: Duration) {
        let timers = std::mem::take(&mut self.timers);
        let later = timers
            .into_iter()
            .map(|((due, set), timer)| ((due + by, set), timer));
        self.timers = later.collect();
    }
}

impl Runtime<Member> for Effects {
    fn notify(&mut self, notification: Notification<'_, Member>) {
        match notification {
            Notification::MemberUp(member) => self.seen.push_back((*member, true)),
            Notification::MemberDown(member) => self.seen.push_back((*member, false)),
            // In a later life, perhaps a dead one: whoever takes this looks.
            Notification::Rename(before, after) if before.epoch < after.epoch => {
                self.seen.push_back((*after, true));
            }
            _ => {}
        }
    }

    fn send_to(&mut self, to: Member, data: &[u8]) {
        self.sent.push_back((to.host, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Member>, after: Duration) {
        self.set += 1;
        self.timers.insert((self.now + after, self.set), event);
    }
}

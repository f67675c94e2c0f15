//! Outliers: an instance whose connections fail one after the other takes none for a while.

use super::Router;
use crate::flow_table::Judgement;
use crate::id::InstanceId;
use crate::moment::Moment;
use std::time::Duration;

/// Connections in a row that were refused or not answered: four can be chance in a restart, five are
/// a broken program.
pub(super) const FAILURES_MAX: u32 = 5;

/// How long an instance is out at first: about as long as a program takes to start anew.
pub(super) const OUT_MIN: Duration = Duration::from_secs(5);

/// How long it is out at most, if it fails again each time it is back.
pub(super) const OUT_MAX: Duration = Duration::from_secs(120);

/// How far an instance is trusted with connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    /// Failures since it answered last.
    failures: u32,
    /// How often in a row it was put out without having answered since.
    ejections: u32,
    out_until: Option<Moment>,
    /// In which families its program has answered since it was started: IPv4, IPv6.
    spoken: [bool; 2],
}

impl Trust {
    /// Whether it takes no new flow for its failures.
    pub(super) fn is_out(self) -> bool {
        self.out_until.is_some()
    }

    /// Takes note of a connection; whether it was one failure too many.
    ///
    /// Many programs listen in one family only, and callers try both: a refusal in a family in which
    /// the program has never answered says nothing of one that answers in the other.
    fn judge(&mut self, judgement: Judgement) -> bool {
        let family = usize::from(!judgement.by_ipv4);
        if judgement.answered {
            (self.failures, self.ejections) = (0, 0);
            self.spoken[family] = true;
            return false;
        }
        if !self.spoken[family] && self.spoken[1 - family] {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.failures >= FAILURES_MAX && !self.is_out()
    }

    /// Puts it out, each time in a row for twice as long.
    fn eject(&mut self, now: Moment) {
        let doubled = OUT_MIN.saturating_mul(1 << self.ejections.min(16));
        self.ejections = self.ejections.saturating_add(1);
        self.out_until = Some(now + doubled.min(OUT_MAX));
    }

    /// Lets it back in once its time is over, on probation: one more failure and it is out again.
    /// Tells whether it was.
    pub(super) fn handle_timeout(&mut self, now: Moment) -> bool {
        let is_over = self.out_until.is_some_and(|until| until <= now);
        if is_over {
            self.out_until = None;
            self.failures = FAILURES_MAX - 1;
        }
        is_over
    }

    /// When to call [`Trust::handle_timeout`] next.
    pub(super) fn poll_timeout(self) -> Option<Moment> {
        self.out_until
    }
}

impl Router {
    /// Takes note of what servers made of their connections.
    pub(super) fn judge(&mut self, now: Moment) {
        for judgement in self.flows.take_judgements() {
            let id = judgement.server;
            let instance = self.instances.get_mut(&id);
            let failed = instance.is_some_and(|instance| instance.trust.judge(judgement));
            if failed && self.may_eject(id) {
                self.eject(id, now);
            }
        }
    }

    /// Whether at most half of a service's ready instances are out once this one is.
    fn may_eject(&self, id: InstanceId) -> bool {
        let automaton = self.instances.get(&id).map(|it| &it.plan.name.automaton);
        let service = automaton.and_then(|automaton| self.services.find(automaton));
        let ids = service.into_iter().flat_map(|service| &service.instances);
        let ready = ids
            .filter_map(|id| self.instances.get(id))
            .filter(|instance| instance.life.is_ready());
        let out = ready.clone().filter(|instance| instance.trust.is_out());
        (out.count() + 1) * 2 <= ready.count()
    }

    fn eject(&mut self, id: InstanceId, now: Moment) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.trust.eject(now);
            let service = instance.plan.name.automaton.clone();
            self.service_changed(&service);
            self.server_changed(id);
            self.names.changed(&service);
            self.schedule(id);
        }
    }
}

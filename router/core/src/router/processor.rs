//! How much of the processor instances use: read while a service balances by it.

use super::Router;
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::port::Output;
use std::time::Duration;

/// How often processor times are read: often enough to follow a load that a person would notice,
/// seldom enough to cost nothing (a small file for each instance).
pub(super) const READ_EVERY: Duration = Duration::from_secs(1);

/// What is known of an instance's use of the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Processor {
    /// What it had used in all when that was read last.
    last: Option<(Moment, Duration)>,
    permille: u32,
}

/// When processor times are read.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// When they are due, while anybody balances by them.
    due: Option<Moment>,
    /// Whether the last ones that were asked for are still to come.
    under_way: bool,
}

impl Readings {
    /// When to call [`Router::processors_timeout`] next.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.due
    }
}

impl Processor {
    /// In thousandths of a core, over the last readings.
    pub(super) fn permille(self) -> u32 {
        self.permille
    }

    /// Takes a reading of all that it has used so far.
    fn read(&mut self, used: Duration, now: Moment) {
        let before = self.last.replace((now, used));
        let Some((at, before)) = before.filter(|(at, before)| *at < now && *before <= used) else {
            // The first reading, or one of a program that was started anew.
            return;
        };
        let share = (used - before).as_nanos() * 1_000 / now.since(at).as_nanos();
        let share = u32::try_from(share).unwrap_or(u32::MAX / 2);
        // Half of it new: one busy second among quiet ones is no load.
        self.permille = self.permille.midpoint(share);
    }
}

impl Router {
    /// Begins to read processor times if any service balances by them.
    pub(super) fn watch_processors(&mut self, now: Moment) {
        if self.readings.due.is_none() && self.services.by_processor().next().is_some() {
            self.readings.due = Some(now + READ_EVERY);
        }
    }

    /// Asks for the processor times that are due, unless the last ones are still to come: on a host
    /// too busy to read them, more questions would only wait.
    pub(super) fn processors_timeout(&mut self, now: Moment) {
        if self.readings.due.is_none_or(|due| now < due) {
            return;
        }
        let by_processor = self.services.by_processor();
        let instances = by_processor.flat_map(|service| &service.instances);
        let instances: Vec<InstanceId> = instances.copied().collect();
        let watched = self.services.by_processor().next().is_some();
        self.readings.due = watched.then_some(now + READ_EVERY);
        if !instances.is_empty() && !self.readings.under_way {
            self.readings.under_way = true;
            let output = Output::ReadProcessors(instances);
            self.outputs.push_back(output);
        }
    }

    /// Takes what instances have used of the processor since each was made.
    pub(super) fn processors_read(&mut self, used: Vec<(InstanceId, Duration)>, now: Moment) {
        self.readings.under_way = false;
        for (id, used) in used {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.processor.read(used, now);
                let service = instance.plan.name.automaton.clone();
                self.names.load_changed(&service, now);
                self.tell_loads_again(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn use_follows_readings_within_a_few() {
        let mut processor = Processor::default();
        let mut used = Duration::ZERO;
        for second in 0..8 {
            processor.read(used, at(second * 1_000));
            used += Duration::from_millis(500);
        }
        assert!((490..=500).contains(&processor.permille()), "{processor:?}");
        for second in 8..16 {
            processor.read(used, at(second * 1_000));
        }
        assert!(processor.permille() < 10, "{processor:?}");
    }

    #[test]
    fn program_that_was_started_anew_is_read_anew() {
        let mut processor = Processor::default();
        processor.read(Duration::from_secs(9), at(0));
        processor.read(Duration::from_secs(1), at(1_000));
        assert_eq!(processor.permille(), 0);
        processor.read(Duration::from_secs(2), at(1_000));
        assert_eq!(processor.permille(), 0, "no time has passed");
    }
}

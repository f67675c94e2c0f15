//! What those who watch are told of flows and refusals.

use super::Router;
use crate::drop_reason::DropReason;
use crate::flow_event::{FlowEvent, Interest};
use crate::flow_key::FlowKey;
use crate::flow_table::FlowChange;
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::port::{InstancePlan, Output};
use std::sync::Arc;
use std::time::Duration;

/// Refusals told one by one within [`REFUSALS_WITHIN`]: more than a person reads, and a flood of
/// them costs no more than counting.
pub(super) const REFUSALS_MAX: u64 = 100;

/// See [`REFUSALS_MAX`].
pub(super) const REFUSALS_WITHIN: Duration = Duration::from_secs(1);

/// Who is told what, and how much was told lately.
#[derive(Debug, Default)]
pub(super) struct Observation {
    interest: Interest,
    /// Refusals since the window opened.
    refusals: u64,
    /// When the window closes in which refusals are counted, if one is open.
    window_end: Option<Moment>,
}

impl Observation {
    /// Whether a refusal is told, or only counted.
    fn tells_refusal(&mut self, now: Moment) -> bool {
        if !self.interest.refusals {
            return false;
        }
        self.window_end.get_or_insert(now + REFUSALS_WITHIN);
        self.refusals += 1;
        self.refusals <= REFUSALS_MAX
    }

    /// Closes the window that is over; how many refusals in it were not told, if any.
    fn handle_timeout(&mut self, now: Moment) -> Option<u64> {
        self.window_end.filter(|end| *end <= now)?;
        self.window_end = None;
        let untold = std::mem::take(&mut self.refusals).saturating_sub(REFUSALS_MAX);
        (untold > 0).then_some(untold)
    }

    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.window_end
    }
}

impl Router {
    /// Tells from now on what `interest` asks for.
    pub(super) fn observe(&mut self, interest: Interest) {
        self.observation.interest = interest;
        self.flows.tell_changes(interest.flows);
    }

    pub(super) fn observe_timeout(&mut self, now: Moment) {
        if let Some(untold) = self.observation.handle_timeout(now) {
            self.tell(FlowEvent::Suppressed(untold));
        }
    }

    /// Tells of a refused packet, unless too many were refused lately.
    pub(super) fn observe_refusal(
        &mut self,
        caller: Option<InstanceId>,
        key: Option<FlowKey>,
        reason: DropReason,
        now: Moment,
    ) {
        if self.observation.tells_refusal(now) {
            let client = caller.and_then(|caller| self.plan_of(caller));
            self.tell(FlowEvent::Refused {
                client,
                key,
                reason,
            });
        }
    }

    pub(super) fn observe_change(&mut self, change: FlowChange) {
        let entries = match &change {
            FlowChange::Opened(flow) | FlowChange::Changed(flow) | FlowChange::Closed(flow, _) => {
                &flow.entries
            }
        };
        let (client, server) = (self.plan_of(entries.client), self.plan_of(entries.server));
        self.tell(FlowEvent::Flow {
            change,
            client,
            server,
        });
    }

    fn tell(&mut self, event: FlowEvent) {
        self.outputs.push_back(Output::Observed(Box::new(event)));
    }

    fn plan_of(&self, id: InstanceId) -> Option<Arc<InstancePlan>> {
        let instance = self.instances.get(&id);
        instance.map(|instance| instance.plan.clone())
    }
}

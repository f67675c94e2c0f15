//! Taking instances out of what takes new flows: for good before they end, or as long as an operator
//! wants it.

use super::Router;
use super::deploy::OperatorError;
use super::instances::Instance;
use crate::flow_table::FlowInput;
use crate::id::InstanceId;
use crate::lifecycle::LifecycleInput;
use crate::moment::Moment;
use crate::port::{Output, Record};
use std::time::Duration;

impl Router {
    /// Takes an instance out of what takes new flows, or lets it back in, until told otherwise;
    /// answers with a line for the operator.
    pub(super) fn suspend(
        &mut self,
        id: InstanceId,
        drained: bool,
        now: Moment,
    ) -> Result<String, OperatorError> {
        let instance = self.instances.get(&id);
        let instance = instance.ok_or(OperatorError::NoSuchInstance(id))?;
        let name = instance.plan.name.clone();
        if instance.life.is_ending() {
            return Err(OperatorError::Ending(name));
        }
        if instance.life.is_suspended() == drained {
            let so = if drained { "no new flow" } else { "new flows" };
            return Ok(format!("{name} takes {so} already; nothing changed"));
        }
        let record = Record::Drained {
            instance: id,
            drained,
        };
        self.outputs.push_back(Output::Record(record));
        self.live(id, LifecycleInput::Suspend(drained), now);
        Ok(if drained {
            format!("{name} takes no new flow")
        } else {
            format!("{name} takes new flows again")
        })
    }

    /// How long the flows that an instance serves may go on once it is not wanted any more: as long
    /// as its automaton is declared, there is somebody whose callers would notice.
    pub(super) fn patience(&self, instance: &Instance) -> Duration {
        let declared = self.declared(instance).filter(|_| !self.stopping);
        declared.map_or(Duration::ZERO, |automaton| automaton.drain)
    }

    /// The next withdrawal that is to be confirmed; behind all that it consists of.
    pub(super) fn poll_withdrawal(&mut self) -> Option<Output> {
        let instance = self.withdrawing.pop_front()?;
        Some(Output::Withdraw { instance })
    }

    /// Says so if an instance serves no flow any more; else has its flows looked at soon.
    pub(super) fn count_flows(&mut self, id: InstanceId, now: Moment) {
        if self.flows.load(id) > 0 {
            self.flow_input(FlowInput::LookAt(id), now);
        } else if let Some(instance) = self.instances.get_mut(&id) {
            instance.life.handle_input(LifecycleInput::Drained, now);
        }
    }
}

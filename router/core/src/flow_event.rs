//! What happens to flows, for those who watch.

use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use crate::flow_table::FlowChange;
use crate::port::InstancePlan;
use std::sync::Arc;

/// What the world wants to be told as it happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Flows that open, change and close.
    pub flows: bool,
    /// Packets that are refused.
    pub refusals: bool,
}

/// Something that happened to a flow, or to a packet that opened none.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "an event travels in a box of its own, and most are of flows"
)]
pub enum FlowEvent {
    /// A flow opened, changed or closed. What the kernel counted is read as this is carried out:
    /// core reads counters only when a flow could have ended.
    Flow {
        /// What happened, and to which flow.
        change: FlowChange,
        /// Who opened it.
        client: Option<Arc<InstancePlan>>,
        /// Who serves it.
        server: Option<Arc<InstancePlan>>,
    },
    /// A packet was refused.
    Refused {
        /// Who sent it, if an instance did.
        client: Option<Arc<InstancePlan>>,
        /// Its flow, if it could be read.
        key: Option<FlowKey>,
        /// Why.
        reason: DropReason,
    },
    /// So many more packets were refused within a second; `margay drops` counts them all.
    Suppressed(u64),
}

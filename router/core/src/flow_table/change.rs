//! Changes of the flow table, told one by one while somebody listens.

use super::{Flow, FlowState};

/// A change of the table.
#[derive(Clone, Debug)]
pub enum FlowChange {
    /// The flow is open from now on.
    Opened(Flow),
    /// Its counters, read now, show another state.
    Changed(Flow),
    /// It is in the table no more.
    Closed(Flow, FlowEnd),
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// Its sides closed it.
    Finished,
    /// It was silent for longer than flows of its kind may be.
    Silent,
    /// The program that served it ended.
    ServerEnded,
    /// A side of it lost its network.
    NetworkGone,
    /// No composition permits it any more.
    Forbidden,
    /// The kernel did not take its entries.
    KernelRefused,
    /// The kernel opened it, and its server's host did not let it in: it was asked for anew.
    Unadmitted,
}

impl FlowEnd {
    /// How a flow ended that nobody ended.
    pub(super) fn by_itself(flow: &Flow) -> FlowEnd {
        match flow.state() {
            FlowState::Closed => FlowEnd::Finished,
            FlowState::HalfOpen | FlowState::Established => FlowEnd::Silent,
        }
    }

    /// The name in the flow log.
    pub fn name(self) -> &'static str {
        match self {
            FlowEnd::Finished => "finished",
            FlowEnd::Silent => "silent",
            FlowEnd::ServerEnded => "server_ended",
            FlowEnd::NetworkGone => "network_gone",
            FlowEnd::Forbidden => "forbidden",
            FlowEnd::KernelRefused => "kernel_refused",
            FlowEnd::Unadmitted => "unadmitted",
        }
    }
}

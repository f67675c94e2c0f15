//! How many first packets went to other hosts, came from them, or passed through.

use super::super::Router;
use serde::Serialize;

/// First packets between hosts since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Flows of instances here that another router was asked for; asking again counts no more.
    pub requests_sent: u64,
    /// Requests of other hosts that were passed on to the next router, each time that they came.
    pub requests_passed_on: u64,
    /// Flows of other hosts that instances here took.
    pub requests_accepted: u64,
    /// Requests of other hosts that were refused here.
    pub requests_rejected: u64,
    /// First packets of other hosts that came unadmitted, and went back to be asked for.
    pub packets_returned: u64,
}

impl Requests {
    /// Every counter as (name in metrics and the CLI, what it counts, value).
    pub fn named(&self) -> [(&'static str, &'static str, u64); 5] {
        [
            (
                "requests_sent",
                "Flows of instances here that another router was asked for",
                self.requests_sent,
            ),
            (
                "requests_passed_on",
                "First packets of other hosts that were passed on to the next router",
                self.requests_passed_on,
            ),
            (
                "requests_accepted",
                "Flows of other hosts that instances here took",
                self.requests_accepted,
            ),
            (
                "requests_rejected",
                "Requests of other hosts that were refused here",
                self.requests_rejected,
            ),
            (
                "packets_returned",
                "First packets of other hosts that came unadmitted and went back to be asked for",
                self.packets_returned,
            ),
        ]
    }
}

impl Router {
    /// What became of first packets between hosts.
    pub fn requests(&self) -> Requests {
        self.requests
    }
}

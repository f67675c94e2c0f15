//! Why a flow has the server that it has.

use serde::Serialize;

/// Why a flow has the server that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The called instance takes flows.
    Called,
    /// The balancer chose a sibling of the called instance, which takes none.
    Sibling(Absence),
    /// The caller itself, for the called instance takes no flows and no sibling does.
    Itself(Absence),
    /// An earlier run of the daemon chose, and took its reason with it.
    Adopted,
}

/// Why the called instance takes no flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absence {
    /// It ended for good; its address still leads to its siblings.
    Gone,
    /// It is not ready.
    NotReady,
}

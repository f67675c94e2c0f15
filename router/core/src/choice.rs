//! Why a flow has the server that it has.

/// Why a flow has the server that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The called instance takes flows.
    Called,
    /// The service itself was called, and the balancer chose.
    Balanced,
    /// The balancer chose a sibling of the called instance, which takes none.
    Sibling(Absence),
    /// The caller itself, for the called instance takes no flows and no sibling does.
    Itself(Absence),
    /// The kernel, by an earlier decision for the same client and service.
    Aggregate,
    /// An earlier run of the daemon chose, and took its reason with it.
    Adopted,
}

impl Choice {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Choice::Called => "called",
            Choice::Balanced => "balanced",
            Choice::Sibling(Absence::Gone) => "sibling_of_gone",
            Choice::Sibling(Absence::Drained) => "sibling_of_drained",
            Choice::Sibling(Absence::Ejected) => "sibling_of_ejected",
            Choice::Sibling(Absence::NotReady) => "sibling_of_unready",
            Choice::Itself(_) => "itself",
            Choice::Aggregate => "aggregate",
            Choice::Adopted => "adopted",
        }
    }
}

/// Why the called instance takes no flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It ended for good; its address still leads to its siblings.
    Gone,
    /// An operator wants it to take no new flow.
    Drained,
    /// Its last connections failed.
    Ejected,
    /// It is not ready.
    NotReady,
}

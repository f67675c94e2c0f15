//! What is told of packets that leave: they are the host's to route, and no flow of Margay's.

use crate::explanation::{Explanation, Step, Target, Verdict};
use crate::flow_key::FlowKey;
use crate::router::Router;
use crate::router::instances::Instance;
use crate::router::outside::{is_multicast, way_out};

impl Router {
    /// Whether the kernel hands the caller's packet to the host's own routing.
    pub(super) fn gets_out(&self, caller: &Instance, key: &FlowKey) -> bool {
        let to = key.destination.ip();
        let is_attached = caller.network.is_some();
        is_attached && self.is_outside(to) && !is_multicast(to) && way_out(caller, key).is_ok()
    }
}

/// Tells of a packet that leaves; without `key`, of one to wherever a foreign name leads.
pub(super) fn leaving(
    target: &Target,
    caller: &Instance,
    key: Option<&FlowKey>,
    mut steps: Vec<Step>,
) -> Explanation {
    let plan = &caller.plan;
    let (from, composition) = (&plan.name.automaton, &plan.composition);
    let own = plan.addresses.caller.v4;
    if key.is_some() {
        let detail = format!("{own} is {}'s own", plan.name);
        steps.push(Step::passed("source", detail));
    }
    let (to, way) = match (key, target) {
        (Some(key), _) => {
            let to = key.destination.ip();
            (format!("{to} lies"), format!("ip route get {to}"))
        }
        (None, Target::Name { name, .. }) => (
            "its addresses lie".to_owned(),
            format!("margay exec {} -- getent ahosts {name}", plan.name),
        ),
        (None, _) => unreachable!("only a name has no key"),
    };
    let detail =
        format!("{to} outside, and {from} of {composition} says `egress = \"all\"`: IPv4 leaves");
    steps.push(Step::passed("egress", detail));
    Explanation {
        caller: plan.name.to_string(),
        target: target.to_string(),
        steps,
        verdict: Verdict::Leaves,
        next: format!(
            "Nothing. If the program still fails: `{way}`; a firewall that drops what is forwarded \
             must accept {own}."
        ),
    }
}

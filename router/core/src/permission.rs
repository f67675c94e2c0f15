//! Permission: who may call whom on which port, from compositions alone; all else is denied.

use crate::composition::{Composition, Port, Transport};
use crate::flow_key::Protocol;
use crate::name::AutomatonName;
use std::collections::{BTreeMap, BTreeSet};

/// What all compositions together permit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// For each caller whom it may call, on which ports. An entry without ports permits nothing.
    calls: BTreeMap<AutomatonName, BTreeMap<AutomatonName, BTreeSet<Port>>>,
    /// Whom the host's own programs may know by name.
    host: BTreeSet<AutomatonName>,
    /// The same the other way round: for each callee who needs it.
    callers: BTreeMap<AutomatonName, BTreeSet<AutomatonName>>,
}

impl Permissions {
    /// Derives what `compositions` permit.
    pub fn of<'a>(compositions: impl IntoIterator<Item = &'a Composition>) -> Self {
        let mut permissions = Permissions::default();
        for composition in compositions {
            permissions.declare(composition);
        }
        permissions
    }

    /// Permits what `composition` says: each of its automatons may call the declared ports of what it
    /// needs in it.
    pub fn declare(&mut self, composition: &Composition) {
        self.host.extend(composition.host_needs.iter().cloned());
        for (caller, automaton) in &composition.automatons {
            let calls = self.calls.entry(caller.clone()).or_default();
            for callee in &automaton.needs {
                let declared = composition.automatons.get(callee);
                let ports = declared
                    .into_iter()
                    .flat_map(|callee| callee.ports.values());
                calls.entry(callee.clone()).or_default().extend(ports);
                let callers = self.callers.entry(callee.clone()).or_default();
                callers.insert(caller.clone());
            }
        }
    }

    /// Takes back all that the automatons of `composition` may, which alone declares them.
    pub fn retract(&mut self, composition: &Composition) {
        for callee in &composition.host_needs {
            self.host.remove(callee);
        }
        for caller in composition.automatons.keys() {
            for callee in self.calls.remove(caller).unwrap_or_default().into_keys() {
                if let Some(callers) = self.callers.get_mut(&callee) {
                    callers.remove(caller);
                    if callers.is_empty() {
                        self.callers.remove(&callee);
                    }
                }
            }
        }
    }

    /// Whether `caller` may open a flow to `port` of `callee`; an echo request may go wherever any
    /// port is permitted.
    pub fn permit(
        &self,
        caller: &AutomatonName,
        callee: &AutomatonName,
        port: u16,
        protocol: Protocol,
    ) -> bool {
        let ports = self.calls.get(caller).and_then(|calls| calls.get(callee));
        let declared = |protocol| Port { port, protocol };
        ports.is_some_and(|ports| match protocol {
            Protocol::Tcp => ports.contains(&declared(Transport::Tcp)),
            Protocol::Udp => ports.contains(&declared(Transport::Udp)),
            Protocol::Echo => !ports.is_empty(),
        })
    }

    /// Whether `caller` may know that `callee` exists: it needs it.
    pub fn sees(&self, caller: &AutomatonName, callee: &AutomatonName) -> bool {
        let calls = self.calls.get(caller);
        calls.is_some_and(|calls| calls.contains_key(callee))
    }

    /// Whether the host's own programs may know that `callee` exists.
    pub fn host_sees(&self, callee: &AutomatonName) -> bool {
        self.host.contains(callee)
    }

    /// Everything that `caller` may know of.
    pub fn seen_by(&self, caller: &AutomatonName) -> impl Iterator<Item = &AutomatonName> {
        let calls = self.calls.get(caller).into_iter();
        calls.flat_map(BTreeMap::keys)
    }

    /// Everyone who may know of `callee`.
    pub fn callers_of(&self, callee: &AutomatonName) -> impl Iterator<Item = &AutomatonName> {
        self.callers.get(callee).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::composition::{Affinity, Answering, Automaton, Balance, Egress};
    use crate::id::Version;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    fn automaton(ports: &[(u16, Transport)], needs: &[&str]) -> Automaton {
        Automaton {
            alive: None,
            drain: crate::composition::DRAIN,
            weights: Vec::new(),
            slow_start: std::time::Duration::ZERO,
            on: Vec::new(),
            command: vec!["true".into()],
            environment: BTreeMap::new(),
            user: None,
            replicas: 1,
            ports: ports
                .iter()
                .map(|(port, protocol)| {
                    let (port, protocol) = (*port, *protocol);
                    (format!("{protocol:?}{port}"), Port { port, protocol })
                })
                .collect(),
            needs: needs.iter().map(|need| name(need)).collect(),
            ready: None,
            affinity: Affinity::Prefer,
            balance: Balance::RoundRobin,
            answer: Answering::Instances,
            egress: Egress::None,
        }
    }

    fn name(text: &str) -> AutomatonName {
        text.parse().unwrap()
    }

    fn composition(automatons: &[(&str, Automaton)]) -> Composition {
        Composition {
            name: "shop".parse().unwrap(),
            version: Version(1),
            automatons: automatons
                .iter()
                .map(|(automaton, declared)| (name(automaton), declared.clone()))
                .collect(),
            host_needs: BTreeSet::new(),
        }
    }

    fn shop() -> Permissions {
        Permissions::of([&composition(&[
            ("shopper", automaton(&[], &["web", "quiet"])),
            ("web", automaton(&[(80, Transport::Tcp)], &["store"])),
            (
                "store",
                automaton(&[(53, Transport::Udp), (6379, Transport::Tcp)], &[]),
            ),
            ("quiet", automaton(&[], &[])),
        ])])
    }

    #[test]
    fn table_of_who_may_call_whom() {
        let cases = [
            ("shopper", "web", 80, Protocol::Tcp, true),
            ("shopper", "web", 80, Protocol::Udp, false),
            ("shopper", "web", 81, Protocol::Tcp, false),
            ("shopper", "web", 0, Protocol::Echo, true),
            ("shopper", "store", 6379, Protocol::Tcp, false),
            ("shopper", "store", 0, Protocol::Echo, false),
            ("shopper", "quiet", 0, Protocol::Echo, false),
            ("web", "store", 53, Protocol::Udp, true),
            ("web", "store", 53, Protocol::Tcp, false),
            ("web", "shopper", 80, Protocol::Tcp, false),
            ("web", "web", 80, Protocol::Tcp, false),
            ("stranger", "web", 80, Protocol::Tcp, false),
        ];
        for (caller, callee, port, protocol, expected) in cases {
            let found = shop().permit(&name(caller), &name(callee), port, protocol);
            assert_eq!(found, expected, "{caller} to {callee} {port} {protocol}");
        }
    }

    #[test]
    fn only_those_who_need_a_service_see_it() {
        assert!(shop().sees(&name("shopper"), &name("web")));
        assert!(shop().sees(&name("shopper"), &name("quiet")));
        assert!(!shop().sees(&name("shopper"), &name("store")));
        assert!(!shop().sees(&name("web"), &name("web")));
    }

    #[test]
    fn host_sees_what_it_needs_and_nothing_that_others_need() {
        let mut declared = composition(&[
            ("shopper", automaton(&[], &["web"])),
            ("web", automaton(&[(80, Transport::Tcp)], &[])),
            ("store", automaton(&[(6379, Transport::Tcp)], &[])),
        ]);
        declared.host_needs.insert(name("store"));
        let permissions = Permissions::of([&declared]);
        assert!(permissions.host_sees(&name("store")));
        assert!(!permissions.host_sees(&name("web")));
        assert!(!permissions.sees(&name("shopper"), &name("store")));
    }

    #[test]
    fn nothing_is_permitted_without_a_composition() {
        let nothing = Permissions::of([]);
        assert!(!nothing.permit(&name("web"), &name("web"), 80, Protocol::Tcp));
    }

    /// Few enough names and ports that random compositions often agree on them.
    const NAMES: [&str; 4] = ["front", "web", "store", "quiet"];
    const PORTS: [(u16, Transport); 4] = [
        (53, Transport::Tcp),
        (53, Transport::Udp),
        (80, Transport::Tcp),
        (443, Transport::Udp),
    ];
    const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Echo];

    /// Any composition of some of the names; it may need what only another one declares.
    fn any_composition() -> impl Strategy<Value = Composition> {
        let any_automaton = (
            subsequence(PORTS.to_vec(), 0..=4),
            subsequence(NAMES.to_vec(), 0..=4),
        );
        let automatons = any_automaton.prop_map(|(ports, needs)| automaton(&ports, &needs));
        let declared = proptest::collection::btree_map(select(&NAMES[..]), automatons, 0..=4);
        declared.prop_map(|declared| composition(&declared.into_iter().collect::<Vec<_>>()))
    }

    /// The declarations of `callee` in the compositions in which `caller` needs it.
    fn needed<'a>(
        compositions: &'a [Composition],
        caller: &'a str,
        callee: &'a str,
    ) -> impl Iterator<Item = Option<&'a Automaton>> {
        compositions.iter().filter_map(move |composition| {
            let needs = &composition.automatons.get(&name(caller))?.needs;
            let declared = || composition.automatons.get(&name(callee));
            needs.contains(&name(callee)).then(declared)
        })
    }

    /// The same automatons under names that only the composition `number` has.
    fn renamed(composition: &Composition, number: usize) -> Composition {
        let rename = |old: &AutomatonName| name(&format!("{old}-{number}"));
        let automatons = composition.automatons.iter();
        Composition {
            automatons: automatons
                .map(|(old, declared)| {
                    let needs = declared.needs.iter().map(rename).collect();
                    (
                        rename(old),
                        Automaton {
                            needs,
                            ..declared.clone()
                        },
                    )
                })
                .collect(),
            ..composition.clone()
        }
    }

    proptest! {
        #[test]
        fn exactly_declared_ports_of_what_is_needed_are_permitted(
            compositions in proptest::collection::vec(any_composition(), 0..3),
            caller in select(&NAMES[..]),
            callee in select(&NAMES[..]),
            number in prop_oneof![select(vec![53, 80, 443]), any::<u16>()],
        ) {
            let permissions = Permissions::of(&compositions);
            let (from, to) = (name(caller), name(callee));
            let ports: Vec<(u16, Protocol)> = needed(&compositions, caller, callee)
                .flatten()
                .flat_map(|automaton| automaton.ports.values())
                .map(|port| (port.port, port.protocol.into()))
                .collect();
            for protocol in PROTOCOLS {
                let expected = match protocol {
                    Protocol::Echo => !ports.is_empty(),
                    Protocol::Tcp | Protocol::Udp => ports.contains(&(number, protocol)),
                };
                let found = permissions.permit(&from, &to, number, protocol);
                prop_assert_eq!(found, expected, "{} {}", number, protocol);
            }
        }

        #[test]
        fn what_is_retracted_leaves_no_trace(
            compositions in proptest::collection::vec(any_composition(), 1..4),
            gone in any::<proptest::sample::Index>(),
        ) {
            let numbered = compositions.iter().enumerate();
            let mut compositions: Vec<_> =
                numbered.map(|(number, composition)| renamed(composition, number)).collect();
            let mut permissions = Permissions::of(&compositions);
            permissions.retract(&compositions.remove(gone.index(compositions.len())));
            prop_assert_eq!(permissions, Permissions::of(&compositions));
        }

        #[test]
        fn who_sees_is_known_from_both_sides(
            compositions in proptest::collection::vec(any_composition(), 0..3),
        ) {
            let permissions = Permissions::of(&compositions);
            for caller in NAMES.map(name) {
                for callee in NAMES.map(name) {
                    let sees = permissions.sees(&caller, &callee);
                    prop_assert_eq!(permissions.seen_by(&caller).any(|seen| *seen == callee), sees);
                    let mut callers = permissions.callers_of(&callee);
                    prop_assert_eq!(callers.any(|other| *other == caller), sees);
                }
            }
        }

        #[test]
        fn exactly_what_is_needed_is_seen(
            compositions in proptest::collection::vec(any_composition(), 0..3),
            caller in select(&NAMES[..]),
            callee in select(&NAMES[..]),
        ) {
            let expected = needed(&compositions, caller, callee).next().is_some();
            let found = Permissions::of(&compositions).sees(&name(caller), &name(callee));
            prop_assert_eq!(found, expected);
        }
    }
}

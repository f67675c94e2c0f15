//! The service table: what to do with the first packet of a flow, by the longest prefix of its
//! service ID.

use crate::service_id::{ServiceId, ServiceIdPrefix};
use std::cell::Cell;
use std::collections::BTreeMap;

/// What to do with a first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Hand it to another router, which decides.
    Forward(NextHop),
    /// Hand it to an instance on this host.
    Demux,
    /// Refuse it.
    Drop,
}

/// A router that first packets can be handed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop(pub u32);

/// A rule of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The service IDs that it is for.
    pub prefix: ServiceIdPrefix,
    /// What happens to them.
    pub action: Action,
    /// Among rules of one prefix only those of the highest priority count.
    pub priority: u16,
    /// Its share among rules of one prefix and priority; none if 0.
    pub weight: u32,
}

/// A rule and how often it was chosen.
#[derive(Clone, Debug)]
pub struct CountedRule {
    /// The rule.
    pub rule: Rule,
    hits: Cell<u64>,
}

impl CountedRule {
    /// Counts a first packet that it decided.
    pub fn count(&self) {
        self.hits.set(self.hits.get() + 1);
    }

    /// How many first packets it decided.
    pub fn hits(&self) -> u64 {
        self.hits.get()
    }
}

/// Rules by prefix.
#[derive(Debug, Default)]
pub struct ServiceTable {
    /// The rules of one prefix, the highest priority first.
    rules: BTreeMap<ServiceIdPrefix, Vec<CountedRule>>,
    /// How many prefixes of each length there are: a look-up tries only lengths in use.
    lengths: BTreeMap<u16, usize>,
}

impl ServiceTable {
    /// Adds a rule; one with the same prefix, action and priority is replaced, its count kept.
    pub fn insert(&mut self, rule: Rule) {
        let rules = self.rules.entry(rule.prefix).or_insert_with(|| {
            *self.lengths.entry(rule.prefix.bits()).or_default() += 1;
            Vec::new()
        });
        let same = |old: &&mut CountedRule| {
            (old.rule.action, old.rule.priority) == (rule.action, rule.priority)
        };
        if let Some(old) = rules.iter_mut().find(same) {
            old.rule = rule;
            return;
        }
        let place = rules.partition_point(|other| other.rule.priority >= rule.priority);
        let hits = Cell::new(0);
        rules.insert(place, CountedRule { rule, hits });
    }

    /// Takes away every rule of `prefix` that does `action`.
    pub fn remove(&mut self, prefix: ServiceIdPrefix, action: Action) {
        let Some(rules) = self.rules.get_mut(&prefix) else {
            return;
        };
        rules.retain(|counted| counted.rule.action != action);
        if rules.is_empty() {
            self.rules.remove(&prefix);
            if let Some(count) = self.lengths.get_mut(&prefix.bits()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.bits());
                }
            }
        }
    }

    /// Finds the rule for `id`: the longest prefix that has a rule with weight decides, `draw`
    /// chooses among its rules by weight. `None`: no rule covers the ID.
    pub fn find(&self, id: ServiceId, draw: u64) -> Option<&CountedRule> {
        self.covering(id).find_map(|rules| pick(rules, draw))
    }

    /// Whether [`ServiceTable::find`] answers the same for every draw.
    pub fn is_settled(&self, id: ServiceId) -> bool {
        let groups = self.covering(id).map(|rules| weighty(rules).count());
        groups.into_iter().find(|count| *count > 0) == Some(1)
    }

    /// The rules of every prefix that covers `id`, the longest first.
    fn covering(&self, id: ServiceId) -> impl Iterator<Item = &Vec<CountedRule>> {
        let longest_first = self.lengths.keys().rev();
        longest_first.filter_map(move |bits| self.rules.get(&ServiceIdPrefix::new(id, *bits)))
    }

    /// All rules, ordered by prefix.
    pub fn rules(&self) -> Vec<&CountedRule> {
        self.rules.values().flatten().collect()
    }
}

/// One of the rules with the highest priority that has any weight.
fn pick(rules: &[CountedRule], draw: u64) -> Option<&CountedRule> {
    let weight = |counted: &CountedRule| u64::from(counted.rule.weight);
    let total: u64 = weighty(rules).map(weight).sum();
    let mut left = draw.checked_rem(total)?;
    weighty(rules).find(|counted| {
        let weight = weight(counted);
        let chosen = left < weight;
        left = left.saturating_sub(weight);
        chosen
    })
}

/// The rules with weight of the highest priority that has any.
fn weighty(rules: &[CountedRule]) -> impl Iterator<Item = &CountedRule> {
    let with_weight = || rules.iter().filter(|counted| counted.rule.weight > 0);
    let highest = with_weight().next().map(|counted| counted.rule.priority);
    with_weight().filter(move |counted| Some(counted.rule.priority) == highest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::SitePath;
    use proptest::prelude::*;

    fn id(number: u8) -> ServiceId {
        let name = format!("s{number}");
        ServiceId::of(&SitePath::everywhere(), &name.parse().unwrap())
    }

    /// Chooses as a first packet does.
    fn choose(table: &ServiceTable, id: ServiceId, draw: u64) -> Option<Action> {
        let counted = table.find(id, draw)?;
        counted.count();
        Some(counted.rule.action)
    }

    fn rule(prefix: ServiceIdPrefix, action: Action) -> Rule {
        Rule {
            prefix,
            action,
            priority: 0,
            weight: 1,
        }
    }

    #[test]
    fn longer_prefix_wins_over_higher_priority() {
        let mut table = ServiceTable::default();
        table.insert(Rule {
            priority: 9,
            ..rule(ServiceIdPrefix::zone(), Action::Drop)
        });
        table.insert(rule(ServiceIdPrefix::service(id(1)), Action::Demux));
        assert_eq!(choose(&table, id(1), 0), Some(Action::Demux));
        assert_eq!(choose(&table, id(2), 0), Some(Action::Drop));
    }

    #[test]
    fn weights_share_the_flows_of_one_priority() {
        let mut table = ServiceTable::default();
        let prefix = ServiceIdPrefix::service(id(1));
        for (hop, priority, weight) in [(1, 5, 3), (2, 5, 1), (3, 4, 100), (4, 9, 0)] {
            table.insert(Rule {
                prefix,
                action: Action::Forward(NextHop(hop)),
                priority,
                weight,
            });
        }
        for draw in 0..400 {
            choose(&table, id(1), draw);
        }
        let hits: Vec<_> = table.rules().iter().map(|counted| counted.hits()).collect();
        assert_eq!(hits, [0, 300, 100, 0]);
    }

    #[test]
    fn replaced_rule_keeps_its_count_and_a_removed_one_is_gone() {
        let mut table = ServiceTable::default();
        let prefix = ServiceIdPrefix::service(id(1));
        table.insert(rule(prefix, Action::Demux));
        choose(&table, id(1), 0);
        table.insert(Rule {
            weight: 7,
            ..rule(prefix, Action::Demux)
        });
        assert_eq!(table.rules().len(), 1);
        assert_eq!(table.rules()[0].hits(), 1);
        table.remove(prefix, Action::Demux);
        assert_eq!(choose(&table, id(1), 0), None);
        assert!(table.lengths.is_empty());
    }

    fn any_action() -> impl Strategy<Value = Action> {
        prop_oneof![
            Just(Action::Demux),
            Just(Action::Drop),
            (0u32..4).prop_map(|hop| Action::Forward(NextHop(hop)))
        ]
    }

    proptest! {
        #[test]
        fn longest_prefix_match_equals_a_naive_scan(
            rules in proptest::collection::vec((0u8..4, 0u16..=256, any_action()), 0..20),
            removed in proptest::collection::vec(any::<proptest::sample::Index>(), 0..5),
            asked in 0u8..4,
        ) {
            let mut table = ServiceTable::default();
            // One rule a prefix, so that the naive answer is unique.
            let mut naive = BTreeMap::new();
            for (number, bits, action) in rules {
                let prefix = ServiceIdPrefix::new(id(number), bits);
                if let Some(old) = naive.insert(prefix, action) {
                    table.remove(prefix, old);
                }
                table.insert(rule(prefix, action));
            }
            for index in removed {
                if let Some((prefix, action)) = naive.iter().nth(index.index(20)) {
                    let (prefix, action) = (*prefix, *action);
                    naive.remove(&prefix);
                    table.remove(prefix, action);
                }
            }
            let covering = naive.iter().filter(|(prefix, _)| prefix.covers(id(asked)));
            let expected = covering.max_by_key(|(prefix, _)| prefix.bits()).map(|(_, a)| *a);
            prop_assert_eq!(choose(&table, id(asked), 0), expected);
            prop_assert_eq!(table.rules().len(), naive.len());
        }
    }
}

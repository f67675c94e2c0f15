//! A topology as far as its file says it, and what settles the rest.

use super::numbering::{Numbering, number_segments};
use super::parse::unknown;
use super::{Link, Node, Role, Segment, Topology};
use crate::cable::Impairment;
use ipnet::IpNet;
use margay_core::reading::Reader;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

/// Where something stands in the text.
pub(super) type Place = Range<usize>;

/// What was read so far.
pub(super) struct Draft {
    pub(super) seed: u64,
    pub(super) segments: BTreeMap<String, DraftSegment>,
    /// Routers first, then hosts.
    pub(super) nodes: Vec<DraftNode>,
    /// Segments that were named before all of them were known.
    expected: Vec<(String, Place)>,
}

/// A segment; without a prefix of any family it gets one of each.
#[derive(Default)]
pub(super) struct DraftSegment {
    pub(super) v4: Option<IpNet>,
    pub(super) v6: Option<IpNet>,
}

/// A node; without addresses of its own it gets one of each family in each segment.
pub(super) struct DraftNode {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) role: Role,
    pub(super) segments: Vec<String>,
    pub(super) addresses: Option<Vec<(Place, IpAddr)>>,
}

impl Draft {
    pub(super) fn new(seed: u64) -> Self {
        Draft {
            seed,
            segments: BTreeMap::new(),
            nodes: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// Remembers that the text names a segment.
    pub(super) fn expect_segment(&mut self, name: &str, place: Place) {
        self.expected.push((name.to_owned(), place));
    }

    /// Gives addresses and links to all, and checks what only the whole can tell.
    pub(super) fn settle(
        self,
        reader: &mut Reader<'_>,
        links: &BTreeMap<String, (Place, Impairment)>,
    ) -> Option<Topology> {
        let mistakes = self.refuse_unknown(reader) + self.refuse_twins(reader);
        if mistakes > 0 {
            return None;
        }
        let segments = number_segments(&self.segments);
        let topology = Topology {
            seed: self.seed,
            nodes: nodes(reader, &self.nodes, &segments, links),
            segments,
        };
        check_links(reader, &topology, links);
        self.refuse_overlaps(reader, &topology);
        Some(topology)
    }

    /// Notes segments that are named and not there; returns how many.
    fn refuse_unknown(&self, reader: &mut Reader<'_>) -> usize {
        let known: Vec<&str> = self.segments.keys().map(String::as_str).collect();
        let absent = |(name, _): &&(String, Place)| !self.segments.contains_key(name);
        let absent = self.expected.iter().filter(absent);
        absent
            .map(|(name, place)| unknown(reader, place.clone(), "segment", name, &known))
            .count()
    }

    /// Notes names that two nodes have; returns how many.
    fn refuse_twins(&self, reader: &mut Reader<'_>) -> usize {
        let mut names = BTreeSet::new();
        let mut twins = 0;
        for node in &self.nodes {
            if !names.insert(&node.name) {
                twins += 1;
                let problem = format!("two nodes are called `{}`", node.name);
                let expected = "one name for each host and router, also for those of `hosts = N`";
                reader.mistake(node.place.clone(), problem, expected);
            }
        }
        twins
    }

    /// No node may know two ways for one address.
    fn refuse_overlaps(&self, reader: &mut Reader<'_>, topology: &Topology) {
        let mut told = BTreeSet::new();
        for (index, draft) in self.nodes.iter().enumerate() {
            let Some((one, other)) = topology.overlap(index) else {
                continue;
            };
            if !told.insert((one, other)) {
                continue;
            }
            let name = |index: usize| &topology.segments[index].name;
            let problem = format!(
                "`{}` reaches segments `{}` and `{}`, whose prefixes overlap",
                draft.name,
                name(one),
                name(other)
            );
            let expected = "prefixes apart, or a router between them that masquerades";
            reader.mistake(draft.place.clone(), problem, expected);
        }
    }
}

fn nodes(
    reader: &mut Reader<'_>,
    drafts: &[DraftNode],
    segments: &[Segment],
    links: &BTreeMap<String, (Place, Impairment)>,
) -> Vec<Node> {
    let mut numbering = Numbering::new(segments);
    let index_of = |name: &String| segments.iter().position(|it| it.name == *name);
    let indices = |draft: &DraftNode| draft.segments.iter().filter_map(index_of).collect();
    let placed: Vec<Vec<usize>> = drafts.iter().map(indices).collect();
    // What the file says stands before what is free is handed out.
    let mut chosen: Vec<_> = drafts
        .iter()
        .zip(&placed)
        .map(|(draft, on)| numbering.choose(reader, draft, on))
        .collect();
    let mut nodes = Vec::new();
    for ((draft, on), chosen) in drafts.iter().zip(&placed).zip(&mut chosen) {
        let plan = |(position, segment): (usize, &usize)| {
            let name = format!("{}-{}", draft.name, segments[*segment].name);
            Link {
                segment: *segment,
                addresses: match chosen {
                    Some(chosen) => std::mem::take(&mut chosen[position]),
                    None => numbering.hand_out(reader, draft, *segment),
                },
                wire: links.get(&name).map(|(_, impairment)| *impairment),
                name,
            }
        };
        nodes.push(Node {
            name: draft.name.clone(),
            role: draft.role.clone(),
            links: on.iter().enumerate().map(plan).collect(),
        });
    }
    nodes
}

/// No two links may have one name, and whatever the file says of links must meet one.
fn check_links(
    reader: &mut Reader<'_>,
    topology: &Topology,
    links: &BTreeMap<String, (Place, Impairment)>,
) {
    let mut names = BTreeSet::new();
    for link in topology.nodes.iter().flat_map(|node| &node.links) {
        if !names.insert(link.name.as_str()) {
            let problem = format!("two links would be called `{}`", link.name);
            let expected = "names of nodes and segments that make NODE-SEGMENT once";
            reader.mistake(0..0, problem, expected);
        }
    }
    let known: Vec<&str> = names.into_iter().collect();
    for (name, (place, _)) in links {
        if !known.contains(&name.as_str()) {
            unknown(reader, place.clone(), "link", name, &known);
        }
    }
}

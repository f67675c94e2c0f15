//! Prefixes for segments and addresses for nodes: what the file says, else what is free.

use super::Segment;
use super::draft::{DraftNode, DraftSegment};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use margay_core::reading::Reader;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The prefix lengths of segments that say nothing: room for 254 nodes, and what IPv6 wants.
const V4_BITS: u8 = 24;
const V6_BITS: u8 = 64;

/// Gives `10.0.N.0/24` and `fd00:0:0:N::/64` to segments without a prefix.
pub(super) fn number_segments(drafts: &BTreeMap<String, DraftSegment>) -> Vec<Segment> {
    let declared = drafts.values().flat_map(|it| [it.v4, it.v6]);
    let declared: Vec<IpNet> = declared.flatten().collect();
    let free = |(v4, v6): &(Ipv4Net, Ipv6Net)| {
        let clashes = |it: &IpNet| overlap(*it, IpNet::V4(*v4)) || overlap(*it, IpNet::V6(*v6));
        !declared.iter().any(clashes)
    };
    let mut numbered = (1..=u8::MAX).map(automatic).filter(free);
    let mut settle = |(name, draft): (&String, &DraftSegment)| {
        let (mut v4, mut v6) = (None, None);
        for prefix in [draft.v4, draft.v6].into_iter().flatten() {
            match prefix {
                IpNet::V4(prefix) => v4 = Some(prefix),
                IpNet::V6(prefix) => v6 = Some(prefix),
            }
        }
        if v4.is_none() && v6.is_none() {
            (v4, v6) = numbered.next().unzip();
        }
        let name = name.clone();
        Segment { name, v4, v6 }
    };
    drafts.iter().map(&mut settle).collect()
}

fn automatic(number: u8) -> (Ipv4Net, Ipv6Net) {
    let v4 = Ipv4Addr::new(10, 0, number, 0);
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, u16::from(number), 0, 0, 0, 0);
    (
        Ipv4Net::new_assert(v4, V4_BITS),
        Ipv6Net::new_assert(v6, V6_BITS),
    )
}

/// Whether two prefixes have addresses in common.
pub(super) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// Which addresses are taken.
pub(super) struct Numbering<'s> {
    segments: &'s [Segment],
    taken: BTreeSet<(usize, IpAddr)>,
}

impl<'s> Numbering<'s> {
    pub(super) fn new(segments: &'s [Segment]) -> Self {
        Numbering {
            segments,
            taken: BTreeSet::new(),
        }
    }

    /// Takes the addresses that the file gives to a node on segments `on`: for each of them a
    /// list. `None`: the file gives none.
    pub(super) fn choose(
        &mut self,
        reader: &mut Reader<'_>,
        draft: &DraftNode,
        on: &[usize],
    ) -> Option<Vec<Vec<IpAddr>>> {
        let mut chosen = vec![Vec::new(); on.len()];
        for (place, addr) in draft.addresses.as_ref()? {
            let place = place.clone();
            let found = on
                .iter()
                .position(|it| self.segments[*it].locate(*addr).is_some());
            let Some(position) = found else {
                let prefixes = on.iter().flat_map(|it| self.segments[*it].prefixes());
                let prefixes: Vec<String> = prefixes.map(|it| format!("`{it}`")).collect();
                let problem = format!("`{addr}` lies on no segment of `{}`", draft.name);
                let expected = format!("an address within {}", prefixes.join(" or "));
                reader.mistake(place, problem, expected);
                continue;
            };
            let segment = &self.segments[on[position]];
            let here: &mut Vec<IpAddr> = &mut chosen[position];
            if !is_for_nodes(segment, *addr) {
                let problem = format!("`{addr}` stands for all of segment `{}`", segment.name);
                reader.mistake(place, problem, "an address between the first and the last");
            } else if here.iter().any(|it| it.is_ipv4() == addr.is_ipv4()) {
                let problem = format!("`{}` has two addresses there", draft.name);
                reader.mistake(place, problem, "one of each family on each segment");
            } else if !self.taken.insert((on[position], *addr)) {
                let problem = format!("`{addr}` is taken");
                reader.mistake(place, problem, "each address once on its segment");
            } else {
                here.push(*addr);
            }
        }
        Some(chosen)
    }

    /// Gives the lowest free address of each family on a segment.
    pub(super) fn hand_out(
        &mut self,
        reader: &mut Reader<'_>,
        draft: &DraftNode,
        segment: usize,
    ) -> Vec<IpAddr> {
        let mut given = Vec::new();
        for prefix in self.segments[segment].prefixes() {
            let free = |it: &IpAddr| !self.taken.contains(&(segment, *it));
            match prefix.hosts().skip_while(first_of(prefix)).find(free) {
                Some(addr) => {
                    self.taken.insert((segment, addr));
                    given.push(addr);
                }
                None => {
                    let problem = format!("`{prefix}` has no address left for `{}`", draft.name);
                    reader.mistake(draft.place.clone(), problem, "a shorter prefix");
                }
            }
        }
        given
    }
}

/// The all-zeros address stands for routers in IPv6 (RFC 4291 section 2.6.1).
fn first_of(prefix: IpNet) -> impl Fn(&IpAddr) -> bool {
    move |addr| prefix.prefix_len() < prefix.max_prefix_len() && *addr == prefix.network()
}

/// Whether a node may have the address: it is neither the network's nor that of all nodes.
fn is_for_nodes(segment: &Segment, addr: IpAddr) -> bool {
    let of_all = |it: IpNet| {
        it.contains(&addr)
            && it.max_prefix_len() - it.prefix_len() > 1
            && (addr == it.network() || (addr.is_ipv4() && addr == it.broadcast()))
    };
    !segment.prefixes().any(of_all)
}

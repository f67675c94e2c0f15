//! Reads a topology from TOML.

use super::draft::{Draft, DraftNode, DraftSegment, Place};
use super::{Role, Topology};
use crate::cable::Impairment;
use ipnet::IpNet;
use margay_core::name::{SiteName, SitePath};
use margay_core::reading::{Mistakes, NUMBER_MAX, Reader, Section, Value, did_you_mean, one_of};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The longest text of a topology; the largest lab takes a tenth of it.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// The most hosts of a lab: each takes five namespaces and, with a daemon, 20 MB.
const HOSTS_MAX: usize = 128;

/// The most segments and routers: each is a switch, or the namespaces of a whole node.
const SEGMENTS_MAX: usize = 64;

/// The most segments of one node; it has an interface in each.
const NODE_SEGMENTS_MAX: usize = 16;

/// Slower than a minute is a link that is cut.
const LATENCY_MS_MAX: u64 = 60_000;

/// What joins all segments when the file names no router.
const AUTOMATIC_ROUTER: &str = "backbone";

const ROOT_KEYS: [&str; 6] = ["seed", "site", "segment", "router", "host", "link"];
const SITE_KEYS: [&str; 3] = ["hosts", "segment", "daemon"];
const SEGMENT_KEYS: [&str; 2] = ["v4", "v6"];
const ROUTER_KEYS: [&str; 2] = ["segments", "masquerade"];
const HOST_KEYS: [&str; 4] = ["site", "segments", "addresses", "daemon"];
const LINK_KEYS: [&str; 5] = ["wire", "latency_ms", "drop", "duplicate", "reorder"];

const SEGMENTS: &str = "a list of segments: [\"paris\"]";
const OPTIONS: &str = "a list of options of `margay up`: [\"--flow-log\", \"all\"]";

impl Topology {
    /// Reads a topology's text; everything that is wrong with it is in the error.
    pub fn parse(text: &str) -> Result<Topology, Mistakes> {
        let mut reader = Reader::new(text);
        let topology = topology(&mut reader);
        reader.finish(topology)
    }
}

fn topology(reader: &mut Reader<'_>) -> Option<Topology> {
    let bytes = reader.text().len();
    if bytes > TEXT_BYTES_MAX {
        let problem = format!("the file has {bytes} bytes");
        reader.mistake(0..0, problem, format!("at most {TEXT_BYTES_MAX}"));
        return None;
    }
    let document = reader.document()?;
    let root = Section {
        table: document.get_ref(),
        span: 0..0,
        what: "the file".to_owned(),
    };
    reader.refuse_unknown(&root, &ROOT_KEYS);
    let seed = reader.number(&root, "seed", 0..=NUMBER_MAX);
    let mut draft = Draft::new(seed.unwrap_or(0));
    let sites = sites(reader, &root, &mut draft);
    hosts(reader, &root, &sites, &mut draft);
    declared_segments(reader, &root, &mut draft);
    routers(reader, &root, &mut draft);
    check_counts(reader, &draft)?;
    let links = links(reader, &root);
    draft.settle(reader, &links)
}

/// A site as declared: what its hosts have in common.
struct Site {
    path: SitePath,
    segment: String,
    daemon_options: Vec<String>,
}

/// Reads the sites, and drafts the hosts that they ask for by number.
fn sites(reader: &mut Reader<'_>, root: &Section<'_>, draft: &mut Draft) -> BTreeMap<String, Site> {
    let mut sites = BTreeMap::new();
    for (name, place, section) in sections(reader, root, "site", &SITE_KEYS) {
        let path = match name.parse::<SitePath>() {
            Ok(path) if !path.tiers().is_empty() => path,
            _ => {
                let problem = format!("`{name}` is no path of a site");
                reader.mistake(place, problem, "names with dots: [site.\"rack1.paris\"]");
                continue;
            }
        };
        let segment = section.table.get("segment").and_then(|value| {
            let text = reader.string(value, "segment", "a segment: \"paris\"")?;
            draft.expect_segment(text, value.span());
            Some(text.to_owned())
        });
        let site = Site {
            path,
            segment: segment.unwrap_or_else(|| name.clone()),
            daemon_options: options(reader, &section),
        };
        let count = reader.number(&section, "hosts", 0..=HOSTS_MAX as u64);
        for number in 1..=count.unwrap_or(0) {
            let segments = vec![site.own_segment(draft, &name)];
            draft.nodes.push(DraftNode {
                name: format!("{}-{number}", name.replace('.', "-")),
                place: place.clone(),
                role: site.host(site.daemon_options.clone()),
                segments,
                addresses: None,
            });
        }
        sites.insert(name, site);
    }
    sites
}

impl Site {
    fn host(&self, daemon_options: Vec<String>) -> Role {
        Role::Host {
            site: self.path.clone(),
            daemon_options,
        }
    }

    /// Where its hosts stand if they do not say; a segment of the site's name needs no section.
    fn own_segment(&self, draft: &mut Draft, name: &str) -> String {
        if self.segment == name {
            let empty = DraftSegment::default();
            draft.segments.entry(name.to_owned()).or_insert(empty);
        }
        self.segment.clone()
    }
}

fn hosts(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    sites: &BTreeMap<String, Site>,
    draft: &mut Draft,
) {
    let known: Vec<&str> = sites.keys().map(String::as_str).collect();
    for (name, place, section) in sections(reader, root, "host", &HOST_KEYS) {
        let named = label(reader, &place, &name);
        let value = reader.required(&section, "site", "`site = \"paris\"`");
        let site = value.and_then(|value| {
            let text = reader.string(value, "site", "a site: \"paris\"")?;
            if !sites.contains_key(text) {
                unknown(reader, value.span(), "site", text, &known);
            }
            sites.get_key_value(text)
        });
        let segments = named_segments(reader, &section, draft);
        let addresses = addresses(reader, &section);
        let daemon_options = options(reader, &section);
        if let Some((name, (path, site))) = named.zip(site) {
            let segments = segments.unwrap_or_else(|| vec![site.own_segment(draft, path)]);
            draft.nodes.push(DraftNode {
                name,
                place,
                role: site.host(daemon_options),
                segments,
                addresses,
            });
        }
    }
}

fn declared_segments(reader: &mut Reader<'_>, root: &Section<'_>, draft: &mut Draft) {
    for (name, place, section) in sections(reader, root, "segment", &SEGMENT_KEYS) {
        if !name
            .parse::<SitePath>()
            .is_ok_and(|it| !it.tiers().is_empty())
        {
            let problem = format!("`{name}` cannot name a segment");
            reader.mistake(
                place,
                problem,
                "a-z, 0-9, inner hyphens, and dots between names",
            );
            continue;
        }
        let v4 = prefix(reader, &section, "v4", "a v4 prefix: \"10.1.0.0/24\"");
        let v6 = prefix(reader, &section, "v6", "a v6 prefix: \"fd00:1::/64\"");
        draft.segments.insert(name, DraftSegment { v4, v6 });
    }
}

fn routers(reader: &mut Reader<'_>, root: &Section<'_>, draft: &mut Draft) {
    let mut routers = Vec::new();
    for (name, place, section) in sections(reader, root, "router", &ROUTER_KEYS) {
        reader.required(&section, "segments", SEGMENTS);
        let named = label(reader, &place, &name);
        let segments = named_segments(reader, &section, draft).unwrap_or_default();
        let masquerade = section.table.get("masquerade").and_then(|value| {
            let text = reader.string(value, "masquerade", "one of the router's segments")?;
            let index = segments.iter().position(|it| it == text);
            if index.is_none() {
                let problem = format!("{} is not on segment `{text}`", section.what);
                let known: Vec<&str> = segments.iter().map(String::as_str).collect();
                let hint = did_you_mean(text, known.iter().copied());
                reader.mistake_with_hint(value.span(), problem, one_of(&known), hint);
            }
            index
        });
        routers.extend(named.map(|name| DraftNode {
            name,
            place,
            role: Role::Router { masquerade },
            segments,
            addresses: None,
        }));
    }
    if root.table.get("router").is_none() && draft.segments.len() > 1 {
        routers.push(DraftNode {
            name: AUTOMATIC_ROUTER.to_owned(),
            place: 0..0,
            role: Role::Router { masquerade: None },
            segments: draft.segments.keys().cloned().collect(),
            addresses: None,
        });
    }
    draft.nodes.splice(0..0, routers);
}

/// Refuses what is too much before it is looked at closely.
fn check_counts(reader: &mut Reader<'_>, draft: &Draft) -> Option<()> {
    let is_host = |node: &&DraftNode| matches!(node.role, Role::Host { .. });
    let hosts = draft.nodes.iter().filter(is_host).count();
    let routers = draft.nodes.len() - hosts;
    let mut fits = true;
    let mut check = |count: usize, least: usize, most: usize, what: &str| {
        if !(least..=most).contains(&count) {
            let problem = format!("the file describes {count} {what}");
            reader.mistake(0..0, problem, format!("{least} to {most}"));
            fits = false;
        }
    };
    check(hosts, 1, HOSTS_MAX, "hosts");
    check(draft.segments.len(), 1, SEGMENTS_MAX, "segments");
    check(routers, 0, SEGMENTS_MAX, "routers");
    fits.then_some(())
}

/// What the file says of links, by their names.
fn links(reader: &mut Reader<'_>, root: &Section<'_>) -> BTreeMap<String, (Place, Impairment)> {
    let mut links = BTreeMap::new();
    for (name, place, section) in sections(reader, root, "link", &LINK_KEYS) {
        let latency_ms = reader.number(&section, "latency_ms", 0..=LATENCY_MS_MAX);
        let mut fraction = |key| reader.fraction(&section, key).unwrap_or(0.0);
        let impairment = Impairment {
            latency: Duration::from_millis(latency_ms.unwrap_or(0)),
            drop: fraction("drop"),
            duplicate: fraction("duplicate"),
            reorder: fraction("reorder"),
        };
        let wire = reader.boolean(&section, "wire");
        if wire == Some(false) {
            let problem = format!("{} is said to have no wire", section.what);
            reader.mistake(place.clone(), problem, "no section at all for a plain link");
        }
        links.insert(name, (place, impairment));
    }
    links
}

/// The tables below `kind`: name, place of the name, and content.
fn sections<'a>(
    reader: &mut Reader<'_>,
    root: &Section<'a>,
    kind: &str,
    known: &[&str],
) -> Vec<(String, Place, Section<'a>)> {
    let mut found = Vec::new();
    let Some(value) = root.table.get(kind) else {
        return found;
    };
    for (key, value) in reader
        .table(value, kind, format!("[{kind}.NAME]"))
        .into_iter()
        .flatten()
    {
        let name = key.get_ref().to_string();
        let what = format!("{kind} `{name}`");
        let section = reader.section(key, value, what, known);
        found.extend(section.map(|section| (name, key.span(), section)));
    }
    found
}

/// A node's name; it follows the rules for a site's.
fn label(reader: &mut Reader<'_>, place: &Place, name: &str) -> Option<String> {
    reader
        .label::<SiteName>(place.clone(), name)
        .map(String::from)
}

fn named_segments(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    draft: &mut Draft,
) -> Option<Vec<String>> {
    let value = section.table.get("segments")?;
    let mut names: Vec<String> = Vec::new();
    for (place, name) in reader.strings(value, "segments", SEGMENTS)? {
        if names.iter().any(|it| it == name) {
            let problem = format!("{} is on `{name}` twice", section.what);
            reader.mistake(place, problem, "each segment once");
            continue;
        }
        draft.expect_segment(name, place);
        names.push(name.to_owned());
    }
    if !(1..=NODE_SEGMENTS_MAX).contains(&names.len()) {
        let problem = format!("{} is on {} segments", section.what, names.len());
        reader.mistake(value.span(), problem, format!("1 to {NODE_SEGMENTS_MAX}"));
    }
    Some(names)
}

fn addresses(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Vec<(Place, IpAddr)>> {
    let expected = "a list of addresses: [\"10.1.0.7\", \"fd00:1::7\"]";
    let value = section.table.get("addresses")?;
    let texts = reader.strings(value, "addresses", expected)?;
    if texts.is_empty() {
        let problem = format!("{} has no address", section.what);
        let expected = "at least one; without `addresses` it gets automatic ones";
        reader.mistake(value.span(), problem, expected);
    }
    let mut addresses = Vec::new();
    for (place, text) in texts {
        match text.parse() {
            Ok(addr) => addresses.push((place, addr)),
            Err(_) => {
                reader.mistake(place, format!("`{text}` is no address"), expected);
            }
        }
    }
    Some(addresses)
}

fn options(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<String> {
    let value = section.table.get("daemon");
    let options = value.and_then(|value| reader.strings(value, "daemon", OPTIONS));
    let options = options.unwrap_or_default().into_iter();
    options.map(|(_, option)| option.to_owned()).collect()
}

/// The prefix under `key`, which says the family.
fn prefix(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    expected: &str,
) -> Option<IpNet> {
    let value: &Value<'_> = section.table.get(key)?;
    let text = reader.string(value, key, expected)?;
    let parsed = text.parse::<IpNet>().ok();
    let prefix = parsed.filter(|it| matches!(it, IpNet::V4(_)) == (key == "v4"));
    let Some(prefix) = prefix else {
        reader.mistake(
            value.span(),
            format!("`{text}` is no {key} prefix"),
            expected,
        );
        return None;
    };
    if prefix.trunc() != prefix {
        let problem = format!("`{text}` has bits behind its length");
        let hint = format!("write `{}`", prefix.trunc());
        reader.mistake_with_hint(value.span(), problem, expected, Some(hint));
    }
    Some(prefix.trunc())
}

/// Notes that nothing of `kind` is called `name`.
pub(super) fn unknown(
    reader: &mut Reader<'_>,
    place: Place,
    kind: &str,
    name: &str,
    known: &[&str],
) {
    let hint = did_you_mean(name, known.iter().copied());
    let problem = format!("no {kind} is called `{name}`");
    reader.mistake_with_hint(place, problem, one_of(known), hint);
}

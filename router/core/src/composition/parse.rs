//! Reads a composition from the TOML that an operator writes.

mod ports;
mod readiness;

use super::{Affinity, Answering, Automaton, Balance, Composition, CompositionName, DRAIN, Egress};
use crate::id::Version;
use crate::name::{AutomatonName, HostName};
use crate::reading::{Mistakes, NUMBER_MAX, Reader, Section, Value, did_you_mean, one_of};
use ports::ports;
use readiness::{liveness, readiness};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The longest text of a composition: hosts gossip them whole, and a thousand automatons fit.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The most automatons of a composition; each is looked at when permissions are drawn up.
const AUTOMATONS_MAX: usize = 1024;

/// The most instances of one automaton; each takes a network namespace, and more is a slip.
const REPLICAS_MAX: u64 = 1024;

/// A drain of an hour is a drain for ever: whoever rolls out waits for it.
const DRAIN_MS_RANGE: RangeInclusive<u64> = 0..=3_600_000;

/// A start slower than an hour is an instance that should have a smaller weight.
const SLOW_START_MS_RANGE: RangeInclusive<u64> = 0..=3_600_000;

/// A thousandth of a sibling's part is the least that is worth a name; none at all is a drain.
const WEIGHT_RANGE: RangeInclusive<u64> = 1..=1_000;

const ROOT_KEYS: [&str; 3] = ["composition", "automaton", "host"];
const HOST_KEYS: [&str; 1] = ["needs"];
const HEADER_KEYS: [&str; 2] = ["name", "version"];
const AUTOMATON_KEYS: [&str; 16] = [
    "command",
    "replicas",
    "ports",
    "needs",
    "ready",
    "alive",
    "affinity",
    "balance",
    "answer",
    "egress",
    "weights",
    "slow_start_ms",
    "drain_ms",
    "env",
    "user",
    "on",
];
const AFFINITIES: [(&str, Affinity); 2] =
    [("prefer", Affinity::Prefer), ("strict", Affinity::Strict)];
const BALANCES: [(&str, Balance); 4] = [
    ("round-robin", Balance::RoundRobin),
    ("two-choices", Balance::TwoChoices),
    ("least-load", Balance::LeastLoad),
    ("maglev", Balance::Maglev),
];

const ANSWERS: [(&str, Answering); 2] = [
    ("instances", Answering::Instances),
    ("service", Answering::Service),
];

const EGRESSES: [(&str, Egress); 2] = [("none", Egress::None), ("all", Egress::All)];

impl Balance {
    /// Its name in composition files.
    pub fn name(self) -> &'static str {
        let named = BALANCES.iter().find(|(_, balance)| *balance == self);
        named.map_or("-", |(name, _)| name)
    }
}

const COMMAND: &str = "a list of program and arguments: [\"nginx\", \"-g\", \"daemon off;\"]";
const AUTOMATONS: &str = "at least one [automaton.NAME]";
const HOSTS: &str = "a list of hosts: [\"a\", \"b\"]";
const NEEDS: &str = "a list of automatons: [\"store\"]";

impl Composition {
    /// Reads a composition's file; everything that is wrong with it is in the error.
    pub fn parse(text: &str) -> Result<Composition, Mistakes> {
        let mut reader = Reader::new(text);
        let composition = composition(&mut reader);
        reader.finish(composition)
    }
}

fn composition(reader: &mut Reader<'_>) -> Option<Composition> {
    let bytes = reader.text().len();
    if bytes > TEXT_BYTES_MAX {
        let problem = format!("the file has {bytes} bytes");
        reader.mistake(0..0, problem, format!("at most {TEXT_BYTES_MAX}; split it"));
        return None;
    }
    let document = reader.document()?;
    let root = Section {
        table: document.get_ref(),
        span: 0..0,
        what: "the file".to_owned(),
    };
    reader.refuse_unknown(&root, &ROOT_KEYS);
    let header = header(reader, &root);
    let automatons = automatons(reader, &root);
    let host_needs = host_needs(reader, &root).unwrap_or_default();
    let (name, version) = header?;
    Some(Composition {
        name,
        version,
        automatons: automatons?,
        host_needs,
    })
}

/// What the host's own programs need; only automatons of the same file.
fn host_needs(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<BTreeSet<AutomatonName>> {
    let (key, value) = root.table.get_key_value("host")?;
    let host = reader.section(key, value, "[host]".to_owned(), &HOST_KEYS)?;
    let declared = root.table.get("automaton")?.get_ref().as_table()?;
    let names: Vec<&str> = declared.keys().map(|key| key.get_ref().as_ref()).collect();
    needs(reader, &host, &names)
}

fn header(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<(CompositionName, Version)> {
    let expected = "[composition] with `name` and `version`";
    reader.required(root, "composition", expected)?;
    let (key, value) = root.table.get_key_value("composition")?;
    let header = reader.section(key, value, "[composition]".to_owned(), &HEADER_KEYS)?;
    let name = reader.required(&header, "name", "`name = \"shop\"`");
    let name = name.and_then(|value| {
        let text = reader.string(value, "name", "a text: \"shop\"")?;
        reader.label(value.span(), text)
    });
    reader.required(&header, "version", "`version = 1`");
    let version = reader.number(&header, "version", 1..=NUMBER_MAX);
    Some((name?, Version(version?)))
}

fn automatons(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
) -> Option<BTreeMap<AutomatonName, Automaton>> {
    let value = reader.required(root, "automaton", AUTOMATONS)?;
    let table = reader.table(value, "automaton", AUTOMATONS)?;
    if table.is_empty() || table.len() > AUTOMATONS_MAX {
        let problem = format!("the file declares {} automatons", table.len());
        reader.mistake(value.span(), problem, format!("1 to {AUTOMATONS_MAX}"));
        return None;
    }
    let names: Vec<&str> = table.keys().map(|key| key.get_ref().as_ref()).collect();
    let mut automatons = BTreeMap::new();
    for (key, value) in table {
        let what = format!("automaton `{}`", key.get_ref());
        let name: Option<AutomatonName> = reader.label(key.span(), key.get_ref());
        let section = reader.section(key, value, what, &AUTOMATON_KEYS);
        if let Some((name, section)) = name.zip(section) {
            let automaton = automaton(reader, &section, &names);
            automatons.insert(name, automaton);
        }
    }
    Some(automatons)
}

/// Reads one automaton; where there is a mistake a default stands in, for the mistake decides.
fn automaton(reader: &mut Reader<'_>, section: &Section<'_>, names: &[&str]) -> Automaton {
    let command = reader.required(section, "command", COMMAND);
    let command = command.and_then(|value| words(reader, value));
    let replicas = reader.number(section, "replicas", 0..=REPLICAS_MAX);
    let replicas = replicas.and_then(|replicas| u32::try_from(replicas).ok());
    let ports = ports(reader, section).unwrap_or_default();
    let slow_start = reader.number(section, "slow_start_ms", SLOW_START_MS_RANGE);
    let weights = weights(reader, section, replicas.unwrap_or(1));
    let drain = reader.number(section, "drain_ms", DRAIN_MS_RANGE);
    Automaton {
        command: command.unwrap_or_default(),
        environment: environment(reader, section).unwrap_or_default(),
        user: user(reader, section),
        replicas: replicas.unwrap_or(1),
        needs: needs(reader, section, names).unwrap_or_default(),
        ready: readiness(reader, section, &ports),
        alive: liveness(reader, section, &ports),
        ports,
        affinity: reader
            .choice(section, "affinity", &AFFINITIES)
            .unwrap_or_default(),
        balance: reader
            .choice(section, "balance", &BALANCES)
            .unwrap_or_default(),
        answer: reader
            .choice(section, "answer", &ANSWERS)
            .unwrap_or_default(),
        egress: reader
            .choice(section, "egress", &EGRESSES)
            .unwrap_or_default(),
        weights: weights.unwrap_or_default(),
        slow_start: Duration::from_millis(slow_start.unwrap_or_default()),
        on: hosts(reader, section).unwrap_or_default(),
        drain: drain.map_or(DRAIN, Duration::from_millis),
    }
}

/// The instances' parts of the flows, in the order of their numbers.
fn weights(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    replicas: u32,
) -> Option<Vec<NonZeroU32>> {
    let weights = reader.numbers(section, "weights", WEIGHT_RANGE)?;
    let surplus = weights.get(replicas as usize);
    if let Some((span, _)) = surplus {
        let problem = format!("`weights` has {} numbers", weights.len());
        let expected = format!("one for each replica, at most {replicas}");
        reader.mistake(span.clone(), problem, expected);
    }
    let weight = |(_, weight): &(_, u64)| u32::try_from(*weight).ok().and_then(NonZeroU32::new);
    Some(weights.iter().filter_map(weight).collect())
}

/// The hosts that the instances run on, each in its turn.
fn hosts(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Vec<HostName>> {
    let value = section.table.get("on")?;
    let named = reader.strings(value, "on", HOSTS)?;
    if named.is_empty() || named.len() > REPLICAS_MAX as usize {
        let problem = format!("`on` names {} hosts", named.len());
        reader.mistake(value.span(), problem, format!("1 to {REPLICAS_MAX}"));
    }
    let hosts = named.into_iter();
    let hosts = hosts.filter_map(|(span, text)| reader.label(span, text));
    Some(hosts.collect())
}

/// The words of a command: a program and its arguments.
fn words(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    let words = reader.strings(value, "command", COMMAND)?;
    if words.first().is_none_or(|(_, program)| program.is_empty()) {
        reader.mistake(value.span(), "`command` names no program", COMMAND);
    }
    Some(words.into_iter().map(|(_, word)| word.to_owned()).collect())
}

fn environment(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<BTreeMap<String, String>> {
    let value = section.table.get("env")?;
    let expected = "a table of texts: { LANG = \"C.UTF-8\" }";
    let mut environment = BTreeMap::new();
    for (key, value) in reader.table(value, "env", expected)? {
        let name = key.get_ref().as_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            let problem = format!("`{name}` is no name of a variable");
            reader.mistake(key.span(), problem, "a name without `=`");
        }
        if let Some(text) = reader.string(value, name, "a text") {
            environment.insert(name.to_owned(), text.to_owned());
        }
    }
    Some(environment)
}

fn user(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let value = section.table.get("user")?;
    let expected = "a user's name: \"www-data\"";
    let name = reader.string(value, "user", expected)?;
    if name.is_empty() || name.contains([':', '/', ' ', '\n']) {
        let problem = format!("`{name}` is no user's name");
        let hint = Some("without `user`, each instance gets an unprivileged one of its own".into());
        reader.mistake_with_hint(value.span(), problem, expected, hint);
    }
    Some(name.to_owned())
}

fn needs(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    names: &[&str],
) -> Option<BTreeSet<AutomatonName>> {
    let value = section.table.get("needs")?;
    let mut needs = BTreeSet::new();
    for (span, text) in reader.strings(value, "needs", NEEDS)? {
        if !names.contains(&text) {
            let problem = format!("no automaton is called `{text}`");
            let hint = did_you_mean(text, names.iter().copied());
            reader.mistake_with_hint(span, problem, one_of(names), hint);
        } else if text.parse().is_ok_and(|need| !needs.insert(need)) {
            reader.mistake(span, format!("`{text}` is needed twice"), "each name once");
        }
    }
    Some(needs)
}

#[cfg(test)]
mod tests;

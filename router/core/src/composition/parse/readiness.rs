//! Reads how an automaton's instances are probed.

use super::words;
use crate::composition::{Liveness, Port, Probe, Readiness, Transport};
use crate::reading::{Reader, Section, Value, did_you_mean, one_of};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How often a probe is sent unless the file says so.
const PROBE_EVERY_MS: u64 = 500;

/// How often a program is asked whether it is alive unless the file says so: a hung one is found
/// within a quarter of a minute.
const ALIVE_EVERY_MS: u64 = 5_000;

/// After how many failures in a row a program counts as hung unless the file says so: one or two
/// happen to a busy program.
const FAILURES: u32 = 3;

/// A program that may fail more often than a hundred times should have no liveness probe.
const FAILURES_RANGE: RangeInclusive<u64> = 1..=100;

/// How long a probe may take unless the file says so.
const PROBE_TIMEOUT_MS: u64 = 1_000;

/// Between probes lie at least 10 ms, lest they become a load, and at most an hour.
const PROBE_EVERY_MS_RANGE: RangeInclusive<u64> = 10..=3_600_000;

/// A probe takes at most a minute: one that hangs holds a socket.
const PROBE_TIMEOUT_MS_RANGE: RangeInclusive<u64> = 1..=60_000;

const PROBE_KEYS: [&str; 6] = ["http", "tcp", "command", "port", "every_ms", "timeout_ms"];
const READY: &str = "`{ http = \"/health\", port = \"NAME\" }`, `{ tcp = true, port = \"NAME\" }` \
                     or `{ command = [\"PROGRAM\"] }`";

/// Reads `ready`: when an instance takes flows.
pub(super) fn readiness(
    reader: &mut Reader<'_>,
    automaton: &Section<'_>,
    ports: &BTreeMap<String, Port>,
) -> Option<Readiness> {
    let section = section(reader, automaton, "ready", &PROBE_KEYS)?;
    asked(reader, automaton, &section, ports, PROBE_EVERY_MS)
}

/// Reads `alive`: when a program counts as hung.
pub(super) fn liveness(
    reader: &mut Reader<'_>,
    automaton: &Section<'_>,
    ports: &BTreeMap<String, Port>,
) -> Option<Liveness> {
    let [http, tcp, command, port, every, timeout] = PROBE_KEYS;
    let keys = [http, tcp, command, port, every, timeout, "failures"];
    let section = section(reader, automaton, "alive", &keys)?;
    let failures = reader.number(&section, "failures", FAILURES_RANGE);
    Some(Liveness {
        asked: asked(reader, automaton, &section, ports, ALIVE_EVERY_MS)?,
        failures: failures
            .and_then(|it| u32::try_from(it).ok())
            .unwrap_or(FAILURES),
    })
}

fn section<'a>(
    reader: &mut Reader<'_>,
    automaton: &Section<'a>,
    name: &str,
    keys: &[&str],
) -> Option<Section<'a>> {
    let (key, value) = automaton.table.get_key_value(name)?;
    reader.section(key, value, format!("`{name}`"), keys)
}

fn asked(
    reader: &mut Reader<'_>,
    automaton: &Section<'_>,
    section: &Section<'_>,
    ports: &BTreeMap<String, Port>,
    every_ms: u64,
) -> Option<Readiness> {
    let every = reader.number(section, "every_ms", PROBE_EVERY_MS_RANGE);
    let timeout = reader.number(section, "timeout_ms", PROBE_TIMEOUT_MS_RANGE);
    Some(Readiness {
        probe: probe(reader, automaton, section, ports)?,
        every: Duration::from_millis(every.unwrap_or(every_ms)),
        timeout: Duration::from_millis(timeout.unwrap_or(PROBE_TIMEOUT_MS)),
    })
}

fn probe(
    reader: &mut Reader<'_>,
    automaton: &Section<'_>,
    section: &Section<'_>,
    ports: &BTreeMap<String, Port>,
) -> Option<Probe> {
    let field = |key: &str| section.table.get(key);
    match (field("http"), field("tcp"), field("command")) {
        (Some(path), None, None) => {
            let port = probed_port(reader, automaton, section, ports);
            let path = http_path(reader, path)?;
            port.map(|port| Probe::Http { port, path })
        }
        (None, Some(tcp), None) => {
            if tcp.get_ref().as_bool() != Some(true) {
                let expected = format!("`tcp = true`, or no {} at all", section.what);
                reader.mistake(tcp.span(), "`tcp` is not true", expected);
            }
            let port = probed_port(reader, automaton, section, ports);
            port.map(|port| Probe::Tcp { port })
        }
        (None, None, Some(command)) => {
            if let Some(port) = field("port") {
                let expected = "`command` without `port`";
                reader.mistake(port.span(), "a command probes no port", expected);
            }
            words(reader, command).map(Probe::Command)
        }
        (None, None, None) => {
            let problem = format!("{} probes nothing", section.what);
            reader.mistake(section.span.clone(), problem, READY);
            None
        }
        _ => {
            let problem = format!("{} probes in more than one way", section.what);
            reader.mistake(section.span.clone(), problem, READY);
            None
        }
    }
}

/// The number of the TCP port that `ready` names.
fn probed_port(
    reader: &mut Reader<'_>,
    automaton: &Section<'_>,
    section: &Section<'_>,
    ports: &BTreeMap<String, Port>,
) -> Option<u16> {
    let value = reader.required(section, "port", "`port = \"NAME\"` with the name of a port")?;
    let name = reader.string(value, "port", "the name of one of its ports")?;
    if let Some(port) = ports.get(name) {
        if port.protocol != Transport::Tcp {
            reader.mistake(
                value.span(),
                format!("port `{name}` is no TCP port"),
                "a TCP port",
            );
        }
        return Some(port.port);
    }
    let declared = automaton
        .table
        .get("ports")
        .and_then(|ports| ports.get_ref().as_table());
    let names = declared.into_iter().flat_map(|ports| ports.keys());
    let names: Vec<&str> = names.map(|name| name.get_ref().as_ref()).collect();
    // What is wrong with a port that is declared was said where it stands.
    if !names.contains(&name) {
        let problem = format!("{} declares no port `{name}`", automaton.what);
        let hint = did_you_mean(name, names.iter().copied());
        reader.mistake_with_hint(value.span(), problem, one_of(&names), hint);
    }
    None
}

fn http_path(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<String> {
    let expected = "an absolute path: \"/health\"";
    let path = reader.string(value, "http", expected)?;
    let printable = path.bytes().all(|b| b.is_ascii_graphic());
    if !path.starts_with('/') || !printable {
        let hint = printable.then(|| format!("write \"/{path}\""));
        reader.mistake_with_hint(value.span(), format!("`{path}` is no path"), expected, hint);
    }
    Some(path.to_owned())
}

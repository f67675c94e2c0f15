//! Reads the ports that an automaton declares.

use crate::composition::{Port, Transport};
use crate::reading::{Reader, Section};
use std::collections::BTreeMap;
use std::ops::Range;

/// The most ports of one automaton: every need of it is checked against each.
const PORTS_MAX: usize = 64;

/// The longest name of a port (RFC 6335 section 5.1), so that it can stand in an SRV name.
const PORT_NAME_BYTES_MAX: usize = 15;

const PORT_KEYS: [&str; 2] = ["port", "protocol"];
const PORTS: &str = "a table: { http = { port = 80, protocol = \"tcp\" } }";
const TRANSPORTS: [(&str, Transport); 2] = [("tcp", Transport::Tcp), ("udp", Transport::Udp)];

pub(super) fn ports(
    reader: &mut Reader<'_>,
    automaton: &Section<'_>,
) -> Option<BTreeMap<String, Port>> {
    let value = automaton.table.get("ports")?;
    let table = reader.table(value, "ports", PORTS)?;
    if table.len() > PORTS_MAX {
        let problem = format!("{} declares {} ports", automaton.what, table.len());
        reader.mistake(value.span(), problem, format!("at most {PORTS_MAX}"));
        return None;
    }
    let mut ports: BTreeMap<String, Port> = BTreeMap::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        check_name(reader, key.span(), name);
        let section = reader.section(key, value, format!("port `{name}`"), &PORT_KEYS);
        let Some(port) = section.and_then(|section| port(reader, &section)) else {
            continue;
        };
        if let Some((other, _)) = ports.iter().find(|(_, other)| **other == port) {
            let problem = format!("`{name}` and `{other}` are the same port");
            reader.mistake(value.span(), problem, "another number or protocol");
        }
        ports.insert(name.to_owned(), port);
    }
    Some(ports)
}

fn port(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Port> {
    reader.required(section, "port", "`port = 80`");
    reader.required(section, "protocol", "`protocol = \"tcp\"` or `\"udp\"`");
    let number = reader.number(section, "port", 1..=u16::MAX.into());
    let protocol = reader.choice(section, "protocol", &TRANSPORTS);
    Some(Port {
        port: u16::try_from(number?).ok()?,
        protocol: protocol?,
    })
}

fn check_name(reader: &mut Reader<'_>, span: Range<usize>, name: &str) {
    if !is_port_name(name) {
        let problem = format!("`{name}` is no name of a port");
        let expected = "1 to 15 of a-z, 0-9 and inner hyphens with a letter among them";
        let tidied = name.to_lowercase().replace('_', "-");
        let hint = is_port_name(&tidied).then(|| format!("write `{tidied}`"));
        reader.mistake_with_hint(span, problem, expected, hint);
    }
}

fn is_port_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=PORT_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(allowed)
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
}

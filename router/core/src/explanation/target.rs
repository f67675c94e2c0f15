//! What can be explained: the way to a name, the way to an address, a flow.

use crate::flow_key::{FlowKey, Protocol};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What an operator wants to have explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The next flow to a name; without a port, to the first that its service declares.
    Name {
        /// In lower case, without the root's dot.
        name: String,
        /// The port, if it was given.
        port: Option<u16>,
        /// The protocol, if it was given.
        protocol: Option<Protocol>,
    },
    /// The next flow to an address and port (0 for echo).
    Address(SocketAddr, Protocol),
    /// This flow, open or not.
    Flow(FlowKey),
}

/// Why a text is no [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing, or too many words.
    #[error("`{0}` is neither NAME[:PORT][/PROTOCOL] nor [PROTOCOL] [FROM] ADDRESS:PORT")]
    Form(String),
    /// A word in the protocol's place.
    #[error("`{0}` is no protocol; it is tcp, udp or echo")]
    Protocol(String),
    /// Not a port number.
    #[error("`{0}` is no port; it is a number from 1 to 65535")]
    Port(String),
    /// An address that needs a port.
    #[error("say which port of {0}: {1}")]
    NoPort(IpAddr, String),
    /// Not `ADDRESS:PORT`.
    #[error("`{0}` is no ADDRESS:PORT; an IPv6 address stands in brackets: [fd00::1]:80")]
    Address(String),
    /// Two families.
    #[error("{0} and {1} are of two families; no packet has both")]
    Families(IpAddr, IpAddr),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let mut words: Vec<&str> = text.split_whitespace().filter(|it| *it != "->").collect();
        let form = || TargetError::Form(text.to_owned());
        let last = words.pop().ok_or_else(form)?;
        let (to, suffix) = match last.rsplit_once('/') {
            Some((to, protocol)) => (to, Some(protocol)),
            None => (last, None),
        };
        let (leading, from) = match words[..] {
            [] => (None, None),
            [only] if only.parse::<Protocol>().is_ok() => (Some(only), None),
            [from] => (None, Some(from)),
            [protocol, from] => (Some(protocol), Some(from)),
            _ => return Err(form()),
        };
        let protocol = match leading.or(suffix) {
            Some(word) => Some(word.parse()?),
            None => None,
        };
        match from {
            Some(from) => flow(from, to, protocol.unwrap_or(Protocol::Tcp)),
            None => destination(to, protocol),
        }
    }
}

impl FromStr for Protocol {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let all = [Protocol::Tcp, Protocol::Udp, Protocol::Echo];
        let named = all.into_iter().find(|it| it.to_string() == text);
        named.ok_or_else(|| TargetError::Protocol(text.to_owned()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Name {
                name,
                port,
                protocol,
            } => {
                f.write_str(name)?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
                protocol.map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
            }
            Target::Address(to, Protocol::Echo) => write!(f, "{}/echo", to.ip()),
            Target::Address(to, protocol) => write!(f, "{to}/{protocol}"),
            Target::Flow(key) => key.fmt(f),
        }
    }
}

fn flow(from: &str, to: &str, protocol: Protocol) -> Result<Target, TargetError> {
    let (source, destination) = (address(from, protocol)?, address(to, protocol)?);
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(TargetError::Families(source.ip(), destination.ip()));
    }
    Ok(Target::Flow(FlowKey {
        source,
        destination,
        protocol,
    }))
}

fn destination(to: &str, protocol: Option<Protocol>) -> Result<Target, TargetError> {
    if to.parse::<IpAddr>().is_ok() || to.parse::<SocketAddr>().is_ok() || to.starts_with('[') {
        let protocol = protocol.unwrap_or(Protocol::Tcp);
        return Ok(Target::Address(address(to, protocol)?, protocol));
    }
    let (name, port) = match to.split_once(':') {
        Some((name, port)) => (name, Some(parse_port(port)?)),
        None => (to, None),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name.is_empty() {
        return Err(TargetError::Form(to.to_owned()));
    }
    Ok(Target::Name {
        name,
        port,
        protocol,
    })
}

/// An address with its port; echo has none.
fn address(text: &str, protocol: Protocol) -> Result<SocketAddr, TargetError> {
    match text.parse::<IpAddr>() {
        Ok(ip) if protocol == Protocol::Echo => Ok(SocketAddr::new(ip, 0)),
        Ok(ip) => Err(TargetError::NoPort(ip, SocketAddr::new(ip, 80).to_string())),
        Err(_) => {
            let parsed = text.parse();
            parsed.map_err(|_| TargetError::Address(text.to_owned()))
        }
    }
}

fn parse_port(text: &str) -> Result<u16, TargetError> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| TargetError::Port(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        let target: Result<Target, _> = text.parse();
        target.map(|it| it.to_string()).map_err(|it| it.to_string())
    }

    #[test]
    fn names_addresses_and_flows_are_told_apart() {
        let cases = [
            ("web.matrix", "web.matrix"),
            ("Web.Matrix.:80", "web.matrix:80"),
            ("web.matrix/udp", "web.matrix/udp"),
            ("udp web.matrix:443", "web.matrix:443/udp"),
            ("100.64.0.2:80", "100.64.0.2:80/tcp"),
            ("[fd00::2]:443/udp", "[fd00::2]:443/udp"),
            ("100.64.0.2/echo", "100.64.0.2/echo"),
            (
                "tcp 100.96.0.1:4000 -> 100.64.0.2:80",
                "tcp 100.96.0.1:4000 -> 100.64.0.2:80",
            ),
            (
                "100.96.0.1:4000 100.64.0.2:80",
                "tcp 100.96.0.1:4000 -> 100.64.0.2:80",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_flow_reads_as_it_prints() {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Echo] {
            let key = FlowKey::new(
                ("fd00::1".parse().unwrap(), 4000),
                ("fd00::2".parse().unwrap(), 0),
                protocol,
            );
            assert_eq!(key.to_string().parse(), Ok(Target::Flow(key)));
        }
    }

    #[test]
    fn what_is_none_of_them_is_refused_with_what_would_be_right() {
        let cases = [
            ("", "neither NAME"),
            ("a b c d", "neither NAME"),
            (":80", "neither NAME"),
            ("web.matrix/tpc", "tcp, udp or echo"),
            ("web.matrix:0", "1 to 65535"),
            ("web.matrix:http", "1 to 65535"),
            ("100.64.0.2", "100.64.0.2:80"),
            ("fd00::2/udp", "[fd00::2]:80"),
            ("[fd00::2", "in brackets"),
            ("1.shopper 100.64.0.2:80", "no ADDRESS:PORT"),
            ("[fd00::1]:1 100.64.0.2:80", "two families"),
        ];
        for (text, expected) in cases {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

//! What must hold of any bytes read as an IP packet: shared by the fuzz target and the corpus's
//! replay.

use margay_core::flow_key::{FlowKey, Protocol};
use margay_core::packet::{IcmpError, Packet, Transport, Unreachable, Upcalled};
use margay_core::packet::{reset, unreachable};
use std::net::{IpAddr, SocketAddr};

/// Reads `bytes` and answers them in every way; panics where an answer breaks a rule. Returns what
/// was read, in words.
pub(crate) fn check(bytes: &[u8]) -> String {
    match Upcalled::parse(bytes) {
        Ok(Upcalled::Packet(packet)) => {
            check_packet(&packet, bytes);
            format!("{} packet", packet.key.protocol)
        }
        Ok(Upcalled::LaterFragment { .. }) => "later fragment".into(),
        Ok(Upcalled::Error(error)) => {
            check_error(&error);
            format!("error about {}", error.about.protocol)
        }
        Err(reason) => reason.name().into(),
    }
}

fn check_packet(packet: &Packet, bytes: &[u8]) {
    let key = packet.key;
    assert_eq!(key.source.is_ipv4(), key.destination.is_ipv4());
    if let Some(answer) = reset(packet) {
        let answer = Packet::parse(&answer).expect("a reset that parses");
        assert_eq!(answer.key, key.reversed());
        assert!(matches!(answer.transport, Transport::Tcp(segment) if segment.rst));
    }
    for why in [
        Unreachable::Prohibited,
        Unreachable::Host,
        Unreachable::Port,
    ] {
        let Some(answer) = unreachable(packet, bytes, why) else {
            continue;
        };
        assert!(answer.len() <= 1280, "{} bytes", answer.len());
        // So many extension headers leave no room for what is behind them.
        if let Ok(Upcalled::Error(error)) = Upcalled::parse(&answer) {
            assert_eq!(
                (error.source, error.about),
                (key.destination.ip(), key),
                "{why:?}"
            );
        }
    }
}

fn check_error(error: &IcmpError<'_>) {
    let wrote = elsewhere(error.about);
    for (about, same) in [(wrote, false), (error.about, true)] {
        let (from, to) = (about.destination.ip(), about.source.ip());
        // Only what is too long for an IP packet already cannot be written again.
        let Some(translated) = error.translate(from, to, about) else {
            continue;
        };
        let Ok(Upcalled::Error(read)) = Upcalled::parse(&translated) else {
            panic!("{error:?} became {translated:02x?}");
        };
        assert_eq!((read.source, read.about), (from, about));
        let again = read.translate(from, to, about);
        assert_eq!(again.as_ref(), Some(&translated), "same: {same}");
    }
}

/// A key of the same kind with other addresses and ports.
fn elsewhere(key: FlowKey) -> FlowKey {
    let other = |socket: SocketAddr| {
        let ip = match socket.ip() {
            IpAddr::V4(ip) => IpAddr::from((!ip.to_bits()).to_be_bytes()),
            IpAddr::V6(ip) => IpAddr::from((!ip.to_bits()).to_be_bytes()),
        };
        // The side of an echo that has no port keeps none.
        let port = match (key.protocol, socket.port()) {
            (Protocol::Echo, 0) => 0,
            (_, port) => (port ^ 0x5a5a).max(1),
        };
        SocketAddr::new(ip, port)
    };
    FlowKey {
        source: other(key.source),
        destination: other(key.destination),
        protocol: key.protocol,
    }
}

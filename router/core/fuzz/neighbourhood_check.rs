//! What must hold of any datagrams that come over the link to a host of the same site: shared by the
//! fuzz target and by the test that damages good ones.

use margay_core::host::{HostId, OriginEpoch};
use margay_core::moment::Moment;
use margay_core::neighbourhood::{
    DATAGRAM_BYTES_MAX, DatagramKind, Neighbour, Neighbourhood, NeighbourhoodConfig,
    NeighbourhoodInput, NeighbourhoodOutput,
};
use margay_core::overlay::{OVERLAY_BYTES_MAX, OverlayCommand};
use margay_core::signature::PrivateKey;
use margay_core::sites::SUMMARY_BYTES_MAX;
use margay_core::way::Path;
use std::net::SocketAddr;
use std::time::Duration;

/// The own host.
pub(crate) const HERE: u8 = 1;
/// A host of the same site that sends hostile bytes.
pub(crate) const HOSTILE: u8 = 2;
/// A host that does not.
const GOOD: u8 = 3;

/// How far apart datagrams of one input come.
const BETWEEN: Duration = Duration::from_millis(30);

fn id(of: u8) -> HostId {
    PrivateKey::from_bytes(&[of; 32]).public()
}

/// A host that knows the two others of its site and has a link to each.
pub(crate) fn host(of: u8) -> Neighbourhood {
    let config = NeighbourhoodConfig {
        key: PrivateKey::from_bytes(&[of; 32]),
        name: "here".parse().expect("a name"),
        site: "paris".parse().expect("a site"),
        epoch: OriginEpoch(1),
        network_key: [7; 32],
        is_operator: of == HOSTILE,
        may_be_gateway: true,
        summary_bytes_max: SUMMARY_BYTES_MAX,
        sponsor: None,
    };
    let now = Moment::ORIGIN;
    let mut here = Neighbourhood::new(config, 1, now);
    for other in [HERE, HOSTILE, GOOD].into_iter().filter(|it| *it != of) {
        let neighbour = Neighbour {
            host: id(other),
            site: "paris".parse().expect("a site"),
            may_be_gateway: true,
            addresses: Vec::new(),
            blocks: vec![
                format!("100.64.{}.0/20", 16 * other)
                    .parse()
                    .expect("a block"),
            ],
            is_operator: other == HOSTILE,
        };
        let address = SocketAddr::from(([192, 0, 2, other], 7_400));
        let path = Path {
            ifindex: 9,
            on_link: true,
            source: address,
            destination: address,
        };
        let up = NeighbourhoodInput::LinkUp {
            host: id(other),
            path,
        };
        here.handle_input(NeighbourhoodInput::Known(neighbour), now);
        here.handle_input(up, now);
    }
    here
}

/// What a host sends to another until `now`, in the order that it is sent.
pub(crate) fn sent(from: &mut Neighbourhood, to: u8, now: Moment) -> Vec<(DatagramKind, Vec<u8>)> {
    let outputs = outputs(from, now);
    let datagrams = outputs.into_iter().filter_map(|output| match output {
        NeighbourhoodOutput::Datagram {
            to: addressee,
            kind,
            bytes,
        } if addressee == id(to) => Some((kind, bytes)),
        _ => None,
    });
    datagrams.collect()
}

/// Lets time pass until `now`; what is wanted, none of it beyond its bounds.
fn outputs(of: &mut Neighbourhood, now: Moment) -> Vec<NeighbourhoodOutput> {
    let mut outputs = Vec::new();
    loop {
        while let Some(output) = of.poll_output() {
            match &output {
                NeighbourhoodOutput::Datagram { bytes, .. } => {
                    assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
                }
                NeighbourhoodOutput::Overlay(
                    OverlayCommand::Publish { bytes, .. }
                    | OverlayCommand::Ask { bytes, .. }
                    | OverlayCommand::Answer { bytes, .. },
                ) => assert!(bytes.len() <= OVERLAY_BYTES_MAX),
                _ => {}
            }
            outputs.push(output);
        }
        match of.poll_timeout().filter(|due| *due <= now) {
            Some(due) => of.handle_timeout(due),
            None => return outputs,
        }
    }
}

/// The datagrams that an input stands for: each its kind, its length in two bytes, and itself.
fn datagrams(mut bytes: &[u8]) -> Vec<(DatagramKind, &[u8])> {
    let mut datagrams = Vec::new();
    while let Some(([kind, high, low], rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (datagram, behind) = rest.split_at(length.min(rest.len()));
        let kinds = DatagramKind::ALL;
        datagrams.push((kinds[usize::from(*kind) % kinds.len()], datagram));
        bytes = behind;
    }
    datagrams
}

/// Writes an input that stands for these datagrams.
#[allow(dead_code, reason = "only the test writes inputs")]
pub(crate) fn input(datagrams: &[(DatagramKind, Vec<u8>)]) -> Vec<u8> {
    let mut input = Vec::new();
    for (kind, bytes) in datagrams {
        let kind = DatagramKind::ALL.iter().position(|it| it == kind);
        input.push(kind.expect("one of all") as u8);
        let length = u16::try_from(bytes.len()).expect("a datagram is short");
        input.extend_from_slice(&length.to_be_bytes());
        input.extend_from_slice(bytes);
    }
    input
}

/// Takes what `bytes` stand for as datagrams of the hostile host; panics where a bound is broken, or
/// where a good host is not held for up any more.
pub(crate) fn check_neighbourhood(bytes: &[u8]) {
    let mut now = Moment::ORIGIN;
    let (mut here, mut good) = (host(HERE), host(GOOD));
    for (kind, datagram) in datagrams(bytes) {
        let heard = NeighbourhoodInput::Datagram {
            from: id(HOSTILE),
            kind,
            bytes: datagram[..datagram.len().min(DATAGRAM_BYTES_MAX)].to_vec(),
        };
        here.handle_input(heard, now);
        outputs(&mut here, now);
        now = now + BETWEEN;
    }
    for _ in 0..100 {
        now = now + BETWEEN;
        let said = sent(&mut here, GOOD, now);
        tell(&mut good, HERE, said, now);
        let said = sent(&mut good, HERE, now);
        tell(&mut here, GOOD, said, now);
        if here.is_up(&id(GOOD)) {
            return;
        }
    }
    panic!("a good host is not heard any more");
}

/// Has a host take what another said.
pub(crate) fn tell(
    host: &mut Neighbourhood,
    from: u8,
    said: Vec<(DatagramKind, Vec<u8>)>,
    now: Moment,
) {
    for (kind, bytes) in said {
        let from = id(from);
        host.handle_input(NeighbourhoodInput::Datagram { from, kind, bytes }, now);
    }
}

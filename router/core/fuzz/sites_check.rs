//! What must hold of any bytes that come from another site: shared by the fuzz target and by the test
//! that damages good messages.

use margay_core::host::OriginEpoch;
use margay_core::moment::Moment;
use margay_core::neighbourhood::{
    DATAGRAM_BYTES_MAX, DatagramKind, Neighbour, Neighbourhood, NeighbourhoodConfig,
    NeighbourhoodInput, NeighbourhoodOutput,
};
use margay_core::overlay::{
    AskedId, OVERLAY_BYTES_MAX, OverlayCommand, OverlayEvent, QuestionId, Topic,
};
use margay_core::peer::PeerInput;
use margay_core::signature::{PrivateKey, Purpose};
use margay_core::sites::SUMMARY_BYTES_MAX;
use margay_core::wire::margay::sites as wire;
use prost::Message;
use std::time::Duration;

/// Which kind of message bytes are, said by the first of them.
pub(crate) const KINDS: u8 = 6;

/// The own host.
const HERE: u8 = 1;
/// A gateway of another site that sends hostile bytes.
const HOSTILE: u8 = 2;

pub(crate) fn key(of: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[of; 32])
}

fn here() -> (Neighbourhood, Moment) {
    let config = NeighbourhoodConfig {
        key: key(HERE),
        name: "here".parse().expect("a name"),
        site: "rack1.paris".parse().expect("a site"),
        sponsor: None,
        epoch: OriginEpoch(1),
        network_key: [7; 32],
        is_operator: false,
        may_be_gateway: true,
        summary_bytes_max: SUMMARY_BYTES_MAX,
    };
    let mut now = Moment::ORIGIN;
    let mut here = Neighbourhood::new(config, 1, now);
    let hostile = Neighbour {
        host: key(HOSTILE).public(),
        site: "rack2.paris".parse().expect("a site"),
        may_be_gateway: true,
        addresses: Vec::new(),
        blocks: vec!["100.64.0.0/20".parse().expect("a block")],
        is_operator: false,
    };
    here.handle_input(NeighbourhoodInput::Known(hostile), now);
    for _ in 0..30 {
        now = now + Duration::from_millis(100);
        outputs(&mut here);
        here.handle_timeout(now);
    }
    outputs(&mut here);
    assert!(here.sites().acting, "nobody else is there");
    (here, now)
}

/// Takes `bytes` as a message of the hostile gateway; panics where a bound is broken, where something is
/// believed that nobody signed, or where nothing is found any more.
pub(crate) fn check_sites(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let (mut here, now) = here();
    let from = key(HOSTILE).public();
    let bytes = bytes.to_vec();
    let heard = |topic: &str, bytes| {
        let topic = Topic(topic.to_owned());
        NeighbourhoodInput::Overlay(OverlayEvent::Heard { topic, from, bytes })
    };
    let input = match kind % KINDS {
        0 => {
            let asked = AskedId(1);
            NeighbourhoodInput::Overlay(OverlayEvent::Asked { from, asked, bytes })
        }
        1 => {
            let question = asks(&mut here, "web", now);
            let answer = Some(bytes);
            NeighbourhoodInput::Overlay(OverlayEvent::Answered { question, answer })
        }
        2 => heard("tier/paris", bytes),
        3 => heard("tier/paris", summary_signed(&bytes)),
        4 => heard("compositions", bytes),
        _ => NeighbourhoodInput::Datagram {
            from,
            kind: DatagramKind::IntroducedFrame,
            bytes,
        },
    };
    here.handle_input(input, now);
    for output in outputs(&mut here) {
        let believed = matches!(output, NeighbourhoodOutput::Peer(PeerInput::Instance(_)));
        assert!(!believed, "an instance that nobody signed");
    }
    asks(&mut here, "mail", now);
}

/// Has the host look for a service until it asks the hostile gateway.
fn asks(here: &mut Neighbourhood, service: &str, now: Moment) -> QuestionId {
    let service = service.parse().expect("a name");
    here.handle_input(NeighbourhoodInput::Seek { service }, now);
    for _ in 0..2 {
        for output in outputs(here) {
            match output {
                NeighbourhoodOutput::Overlay(OverlayCommand::Ask { question, .. }) => {
                    return question;
                }
                NeighbourhoodOutput::Overlay(OverlayCommand::Find { question, .. }) => {
                    let hosts = vec![key(HOSTILE).public()];
                    let found = OverlayEvent::Found { question, hosts };
                    here.handle_input(NeighbourhoodInput::Overlay(found), now);
                }
                _ => {}
            }
        }
    }
    panic!("it does not look for what it needs");
}

fn outputs(here: &mut Neighbourhood) -> Vec<NeighbourhoodOutput> {
    let outputs: Vec<_> = std::iter::from_fn(|| here.poll_output()).collect();
    for output in &outputs {
        match output {
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
    }
    outputs
}

/// A summary, damaged or not, truly signed by the hostile gateway.
fn summary_signed(content: &[u8]) -> Vec<u8> {
    let Ok(summary) = wire::Summary::decode(content) else {
        return content.to_vec();
    };
    let signed = key(HOSTILE).sign(Purpose("summary"), &summary);
    let message = wire::SignedSummary {
        gateway: key(HOSTILE).public().as_bytes().to_vec(),
        signed: signed.encode_to_vec(),
    };
    message.encode_to_vec()
}

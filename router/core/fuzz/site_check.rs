//! What must hold of any bytes that come from another host of the site: shared by the fuzz targets and
//! by the test that damages good messages.

use margay_core::catalog::{
    ANSWER_BYTES_MAX, ASK_BYTES_MAX, Catalog, CatalogConfig, CatalogInput, CatalogLimits,
    CatalogOutput, FLUSH_AFTER, GOSSIP_BYTES_MAX, Key, REPAIR_EVERY, Statement,
};
use margay_core::host::{HostId, OriginEpoch};
use margay_core::membership::{
    DATAGRAM_BYTES_MAX, Membership, MembershipConfig, MembershipInput, MembershipOutput,
};
use margay_core::moment::Moment;
use margay_core::signature::{PrivateKey, Purpose};
use margay_core::wire::margay::catalog::{Answer, Ask, Gossip, SignedComposition};
use margay_core::wire::margay::signed::Signed;
use prost::Message;
use std::collections::BTreeSet;
use std::time::Duration;

/// Which kind of message bytes are, said by the first of them.
pub(crate) const KINDS: u8 = 5;

/// The own host.
const HERE: u8 = 1;
/// A host that sends hostile bytes.
const HOSTILE: u8 = 2;
/// A host that does not.
const GOOD: u8 = 3;
/// An operator.
const OPERATOR: u8 = 4;

pub(crate) fn key(of: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[of; 32])
}

pub(crate) fn catalog(of: u8) -> Catalog {
    let config = CatalogConfig {
        key: key(of),
        epoch: OriginEpoch(1),
        limits: CatalogLimits::default(),
    };
    let mut catalog = Catalog::new(config, 1, Moment::ORIGIN);
    for other in [HERE, HOSTILE, GOOD] {
        let other = key(other).public();
        catalog.handle_input(CatalogInput::Certified(other), Moment::ORIGIN);
    }
    let operators = BTreeSet::from([key(OPERATOR).public()]);
    catalog.handle_input(CatalogInput::Operators(operators), Moment::ORIGIN);
    catalog
}

/// Takes `bytes` as a message that the hostile host sends or signs; panics where a bound is broken, or
/// where a good host is not believed any more.
pub(crate) fn check_catalog(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let from = key(HOSTILE).public();
    let mut here = catalog(HERE);
    here.handle_input(CatalogInput::Up(from), Moment::ORIGIN);
    let now = Moment::ORIGIN + REPAIR_EVERY;
    here.handle_timeout(now);
    let asked = outputs(&mut here)
        .into_iter()
        .find_map(|output| match output {
            CatalogOutput::Ask { bytes, .. } => Some(bytes),
            _ => None,
        });
    let bytes = bytes.to_vec();
    let input = match kind % KINDS {
        0 => CatalogInput::Gossip { bytes },
        1 => CatalogInput::Ask { from, bytes },
        2 => {
            let asked = Ask::decode(asked.expect("it asks").as_slice()).expect("it asks well");
            CatalogInput::Answer {
                from,
                bytes: answering(asked.round, bytes),
            }
        }
        3 => CatalogInput::Gossip {
            bytes: record_signed(bytes),
        },
        _ => CatalogInput::Gossip {
            bytes: composition_signed(bytes),
        },
    };
    here.handle_input(input, now);
    outputs(&mut here);
    good_host_is_believed(&mut here, now);
}

/// The same answer, to the question that was asked.
fn answering(round: u64, bytes: Vec<u8>) -> Vec<u8> {
    match Answer::decode(bytes.as_slice()) {
        Ok(answer) => Answer { round, ..answer }.encode_to_vec(),
        Err(_) => bytes,
    }
}

/// A gossip of one record whose content is `content`, truly signed.
fn record_signed(content: Vec<u8>) -> Vec<u8> {
    let signed = sign(HOSTILE, Purpose("catalog record"), &content);
    let gossip = Gossip {
        version: 1,
        origin: key(HOSTILE).public().as_bytes().to_vec(),
        records: vec![signed.encode_to_vec()],
        ..Gossip::default()
    };
    gossip.encode_to_vec()
}

/// A gossip of one composition whose content is `content`, truly signed.
fn composition_signed(content: Vec<u8>) -> Vec<u8> {
    let signed = sign(OPERATOR, Purpose("composition"), &content);
    let composition = SignedComposition {
        operator: key(OPERATOR).public().as_bytes().to_vec(),
        signed: signed.encode_to_vec(),
    };
    let gossip = Gossip {
        version: 1,
        compositions: vec![composition],
        ..Gossip::default()
    };
    gossip.encode_to_vec()
}

/// Bytes that are signed as they are: a message of no fields of its own but these.
#[derive(Clone, Debug, Default)]
struct Raw(Vec<u8>);

impl Message for Raw {
    fn encode_raw(&self, buf: &mut impl prost::bytes::BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        _tag: u32,
        _wire_type: prost::encoding::WireType,
        _buf: &mut impl prost::bytes::Buf,
        _context: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

fn sign(of: u8, purpose: Purpose, content: &[u8]) -> Signed {
    key(of).sign(purpose, &Raw(content.to_vec()))
}

fn outputs(catalog: &mut Catalog) -> Vec<CatalogOutput> {
    let outputs: Vec<CatalogOutput> = std::iter::from_fn(|| catalog.poll_output()).collect();
    for output in &outputs {
        match output {
            CatalogOutput::Publish { bytes } => assert!(bytes.len() <= GOSSIP_BYTES_MAX),
            CatalogOutput::Ask { bytes, .. } => assert!(bytes.len() <= ASK_BYTES_MAX),
            CatalogOutput::Answer { bytes, .. } => assert!(bytes.len() <= ANSWER_BYTES_MAX),
            _ => {}
        }
    }
    outputs
}

/// What the good host publishes.
pub(crate) fn good_gossip() -> Vec<u8> {
    let mut good = catalog(GOOD);
    let credential = b"good".to_vec();
    let statement = CatalogInput::State(Statement::Host { credential });
    good.handle_input(statement, Moment::ORIGIN);
    good.handle_timeout(Moment::ORIGIN + FLUSH_AFTER);
    let published = outputs(&mut good)
        .into_iter()
        .find_map(|output| match output {
            CatalogOutput::Publish { bytes } => Some(bytes),
            _ => None,
        });
    published.expect("it publishes")
}

fn good_host_is_believed(here: &mut Catalog, now: Moment) {
    let bytes = good_gossip();
    here.handle_input(CatalogInput::Gossip { bytes }, now);
    let said = here.said(&key(GOOD).public(), &Key::Host);
    assert!(said.is_some(), "a good host is not believed");
    let origins = here.origins();
    let bytes: usize = origins.map(|(_, view)| view.bytes).sum();
    assert!(here.bytes() >= bytes);
}

fn member(of: u8) -> HostId {
    key(of).public()
}

/// Takes `bytes` as a datagram of the hostile host; panics where an answer is too long or goes to a
/// stranger, or where time makes something of it that never ends.
pub(crate) fn check_membership(bytes: &[u8]) {
    let mut now = Moment::ORIGIN;
    let config = MembershipConfig {
        host: member(HERE),
        epoch: OriginEpoch(1),
    };
    let mut here = Membership::new(config, 1, now);
    let peers = BTreeSet::from([member(HOSTILE), member(GOOD)]);
    here.handle_input(MembershipInput::Peers(peers.clone()), now);
    let from = member(HOSTILE);
    let bytes = bytes.to_vec();
    here.handle_input(MembershipInput::Datagram { from, bytes }, now);
    for _ in 0..20 {
        while let Some(output) = here.poll_output() {
            if let MembershipOutput::Datagram { to, bytes } = output {
                assert!(peers.contains(&to) && bytes.len() <= DATAGRAM_BYTES_MAX);
            }
        }
        now = here.poll_timeout().expect("it goes on").max(now) + Duration::from_millis(1);
        here.handle_timeout(now);
    }
}

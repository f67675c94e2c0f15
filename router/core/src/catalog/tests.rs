//! Two or three catalogs side by side: what is believed of whom, and what bad input does.

use super::form::{write_body, write_key};
use super::record::{Draft, Sum};
use super::*;
use crate::address::{InstanceAddresses, VirtualIp};
use crate::composition::Composition;
use crate::id::{InstanceId, Version};
use crate::wire::margay::catalog as wire;
use prost::Message;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

mod compositions;
mod records;
mod repairing;

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[number + 1; 32])
}

fn id(number: u8) -> HostId {
    key(number).public()
}

fn at(millis: u64) -> Moment {
    Moment::ORIGIN + Duration::from_millis(millis)
}

/// A catalog of host `number` that believes hosts 0 to 3, all of which are up; host 9 is an operator.
fn catalog(number: u8) -> Catalog {
    let config = CatalogConfig {
        key: key(number),
        epoch: OriginEpoch(1),
        limits: CatalogLimits::default(),
    };
    with(config)
}

fn with(config: CatalogConfig) -> Catalog {
    let mut catalog = Catalog::new(config, 1, at(0));
    for host in 0..4 {
        catalog.handle_input(CatalogInput::Certified(id(host)), at(0));
        catalog.handle_input(CatalogInput::Up(id(host)), at(0));
    }
    let operators = CatalogInput::Operators(BTreeSet::from([id(9)]));
    catalog.handle_input(operators, at(0));
    outputs(&mut catalog);
    catalog
}

fn outputs(catalog: &mut Catalog) -> Vec<CatalogOutput> {
    std::iter::from_fn(|| catalog.poll_output()).collect()
}

/// Says `statements` at `catalog`, and returns what it publishes.
fn publish(catalog: &mut Catalog, statements: Vec<Statement>, now: Moment) -> Vec<Vec<u8>> {
    for statement in statements {
        catalog.handle_input(CatalogInput::State(statement), now);
    }
    flush(catalog, now)
}

/// Publishes everything that waits, however long it takes.
fn flush_all(catalog: &mut Catalog) -> Vec<Vec<u8>> {
    let mut published = Vec::new();
    while let Some(due) = catalog.pending.due() {
        published.extend(flush(catalog, due));
    }
    published
}

fn flush(catalog: &mut Catalog, now: Moment) -> Vec<Vec<u8>> {
    catalog.flush(now + FLUSH_AFTER);
    let published = outputs(catalog)
        .into_iter()
        .filter_map(|output| match output {
            CatalogOutput::Publish { bytes } => Some(bytes),
            _ => None,
        });
    published.collect()
}

fn hear(catalog: &mut Catalog, gossip: &[Vec<u8>], now: Moment) -> Vec<CatalogOutput> {
    for bytes in gossip {
        let bytes = bytes.clone();
        catalog.handle_input(CatalogInput::Gossip { bytes }, now);
    }
    outputs(catalog)
}

/// Lets `asker` ask `host` until it has nothing more, as one round does; returns the answers.
fn repair(asker: &mut Catalog, host: &mut Catalog, now: Moment) -> usize {
    let (of_asker, of_host) = (asker.host, host.host);
    asker.up = BTreeSet::from([of_host]);
    asker.repair.at = now;
    asker.tick(now);
    let mut answers = 0;
    while let Some(bytes) = ask_of(asker) {
        host.handle_input(
            CatalogInput::Ask {
                from: of_asker,
                bytes,
            },
            now,
        );
        let answer = outputs(host).into_iter().find_map(|output| match output {
            CatalogOutput::Answer { bytes, .. } => Some(bytes),
            _ => None,
        });
        let bytes = answer.expect("an answer");
        assert!(bytes.len() <= ANSWER_BYTES_MAX);
        let from = of_host;
        asker.handle_input(CatalogInput::Answer { from, bytes }, now);
        answers += 1;
    }
    answers
}

fn ask_of(catalog: &mut Catalog) -> Option<Vec<u8>> {
    outputs(catalog)
        .into_iter()
        .find_map(|output| match output {
            CatalogOutput::Ask { bytes, .. } => Some(bytes),
            _ => None,
        })
}

fn web(host: u8, number: u64, flows: u32) -> Instance {
    let low = u32::from(host) * 10_000 + u32::try_from(number).unwrap();
    let vip = |base: u32| VirtualIp {
        v4: Ipv4Addr::from_bits(base + low),
        v6: Ipv6Addr::from_bits(u128::from(base) << 64 | u128::from(low)),
    };
    Instance {
        identity: Identity {
            born_at: id(host),
            number: InstanceId(number),
        },
        service: Service {
            composition: "shop".parse().unwrap(),
            automaton: "web".parse().unwrap(),
        },
        ordinal: NonZeroU32::MIN,
        version: Version(1),
        addresses: InstanceAddresses {
            called: vip(0x6440_0000),
            caller: vip(0x6460_0000),
        },
        ports: BTreeMap::new(),
        takes_flows: true,
        weight: 100,
        flows,
        processor: 0,
        generation: Generation(1),
    }
}

fn says(instance: &Instance) -> Statement {
    Statement::Instance(instance.clone())
}

fn shown(catalog: &Catalog) -> Vec<(HostId, u32)> {
    let found = catalog.instances_of(&"web".parse().unwrap());
    found
        .into_iter()
        .map(|(host, it)| (host, it.flows))
        .collect()
}

fn drops(catalog: &Catalog) -> Vec<CatalogDrop> {
    catalog.drops().map(|(reason, _)| reason).collect()
}

/// A record that host `number` signs, whatever it says.
fn record(number: u8, sequence: u64, key_bytes: Vec<u8>, body: Option<Vec<u8>>) -> Vec<u8> {
    let draft = Draft {
        epoch: OriginEpoch(1),
        sequence,
        key: key_bytes,
        body,
    };
    let part = draft.part();
    draft.sign(&key(number), Sum::default().plus(part))
}

fn gossip(origin: HostId, records: Vec<Vec<u8>>) -> Vec<u8> {
    let gossip = wire::Gossip {
        version: 1,
        origin: origin.as_bytes().to_vec(),
        records,
        ..wire::Gossip::default()
    };
    gossip.encode_to_vec()
}

//! How each step of a plan is done.

use super::plan::Step;
use super::world::{Message, World};
use margay_core::address::{InstanceAddresses, VirtualIp};
use margay_core::catalog::{
    Binding, CatalogInput, Generation, GivenBy, Identity, Instance, Key, Service, ServiceVip,
    SignedComposition, Statement,
};
use margay_core::composition::{Composition, Port, Transport};
use margay_core::id::{InstanceId, Version};
use margay_core::name::HostName;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

pub fn apply(world: &mut World, step: Step) {
    let count = world.hosts.len();
    match step {
        Step::Say { host, what } => say(world, host % count, what),
        Step::TakeBack { host, what } => take_back(world, host % count, what),
        Step::Apply { host, withdrawn } => apply_composition(world, host % count, withdrawn),
        Step::Move { from, to, which } => give(world, from % count, to % count, which),
        Step::Crash { host, reboot, back } => {
            let host = host % count;
            world.crash(host, reboot);
            // A majority stays, so that there is a site at all.
            let gone = world.hosts.iter().filter(|it| it.gone).count();
            match back {
                None if gone + 2 < count => world.hosts[host].gone = true,
                back => world.start_in(host, back.unwrap_or(Duration::from_secs(5))),
            }
        }
        Step::CrashAll { reboot } => {
            for host in 0..count {
                world.crash(host, reboot);
                world.start_in(host, Duration::from_millis(100 * (host as u64 + 1)));
            }
        }
        Step::Restore { host } => {
            let host = host % count;
            world.crash(host, false);
            let id = world.hosts[host].id;
            world.truth.restored.insert(id);
            world.hosts[host].restore();
            world.start_in(host, Duration::from_millis(200));
        }
        Step::Flap { host, times } => {
            let host = host % count;
            world.crash(host, false);
            world.start_in(host, Duration::from_secs(3));
            if times > 0 {
                let again = Step::Flap {
                    host,
                    times: times - 1,
                };
                world.later(Duration::from_secs(6), again);
            }
        }
        _ => disturb(world, step),
    }
}

fn disturb(world: &mut World, step: Step) {
    let count = world.hosts.len();
    match step {
        Step::Pause { host, lasts } => world.hosts[host % count].paused_until = world.now + lasts,
        Step::Lie { host, lasts } => world.hosts[host % count].lies_until = world.now + lasts,
        Step::Partition { sides, lasts } => {
            let side = |host: usize| sides >> host & 1;
            let pairs = (0..count).flat_map(|one| (0..count).map(move |other| (one, other)));
            let apart = pairs.filter(|(one, other)| side(*one) != side(*other));
            world.cut(apart.collect(), lasts);
        }
        Step::HalfOpen { from, to, lasts } => {
            world.cut(BTreeSet::from([(from % count, to % count)]), lasts);
        }
        Step::Replay { to, which } => {
            if let Some((from, message)) = world.remembered(which) {
                world.deliver(from, to % count, message);
            }
        }
        Step::Garble { to, which, at } => {
            if let Some((from, message)) = world.remembered(which) {
                world.deliver(from, to % count, garbled(message, at));
            }
        }
        _ => unreachable!("done before"),
    }
}

fn garbled(mut message: Message, at: usize) -> Message {
    let (Message::Membership(bytes)
    | Message::Gossip(bytes)
    | Message::Ask(bytes)
    | Message::Answer(bytes)) = &mut message
    else {
        return message;
    };
    match at % 3 {
        0 => bytes.truncate(at / 3 % (bytes.len() + 1)),
        1 => bytes.extend_from_slice(&[0xff; 16]),
        _ if bytes.is_empty() => {}
        _ => {
            let place = at / 3 % bytes.len();
            bytes[place] ^= 1 << (at % 8);
        }
    }
    message
}

/// Has a host say something, and remembers that it did.
pub fn state(world: &mut World, host: usize, statement: Statement) {
    world.hear(host, &statement);
    world.hosts[host]
        .says
        .insert(statement.key(), statement.clone());
    world.tell(host, CatalogInput::State(statement));
}

/// Has a host take something back.
pub fn withdraw(world: &mut World, host: usize, key: Key) {
    world.hosts[host].says.remove(&key);
    world.tell(host, CatalogInput::TakeBack(key));
}

fn say(world: &mut World, host: usize, what: u32) {
    if world.hosts[host].daemon.is_none() {
        return;
    }
    world.words += 1;
    let word = world.words;
    let running = world.hosts[host].identities();
    match what {
        0 => {
            let vip = vip(word);
            let service = service(word);
            let version = Version(word.into());
            let statement = ServiceVip {
                service,
                vip,
                version,
            };
            state(world, host, Statement::ServiceVip(statement));
        }
        1..7 if !running.is_empty() => {
            let identity = running[what as usize % running.len()];
            let mut changed = world.hosts[host].instance(&identity).unwrap().clone();
            changed.flows = word;
            changed.takes_flows = word.is_multiple_of(2);
            state(world, host, Statement::Instance(changed));
        }
        _ => be_born(world, host, word),
    }
}

/// A new instance, and the binding that goes with it.
pub fn be_born(world: &mut World, host: usize, word: u32) {
    let id = world.hosts[host].id;
    let number = InstanceId(world.hosts[host].next_instance());
    let identity = Identity {
        born_at: id,
        number,
    };
    let generation = Generation(1);
    let holders = BTreeMap::from([(generation, id)]);
    world.truth.holders.insert(identity, holders);
    let binding = Binding {
        identity,
        generation,
        given_by: None,
    };
    state(world, host, Statement::Binding(binding));
    let instance = Instance {
        identity,
        service: service(word),
        version: Version(1),
        addresses: InstanceAddresses {
            called: vip(word),
            caller: vip(word + 1_000_000),
        },
        ports: BTreeMap::from([(
            "http".to_owned(),
            Port {
                port: 80,
                protocol: Transport::Tcp,
            },
        )]),
        takes_flows: true,
        weight: 100,
        flows: word,
        processor: 0,
        ordinal: NonZeroU32::MIN,
        generation,
    };
    state(world, host, Statement::Instance(instance));
}

fn take_back(world: &mut World, host: usize, what: usize) {
    let keys = world.hosts[host].says.keys();
    let keys: Vec<Key> = keys.filter(|key| **key != Key::Host).cloned().collect();
    if world.hosts[host].daemon.is_some() && !keys.is_empty() {
        let key = keys[what % keys.len()].clone();
        // An instance ends with its binding.
        if let Key::Instance(identity) | Key::Binding(identity) = key {
            withdraw(world, host, Key::Instance(identity));
            withdraw(world, host, Key::Binding(identity));
        } else {
            withdraw(world, host, key);
        }
    }
}

fn give(world: &mut World, from: usize, to: usize, which: usize) {
    let both = world.hosts[from].daemon.is_some() && world.hosts[to].daemon.is_some();
    let identities = world.hosts[from].identities();
    if !both || from == to || identities.is_empty() {
        return;
    }
    let identity = identities[which % identities.len()];
    let mut instance = world.hosts[from].instance(&identity).unwrap().clone();
    let generation = Generation(instance.generation.0 + 1);
    let receiver = world.hosts[to].id;
    let given_by = GivenBy::sign(&world.hosts[from].key, &identity, generation, &receiver);
    let holders = world.truth.holders.get_mut(&identity).unwrap();
    holders.insert(generation, receiver);
    withdraw(world, from, Key::Instance(identity));
    withdraw(world, from, Key::Binding(identity));
    let binding = Binding {
        identity,
        generation,
        given_by: Some(given_by),
    };
    state(world, to, Statement::Binding(binding));
    world.words += 1;
    instance.generation = generation;
    instance.flows = world.words;
    state(world, to, Statement::Instance(instance));
}

pub fn apply_composition(world: &mut World, host: usize, withdrawn: bool) {
    if world.hosts[host].daemon.is_none() {
        return;
    }
    let version = Version(1 + world.truth.compositions.len() as u64);
    let text = format!(
        "[composition]\nname = \"shop\"\nversion = {version}\n\n[automaton.web]\ncommand = \
         [\"nginx\"]\nreplicas = {version}\n"
    );
    let composition = Composition::parse(&text).unwrap();
    let at: HostName = "a".parse().unwrap();
    let signed = if withdrawn {
        SignedComposition::withdrawal(&world.operator, &composition.name, version)
    } else {
        SignedComposition::new(&world.operator, &composition, &text, &at)
    };
    let truth = (!withdrawn).then(|| composition.placed_at(&at));
    world.truth.compositions.insert(version, truth);
    world.tell(host, CatalogInput::Apply(Box::new(signed)));
}

fn service(word: u32) -> Service {
    let name = ["web", "store", "queue"][word as usize % 3];
    Service {
        composition: "shop".parse().unwrap(),
        automaton: name.parse().unwrap(),
    }
}

fn vip(number: u32) -> VirtualIp {
    VirtualIp {
        v4: Ipv4Addr::from_bits(0x6440_0000 + number),
        v6: Ipv6Addr::from_bits(0xfd << 120 | u128::from(number)),
    }
}

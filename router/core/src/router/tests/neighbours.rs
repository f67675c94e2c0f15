//! Three hosts of a site: each a Router with its Neighbourhood, and links that lose and delay.

use super::world::{Kind, World, config, packet};
use crate::address::Ipv4Block;
use crate::composition::{Composition, CompositionName, WEIGHT};
use crate::flow_key::FlowKey;
use crate::host::{HostId, OriginEpoch};
use crate::id::InstanceId;
use crate::membership::SILENT_AFTER;
use crate::moment::Moment;
use crate::name::SitePath;
use crate::names::{self, Question, QuestionKind};
use crate::neighbourhood::{
    DATAGRAM_BYTES_MAX, DatagramKind, Neighbour, Neighbourhood, NeighbourhoodConfig,
    NeighbourhoodInput, NeighbourhoodOutput, NotComposed,
};
use crate::packet::Packet;
use crate::peer::{Distance, Known, PeerInput, RemoteInstance};
use crate::port::{Input, Output};
use crate::router::OwnHost;
use crate::signature::PrivateKey;
use crate::sites::SUMMARY_BYTES_MAX;
use crate::way::Path;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const SHOP: &str = r#"
[composition]
name = "shop"
version = 1

[automaton.shopper]
command = ["sleep", "infinity"]
replicas = 3
needs = ["web"]
on = ["a", "b", "c"]

[automaton.web]
command = ["nginx"]
replicas = 3
ports = { http = { port = 80, protocol = "tcp" } }
on = ["a", "b", "c"]

[automaton.store]
command = ["redis-server"]
"#;

/// A death is known within three seconds, and new flows go elsewhere.
const DEATH_KNOWN: Duration = Duration::from_secs(3);

/// How fine time passes.
const STEP: Duration = Duration::from_millis(5);

const NAMES: [&str; 3] = ["a", "b", "c"];
const BLOCKS: [&str; 3] = ["100.64.0.0/20", "100.64.16.0/20", "100.64.32.0/20"];

fn key(host: usize) -> PrivateKey {
    PrivateKey::from_bytes(&[u8::try_from(host).unwrap() + 1; 32])
}

fn id(host: usize) -> HostId {
    key(host).public()
}

fn index(host: HostId) -> usize {
    (0..3).find(|it| id(*it) == host).unwrap()
}

fn block(host: usize) -> Ipv4Block {
    BLOCKS[host].parse().unwrap()
}

fn path(host: usize) -> Path {
    Path {
        ifindex: 9,
        on_link: true,
        source: SocketAddr::from(([192, 0, 2, 9], 4_899)),
        destination: SocketAddr::from(([192, 0, 2, u8::try_from(host).unwrap() + 1], 4_899)),
    }
}

/// Host c is no operator.
fn is_operator(host: usize) -> bool {
    host < 2
}

struct Host {
    world: World,
    /// None while its daemon is dead.
    near: Option<Neighbourhood>,
    kept: BTreeMap<CompositionName, Vec<u8>>,
    told: Vec<Result<String, String>>,
}

enum Message {
    Datagram(DatagramKind, Vec<u8>),
    Frame(Vec<u8>),
    Echo,
    Echoed,
}

/// ```text
///   a ───── b
///    \     /
///     \   /        every link stands from the beginning
///       c
/// ```
struct Site {
    now: Moment,
    hosts: Vec<Host>,
    /// Messages on their way: when they come, from whom, to whom.
    under_way: BTreeMap<(Moment, u64), (usize, usize, Message)>,
    sent: u64,
    random: SmallRng,
    /// How many of a hundred datagrams are lost.
    loss: u32,
}

impl Site {
    fn new(seed: u64, loss: u32) -> Self {
        let hosts = (0..3).map(|host| {
            let mut config = config();
            config.v4_block = block(host);
            config.host = Some(OwnHost {
                id: id(host),
                name: NAMES[host].parse().unwrap(),
            });
            Host {
                world: World::new(config),
                near: None,
                kept: BTreeMap::new(),
                told: Vec::new(),
            }
        });
        let mut site = Site {
            now: Moment::from_nanos(1_000_000_000),
            hosts: hosts.collect(),
            under_way: BTreeMap::new(),
            sent: 0,
            random: SmallRng::seed_from_u64(seed),
            loss,
        };
        (0..3).for_each(|host| site.start(host, 1));
        site
    }

    /// Starts a daemon's neighbourhood, in a life of its own.
    fn start(&mut self, host: usize, epoch: u64) {
        let config = NeighbourhoodConfig {
            key: key(host),
            name: NAMES[host].parse().unwrap(),
            site: SitePath::everywhere(),
            sponsor: None,
            epoch: OriginEpoch(epoch),
            network_key: [7; 32],
            is_operator: is_operator(host),
            may_be_gateway: false,
            summary_bytes_max: SUMMARY_BYTES_MAX,
        };
        let seed = self.random.random();
        self.hosts[host].near = Some(Neighbourhood::new(config, seed, self.now));
        for bytes in self.hosts[host].kept.clone().into_values() {
            self.tell(host, NeighbourhoodInput::Kept { bytes });
        }
        for other in (0..3).filter(|other| *other != host) {
            let neighbour = Neighbour {
                host: id(other),
                site: SitePath::everywhere(),
                may_be_gateway: false,
                addresses: Vec::new(),
                blocks: vec![block(other)],
                is_operator: is_operator(other),
            };
            self.tell(host, NeighbourhoodInput::Known(neighbour));
            let (host_id, path) = (id(other), path(other));
            let input = NeighbourhoodInput::LinkUp {
                host: host_id,
                path,
            };
            self.tell(host, input);
        }
    }

    /// The daemon dies: nothing of it speaks, and its link goes down at the others before long.
    fn kill(&mut self, host: usize) {
        self.hosts[host].near = None;
    }

    /// The daemon starts again, and finds its instances running.
    fn restart(&mut self, host: usize, epoch: u64) {
        self.hosts[host].world.now = self.now;
        self.hosts[host].world.restart();
        self.start(host, epoch);
        self.carry(host);
    }

    fn tell(&mut self, host: usize, input: NeighbourhoodInput) {
        let now = self.now;
        if let Some(near) = &mut self.hosts[host].near {
            near.handle_input(input, now);
        }
        self.carry(host);
    }

    /// Has the operator of a host apply a composition, as a daemon does.
    fn apply(&mut self, host: usize, text: &str) -> Result<String, String> {
        let composition = Composition::parse(text).unwrap();
        let near = self.hosts[host].near.as_ref().unwrap();
        near.check(&composition)
            .map_err(|error| error.to_string())?;
        let outcome = self.hosts[host].world.apply(text)?;
        let text = text.to_owned();
        self.tell(host, NeighbourhoodInput::Composed { composition, text });
        Ok(outcome)
    }

    fn delete(&mut self, host: usize, name: &str) {
        let composition: CompositionName = name.parse().unwrap();
        let deleted = composition.clone();
        let outcome = self.hosts[host].world.ask(|request| Input::Delete {
            request,
            composition: deleted,
        });
        outcome.unwrap();
        self.tell(host, NeighbourhoodInput::Deleted { composition });
    }

    /// Carries out what a host's Router and Neighbourhood want of each other and of the links.
    fn carry(&mut self, host: usize) {
        loop {
            let Host {
                world, near, told, ..
            } = &mut self.hosts[host];
            let mut wanted = false;
            let mut own = Vec::new();
            world.log.retain(|output| match output {
                Output::Instance(instance) => {
                    own.push(NeighbourhoodInput::Own(instance.clone()));
                    false
                }
                Output::InstanceGone { instance } => {
                    let instance = *instance;
                    own.push(NeighbourhoodInput::OwnGone { instance });
                    false
                }
                Output::Told { outcome, .. } => {
                    told.push(outcome.clone());
                    false
                }
                _ => true,
            });
            let mut outputs = Vec::new();
            if let Some(near) = near {
                for input in own {
                    wanted = true;
                    near.handle_input(input, self.now);
                }
                outputs.extend(std::iter::from_fn(|| near.poll_output()));
                near.poll_timeout();
            }
            for (to, frame) in self.hosts[host].world.take_frames() {
                self.send(host, index(to), Message::Frame(frame));
            }
            for output in outputs {
                wanted = true;
                self.carry_out(host, output);
            }
            if !wanted {
                return;
            }
        }
    }

    fn carry_out(&mut self, host: usize, output: NeighbourhoodOutput) {
        let Host { world, kept, .. } = &mut self.hosts[host];
        world.now = self.now;
        match output {
            NeighbourhoodOutput::Datagram { to, kind, bytes } => {
                assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
                self.send(host, index(to), Message::Datagram(kind, bytes));
            }
            NeighbourhoodOutput::Echo { to } => self.send(host, index(to), Message::Echo),
            NeighbourhoodOutput::Peer(input) => world.tell(Input::Peer(input)),
            NeighbourhoodOutput::Apply(composition) => {
                world.tell(Input::Composition(composition.as_ref().clone()));
            }
            NeighbourhoodOutput::Forget(name) => world.tell(Input::CompositionGone(name)),
            NeighbourhoodOutput::Keep { composition, bytes } => {
                kept.insert(composition, bytes);
            }
            NeighbourhoodOutput::Meet { .. }
            | NeighbourhoodOutput::Left
            | NeighbourhoodOutput::Part { .. }
            | NeighbourhoodOutput::Overlay(_) => {}
            NeighbourhoodOutput::Outlived(epoch) => panic!("{epoch} is no later life"),
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        assert_ne!(from, to, "nobody speaks with itself");
        if self.random.random_range(0..100) < self.loss {
            return;
        }
        self.sent += 1;
        let delay = Duration::from_micros(self.random.random_range(100..3_000));
        let place = (self.now + delay, self.sent);
        self.under_way.insert(place, (from, to, message));
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        let sender = id(from);
        match message {
            // The keeper answers whether or not there is a daemon.
            Message::Echo => self.send(to, from, Message::Echoed),
            _ if self.hosts[to].near.is_none() => {}
            Message::Echoed => self.tell(to, NeighbourhoodInput::Echoed { host: sender }),
            Message::Datagram(kind, bytes) => {
                let from = sender;
                self.tell(to, NeighbourhoodInput::Datagram { from, kind, bytes });
            }
            Message::Frame(frame) => {
                let world = &mut self.hosts[to].world;
                world.now = self.now;
                let from = sender;
                world.tell(Input::Peer(PeerInput::Frame { from, frame }));
                self.carry(to);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            for host in 0..3 {
                let now = self.now;
                let Some(near) = &mut self.hosts[host].near else {
                    continue;
                };
                if near.poll_timeout().is_some_and(|due| due <= now) {
                    near.handle_timeout(now);
                }
                let world = &mut self.hosts[host].world;
                let passed = now.since(world.now);
                world.pass(passed);
                self.carry(host);
            }
            while let Some(first) = self.under_way.first_entry()
                && first.key().0 <= self.now
            {
                let (from, to, message) = first.remove();
                self.deliver(from, to, message);
            }
        }
    }

    /// Passes time until it is so; how long that took.
    fn until(&mut self, most: Duration, mut so: impl FnMut(&mut Site) -> bool) -> Duration {
        let began = self.now;
        while !so(self) {
            let passed = self.now.since(began);
            assert!(passed < most, "not within {most:?}");
            self.pass(STEP);
        }
        self.now.since(began)
    }

    /// How many web servers DNS tells a host's shopper of.
    fn answered(&self, host: usize) -> usize {
        let world = &self.hosts[host].world;
        let shopper = format!("{}.shopper", host + 1);
        let Some(shopper) = world.newest(&shopper) else {
            return 0;
        };
        let question = Question {
            name: "web.matrix".into(),
            kind: QuestionKind::A,
        };
        let names = world.router.names_published();
        names::answer(names, shopper, &question, 0).records().len()
    }

    /// Whether every host answers with the web servers of all.
    fn all_answer_with_all(&self) -> bool {
        (0..3).all(|host| self.answered(host) == 3)
    }

    fn knows(&self, host: usize, name: &str) -> bool {
        let compositions = self.hosts[host].world.router.compositions();
        compositions.iter().any(|it| it.name.as_str() == name)
    }

    fn called(&self, host: usize, name: &str) -> IpAddr {
        self.hosts[host].world.called(name)
    }

    /// A new flow of the shopper on host a to an address.
    fn shopper_calls(&mut self, port: u16, to: IpAddr) -> FlowKey {
        let world = &mut self.hosts[0].world;
        world.now = self.now;
        let source = (world.caller("1.shopper"), port);
        let packet = packet(source, to, Kind::Syn(80));
        world.send("1.shopper", &packet);
        self.carry(0);
        Packet::parse(&packet).unwrap().key
    }

    /// Which instance serves a flow of the shopper.
    fn server_of(&self, key: &FlowKey) -> Option<String> {
        let server = self.hosts[0].world.flows.get(key)?.server;
        let plans = self.hosts.iter().flat_map(|host| host.world.plans.values());
        let mut plans = plans.filter(|plan| plan.instance == server);
        plans.next().map(|plan| plan.name.to_string())
    }
}

/// A site in which everyone has heard of the shop.
fn with_the_shop(seed: u64, loss: u32) -> Site {
    let mut site = Site::new(seed, loss);
    site.pass(Duration::from_secs(4));
    site.apply(0, SHOP).unwrap();
    // Of a host that seemed to be gone a few times nobody hears for some seconds.
    site.until(Duration::from_secs(30), |site| site.all_answer_with_all());
    site
}

#[test]
fn what_is_applied_at_one_host_runs_at_all_and_all_answer_with_all() {
    for (seed, loss) in [(1, 0), (2, 10), (3, 30)] {
        let site = with_the_shop(seed, loss);
        let running = |host: &Host| {
            let plans = host.world.plans.values();
            plans
                .map(|plan| plan.name.to_string())
                .collect::<BTreeSet<_>>()
        };
        let expected = [
            vec!["1.shopper", "1.store", "1.web"],
            vec!["2.shopper", "2.web"],
            vec!["3.shopper", "3.web"],
        ];
        for (host, expected) in site.hosts.iter().zip(expected) {
            assert!(running(host).iter().eq(&expected), "seed {seed}");
        }
    }
}

#[test]
fn news_are_known_everywhere_within_a_tenth_of_a_second() {
    let mut site = Site::new(1, 0);
    site.pass(Duration::from_secs(4));
    site.apply(0, SHOP).unwrap();
    let took = site.until(Duration::from_secs(2), |site| site.all_answer_with_all());
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[test]
fn flows_open_between_hosts_by_service_frames() {
    let mut site = with_the_shop(1, 0);
    let to = site.called(1, "2.web");
    let key = site.shopper_calls(4_000, to);
    site.until(Duration::from_secs(1), |site| {
        let hosts = &site.hosts[..2];
        hosts.iter().all(|host| host.world.flows.contains_key(&key))
    });
    assert_eq!(site.server_of(&key).as_deref(), Some("2.web"));
}

#[test]
fn new_flows_go_elsewhere_once_a_daemon_is_dead_and_come_back_with_it() {
    for (seed, loss) in [(1, 0), (2, 10)] {
        let mut site = with_the_shop(seed, loss);
        let to = site.called(1, "2.web");
        let live = site.shopper_calls(4_000, to);
        site.until(Duration::from_secs(8), |site| {
            site.server_of(&live).is_some()
        });

        site.kill(1);
        site.until(DEATH_KNOWN, |site| site.answered(0) == 2);
        let key = site.shopper_calls(4_001, to);
        site.until(Duration::from_secs(8), |site| {
            site.server_of(&key).is_some()
        });
        assert_ne!(site.server_of(&key).as_deref(), Some("2.web"));
        site.pass(2 * SILENT_AFTER);
        assert!(
            site.server_of(&live).is_some(),
            "its keeper answers: live flows go on"
        );

        site.restart(1, 2);
        site.until(Duration::from_secs(10), |site| site.all_answer_with_all());
        // What it said in its earlier life is over by then.
        site.pass(Duration::from_secs(5));
        assert!(site.all_answer_with_all());
        let key = site.shopper_calls(4_002, to);
        site.until(Duration::from_secs(8), |site| {
            site.server_of(&key).is_some()
        });
        assert_eq!(site.server_of(&key).as_deref(), Some("2.web"));
    }
}

#[test]
fn what_was_deleted_never_comes_back() {
    for (seed, loss) in [(1, 0), (2, 10)] {
        let mut site = with_the_shop(seed, loss);
        site.kill(2);
        site.pass(Duration::from_secs(4));
        site.delete(1, "shop");
        site.until(Duration::from_secs(10), |site| !site.knows(0, "shop"));
        // Whoever knows of the deletion starts anew.
        (0..2).for_each(|host| site.kill(host));
        (0..2).for_each(|host| site.restart(host, 2));
        site.pass(Duration::from_secs(4));

        // It still has the shop in its journal, and its operator's word for it.
        site.restart(2, 2);
        assert!(site.knows(2, "shop"));
        let mut revived = false;
        let mut look = |site: &mut Site| {
            revived |= site.knows(0, "shop") || site.knows(1, "shop");
            !site.knows(2, "shop")
        };
        site.until(Duration::from_secs(20), &mut look);
        for _ in 0..100 {
            site.pass(Duration::from_millis(100));
            assert!(look(&mut site), "seed {seed}");
        }
        assert!(!revived, "seed {seed}");
    }
}

#[test]
fn what_was_deleted_is_applied_again_as_a_later_version() {
    let mut site = with_the_shop(1, 0);
    site.delete(1, "shop");
    site.until(Duration::from_secs(2), |site| !site.knows(0, "shop"));
    let again = site.apply(0, SHOP).unwrap_err();
    assert!(again.contains("raise `version` above 1"), "{again}");
    let next = SHOP.replace("version = 1", "version = 2");
    site.apply(0, &next).unwrap();
    site.until(Duration::from_secs(2), |site| site.all_answer_with_all());
}

#[test]
fn only_operators_apply() {
    let mut site = Site::new(1, 0);
    let near = site.hosts[2].near.as_ref().unwrap();
    assert_eq!(near.check_operator(), Err(NotComposed::NotAnOperator));
    assert!(site.apply(2, SHOP).unwrap_err().contains("no operator"));
}

#[test]
fn what_another_host_cannot_apply_is_told_there() {
    let mut site = Site::new(1, 0);
    site.pass(Duration::from_secs(4));
    // Before either hears of the other.
    site.apply(0, SHOP).unwrap();
    site.apply(1, &SHOP.replace("\"shop\"", "\"mall\""))
        .unwrap();
    site.pass(Duration::from_secs(1));
    for (host, other) in [(0, "mall"), (1, "shop")] {
        let told = &site.hosts[host].told;
        let failed = told.iter().find_map(|outcome| outcome.as_ref().err());
        let failed = failed.expect("the failure is told");
        assert!(failed.contains("belongs to composition"), "{failed}");
        assert!(!site.knows(host, other));
    }
}

#[test]
fn the_word_of_a_host_that_is_no_member_any_more_is_forgotten() {
    let mut site = with_the_shop(1, 0);
    let to = site.called(1, "2.web");
    let key = site.shopper_calls(4_000, to);
    site.pass(Duration::from_millis(100));
    assert!(site.server_of(&key).is_some());
    site.tell(0, NeighbourhoodInput::Unknown { host: id(1) });
    site.pass(Duration::from_millis(100));
    assert_eq!((site.answered(0), site.answered(2)), (2, 3));
    assert_eq!(site.server_of(&key), None, "its flows end");
}

#[test]
fn a_host_gives_only_identities_and_addresses_of_its_own_block() {
    let mut site = with_the_shop(1, 0);
    let plan = &site.hosts[1].world.plans[&site.hosts[1].world.id("2.web")];
    let mut forged = RemoteInstance {
        instance: plan.instance,
        host: id(2),
        name: plan.name.clone(),
        composition: plan.composition.clone(),
        version: plan.version,
        addresses: plan.addresses,
        ready: true,
        weight: WEIGHT,
        flows: 0,
        processor: 0,
        distance: Distance::default(),
        via: None,
        known: Known::Flooded,
    };
    let steal = |site: &mut Site, forged: &RemoteInstance| {
        site.tell(2, NeighbourhoodInput::Own(Arc::new(forged.clone())));
        site.pass(Duration::from_millis(200));
        let near = site.hosts[0].near.as_ref().unwrap();
        let mut drops = near.drops();
        drops.any(|(part, reason, _)| (part, reason) == ("neighbourhood", "not_its_own"))
    };
    assert!(!steal(&mut with_the_shop(1, 0), &as_its_own(&site)));
    assert!(steal(&mut site, &forged), "another host's identity");
    let mut site = with_the_shop(1, 0);
    forged.instance = InstanceId(site.hosts[2].world.id("3.web").0 + 1_000);
    assert!(steal(&mut site, &forged), "another identity's addresses");
}

/// What host c may say of its web server, changed a little.
fn as_its_own(site: &Site) -> RemoteInstance {
    let plan = &site.hosts[2].world.plans[&site.hosts[2].world.id("3.web")];
    RemoteInstance {
        instance: plan.instance,
        host: id(2),
        name: plan.name.clone(),
        composition: plan.composition.clone(),
        version: plan.version,
        addresses: plan.addresses,
        ready: false,
        weight: WEIGHT,
        flows: 0,
        processor: 0,
        distance: Distance::default(),
        via: None,
        known: Known::Flooded,
    }
}

#[test]
fn a_host_without_a_link_gets_no_new_flow() {
    let mut site = with_the_shop(1, 0);
    site.tell(0, NeighbourhoodInput::LinkDown { host: id(1) });
    assert_eq!(site.answered(0), 2);
    site.tell(
        0,
        NeighbourhoodInput::LinkUp {
            host: id(1),
            path: path(1),
        },
    );
    assert_eq!(site.answered(0), 3);
}

//! The simulated network: hosts, what is on its way between them, and what was really said.

use super::checks;
use super::host::{Host, is_operator, service};
use super::plan::{HOSTS_A_SITE, Plan, SITES, Step};
use margay_core::composition::{Composition, CompositionName};
use margay_core::host::HostId;
use margay_core::id::Version;
use margay_core::neighbourhood::{DatagramKind, NeighbourhoodInput, NeighbourhoodOutput};
use margay_core::overlay::{AskedId, OverlayEvent, OverlayKey, QuestionId};
use margay_core::peer::{PeerInput, RemoteInstance};
use margay_core::way::Path;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked which connections stand.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub enum Event {
    Datagram(usize, usize, DatagramKind, Vec<u8>),
    Echo(usize, usize),
    Echoed(usize, usize),
    Overlay(usize, OverlayEvent),
    Unanswered(AskedId),
    Start(usize),
    Kill(usize),
    Wake(usize),
    Look,
    Heal,
    Step(Step),
}

pub struct World {
    pub plan: Plan,
    pub now: Duration,
    pub random: SmallRng,
    pub hosts: Vec<Host>,
    events: BTreeMap<(Duration, u64), Event>,
    numbered: u64,
    /// Sites on one side of a border that nothing crosses.
    divided: usize,
    heals_at: Duration,
    calm: bool,
    pub connections: BTreeSet<(usize, usize)>,
    pub links: BTreeSet<(usize, usize)>,
    pub providers: BTreeMap<OverlayKey, BTreeSet<usize>>,
    pub asks: u64,
    pub open_asks: BTreeMap<AskedId, (usize, QuestionId)>,
    pub remembered: Vec<Vec<u8>>,
    /// What each host said of its instance, by the number that each word carries.
    pub said: Vec<BTreeMap<u32, RemoteInstance>>,
    /// The highest word about the composition, and what each host was told last.
    pub composed: Option<(Version, bool)>,
    ranks: Vec<Option<(Version, bool)>>,
    pub fingerprint: u64,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let count = SITES.len() * HOSTS_A_SITE;
        let hosts: Vec<Host> = (0..count).map(|it| Host::new(it, plan.rates[it])).collect();
        let mut world = World {
            now: Duration::ZERO,
            random: SmallRng::seed_from_u64(plan.seed ^ 0x5eed),
            hosts,
            events: BTreeMap::new(),
            numbered: 0,
            divided: 0,
            heals_at: Duration::ZERO,
            calm: false,
            connections: BTreeSet::new(),
            links: BTreeSet::new(),
            providers: BTreeMap::new(),
            asks: 0,
            open_asks: BTreeMap::new(),
            remembered: Vec::new(),
            said: vec![BTreeMap::new(); count],
            composed: None,
            ranks: vec![None; count],
            fingerprint: 0xcbf2_9ce4_8422_2325,
            plan,
        };
        for index in 0..count {
            let at = world
                .random
                .random_range(Duration::ZERO..Duration::from_secs(1));
            world.schedule(at, Event::Start(index));
        }
        world.schedule(Duration::ZERO, Event::Look);
        for (at, step) in world.plan.steps.clone() {
            world.schedule(at, Event::Step(step));
        }
        world
    }

    pub fn composition_name(&self) -> CompositionName {
        "shop".parse().unwrap()
    }

    pub fn run(&mut self, until: Duration) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.handle(event);
        }
        self.now = until;
    }

    /// Ends every disturbance.
    pub fn calm_down(&mut self) {
        (self.calm, self.divided) = (true, 0);
        for index in 0..self.hosts.len() {
            self.hosts[index].lies_until = Duration::ZERO;
            self.start(index);
        }
    }

    /// Seeks what is not found until every host finds everything; panics with what is missing.
    pub fn converge(&mut self, within: Duration) {
        let began = self.now;
        loop {
            let missing = checks::divergence(self);
            if missing.is_empty() {
                return;
            }
            let text = missing.join("\n");
            assert!(self.now - began < within, "not within {within:?}:\n{text}");
            for index in 0..self.hosts.len() {
                for site in (0..SITES.len()).filter(|it| *it != index / HOSTS_A_SITE) {
                    if !checks::finds(self, &self.hosts[index], site) {
                        self.seek(index, site);
                    }
                }
            }
            self.run(self.now + Duration::from_millis(1_000));
        }
    }

    pub fn number(&self, id: &HostId) -> usize {
        self.hosts
            .iter()
            .position(|host| host.id == *id)
            .expect("a host of the network")
    }

    pub fn reach(&self, one: usize, other: usize) -> bool {
        let side = |host: usize| self.divided >> (host / HOSTS_A_SITE) & 1;
        side(one) == side(other)
    }

    pub fn loses(&mut self) -> bool {
        !self.calm && self.random.random_range(0..1_000) < self.plan.loss
    }

    pub fn copies(&mut self) -> usize {
        let twice = !self.calm && self.random.random_range(0..1_000) < self.plan.duplicates;
        1 + usize::from(twice)
    }

    pub fn schedule(&mut self, at: Duration, event: Event) {
        self.numbered += 1;
        self.events.insert((at, self.numbered), event);
    }

    pub fn link(&mut self, (here, there): (usize, usize), up: bool) {
        let host = self.hosts[there].id;
        let path = Path {
            ifindex: 9,
            on_link: true,
            source: SocketAddr::from(([192, 0, 2, 254], 4_899)),
            destination: SocketAddr::from(([192, 0, 2, u8::try_from(there).unwrap() + 1], 4_899)),
        };
        self.tell(
            here,
            match up {
                true => NeighbourhoodInput::LinkUp { host, path },
                false => NeighbourhoodInput::LinkDown { host },
            },
        );
    }

    fn tell(&mut self, index: usize, input: NeighbourhoodInput) {
        let host = &mut self.hosts[index];
        let now = host.shows(self.now);
        if let Some(near) = &mut host.near {
            near.handle_input(input, now);
            self.drain(index);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Datagram(from, to, kind, bytes) if self.reach(from, to) => {
                self.note(to, &bytes);
                let from = self.hosts[from].id;
                self.tell(to, NeighbourhoodInput::Datagram { from, kind, bytes });
            }
            // Its keeper answers.
            Event::Echo(from, to) if self.reach(from, to) => {
                self.schedule(self.now, Event::Echoed(to, from));
            }
            Event::Echoed(from, to) => {
                let host = self.hosts[from].id;
                self.tell(to, NeighbourhoodInput::Echoed { host });
            }
            Event::Datagram(..) | Event::Echo(..) => {}
            Event::Overlay(to, event) => {
                if let OverlayEvent::Heard { bytes, .. } = &event {
                    self.note(to, bytes);
                }
                self.tell(to, NeighbourhoodInput::Overlay(event));
            }
            Event::Unanswered(asked) => self.unanswered(asked),
            Event::Start(index) => self.start(index),
            Event::Kill(index) if !self.calm => self.hosts[index].stop(),
            Event::Wake(index) => self.wake(index),
            Event::Look => {
                self.look_at_connections();
                self.schedule(self.now + LOOK_EVERY, Event::Look);
            }
            Event::Heal if self.now >= self.heals_at => self.divided = 0,
            Event::Step(step) if !self.calm => self.step(step),
            Event::Heal | Event::Kill(_) | Event::Step(_) => {}
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Crash { host, back_after } => self.crash(host, back_after),
            Step::KillGateways { site } => {
                let hosts = self
                    .hosts
                    .iter()
                    .skip(site * HOSTS_A_SITE)
                    .take(HOSTS_A_SITE);
                let acting =
                    hosts.filter(|it| it.near.as_ref().is_some_and(|it| it.sites().acting));
                let acting: Vec<usize> = acting.map(|it| it.number).collect();
                for (place, host) in (1..).zip(acting) {
                    self.schedule(self.now + Duration::from_secs(place), Event::Kill(host));
                    self.schedule(
                        self.now + Duration::from_secs(5 + place),
                        Event::Start(host),
                    );
                }
            }
            Step::Divide { sites, lasts } => {
                self.divided = sites;
                self.heals_at = self.now + lasts;
                self.schedule(self.heals_at, Event::Heal);
            }
            Step::RestartAll => {
                for host in 0..self.hosts.len() {
                    self.crash(host, Duration::from_millis(500));
                }
            }
            Step::Lie { site, lasts } => {
                let hosts = self.hosts.iter_mut().skip(site * HOSTS_A_SITE);
                for host in hosts.take(HOSTS_A_SITE) {
                    host.lies_until = self.now + lasts;
                }
            }
            Step::Toggle { host } => {
                self.hosts[host].serves ^= true;
                self.say(host);
            }
            Step::Compose { host, withdraw } => self.compose(host, withdraw),
            Step::Seek { host, site } if site != host / HOSTS_A_SITE => self.seek(host, site),
            Step::Seek { .. } => {}
        }
    }

    fn crash(&mut self, host: usize, back_after: Duration) {
        self.hosts[host].stop();
        self.schedule(self.now + back_after, Event::Start(host));
    }

    fn start(&mut self, index: usize) {
        if self.hosts[index].near.is_some() {
            return;
        }
        // What others knew of its connections is over.
        self.connections.retain(|(a, b)| *a != index && *b != index);
        self.links.retain(|(a, b)| *a != index && *b != index);
        let seed = self.random.random();
        self.hosts[index].start(seed, self.now);
        self.drain(index);
        for other in (0..self.hosts.len()).filter(|it| *it != index) {
            let neighbour = self.hosts[other].as_neighbour();
            self.tell(index, NeighbourhoodInput::Known(neighbour));
        }
        self.say(index);
    }

    /// Has a host's Router tell of its instance.
    fn say(&mut self, index: usize) {
        self.hosts[index].words += 1;
        let instance = self.hosts[index].instance();
        self.said[index].insert(instance.flows, instance.clone());
        self.tell(index, NeighbourhoodInput::Own(Arc::new(instance)));
    }

    fn seek(&mut self, index: usize, site: usize) {
        let service = service(site);
        self.tell(index, NeighbourhoodInput::Seek { service });
    }

    fn compose(&mut self, index: usize, withdraw: bool) {
        let operator = index - index % (2 * HOSTS_A_SITE);
        assert!(is_operator(operator));
        let name = self.composition_name();
        let Some(near) = &self.hosts[operator].near else {
            return;
        };
        let known = near.catalog().composition_version(&name);
        if let (true, Some((version, false))) = (withdraw, known) {
            self.composed = self.composed.max(Some((version, true)));
            let composition = name;
            self.tell(operator, NeighbourhoodInput::Deleted { composition });
        } else if !withdraw {
            let version = self.composed.map_or(1, |(version, _)| version.0 + 1);
            // Some are longer than a message.
            let rest = "x".repeat(if version.is_multiple_of(3) { 70_000 } else { 1 });
            let text = format!(
                "[composition]\nname = \"shop\"\nversion = {version}\n\
                 [automaton.idle]\ncommand = [\"true\"]\n# {rest}\n"
            );
            let composition = Composition::parse(&text).unwrap();
            self.composed = Some((Version(version), false));
            self.tell(operator, NeighbourhoodInput::Composed { composition, text });
        }
    }

    fn wake(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.wake.is_none_or(|at| at > self.now) {
            return;
        }
        host.wake = None;
        let now = host.shows(self.now);
        if let Some(near) = &mut host.near {
            near.handle_timeout(now);
            self.drain(index);
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.hosts[index]
            .near
            .as_mut()
            .and_then(|it| it.poll_output())
        {
            self.carry_out(index, output);
        }
        let host = &mut self.hosts[index];
        let Some(due) = host.near.as_ref().and_then(|near| near.poll_timeout()) else {
            return;
        };
        let at = host.when(due).max(self.now);
        if host.wake.is_none_or(|wake| at < wake || wake <= self.now) {
            host.wake = Some(at);
            self.schedule(at, Event::Wake(index));
        }
    }

    fn carry_out(&mut self, index: usize, output: NeighbourhoodOutput) {
        match output {
            NeighbourhoodOutput::Datagram { to, kind, bytes } => {
                let to = self.number(&to);
                for _ in 0..self.copies() {
                    if !self.loses() {
                        let delay = self
                            .random
                            .random_range(Duration::ZERO..self.plan.delay_max);
                        let datagram = Event::Datagram(index, to, kind, bytes.clone());
                        self.schedule(self.now + delay, datagram);
                    }
                }
            }
            NeighbourhoodOutput::Echo { to } => {
                let to = self.number(&to);
                self.schedule(self.now, Event::Echo(index, to));
            }
            NeighbourhoodOutput::Meet { host } => {
                let host = self.number(&host);
                assert!(self.hosts[index].met.insert(host), "met twice");
            }
            NeighbourhoodOutput::Part { host } => {
                let host = self.number(&host);
                assert!(self.hosts[index].met.remove(&host), "never met");
            }
            NeighbourhoodOutput::Overlay(command) => self.overlay(index, command),
            NeighbourhoodOutput::Peer(input) => self.router_is_told(index, input),
            NeighbourhoodOutput::Apply(composition) => {
                self.rank(index, (composition.version, false));
            }
            NeighbourhoodOutput::Forget(name) => {
                let near = self.hosts[index].near.as_ref().unwrap();
                let rank = near.catalog().composition_version(&name).unwrap();
                self.rank(index, rank);
            }
            NeighbourhoodOutput::Keep { composition, bytes } => {
                self.hosts[index].kept.insert(composition, bytes);
            }
            NeighbourhoodOutput::Left => panic!("nobody told it to leave"),
            NeighbourhoodOutput::Outlived(epoch) => panic!("{epoch} is no later life"),
        }
    }

    fn rank(&mut self, index: usize, rank: (Version, bool)) {
        let before = self.ranks[index].replace(rank);
        assert!(before <= Some(rank), "{rank:?} came back after {before:?}");
    }

    fn router_is_told(&mut self, index: usize, input: PeerInput) {
        match input {
            PeerInput::Instance(told) => {
                checks::instance(self, index, &told);
                self.hosts[index].told.insert(told.instance, told);
            }
            PeerInput::InstanceGone { instance } => {
                let known = self.hosts[index].told.remove(&instance);
                assert!(known.is_some(), "gone, and never told");
            }
            PeerInput::Sought { service } => drop(self.hosts[index].sought.insert(service)),
            PeerInput::Up { .. }
            | PeerInput::Down { .. }
            | PeerInput::Lost { .. }
            | PeerInput::BusyWanted => {}
            PeerInput::Frame { .. } => panic!("nobody sent a frame"),
        }
    }

    fn note(&mut self, to: usize, bytes: &[u8]) {
        let head = [to as u64, self.now.as_nanos() as u64];
        let head = head.into_iter().flat_map(u64::to_be_bytes);
        for byte in head.chain(bytes.iter().copied().take(64)) {
            self.fingerprint = (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

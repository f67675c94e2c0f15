//! Hosts with links and a network between them, in memory: everything follows from one seed.

use super::super::sealed::Statement;
use super::super::*;
use margay_core::host::OriginEpoch;
use margay_core::signature::PrivateKey;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How a host's core answers introductions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Admit,
    Refuse(&'static str),
    SayNothing,
}

/// One host.
pub(super) struct Host {
    pub link: HostLink,
    pub id: HostId,
    pub key: NoiseKey,
    /// Where it is reached; it sends from the first.
    pub addresses: Vec<SocketAddr>,
    pub policy: Policy,
    /// Behind a NAT only those are let in to whom it sent.
    pub mappings: Option<BTreeSet<SocketAddr>>,
    /// All outputs but datagrams and introductions, in order.
    pub told: Vec<Output>,
    pub introduced: u32,
    pub sent: u32,
}

/// What happens to datagrams on their way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// Of a hundred.
    pub lost: u32,
    /// Of a hundred.
    pub doubled: u32,
    pub delay_max: Duration,
}

impl Faults {
    pub const NONE: Faults = Faults {
        lost: 0,
        doubled: 0,
        delay_max: Duration::from_millis(10),
    };
}

/// All of them.
pub(super) struct Net {
    pub now: Moment,
    pub hosts: Vec<Host>,
    pub faults: Faults,
    /// Nothing gets from one to the other.
    pub cut: BTreeSet<(usize, usize)>,
    /// Every datagram that was sent.
    pub seen: Vec<Datagram>,
    under_way: BTreeMap<(Moment, u64), Datagram>,
    order: u64,
    random: SmallRng,
}

#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

pub(super) fn statement(text: &str) -> Statement {
    Statement::new(text.as_bytes().to_vec()).unwrap()
}

pub(super) fn host_id(number: u8) -> HostId {
    PrivateKey::from_bytes(&[number; 32]).public()
}

/// The address of a host's own: `10.0.0.number:9`.
pub(super) fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 9))
}

pub(super) fn config(number: u8, epoch: u64) -> HostLinkConfig {
    HostLinkConfig {
        private_key: NoisePrivateKey::from_bytes([number + 100; 32]),
        network: NetworkSecret([7; 32]),
        epoch: OriginEpoch(epoch),
        introduction: statement(&format!("host {number}")),
        limits: HostLinkLimits::default(),
    }
}

impl Net {
    /// `count` hosts that know nobody yet.
    pub fn new(count: u8, seed: u64) -> Net {
        let now = Moment::from_nanos(1_000_000_000);
        let mut net = Net {
            now,
            hosts: Vec::new(),
            faults: Faults::NONE,
            cut: BTreeSet::new(),
            seen: Vec::new(),
            under_way: BTreeMap::new(),
            order: 0,
            random: SmallRng::seed_from_u64(seed),
        };
        for number in 0..count {
            net.add(number, config(number, 1));
        }
        net
    }

    pub fn add(&mut self, number: u8, config: HostLinkConfig) {
        let link = HostLink::new(config, self.random.random(), self.now);
        self.hosts.push(Host {
            id: host_id(number),
            key: link.public_key(),
            link,
            addresses: vec![address(number)],
            policy: Policy::Admit,
            mappings: None,
            told: Vec::new(),
            introduced: 0,
            sent: 0,
        });
    }

    /// Host `index` starts anew, with other limits or another epoch.
    pub fn restart(&mut self, index: usize, config: HostLinkConfig) {
        let seed = self.random.random();
        self.hosts[index].link = HostLink::new(config, seed, self.now);
    }

    /// A pair whose first host is told of the second, with the link up.
    pub fn pair(seed: u64) -> Net {
        let mut net = Net::new(2, seed);
        net.introduce_each_other();
        net.run_until("both are up", |net| net.is_up(0, 1) && net.is_up(1, 0));
        net
    }

    /// Every host is told where every other one is.
    pub fn introduce_each_other(&mut self) {
        for one in 0..self.hosts.len() {
            for other in (0..self.hosts.len()).filter(|other| *other != one) {
                self.set_peer(one, other);
            }
        }
    }

    pub fn set_peer(&mut self, one: usize, other: usize) {
        let other = &self.hosts[other];
        let input = Input::SetPeer {
            host: other.id,
            noise_key: other.key,
            addresses: other.addresses.clone(),
        };
        self.tell(one, input);
    }

    pub fn send(&mut self, from: usize, to: usize, payload: &[u8]) {
        let input = Input::Send {
            to: self.hosts[to].id,
            payload: payload.to_vec(),
        };
        self.tell(from, input);
    }

    pub fn tell(&mut self, index: usize, input: Input<'_>) {
        self.hosts[index].link.handle_input(input, self.now);
        self.drain(index);
    }

    /// Lets a datagram arrive, whoever sent it.
    pub fn inject(&mut self, index: usize, from: SocketAddr, bytes: &[u8]) {
        self.tell(
            index,
            Input::Received {
                from,
                datagram: bytes,
            },
        );
    }

    /// Runs until the condition holds; fails after five minutes of the net's time.
    pub fn run_until(&mut self, what: &str, holds: impl Fn(&Net) -> bool) {
        let deadline = self.now + Duration::from_secs(300);
        while !holds(self) {
            assert!(self.step(deadline), "never: {what}");
        }
    }

    pub fn run_for(&mut self, duration: Duration) {
        let deadline = self.now + duration;
        while self.step(deadline) {}
        self.now = deadline;
    }

    /// Does the next thing that happens before the deadline.
    fn step(&mut self, deadline: Moment) -> bool {
        let timers = self.hosts.iter().map(|host| host.link.poll_timeout());
        let timer = timers.flatten().min();
        let arrival = self.under_way.keys().next().map(|(at, _)| *at);
        let Some(next) = timer.into_iter().chain(arrival).min() else {
            return false;
        };
        if next > deadline {
            return false;
        }
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let (_, datagram) = self.under_way.pop_first().unwrap();
            self.arrive(&datagram);
        } else {
            for index in 0..self.hosts.len() {
                let link = &mut self.hosts[index].link;
                if link.poll_timeout().is_some_and(|at| at <= self.now) {
                    link.handle_timeout(self.now);
                    self.drain(index);
                    let again = self.hosts[index].link.poll_timeout();
                    assert!(again.is_none_or(|at| at > self.now), "it spins");
                }
            }
        }
        true
    }

    fn arrive(&mut self, datagram: &Datagram) {
        let holds = |host: &Host| host.addresses.contains(&datagram.to);
        let Some(index) = self.hosts.iter().position(holds) else {
            return;
        };
        let mappings = self.hosts[index].mappings.as_ref();
        if mappings.is_none_or(|mappings| mappings.contains(&datagram.from)) {
            self.inject(index, datagram.from, &datagram.bytes);
        }
    }

    /// Does what a host's link wants done.
    fn drain(&mut self, index: usize) {
        while let Some(output) = self.hosts[index].link.poll_output() {
            match output {
                Output::Transmit { to, datagram } => self.transmit(index, to, datagram),
                Output::Introduced {
                    exchange,
                    noise_key,
                    ..
                } => self.judge(index, exchange, noise_key),
                told => self.hosts[index].told.push(told),
            }
        }
    }

    fn judge(&mut self, index: usize, exchange: ExchangeId, key: NoiseKey) {
        let them = self.hosts.iter().find(|host| host.key == key);
        let them = them.map_or(host_id(99), |host| host.id);
        let host = &mut self.hosts[index];
        host.introduced += 1;
        let input = match host.policy {
            Policy::Admit => Input::Admit {
                exchange,
                host: them,
                answer: statement("welcome"),
            },
            Policy::Refuse(reason) => Input::Refuse {
                exchange,
                reason: reason.to_owned(),
            },
            Policy::SayNothing => return,
        };
        host.link.handle_input(input, self.now);
    }

    fn transmit(&mut self, index: usize, to: SocketAddr, bytes: Vec<u8>) {
        let host = &mut self.hosts[index];
        host.sent += 1;
        if let Some(mappings) = &mut host.mappings {
            mappings.insert(to);
        }
        let datagram = Datagram {
            from: host.addresses[0],
            to,
            bytes,
        };
        self.seen.push(datagram.clone());
        let target = self.hosts.iter().position(|it| it.addresses.contains(&to));
        if target.is_some_and(|target| self.cut.contains(&(index, target))) {
            return;
        }
        let copies = match self.random.random_range(0..100) {
            drawn if drawn < self.faults.lost => 0,
            drawn if drawn >= 100 - self.faults.doubled => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay_max = self.faults.delay_max.as_nanos() as u64;
            let delay = Duration::from_nanos(self.random.random_range(1_000..=delay_max));
            self.order += 1;
            self.under_way
                .insert((self.now + delay, self.order), datagram.clone());
        }
    }

    /// Whether `one` was told that the link to `other` is up, and not since that it is down.
    pub fn is_up(&self, one: usize, other: usize) -> bool {
        let other = self.hosts[other].id;
        let last = self.hosts[one].told.iter().rev().find_map(|it| match it {
            Output::Up { host, .. } if *host == other => Some(true),
            Output::Down { host, .. } if *host == other => Some(false),
            _ => None,
        });
        last.unwrap_or(false)
    }

    /// The payloads that `one` was handed, in order.
    pub fn delivered(&self, one: usize) -> Vec<Vec<u8>> {
        let delivered = self.hosts[one].told.iter().filter_map(|it| match it {
            Output::Deliver { payload, .. } => Some(payload.clone()),
            _ => None,
        });
        delivered.collect()
    }

    pub fn dropped(&self, index: usize, reason: LinkDrop) -> u64 {
        self.hosts[index].link.drops().of(reason)
    }

    /// Why the links of `one` went down, in order.
    pub fn downs(&self, one: usize) -> Vec<DownReason> {
        let downs = self.hosts[one].told.iter().filter_map(|it| match it {
            Output::Down { reason, .. } => Some(*reason),
            _ => None,
        });
        downs.collect()
    }

    pub fn address_of(&self, index: usize) -> SocketAddr {
        self.hosts[index].addresses[0]
    }
}

//! The overlay, modelled: connections that somebody keeps, gossip through them among subscribers,
//! questions that may be lost, and Kademlia as a table that remembers the dead.

use super::lies;
use super::world::{Event, World};
use margay_core::host::HostId;
use margay_core::overlay::{
    AskedId, OVERLAY_BYTES_MAX, OverlayCommand, OverlayEvent, QuestionId, Topic,
};
use rand::Rng;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a question may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How soon Kademlia answers at most.
const FOUND_WITHIN: Duration = Duration::from_millis(100);

impl World {
    pub fn overlay(&mut self, index: usize, command: OverlayCommand) {
        match command {
            OverlayCommand::Admit { .. } | OverlayCommand::Expel { .. } => {}
            OverlayCommand::Keep { host } => {
                let host = self.number(&host);
                assert!(self.hosts[index].keeps.insert(host), "kept twice");
            }
            OverlayCommand::Release { host } => {
                let host = self.number(&host);
                assert!(self.hosts[index].keeps.remove(&host), "not kept");
            }
            OverlayCommand::Subscribe { topic } => {
                assert!(self.hosts[index].topics.insert(topic), "subscribed twice");
            }
            OverlayCommand::Unsubscribe { topic } => {
                assert!(self.hosts[index].topics.remove(&topic), "not subscribed");
            }
            OverlayCommand::Publish { topic, bytes } => self.publish(index, &topic, bytes),
            OverlayCommand::Ask {
                to,
                question,
                bytes,
            } => self.ask(index, to, question, bytes),
            OverlayCommand::Answer { asked, bytes } => self.answer(index, asked, bytes),
            OverlayCommand::ServeKademlia(_) => {}
            OverlayCommand::Provide { key } => {
                self.hosts[index].provides.insert(key);
                self.providers.entry(key).or_default().insert(index);
            }
            OverlayCommand::StopProviding { key } => {
                self.hosts[index].provides.remove(&key);
                self.providers.entry(key).or_default().remove(&index);
            }
            OverlayCommand::Find { key, question } => {
                let providers = self.providers.get(&key).cloned().unwrap_or_default();
                let reached = providers.into_iter().filter(|it| self.reach(index, *it));
                let hosts = reached.map(|it| self.hosts[it].id).collect();
                let delay = self.random.random_range(Duration::ZERO..FOUND_WITHIN);
                let event = OverlayEvent::Found { question, hosts };
                self.schedule(self.now + delay, Event::Overlay(index, event));
            }
        }
    }

    fn publish(&mut self, index: usize, topic: &Topic, bytes: Vec<u8>) {
        assert!(bytes.len() <= OVERLAY_BYTES_MAX);
        let bytes = self.truly(index, bytes);
        let mut reached = BTreeSet::from([index]);
        let mut frontier = vec![(index, self.now)];
        while let Some((from, at)) = frontier.pop() {
            let next = self.connections.iter().filter(|(one, _)| *one == from);
            let next: Vec<usize> = next.map(|(_, other)| *other).collect();
            for to in next {
                if reached.contains(&to) || !self.hosts[to].topics.contains(topic) || self.loses() {
                    continue;
                }
                reached.insert(to);
                let at = at
                    + self
                        .random
                        .random_range(Duration::ZERO..self.plan.delay_max);
                frontier.push((to, at));
                for _ in 0..self.copies() {
                    let event = OverlayEvent::Heard {
                        topic: topic.clone(),
                        from: self.hosts[from].id,
                        bytes: bytes.clone(),
                    };
                    self.schedule(at, Event::Overlay(to, event));
                }
            }
        }
    }

    fn ask(&mut self, index: usize, to: HostId, question: QuestionId, bytes: Vec<u8>) {
        assert!(bytes.len() <= OVERLAY_BYTES_MAX);
        let to = self.number(&to);
        assert_ne!(index, to, "nobody asks itself");
        self.asks += 1;
        let asked = AskedId(self.asks);
        self.open_asks.insert(asked, (index, question));
        let expires = self.now + ANSWERED_WITHIN;
        self.schedule(expires, Event::Unanswered(asked));
        if self.reach(index, to) && !self.loses() {
            let from = self.hosts[index].id;
            let event = OverlayEvent::Asked { from, asked, bytes };
            let delay = self
                .random
                .random_range(Duration::ZERO..self.plan.delay_max);
            self.schedule(self.now + delay, Event::Overlay(to, event));
        }
    }

    fn answer(&mut self, index: usize, asked: AskedId, bytes: Vec<u8>) {
        assert!(bytes.len() <= OVERLAY_BYTES_MAX);
        let bytes = self.truly(index, bytes);
        let Some((to, question)) = self.open_asks.get(&asked).copied() else {
            return;
        };
        if self.reach(index, to) && !self.loses() {
            self.open_asks.remove(&asked);
            let answer = Some(bytes);
            let event = OverlayEvent::Answered { question, answer };
            let delay = self
                .random
                .random_range(Duration::ZERO..self.plan.delay_max);
            self.schedule(self.now + delay, Event::Overlay(to, event));
        }
    }

    pub fn unanswered(&mut self, asked: AskedId) {
        if let Some((index, question)) = self.open_asks.remove(&asked) {
            let answer = None;
            let event = OverlayEvent::Answered { question, answer };
            self.schedule(self.now, Event::Overlay(index, event));
        }
    }

    /// What a host says, unless it lies.
    fn truly(&mut self, index: usize, bytes: Vec<u8>) -> Vec<u8> {
        if self.hosts[index].lies_until > self.now {
            return lies::instead(&bytes, &self.remembered, &mut self.random);
        }
        if self.remembered.len() < 2_000 {
            self.remembered.push(bytes.clone());
        }
        bytes
    }

    /// Connections stand where one of two keeps the other, and links where one meets the other.
    pub fn look_at_connections(&mut self) {
        let pairs = (0..self.hosts.len()).flat_map(|a| (0..self.hosts.len()).map(move |b| (a, b)));
        let wanted = |of: fn(&super::host::Host) -> &BTreeSet<usize>| {
            let stands = |(a, b): &(usize, usize)| {
                let (one, other) = (&self.hosts[*a], &self.hosts[*b]);
                let running = one.near.is_some() && other.near.is_some();
                running && self.reach(*a, *b) && (of(one).contains(b) || of(other).contains(a))
            };
            pairs.clone().filter(stands).collect::<BTreeSet<_>>()
        };
        let (connections, links) = (wanted(|it| &it.keeps), wanted(|it| &it.met));
        let before = std::mem::replace(&mut self.connections, connections.clone());
        for (here, there) in before.difference(&connections) {
            let host = self.hosts[*there].id;
            let event = OverlayEvent::Disconnected { host };
            self.schedule(self.now, Event::Overlay(*here, event));
        }
        for (here, there) in connections.difference(&before) {
            let host = self.hosts[*there].id;
            let event = OverlayEvent::Connected { host };
            self.schedule(self.now, Event::Overlay(*here, event));
        }
        let before = std::mem::replace(&mut self.links, links.clone());
        for pair in before.difference(&links) {
            self.link(*pair, false);
        }
        for pair in links.difference(&before) {
            self.link(*pair, true);
        }
    }
}

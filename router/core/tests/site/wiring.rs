//! What a daemon wants done, done in the simulated site: the wiring of membership, catalog and network.

use super::checks;
use super::host::credential;
use super::world::{Event, Message, World};
use margay_core::catalog::{CatalogInput, CatalogOutput, Change};
use margay_core::membership::{MembershipInput, MembershipOutput};
use margay_core::wire::margay::catalog::Answer;
use prost::Message as _;
use rand::Rng;

impl World {
    /// Does what a host's daemon wants done, and checks what it believes if its catalog was `told`
    /// something.
    pub fn drain(&mut self, index: usize, told: bool) {
        let mut told = self.drain_membership(index) || told;
        while let Some(output) = self.next_output(index) {
            told = true;
            self.do_for_catalog(index, output);
        }
        if told {
            checks::safety(&self.truth, &mut self.hosts[index]);
        }
        let host = &mut self.hosts[index];
        let Some(daemon) = &host.daemon else {
            return;
        };
        let due = [
            daemon.membership.poll_timeout(),
            daemon.catalog.poll_timeout(),
        ];
        let due = due.into_iter().flatten().min().unwrap();
        let at = host.clock.when(due).max(self.now);
        if host.wake.is_none_or(|wake| at < wake || wake <= self.now) {
            host.wake = Some(at);
            self.schedule(at, Event::Wake(index));
        }
    }

    fn next_output(&mut self, index: usize) -> Option<CatalogOutput> {
        let daemon = self.hosts[index].daemon.as_mut()?;
        daemon.catalog.poll_output()
    }

    /// Returns whether the catalog was told who is up or down.
    fn drain_membership(&mut self, index: usize) -> bool {
        let host = &mut self.hosts[index];
        let now = host.clock.shows(self.now);
        let Some(daemon) = &mut host.daemon else {
            return false;
        };
        let mut told = false;
        let mut sent = Vec::new();
        while let Some(output) = daemon.membership.poll_output() {
            match output {
                MembershipOutput::Datagram { to, bytes } => {
                    sent.push((to, Message::Membership(bytes)));
                }
                MembershipOutput::Echo { to } => sent.push((to, Message::Echo)),
                MembershipOutput::Up { host, .. } => {
                    told = true;
                    daemon.catalog.handle_input(CatalogInput::Up(host), now);
                }
                MembershipOutput::Down { host } => {
                    told = true;
                    daemon.catalog.handle_input(CatalogInput::Down(host), now);
                }
                MembershipOutput::Silent { .. } | MembershipOutput::Left => {}
            }
        }
        for (to, message) in sent {
            let to = self.number(&to);
            self.send(index, to, message);
        }
        told
    }

    fn do_for_catalog(&mut self, index: usize, output: CatalogOutput) {
        match output {
            CatalogOutput::Publish { bytes } => {
                for to in (0..self.hosts.len()).filter(|to| *to != index) {
                    self.send(index, to, Message::Gossip(bytes.clone()));
                }
            }
            CatalogOutput::Ask { to, bytes } => {
                let to = self.number(&to);
                self.send(index, to, Message::Ask(bytes));
            }
            CatalogOutput::Answer { to, bytes } => {
                let to = self.number(&to);
                let lies = self.hosts[index].lies_until > self.now;
                let bytes = if lies { self.lie(&bytes) } else { bytes };
                self.send(index, to, Message::Answer(bytes));
            }
            CatalogOutput::Changed(change) => self.keep(index, change),
            CatalogOutput::Introduced {
                host,
                credential: shown,
            } => {
                assert_eq!(
                    shown,
                    credential(&host),
                    "nobody shows a credential but its owner"
                );
                self.tell_quietly(index, CatalogInput::Certified(host));
            }
            CatalogOutput::Outlived(epoch) => {
                let host = &mut self.hosts[index];
                let epoch = host.begin_life(host.epoch().max(epoch));
                let now = host.clock.shows(self.now);
                if let Some(daemon) = &mut host.daemon {
                    daemon
                        .membership
                        .handle_input(MembershipInput::Epoch(epoch), now);
                }
                let _ = self.drain_membership(index);
                self.tell_quietly(index, CatalogInput::Epoch(epoch));
            }
        }
    }

    fn tell_quietly(&mut self, index: usize, input: CatalogInput) {
        let host = &mut self.hosts[index];
        let now = host.clock.shows(self.now);
        if let Some(daemon) = &mut host.daemon {
            daemon.catalog.handle_input(input, now);
        }
    }

    /// Compositions are durable.
    fn keep(&mut self, index: usize, change: Change) {
        let host = &mut self.hosts[index];
        if let (Change::Composition(name), Some(daemon)) = (change, &host.daemon) {
            let signed = daemon.catalog.signed_composition(&name).unwrap();
            host.compositions
                .insert(name.to_string(), signed.to_bytes());
        }
    }

    /// Leaves records out of an answer, and says that nothing was left out.
    fn lie(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Answer::decode(bytes).unwrap();
        for section in &mut answer.sections {
            section.records.retain(|_| self.random.random());
            section.through = section.complete;
        }
        answer.encode_to_vec()
    }
}

//! Two hosts: two Routers, the frames between them, and the packets that their kernels send each other.

use super::hosts::{config_of, host, path, remotes};
use super::world::{Kind, World, packet};
use crate::flow_key::FlowKey;
use crate::flow_table::FlowLimits;
use crate::packet::Packet;
use crate::peer::{PeerInput, RemoteInstance};
use crate::port::Input;
use crate::service_frame::{Accept, FrameKind, ServiceFrame};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A shopper on host a, who calls two web servers on host b and one on host a, and a store on b.
pub(super) const SHOP: &str = r#"
[composition]
name = "shop"
version = 1

[automaton.shopper]
command = ["sleep", "infinity"]
needs = ["web", "store"]
on = ["a"]

[automaton.web]
command = ["nginx"]
replicas = 3
ports = { http = { port = 80, protocol = "tcp" } }
on = ["b", "b", "a"]

[automaton.store]
command = ["redis-server"]
ports = { redis = { port = 6379, protocol = "udp" } }
on = ["b"]

[automaton.stranger]
command = ["sleep", "infinity"]
on = ["a"]
"#;

fn world(name: char, block: &str, limits: Option<FlowLimits>) -> World {
    let mut config = config_of(name, block);
    config.flow_limits = limits.unwrap_or(config.flow_limits);
    World::new(config)
}

/// ```text
///   host a: shopper, 3.web, stranger  ────  host b: 1.web, 2.web, store
/// ```
pub(super) struct Two {
    pub(super) a: World,
    pub(super) b: World,
    /// Which of the next frames are lost.
    pub(super) lost: VecDeque<bool>,
    /// What becomes of the answers of host b on their way.
    change: fn(&mut Accept),
}

impl Two {
    pub(super) fn with_the_shop() -> Self {
        Two::with_limits(|_| None)
    }

    /// The same, with limits of its own for each host.
    pub(super) fn with_limits(limits: impl Fn(char) -> Option<FlowLimits>) -> Self {
        let mut two = Two {
            a: world('a', "100.64.0.0/20", limits('a')),
            b: world('b', "100.64.16.0/20", limits('b')),
            lost: VecDeque::new(),
            change: |_| {},
        };
        for world in [&mut two.a, &mut two.b] {
            world.apply(SHOP).unwrap();
        }
        two.meet();
        two
    }

    /// Has host b accept flows otherwise.
    pub(super) fn accepts_as(&mut self, change: fn(&mut Accept)) {
        self.change = change;
    }

    /// What a host tells of one of its instances.
    pub(super) fn remote(&self, name: char, instance: &str) -> RemoteInstance {
        let world = if name == 'a' { &self.a } else { &self.b };
        let id = world.id(instance);
        let mut told = remotes(world, name);
        told.find(|remote| remote.instance == id).unwrap()
    }

    /// Each hears that the other is up, and what runs there.
    pub(super) fn meet(&mut self) {
        let path = path();
        let of_b: Vec<_> = remotes(&self.b, 'b').collect();
        let of_a: Vec<_> = remotes(&self.a, 'a').collect();
        for (world, other, remotes) in [(&mut self.a, 'b', of_b), (&mut self.b, 'a', of_a)] {
            let up = PeerInput::Up {
                host: host(other),
                path,
            };
            world.tell(Input::Peer(up));
            for remote in remotes {
                world.tell(Input::Peer(PeerInput::Instance(Arc::new(remote))));
            }
        }
    }

    /// Carries packets and frames to and fro until there are none, or frames are lost.
    pub(super) fn talk(&mut self) {
        loop {
            self.cross();
            let (from_a, from_b) = (self.a.take_frames(), self.b.take_frames());
            if from_a.is_empty() && from_b.is_empty() {
                return;
            }
            for (sender, world, frames) in [('a', &mut self.b, from_a), ('b', &mut self.a, from_b)]
            {
                for (to, frame) in frames {
                    assert_ne!(to, host(sender), "nobody speaks with itself");
                    if self.lost.pop_front() != Some(true) {
                        let from = host(sender);
                        let frame = changed(&frame, self.change);
                        world.tell(Input::Peer(PeerInput::Frame { from, frame }));
                    }
                }
            }
        }
    }

    /// Carries the packets that the kernels sent each other.
    fn cross(&mut self) {
        let of_a = std::mem::take(&mut self.a.crossing);
        let of_b = std::mem::take(&mut self.b.crossing);
        for (sender, world, packets) in [('a', &mut self.b, of_a), ('b', &mut self.a, of_b)] {
            let from = world.location_of(host(sender));
            for (_, packet) in packets {
                world.receive(from, &packet);
            }
        }
    }

    pub(super) fn pass(&mut self, duration: Duration) {
        self.a.pass(duration);
        self.b.pass(duration);
    }

    /// The shopper's first packet to an instance or to whoever holds `to`.
    pub(super) fn shopper_calls(&mut self, port: u16, to: IpAddr, kind: Kind) -> FlowKey {
        let source = (self.a.caller("1.shopper"), port);
        let packet = packet(source, to, kind);
        self.a.send("1.shopper", &packet);
        Packet::parse(&packet).unwrap().key
    }
}

/// A frame whose acceptance, if it is one, is as `change` makes it.
fn changed(frame: &[u8], change: fn(&mut Accept)) -> Vec<u8> {
    let mut frame = ServiceFrame::decode(frame).unwrap();
    if let FrameKind::Accept(accept) = &mut frame.kind {
        change(accept);
    }
    frame.encode()
}

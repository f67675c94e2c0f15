//! Flows to hosts of other sites: first packets through gateways, links that come later or never.

use super::hosts::{self, config_of, host, path};
use super::world::{Kind, World, packet};
use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use crate::packet::{Packet, Transport};
use crate::peer::{Distance, Known, PeerInput, RemoteInstance};
use crate::port::{Input, Output};
use crate::way::Way;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A shopper on host a; web servers and a store on host b, and one web server on host c.
const SHOP: &str = r#"
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
on = ["b", "b", "c"]

[automaton.store]
command = ["redis-server"]
ports = { redis = { port = 6379, protocol = "udp" } }
on = ["b"]
"#;

const HOSTS: [char; 6] = ['a', 'b', 'c', 'g', 'h', 'i'];

/// ```text
///          ┌── g ──┐
///   a ─────┤       ├── h ──── b: 1.web, 2.web, store
///          └── i ──┘
///   c: 3.web, of a's site, if a hears of it
/// ```
/// Host a and host b have no link at first.
pub(super) struct Far {
    worlds: BTreeMap<char, World>,
    links: BTreeSet<(char, char)>,
}

impl Far {
    pub(super) fn with_the_shop() -> Self {
        let worlds = HOSTS.iter().zip(0..).map(|(name, block)| {
            let block = format!("100.64.{}.0/20", 16 * block);
            let mut world = World::new(config_of(*name, &block));
            world.apply(SHOP).unwrap();
            (*name, world)
        });
        let mut far = Far {
            worlds: worlds.collect(),
            links: BTreeSet::new(),
        };
        for (one, other) in [('a', 'g'), ('a', 'i'), ('g', 'h'), ('i', 'h'), ('h', 'b')] {
            far.link(one, other);
        }
        far.tell('h', 'b', |_| None);
        far.tell('g', 'a', |_| None);
        far.tell('i', 'a', |_| None);
        for gateway in ['g', 'i'] {
            far.tell(gateway, 'b', |_| Some(('h', Known::LookedUp)));
        }
        far.tell('h', 'a', |_| Some(('g', Known::Called)));
        far.tell('b', 'a', |_| Some(('h', Known::Called)));
        far
    }

    /// The same, where a has found all that runs on b: 2.web by way of i, the rest by way of g.
    fn found() -> Self {
        let mut far = Far::with_the_shop();
        far.tell('a', 'b', |name| {
            let via = if name == "2.web" { 'i' } else { 'g' };
            Some((via, Known::LookedUp))
        });
        far
    }

    pub(super) fn at(&mut self, name: char) -> &mut World {
        self.worlds.get_mut(&name).unwrap()
    }

    fn link(&mut self, one: char, other: char) {
        for (here, there) in [(one, other), (other, one)] {
            self.links.insert((here, there));
            let (host, path) = (host(there), path());
            let up = PeerInput::Up { host, path };
            self.at(here).tell(Input::Peer(up));
        }
    }

    fn cut(&mut self, one: char, other: char) {
        for (here, there) in [(one, other), (other, one)] {
            self.links.remove(&(here, there));
            let host = host(there);
            self.at(here).tell(Input::Peer(PeerInput::Down { host }));
        }
    }

    /// Tells a host what runs on another; `via` says who led there, if it is of another site.
    pub(super) fn tell(&mut self, to: char, of: char, via: impl Fn(&str) -> Option<(char, Known)>) {
        for remote in self.remotes(of, via) {
            self.at(to)
                .tell(Input::Peer(PeerInput::Instance(Arc::new(remote))));
        }
    }

    fn remotes(
        &self,
        of: char,
        via: impl Fn(&str) -> Option<(char, Known)>,
    ) -> Vec<RemoteInstance> {
        let remotes = hosts::remotes(&self.worlds[&of], of).map(|remote| {
            let far = via(&remote.name.to_string());
            RemoteInstance {
                distance: Distance(u8::from(far.is_some())),
                via: far.map(|(via, _)| host(via)),
                known: far.map_or(Known::Flooded, |(_, known)| known),
                ..remote
            }
        });
        remotes.collect()
    }

    /// Carries frames over links until there are none.
    fn talk(&mut self) {
        while self.step() {}
    }

    /// Carries the frames that were sent so far; tells whether there were any.
    fn step(&mut self) -> bool {
        let sent = HOSTS.map(|name| (name, self.at(name).take_frames()));
        let mut any = false;
        for (name, frames) in sent {
            for (to, frame) in frames {
                any = true;
                let to = HOSTS.into_iter().find(|it| host(*it) == to).unwrap();
                assert!(self.links.contains(&(name, to)), "{name} cannot reach {to}");
                let from = host(name);
                self.at(to)
                    .tell(Input::Peer(PeerInput::Frame { from, frame }));
            }
        }
        any
    }

    fn pass(&mut self, duration: Duration) {
        for world in self.worlds.values_mut() {
            world.pass(duration);
        }
    }

    /// The shopper's first packet to an instance on `of`.
    fn shopper_calls(&mut self, (of, name): (char, &str), kind: Kind) -> FlowKey {
        let to = self.at(of).called(name);
        let packet = packet((self.at('a').caller("1.shopper"), 4_000), to, kind);
        self.at('a').send("1.shopper", &packet);
        Packet::parse(&packet).unwrap().key
    }

    /// The host that serves the only flow that a has open.
    fn server(&mut self) -> String {
        let servers: Vec<_> = self.at('a').flows.values().map(|it| it.server).collect();
        let [server] = servers[..] else {
            panic!("one flow, not {servers:?}");
        };
        let plans = self.worlds.values().flat_map(|world| world.plans.values());
        let mut plans = plans.filter(|plan| plan.instance == server);
        plans.next().unwrap().name.to_string()
    }

    fn names(&mut self) -> Vec<String> {
        use crate::names::{Answer, Question, QuestionKind, answer};
        let shopper = self.at('a').id("1.shopper");
        let snapshot = self.at('a').router.names_published().clone();
        let question = Question {
            name: "web.matrix".to_owned(),
            kind: QuestionKind::A,
        };
        let Answer::V4(addrs) = answer(&snapshot, shopper, &question, 1) else {
            return Vec::new();
        };
        let names = addrs.into_iter().map(|addr| {
            let plans = self.worlds.values().flat_map(|world| world.plans.values());
            let mut held = plans.filter(|plan| plan.addresses.called.v4 == addr);
            held.next().unwrap().name.to_string()
        });
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

#[test]
fn first_packet_goes_through_two_gateways_and_the_rest_direct_once_the_link_stands() {
    let mut far = Far::found();
    let key = far.shopper_calls(('b', "1.web"), Kind::Syn(80));
    far.talk();
    assert!(far.at('a').flows.is_empty(), "no link stands yet");
    let [syn] = far.at('b').injected()[..] else {
        panic!("the server reads one packet");
    };
    assert_eq!(Packet::parse(syn).unwrap().key, key);

    far.link('a', 'b');
    far.talk();

    let here = far.at('a').flows[&key].clone();
    assert!(matches!(
        far.at('a').locations[&here.forward.location],
        Way::Peer(_)
    ));
    let there = far.at('b').flows[&key].clone();
    assert_eq!((here.client, here.server), (there.client, there.server));
    assert!(matches!(
        far.at('b').locations[&there.reverse.location],
        Way::Peer(_)
    ));
    let hops = |far: &mut Far, name| far.at(name).router.flows()[0].hops;
    assert_eq!((hops(&mut far, 'a'), hops(&mut far, 'b')), (2, 2));
    let counted = HOSTS.map(|name| far.at(name).router.requests());
    let sent = counted.map(|it| {
        (
            it.requests_sent,
            it.requests_passed_on,
            it.requests_accepted,
        )
    });
    let expected = [
        (1, 0, 0),
        (0, 0, 1),
        (0, 0, 0),
        (0, 1, 0),
        (0, 1, 0),
        (0, 0, 0),
    ];
    assert_eq!(sent, expected, "of {HOSTS:?}");
}

#[test]
fn link_that_comes_before_the_answer_is_used_by_it() {
    let mut far = Far::found();
    let key = far.shopper_calls(('b', "1.web"), Kind::Syn(80));
    assert!(far.step() && far.step(), "the request is on its way");

    far.link('a', 'b');
    far.talk();

    assert!(far.at('a').flows.contains_key(&key));
    assert!(far.at('b').flows.contains_key(&key));
}

#[test]
fn where_a_link_stood_once_first_packets_take_the_gateways_again() {
    let mut far = Far::found();
    far.link('a', 'b');
    far.cut('a', 'b');
    let key = far.shopper_calls(('b', "1.web"), Kind::Syn(80));
    far.talk();
    far.link('a', 'b');
    far.talk();
    assert!(far.at('a').flows.contains_key(&key) && far.at('b').flows.contains_key(&key));
    assert_eq!(far.at('a').router.flows()[0].hops, 2);
}

#[test]
fn where_a_link_stands_first_packets_take_it() {
    let mut far = Far::found();
    far.link('a', 'b');
    let key = far.shopper_calls(('b', "1.web"), Kind::Syn(80));
    far.talk();
    assert!(far.at('b').flows.contains_key(&key));
    assert_eq!(far.at('g').router.requests().requests_passed_on, 0);
    assert_eq!(far.at('a').router.flows()[0].hops, 0);
}

#[test]
fn replies_that_come_before_the_link_are_delivered_in_order_when_it_stands() {
    let mut far = Far::found();
    let key = far.shopper_calls(('b', "1.store"), Kind::Udp(6_379));
    far.talk();
    let source = (far.at('b').called("1.store"), 6_379);
    for number in 0..2 {
        let mut reply = packet(source, key.source.ip(), Kind::Udp(4_000));
        *reply.last_mut().unwrap() = number;
        far.at('b').send("1.store", &reply);
        far.talk();
    }
    assert!(far.at('a').injected().is_empty());

    far.link('a', 'b');
    far.talk();

    let read = far.at('a').injected();
    let read: Vec<_> = read.iter().map(|packet| *packet.last().unwrap()).collect();
    assert_eq!(read, [0, 1]);
}

#[test]
fn client_is_told_when_no_link_comes_up() {
    let mut far = Far::found();
    far.shopper_calls(('b', "1.web"), Kind::Syn(80));
    far.talk();

    far.pass(Duration::from_millis(2_900));
    far.talk();
    assert!(far.at('a').injected().is_empty(), "it may still come");
    far.pass(Duration::from_millis(200));

    assert_eq!(far.at('a').counted(DropReason::NoLink), 1);
    let reset = Packet::parse(far.at('a').injected()[0]).unwrap();
    assert!(matches!(reset.transport, Transport::Tcp(segment) if segment.rst));
    far.pass(Duration::from_secs(9));
    assert_eq!(
        far.at('b').router.flows().len(),
        0,
        "nobody acknowledged it"
    );
}

#[test]
fn gateway_that_dies_has_its_flows_decided_anew_by_way_of_another() {
    let mut far = Far::found();
    far.shopper_calls(('b', "1.web"), Kind::Syn(80));
    assert!(far.step(), "g has it");
    far.cut('a', 'g');
    far.at('g').take_frames();

    far.talk();
    far.link('a', 'b');
    far.talk();

    assert_eq!(
        far.server(),
        "1.web",
        "the called one: i knows a way there, too"
    );
    assert_eq!(far.at('i').router.requests().requests_passed_on, 1);
}

#[test]
fn gateway_is_not_needed_any_more_once_the_flow_is_accepted() {
    let mut far = Far::found();
    let key = far.shopper_calls(('b', "1.web"), Kind::Syn(80));
    far.talk();
    far.cut('a', 'g');
    far.link('a', 'b');
    far.talk();
    assert_eq!(far.server(), "1.web");
    assert!(far.at('b').flows.contains_key(&key));
}

#[test]
fn what_no_router_leads_to_is_refused_unless_a_search_finds_another() {
    let mut far = Far::found();
    far.cut('a', 'g');
    far.cut('a', 'i');
    far.shopper_calls(('b', "1.store"), Kind::Udp(6_379));
    far.at('a').tell(Input::Peer(PeerInput::Sought {
        service: "store".parse().unwrap(),
    }));
    assert_eq!(far.at('a').counted(DropReason::NoInstance), 1);
    assert_eq!(far.names(), Vec::<String>::new());
    assert_eq!(far.at('a').router.requests().requests_sent, 0);
}

#[test]
fn gateway_without_a_way_on_says_so() {
    let mut far = Far::found();
    far.cut('g', 'h');
    far.shopper_calls(('b', "1.store"), Kind::Udp(6_379));
    far.talk();
    assert_eq!(far.at('g').counted(DropReason::NoInstance), 1);
    assert_eq!(far.at('g').router.requests().requests_rejected, 1);
    assert_eq!(far.at('a').counted(DropReason::NoInstance), 1);
}

#[test]
fn near_instances_take_all_flows_while_one_of_them_takes_any() {
    let mut far = Far::found();
    assert_eq!(far.names(), ["1.web", "2.web"], "none is near");

    far.link('a', 'c');
    far.tell('a', 'c', |_| None);
    assert_eq!(far.names(), ["3.web"]);

    far.cut('a', 'c');
    assert_eq!(far.names(), ["1.web", "2.web"], "the near one is gone");
    far.link('a', 'c');
    assert_eq!(far.names(), ["3.web"], "and back");
}

#[test]
fn who_called_a_near_instance_that_is_gone_goes_far_and_who_calls_later_near_again() {
    let mut far = Far::found();
    far.link('a', 'b');
    far.link('a', 'c');
    far.tell('c', 'a', |_| None);
    far.tell('a', 'c', |_| None);
    far.cut('a', 'c');
    far.shopper_calls(('c', "3.web"), Kind::Syn(80));
    far.talk();
    assert!(["1.web", "2.web"].contains(&&*far.server()));

    far.link('a', 'c');
    let source = (far.at('a').caller("1.shopper"), 4_001);
    let syn = packet(source, far.at('c').called("3.web"), Kind::Syn(80));
    far.at('a').send("1.shopper", &syn);
    far.talk();
    let key = Packet::parse(&syn).unwrap().key;
    let third = far.at('c').id("3.web");
    assert_eq!(far.at('a').flows[&key].server, third);
}

#[test]
fn what_is_found_has_a_place_before_its_host_is_reached() {
    let far = Far::found();
    let placed = far.worlds[&'a'].log.iter().any(|output| {
        matches!(output, Output::Record(crate::port::Record::PeerLocation(peer))
            if peer.host == host('b'))
    });
    assert!(placed, "its cell is durable before a flow names it");
}

#[test]
fn kernel_decides_among_near_instances_and_asks_again_when_they_are_gone() {
    let shop = SHOP.replace("on = [\"b\", \"b\", \"c\"]", "on = [\"a\", \"b\", \"b\"]");
    let shop = shop.replace("version = 1", "version = 2");
    let mut far = Far::with_the_shop();
    for name in ['a', 'b'] {
        far.at(name).apply(&shop).unwrap();
    }
    far.tell('a', 'b', |_| Some(('g', Known::LookedUp)));
    let near = far.at('a').newest("1.web").unwrap();
    let named = far.names();
    assert_eq!(named, ["1.web"], "near first, in DNS");
    far.at('a').log.clear();

    let to = far.at('a').called("1.web");
    let server = far.at('a').call("1.shopper", 4_000, to, Kind::Syn(80));
    assert_eq!(server.as_deref(), Some("1.web"));
    let rings = far.at('a').log.iter().filter_map(|output| match output {
        Output::OpenAggregate(aggregate) => Some(aggregate.ring.len()),
        _ => None,
    });
    assert_eq!(rings.collect::<Vec<_>>(), [1], "near first, in the kernel");

    far.at('a').log.clear();
    far.at('a').tell(Input::ProcessExited {
        instance: near,
        status: "exit 1".into(),
        restart_after: Some(Duration::from_secs(1)),
    });
    let ended = far.at('a').log.iter();
    let ended = ended.filter(|output| matches!(output, Output::SetEpoch { .. }));
    assert_eq!(ended.count(), 1, "the kernel asks again");
    assert!(!far.names().contains(&"1.web".to_owned()));
}

//! Whatever is asked, reported, lost or late, in whatever order: the Router stays sound.

use super::SHOP;
use super::world::{Kind, World, config, packet};
use crate::composition::{Answering, Balance, Composition};
use crate::flow_event::Interest;
use crate::flow_table::FlowLimits;
use crate::id::{EndpointIndex, InstanceId, LocationIndex, RequestId, Version};
use crate::port::{Frame, Input, SlotReading};
use crate::way::Way;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// One thing that happens; indices choose among what exists then.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Apply {
        version: u64,
        replicas: u32,
        caddy: bool,
        strict: bool,
        needed: bool,
    },
    Delete,
    Down,
    Report(Index),
    LoseReport(Index),
    Pass(u32),
    Call {
        from: Index,
        to: Index,
        port: u16,
        kind: Kind,
    },
    Noise {
        from: Index,
        bytes: Vec<u8>,
    },
    Exit(Index, bool),
    Fail(Index),
    Probe(Index, bool),
    DeviceLost(Index),
    Drain(Index, bool),
    Refuse(Index),
    Observe(Interest),
    Count {
        flow: Index,
        fin: bool,
        rst: bool,
    },
    Restart,
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    let kind = prop_oneof![
        4 => Just(Kind::Syn(80)),
        1 => Just(Kind::Syn(6_379)),
        1 => Just(Kind::Ack(80)),
        2 => Just(Kind::Udp(443)),
        1 => Just(Kind::Ping),
    ];
    let apply = (
        1u64..9,
        0u32..4,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    prop_oneof![
        3 => apply.prop_map(|(version, replicas, caddy, strict, needed)| Step::Apply {
            version, replicas, caddy, strict, needed
        }),
        1 => Just(Step::Delete),
        12 => index().prop_map(Step::Report),
        1 => index().prop_map(Step::LoseReport),
        6 => (0u32..5_000).prop_map(Step::Pass),
        12 => (index(), index(), 0u16..4, kind)
            .prop_map(|(from, to, port, kind)| Step::Call { from, to, port, kind }),
        1 => (index(), proptest::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(from, bytes)| Step::Noise { from, bytes }),
        2 => (index(), any::<bool>()).prop_map(|(which, again)| Step::Exit(which, again)),
        1 => index().prop_map(Step::Fail),
        3 => (index(), any::<bool>()).prop_map(|(which, ready)| Step::Probe(which, ready)),
        1 => index().prop_map(Step::DeviceLost),
        1 => (index(), any::<bool>()).prop_map(|(which, drained)| Step::Drain(which, drained)),
        1 => index().prop_map(Step::Refuse),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(flows, refusals)| Step::Observe(Interest { flows, refusals })),
        3 => (index(), any::<bool>(), any::<bool>())
            .prop_map(|(flow, fin, rst)| Step::Count { flow, fin, rst }),
        1 => Just(Step::Restart),
    ]
}

fn shop(version: u64, replicas: u32, caddy: bool, strict: bool, needed: bool) -> Composition {
    let mut text = SHOP.replace("replicas = 3", "ready = { tcp = true, port = \"http\" }");
    if caddy {
        text = text.replace("nginx", "caddy");
    }
    if strict {
        text = text.replace("[automaton.web]", "[automaton.web]\naffinity = \"strict\"");
    }
    let mut shop = Composition::parse(&text).unwrap();
    shop.version = Version(version);
    let web = "web".parse().unwrap();
    let declared = shop.automatons.get_mut(&web).unwrap();
    declared.replicas = replicas;
    if version.is_multiple_of(2) {
        declared.balance = Balance::TwoChoices;
    }
    if version.is_multiple_of(3) {
        declared.answer = Answering::Service;
    }
    if needed {
        declared.needs.insert(web);
    }
    shop
}

pub(super) fn pick<T: Copy>(all: impl IntoIterator<Item = T>, index: Index) -> Option<T> {
    let all: Vec<T> = all.into_iter().collect();
    (!all.is_empty()).then(|| all[index.index(all.len())])
}

/// Any address that was ever given, dead ones too.
pub(super) fn addresses(world: &World) -> Vec<IpAddr> {
    let plans = world.plans.values();
    let all = plans.flat_map(|plan| {
        let (called, caller) = (plan.addresses.called, plan.addresses.caller);
        [IpAddr::from(called.v4), called.v6.into(), caller.v4.into()]
    });
    let vips = world.vips.values().map(|(v4, _)| IpAddr::from(*v4));
    all.chain(vips)
        .chain(
            ["100.64.0.2", "100.64.0.3", "192.0.2.7", "2001:db8::7"].map(|it| it.parse().unwrap()),
        )
        .collect()
}

fn call(world: &mut World, from: InstanceId, to: IpAddr, port: u16, kind: Kind) {
    let Some((endpoint, _)) = world.networks.get(&from).copied() else {
        return;
    };
    let addresses = world.plans[&from].addresses;
    let source = match to {
        IpAddr::V4(_) => addresses.caller.v4.into(),
        IpAddr::V6(_) => addresses.caller.v6.into(),
    };
    let buffer = packet((source, port), to, kind);
    hand_up(world, endpoint, buffer);
}

fn hand_up(world: &mut World, endpoint: EndpointIndex, buffer: Vec<u8>) {
    let packet_start = 0;
    let frame = Frame {
        buffer,
        packet_start,
    };
    world.tell(Input::Upcall { endpoint, frame });
}

fn operator(world: &mut World, step: &Step) {
    match *step {
        Step::Apply {
            version,
            replicas,
            caddy,
            strict,
            needed,
        } => {
            let composition = shop(version, replicas, caddy, strict, needed);
            let request = RequestId(0);
            world.tell(Input::Apply {
                request,
                composition,
            });
        }
        Step::Delete => world.tell(Input::Delete {
            request: RequestId(0),
            composition: "shop".parse().unwrap(),
        }),
        Step::Down => world.tell(Input::Down {
            request: RequestId(0),
        }),
        _ => unreachable!("not an operator's step"),
    }
}

pub(super) fn apply(world: &mut World, step: &Step) {
    let live: Vec<InstanceId> = world.plans.keys().copied().collect();
    match step {
        Step::Apply { .. } | Step::Delete | Step::Down => operator(world, step),
        Step::Report(which) => {
            if !world.reports.is_empty() {
                let report = world
                    .reports
                    .remove(which.index(world.reports.len()))
                    .unwrap();
                world.tell(report);
            }
        }
        Step::LoseReport(which) => {
            // Only answers to readings can be lost: the keeper and plumbing report reliably.
            let lost = world
                .reports
                .iter()
                .position(|r| matches!(r, Input::FlowsRead(_)));
            lost.filter(|_| which.index(2) == 0)
                .and_then(|at| world.reports.remove(at));
        }
        Step::Pass(millis) => world.pass(Duration::from_millis((*millis).into())),
        Step::Call {
            from,
            to,
            port,
            kind,
        } => {
            let to = pick(addresses(world), *to).unwrap();
            if let Some(from) = pick(live, *from) {
                call(world, from, to, *port, *kind);
            }
        }
        Step::Noise { from, bytes } => {
            let endpoint = EndpointIndex(u32::try_from(from.index(64)).unwrap());
            hand_up(world, endpoint, bytes.clone());
        }
        Step::Exit(which, again) => {
            let running = world.running.iter().copied();
            if let Some(instance) = pick(running, *which) {
                world.running.remove(&instance);
                let restart_after = again.then_some(Duration::from_millis(100));
                let status = "exit 1".to_owned();
                world.tell(Input::ProcessExited {
                    instance,
                    status,
                    restart_after,
                });
                if *again {
                    world.running.insert(instance);
                    world.reports.push_back(Input::ProcessStarted { instance });
                }
            }
        }
        Step::Restart => world.restart(),
        _ => disturb(world, step, live),
    }
}

fn disturb(world: &mut World, step: &Step, live: Vec<InstanceId>) {
    match *step {
        Step::Fail(which) => {
            if let Some(instance) = pick(live, which) {
                let error = "no space left on device".to_owned();
                world.tell(Input::InstanceFailed { instance, error });
            }
        }
        Step::Probe(which, ready) => {
            if let Some(instance) = pick(live, which) {
                world.tell(Input::Readiness { instance, ready });
            }
        }
        Step::DeviceLost(which) => {
            if let Some(instance) = pick(live, which) {
                world.networks.remove(&instance);
                world.running.remove(&instance);
                world.tell(Input::DeviceLost { instance });
            }
        }
        Step::Drain(which, drained) => {
            if let Some(instance) = pick(live, which) {
                let request = RequestId(0);
                world.tell(Input::Drain {
                    request,
                    instance,
                    drained,
                });
            }
        }
        Step::Observe(interest) => world.tell(Input::Observe(interest)),
        Step::Refuse(which) => {
            if let Some(forward) = pick(world.flows.keys().copied(), which) {
                world.flows.remove(&forward);
                world.counters.remove(&forward);
                world.tell(Input::FlowRefused { forward });
            }
        }
        Step::Count { flow, fin, rst } => {
            if let Some(forward) = pick(world.flows.keys().copied(), flow) {
                let (before, _) = world.counters.get(&forward).copied().unwrap_or_default();
                let reading = SlotReading {
                    packets: before.packets + 4,
                    bytes: before.bytes + 240,
                    last_seen: world.now,
                    fin_seen: fin,
                    rst_seen: rst,
                };
                world.counters.insert(forward, (reading, reading));
            }
        }
        _ => unreachable!("handled before"),
    }
}

/// What must hold between any two inputs.
fn check(world: &World) {
    let flows = world.router.flows();
    assert_eq!(
        flows.len(),
        world.flows.len(),
        "the kernel has what the router has"
    );
    assert!(flows.len() <= 24);
    let instances = &world.router.instances;
    let known: BTreeSet<InstanceId> = instances.keys().copied().collect();
    let recorded: BTreeSet<InstanceId> = world.plans.keys().copied().collect();
    assert_eq!(known, recorded, "what lives is recorded, and nothing else");
    for flow in world.flows.values() {
        for (party, direction) in [(flow.client, flow.forward), (flow.server, flow.reverse)] {
            let network = instances[&party].network.expect("parties have a network");
            assert_eq!(network.ingress(), direction.ingress);
            assert!(direction.slot.0 < 48);
        }
    }
    for (service, (v4, freed)) in &world.vips {
        let held = world.router.identities.vip(service).map(|vip| vip.v4);
        assert_eq!(
            held,
            freed.is_none().then_some(*v4),
            "{service}'s is recorded"
        );
    }
    let networks = instances.values().filter_map(|instance| instance.network);
    let locations: BTreeMap<_, _> = networks
        .map(|network| {
            (
                LocationIndex(network.endpoint.0),
                Way::Device(network.ifindex),
            )
        })
        .collect();
    assert_eq!(world.locations, locations, "no location leads to nobody");
}

/// Delivers every report and lets time pass, until what is declared is what runs.
fn calm_down(world: &mut World) {
    world.prompt = true;
    for _ in 0..8 {
        if let Some(report) = world.reports.pop_front() {
            world.tell(report);
        }
        for instance in world.plans.keys().copied().collect::<Vec<_>>() {
            let ready = true;
            world.tell(Input::Readiness { instance, ready });
            world.tell(Input::Drain {
                request: RequestId(0),
                instance,
                drained: false,
            });
        }
        // An exited program is always started again.
        for view in world.router.instances() {
            if view.stage == "exited" {
                let instance = view.id;
                world.tell(Input::ProcessStarted { instance });
            }
        }
        world.pass(Duration::from_secs(31));
    }
}

proptest! {
    #[test]
    fn stays_sound_and_arrives_at_what_is_declared(
        steps in proptest::collection::vec(any_step(), 1..150),
    ) {
        let mut config = config();
        config.flow_limits = FlowLimits::for_slots(48);
        let mut world = World::new(config);
        world.prompt = false;
        for step in &steps {
            apply(&mut world, step);
            check(&world);
        }
        calm_down(&mut world);
        check(&world);
        let declared: u32 = world
            .compositions
            .values()
            .flat_map(|composition| composition.automatons.values())
            .map(|automaton| automaton.replicas)
            .sum();
        let views = world.router.instances();
        prop_assert_eq!(views.len(), declared as usize);
        prop_assert!(views.iter().all(|view| view.ready), "{:?}", views);
    }

    #[test]
    fn stopped_host_ends_everything(
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let mut world = World::new(config());
        world.prompt = false;
        for step in &steps {
            if !matches!(step, Step::Call { .. }) {
                apply(&mut world, step);
            }
        }
        apply(&mut world, &Step::Down);
        calm_down(&mut world);
        prop_assert!(world.plans.is_empty() && world.locations.is_empty());
    }
}

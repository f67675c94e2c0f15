//! Explanations: what they foretell comes true, and asking changes nothing.

use super::random_walk::{Step, addresses, any_step, apply, pick};
use super::world::{Kind, World, config, packet};
use super::{SHOP, probed};
use crate::explanation::{Explanation, Verdict};
use crate::flow_key::FlowKey;
use crate::flow_table::FlowLimits;
use crate::id::InstanceId;
use crate::names::NamesSnapshot;
use crate::packet::Packet;
use crate::port::{FlowReading, FlowSlots, Frame, Input, Output, SlotReading};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Asks why, as `from`; the router stays as it is.
pub(super) fn explain(world: &World, from: &str, target: &str) -> Explanation {
    explain_as(world, Some(world.id(from)), target).unwrap()
}

fn explain_as(
    world: &World,
    caller: Option<InstanceId>,
    target: &str,
) -> Result<Explanation, String> {
    let before = format!("{:?}", world.router);
    let read = |slots: FlowSlots| {
        let counters = world.counters.get(&slots.forward_key);
        let (forward, reverse) = counters.copied().unwrap_or_default();
        FlowReading {
            forward_key: slots.forward_key,
            forward,
            reverse,
        }
    };
    let target = target.parse().map_err(|error| format!("{error}"))?;
    let names = published(world);
    let found = world
        .router
        .explain(&target, caller, &names, read, world.now);
    assert!(format!("{:?}", world.router) == before, "asking changed it");
    found.map_err(|error| error.to_string())
}

/// The names that were published last.
pub(super) fn published(world: &World) -> Arc<NamesSnapshot> {
    let published = world.log.iter().rev().find_map(|output| match output {
        Output::PublishNames(names) => Some(names.clone()),
        _ => None,
    });
    published.unwrap_or_default()
}

/// The shop, with what its names lead to at hand.
pub(super) fn shop(text: &str) -> World {
    let mut world = World::new(config());
    world.apply(text).unwrap();
    world
}

pub(super) fn server(explanation: &Explanation) -> &str {
    match &explanation.verdict {
        Verdict::WouldOpen(route) => &route.server,
        Verdict::Open(flow) => &flow.route.server,
        other => panic!("{other:?}"),
    }
}

pub(super) fn reason(explanation: &Explanation) -> &str {
    match &explanation.verdict {
        Verdict::Refused { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn name_leads_by_its_answer_to_the_first_declared_port() {
    let world = shop(SHOP);
    let explanation = explain(&world, "1.shopper", "web.matrix");
    assert!(server(&explanation).ends_with(".web"));
    let Verdict::WouldOpen(route) = &explanation.verdict else {
        panic!("{explanation}");
    };
    assert!(route.to.ends_with(":80") && route.protocol == "tcp");
    assert!(explanation.steps.iter().all(|step| step.passed));
    let udp = explain(&world, "1.shopper", "web.matrix/udp");
    assert!(udp.to_string().contains("443/udp"), "{udp}");
}

#[test]
fn hidden_name_is_followed_to_the_refusal_behind_it() {
    let world = shop(SHOP);
    let explanation = explain(&world, "1.shopper", "store.matrix");
    assert_eq!(reason(&explanation), "not_permitted");
    assert!(explanation.to_string().contains("NXDOMAIN"));
    assert!(
        explanation
            .next
            .contains("Add \"store\" to `needs` of shopper in shop")
    );
}

#[test]
fn unknown_name_leads_nowhere() {
    let world = shop(SHOP);
    for name in ["wep.matrix", "example.com"] {
        let explanation = explain(&world, "1.shopper", name);
        let nowhere = matches!(explanation.verdict, Verdict::NoSuchName { .. });
        assert!(nowhere && !explanation.steps[0].passed, "{explanation}");
    }
}

#[test]
fn name_of_which_no_instance_is_ready_tells_the_state_of_each() {
    let world = shop(&probed());
    let explanation = explain(&world, "1.shopper", "web.matrix");
    assert_eq!(reason(&explanation), "no_instance");
    assert!(
        explanation.to_string().contains("2.web is running"),
        "{explanation}"
    );
}

#[test]
fn open_flow_tells_why_it_has_its_server_until_a_restart_takes_the_reason() {
    let mut world = shop(&probed());
    for name in ["1.web", "3.web"] {
        let instance = world.id(name);
        world.tell(Input::Readiness {
            instance,
            ready: true,
        });
    }
    let to = world.called("2.web");
    let took = world.call("1.shopper", 4_000, to, Kind::Syn(80)).unwrap();
    let key = *world.flows.keys().next().unwrap();
    let seen = SlotReading {
        packets: 5,
        bytes: 300,
        last_seen: world.now,
        ..SlotReading::default()
    };
    world.counters.insert(key, (seen, seen));

    let explanation = explain_as(&world, None, &key.to_string()).unwrap();

    assert_eq!(server(&explanation), took);
    let Verdict::Open(flow) = &explanation.verdict else {
        panic!("{explanation}")
    };
    assert_eq!(flow.route.choice, "sibling_of_unready");
    assert_eq!(
        (&flow.state[..], flow.packets, flow.reply_bytes),
        ("established", 5, 300)
    );
    assert_ne!(flow.route.to, flow.route.delivered_to);
    assert!(
        explanation.to_string().contains("(2.web) took no flows"),
        "{explanation}"
    );

    world.restart();
    let explanation = explain_as(&world, None, &key.to_string()).unwrap();
    let Verdict::Open(flow) = &explanation.verdict else {
        panic!("{explanation}")
    };
    assert_eq!(
        (server(&explanation), &flow.route.choice[..]),
        (&took[..], "adopted")
    );
}

#[test]
fn who_calls_must_be_known() {
    let world = shop(SHOP);
    let asked = explain_as(&world, None, "web.matrix").unwrap_err();
    assert!(asked.contains("--as INSTANCE"), "{asked}");
    let nobody = explain_as(&world, None, "192.0.2.1:1 100.64.0.2:80").unwrap_err();
    assert!(nobody.contains("no instance holds 192.0.2.1"), "{nobody}");
}

/// A first packet that is explained before it is sent.
#[derive(Clone, Debug)]
struct Call {
    caller: Index,
    /// Whose address it comes from, mostly the caller's own.
    source: Option<Index>,
    to: Index,
    port: u16,
    kind: Kind,
}

fn any_call() -> impl Strategy<Value = Call> {
    let index = any::<Index>;
    let source = prop_oneof![9 => Just(None), 1 => index().prop_map(Some)];
    let kinds = vec![
        Kind::Syn(80),
        Kind::Syn(80),
        Kind::Syn(6_379),
        Kind::Udp(443),
        Kind::Ping,
    ];
    let parts = (index(), source, index(), 0u16..4, select(kinds));
    parts.prop_map(|(caller, source, to, port, kind)| Call {
        caller,
        source,
        to,
        port,
        kind,
    })
}

/// The packet of `call`, and who sends it.
fn packet_of(world: &World, call: &Call) -> Option<(InstanceId, Vec<u8>)> {
    let caller = pick(world.networks.keys().copied(), call.caller)?;
    // What the router has forgotten cannot be asked about.
    world.router.instances.get(&caller)?;
    let own = world.plans.get(&caller)?.addresses.caller;
    let to = pick(addresses(world), call.to)?;
    let source = match (call.source, to) {
        (Some(other), _) => pick(addresses(world), other)?,
        (None, IpAddr::V4(_)) => own.v4.into(),
        (None, IpAddr::V6(_)) => own.v6.into(),
    };
    let fits = source.is_ipv4() == to.is_ipv4();
    fits.then(|| (caller, packet((source, call.port), to, call.kind)))
}

fn drops(world: &World) -> BTreeMap<&'static str, u64> {
    let drops = world.router.drops();
    drops
        .map(|(reason, count)| (reason.name(), count))
        .collect()
}

/// Explains the call, makes it, and compares.
fn foretell(world: &mut World, call: &Call) -> Result<(), TestCaseError> {
    let Some((caller, bytes)) = packet_of(world, call) else {
        return Ok(());
    };
    let key: FlowKey = Packet::parse(&bytes).unwrap().key;
    if world.router.flows.find(&key).is_some() {
        return Ok(());
    }
    let foretold = explain_as(world, Some(caller), &key.to_string()).unwrap();
    let before = drops(world);

    let (endpoint, _) = world.networks[&caller];
    let frame = Frame {
        buffer: bytes,
        packet_start: 0,
    };
    world.tell(Input::Upcall { endpoint, frame });

    match &foretold.verdict {
        Verdict::WouldOpen(route) => {
            let flow = world.router.flows.find(&key);
            prop_assert!(flow.is_some(), "{}", foretold);
            let (delivered, choice) = flow
                .map(|it| (it.entries.forward.delivered, it.choice))
                .unwrap();
            let became = [
                delivered.source.to_string(),
                delivered.destination.to_string(),
            ];
            prop_assert_eq!(
                [&route.delivered_from, &route.delivered_to],
                [&became[0], &became[1]]
            );
            prop_assert_eq!(&route.choice[..], choice.name());
            prop_assert!(foretold.steps.iter().all(|step| step.passed));
        }
        Verdict::Refused { reason, .. } => {
            let mut expected = before;
            *expected.entry(world_reason(reason)).or_default() += 1;
            prop_assert_eq!(drops(world), expected);
            let steps = foretold.steps.iter();
            prop_assert_eq!(steps.filter(|step| !step.passed).count(), 1, "{}", foretold);
        }
        other => prop_assert!(false, "{:?}", other),
    }
    Ok(())
}

fn world_reason(name: &str) -> &'static str {
    let mut all = crate::drop_reason::DropReason::ALL.iter();
    all.find(|reason| reason.name() == name).unwrap().name()
}

proptest! {
    #[test]
    fn explanation_foretells_what_the_next_packet_meets(
        steps in proptest::collection::vec((any_step(), any_call()), 1..60),
    ) {
        let mut config = config();
        config.flow_limits = FlowLimits { flows_max: 6, flows_per_instance_max: 4 };
        let mut world = World::new(config);
        apply(&mut world, &Step::Apply {
            version: 1, replicas: 2, caddy: false, strict: false, needed: true,
        });
        for (step, call) in &steps {
            apply(&mut world, step);
            foretell(&mut world, call)?;
        }
    }
}

//! Whatever happens to the flow table, in whatever order, its invariants hold.

use super::*;
use crate::port::{SpentFlow, TakenFlow};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Open(u8, u8, u8, Protocol),
    Pass(u32),
    Read(u8, bool, bool),
    Refuse(u8),
    ProgramEnded(u8),
    NetworkGone(u8),
    /// From now on, whether a packet passes just before a flow that is over is closed.
    Reuse(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Echo)
    ];
    prop_oneof![
        6 => (1u8..5, 0u8..3, 1u8..5, protocol).prop_map(|(c, p, s, k)| Step::Open(c, p, s, k)),
        4 => (0u32..20_000).prop_map(Step::Pass),
        2 => (any::<u8>(), any::<bool>(), any::<bool>()).prop_map(|(n, f, r)| Step::Read(n, f, r)),
        1 => any::<u8>().prop_map(Step::Refuse),
        1 => (1u8..5).prop_map(Step::ProgramEnded),
        1 => (1u8..5).prop_map(Step::NetworkGone),
        2 => any::<bool>().prop_map(Step::Reuse),
    ]
}

fn nth_key(table: &FlowTable, number: u8) -> Option<FlowKey> {
    let count = table.len().max(1);
    let flow = table.iter().nth(usize::from(number) % count)?;
    Some(flow.entries.forward.key)
}

fn apply(table: &mut FlowTable, step: &Step, now: &mut Moment) {
    match *step {
        Step::Open(client, port, server, protocol) => {
            let request = request(client, port.into(), server.max(2), server, protocol);
            if table.direction(&request.key).is_none() {
                let _ = table.open(request, *now);
            }
        }
        Step::Pass(millis) => {
            *now = *now + Duration::from_millis(millis.into());
            let early = table.poll_timeout().is_none_or(|due| *now < due);
            table.handle_timeout(*now);
            assert!(
                !early || table.outputs.is_empty(),
                "an early timeout does nothing"
            );
            assert!(table.poll_timeout().is_none_or(|due| due > *now));
        }
        Step::Read(number, fin_seen, rst_seen) => {
            let Some(forward_key) = nth_key(table, number) else {
                return;
            };
            let reading = SlotReading {
                fin_seen,
                rst_seen,
                ..slot(3, *now)
            };
            let reading = FlowReading {
                forward_key,
                forward: reading,
                reverse: reading,
            };
            table.handle_input(FlowInput::Read(vec![reading]), *now);
        }
        Step::Refuse(number) => {
            if let Some(key) = nth_key(table, number) {
                table.handle_input(FlowInput::Refused(key), *now);
            }
        }
        Step::ProgramEnded(instance) => {
            table.handle_input(FlowInput::ProgramEnded(InstanceId(instance.into())), *now);
        }
        Step::NetworkGone(instance) => {
            table.handle_input(FlowInput::NetworkGone(InstanceId(instance.into())), *now);
        }
        Step::Reuse(_) => {}
    }
}

/// Goes on with the flows of `before` that were to be closed, if nothing passed: a packet did.
fn reuse(table: &mut FlowTable, before: &[FlowEntries], outputs: &[Output], now: Moment) {
    let spent = outputs.iter().flat_map(|output| match output {
        Output::CloseUnused(flows) => &flows[..],
        _ => &[],
    });
    for SpentFlow { keys, .. } in spent {
        let mut open = before.iter().filter(|entries| entries.keys() == *keys);
        let entries = open.next().expect("only what was open is closed").clone();
        assert!(table.hold_again(&entries));
        let taken = TakenFlow {
            flow: AdoptedFlow {
                entries,
                opened: now,
            },
            forward: slot(1, now),
            reverse: SlotReading::default(),
        };
        let (flow, ended) = table.look(taken, now);
        assert!(!ended, "it began just now");
        table.enter(flow);
    }
}

fn check_invariants(table: &FlowTable) {
    let count = table.len();
    assert!(count <= 12);
    assert_eq!(table.keys.len(), 2 * count, "no two flows share a key");
    assert_eq!(table.due.len(), count, "every flow is looked at some time");
    let held: u32 = (1..5)
        .map(|number| table.opened_by(InstanceId(number)))
        .sum();
    assert_eq!(held as usize, count);
    assert_eq!(table.iter().count(), count);
    for flow in table.iter() {
        let pair = flow.pair();
        assert_eq!(table.keys[&flow.entries.forward.key], pair.forward());
        assert_eq!(table.keys[&flow.entries.reverse.key], pair.reverse());
        assert!(pair.reverse().0 < 24);
    }
}

proptest! {
    #[test]
    fn invariants_hold_after_every_step(steps in proptest::collection::vec(any_step(), 1..120)) {
        let mut table = table(24);
        let mut now = at(0);
        let mut reuses = false;
        for step in &steps {
            let before: Vec<_> = table.iter().map(|flow| flow.entries.clone()).collect();
            if let Step::Reuse(from_now_on) = step {
                reuses = *from_now_on;
            }
            apply(&mut table, step, &mut now);
            let outputs = drain(&mut table);
            if reuses {
                reuse(&mut table, &before, &outputs, now);
            }
            check_invariants(&table);
        }
    }
}

//! A small net with everything that can go wrong, from one seed: what must hold at all times, and
//! that all are linked once the network is well again.

use super::super::*;
use super::net::{Faults, Net, address, config};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const HOSTS: u8 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize, usize),
    Run(u64),
    Cut(usize, usize),
    Mend,
    Move(usize, u8),
    Restart(usize),
    Remove(usize, usize),
    Set(usize, usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let host = || 0..usize::from(HOSTS);
    let pair = || (host(), host()).prop_filter("two hosts", |(one, other)| one != other);
    prop_oneof![
        6 => pair().prop_map(|(one, other)| Step::Send(one, other)),
        6 => (1..20_000u64).prop_map(Step::Run),
        1 => pair().prop_map(|(one, other)| Step::Cut(one, other)),
        1 => Just(Step::Mend),
        1 => (host(), 100..200u8).prop_map(|(one, to)| Step::Move(one, to)),
        1 => host().prop_map(Step::Restart),
        1 => pair().prop_map(|(one, other)| Step::Remove(one, other)),
        1 => pair().prop_map(|(one, other)| Step::Set(one, other)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn links_come_about_again_whatever_happened(
        seed in any::<u64>(),
        lost in 0..40u32,
        doubled in 0..40u32,
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let mut net = Net::new(HOSTS, seed);
        net.faults = Faults { lost, doubled, delay_max: Duration::from_millis(400) };
        net.introduce_each_other();
        let mut sent = BTreeSet::new();
        let mut epochs = [1; HOSTS as usize];
        for (number, step) in steps.iter().enumerate() {
            take(&mut net, *step, number as u32, &mut sent, &mut epochs);
            assert_nothing_twice_and_nothing_made_up(&net, &sent);
            assert_bounded(&net);
        }
        net.faults = Faults::NONE;
        net.cut.clear();
        net.introduce_each_other();
        net.run_for(RETRY_MAX * 2);
        let pairs = || (0..3).flat_map(|one| (0..3).map(move |other| (one, other)));
        for (one, other) in pairs().filter(|(one, other)| one != other) {
            prop_assert!(net.is_up(one, other), "{one} to {other}");
            let known = format!("at last from {one} to {other}").into_bytes();
            net.send(one, other, &known);
            net.run_for(Duration::from_millis(50));
            prop_assert!(net.delivered(other).contains(&known), "{one} to {other}");
        }
        let before: Vec<usize> = (0..3).map(|one| net.downs(one).len()).collect();
        net.run_for(Duration::from_secs(600));
        let after: Vec<usize> = (0..3).map(|one| net.downs(one).len()).collect();
        prop_assert_eq!(before, after, "well links stay up");
    }
}

fn take(net: &mut Net, step: Step, number: u32, sent: &mut BTreeSet<Vec<u8>>, epochs: &mut [u64]) {
    match step {
        Step::Send(one, other) => {
            let payload = [&number.to_be_bytes()[..], &[one as u8, other as u8]].concat();
            net.send(one, other, &payload);
            sent.insert(payload);
        }
        Step::Run(milliseconds) => net.run_for(Duration::from_millis(milliseconds)),
        Step::Cut(one, other) => drop(net.cut.insert((one, other))),
        Step::Mend => net.cut.clear(),
        // No two hosts get one address: the last digit says whose it is.
        Step::Move(one, to) => {
            net.hosts[one].addresses = vec![address(to / 10 * 10 + one as u8)];
            net.tell(one, Input::Moved);
        }
        Step::Restart(one) => {
            epochs[one] += 1;
            net.restart(one, config(one as u8, epochs[one]));
            let told = &mut net.hosts[one].told;
            told.retain(|it| matches!(it, Output::Deliver { .. }));
            for other in (0..3).filter(|other| *other != one) {
                net.set_peer(one, other);
            }
        }
        Step::Remove(one, other) => {
            let host = net.hosts[other].id;
            net.tell(one, Input::RemovePeer { host });
        }
        Step::Set(one, other) => net.set_peer(one, other),
    }
}

fn assert_nothing_twice_and_nothing_made_up(net: &Net, sent: &BTreeSet<Vec<u8>>) {
    for one in 0..net.hosts.len() {
        let delivered = net.delivered(one);
        let once: BTreeSet<_> = delivered.iter().collect();
        assert_eq!(once.len(), delivered.len(), "a payload came twice");
        for payload in delivered {
            assert!(sent.contains(&payload) && payload[5] == one as u8);
        }
    }
}

fn assert_bounded(net: &Net) {
    for host in &net.hosts {
        let link = &host.link;
        assert!(link.peers.len() < net.hosts.len());
        // Three sessions and a handshake for each peer.
        assert!(link.shared.indices.len() <= 4 * link.peers.len());
        assert_eq!(link.by_key.len(), link.peers.len());
    }
}

//! Providing and finding, among hosts of which each is connected to few.

use super::*;
use std::collections::BTreeSet;

const SERVING: usize = 12;
const KEYS: usize = 100;

fn key(number: usize) -> OverlayKey {
    OverlayKey([number as u8; 32])
}

async fn find(host: &mut Host, number: usize) -> Vec<HostId> {
    let question = QuestionId(number as u64);
    host.send(OverlayCommand::Find {
        key: key(number),
        question,
    });
    host.wait(|event| match event {
        OverlayEvent::Found {
            question: about,
            hosts,
        } if about == question => Some(hosts),
        _ => None,
    })
    .await
}

/// Twelve hosts that serve, each connected to two before and two after it, and one that does not
/// and is connected to two of them.
async fn ring(pace: Pace) -> Vec<Host> {
    let hosts = members(SERVING as u8 + 1, pace).await;
    for (at, host) in hosts[..SERVING].iter().enumerate() {
        host.send(OverlayCommand::ServeKademlia(true));
        for reach in [1, 2] {
            host.keep(&hosts[(at + reach) % SERVING]);
        }
    }
    hosts[SERVING].keep(&hosts[0]);
    hosts[SERVING].keep(&hosts[5]);
    hosts
}

fn provider(number: usize) -> usize {
    number % SERVING
}

/// Looks up every key once, from `seeker` or from a host that is `away` from its provider; how many
/// were not found, or found wrongly.
async fn failures(hosts: &mut [Host], seeker: Option<usize>, away: usize) -> usize {
    let mut failures = 0;
    for number in 0..KEYS {
        let seeker = seeker.unwrap_or((provider(number) + away) % SERVING);
        let expected = [hosts[provider(number)].id()];
        if find(&mut hosts[seeker], number).await != expected {
            failures += 1;
        }
    }
    failures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_any_host_provides_is_found_by_any_other() {
    let mut hosts = ring(Pace::default()).await;
    for number in 0..KEYS {
        hosts[provider(number)].send(OverlayCommand::Provide { key: key(number) });
    }

    let converged = async { while failures(&mut hosts, None, 6).await > 0 {} };
    timeout(DEADLINE, converged).await.unwrap();

    for away in [1, 4, 9] {
        assert_eq!(failures(&mut hosts, None, away).await, 0, "{away} away");
    }
    assert_eq!(failures(&mut hosts, Some(SERVING), 0).await, 0);
    assert_eq!(find(&mut hosts[3], KEYS).await, []);
    let own = hosts[provider(7)].id();
    assert_eq!(find(&mut hosts[provider(7)], 7).await, [own]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_ups_leave_no_full_mesh_behind() {
    let pace = Pace {
        idle_timeout: Duration::from_secs(1),
        ..Pace::default()
    };
    let mut hosts = ring(pace).await;
    let watched = &mut hosts[0];
    for number in 0..KEYS {
        watched.send(OverlayCommand::Provide { key: key(number) });
    }

    // Its neighbours in the ring, and the one that only uses Kademlia.
    let lasting: BTreeSet<HostId> = [2, 3, 11, 12, 13].map(id).into();
    let mut connected = BTreeSet::new();
    let mut met = BTreeSet::new();
    watched
        .wait(|event| {
            match event {
                OverlayEvent::Connected { host } => {
                    met.insert(host);
                    connected.insert(host);
                }
                OverlayEvent::Disconnected { host } => {
                    connected.remove(&host);
                }
                _ => {}
            }
            (connected == lasting && met.len() > lasting.len()).then_some(())
        })
        .await;
}

#[tokio::test]
async fn what_is_provided_no_more_is_not_found() {
    let (mut a, b) = pair().await;
    a.send(OverlayCommand::Provide { key: key(1) });
    assert_eq!(find(&mut a, 1).await, [a.id()]);
    a.send(OverlayCommand::StopProviding { key: key(1) });
    assert_eq!(find(&mut a, 1).await, []);
    drop(b);
}

/// ```text
///  1 ─ 2 ─ 3 (provides)      4 admits 3 and is not admitted by it: what 4 finds 1 or 2 holds
///      └── 4
/// ```
#[tokio::test]
async fn who_was_expelled_is_not_found() {
    let mut hosts = members(4, Pace::default()).await;
    let [one, two, three, four] = &mut hosts[..] else {
        unreachable!()
    };
    let provider = three.id();
    for host in [&one, &two, &three] {
        host.send(OverlayCommand::ServeKademlia(true));
    }
    three.send(OverlayCommand::Expel { host: four.id() });
    one.keep(two);
    two.keep(three);
    four.keep(two);
    three.send(OverlayCommand::Provide { key: key(1) });
    let held = async { while find(four, 1).await != [provider] {} };
    timeout(DEADLINE, held).await.unwrap();

    one.send(OverlayCommand::Expel { host: provider });
    assert_eq!(find(one, 1).await, []);
    assert_eq!(find(two, 1).await, [provider]);
}

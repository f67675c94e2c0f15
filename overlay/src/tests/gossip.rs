//! Publishing: who hears it, and how often.

use super::*;
use margay_core::overlay::OVERLAY_BYTES_MAX;

#[tokio::test]
async fn what_is_published_is_heard_by_who_subscribed() {
    let (a, mut b) = pair().await;
    b.subscribe();
    publish_until_heard(&a, &mut b, "hello").await;
}

#[tokio::test]
async fn the_longest_message_is_carried_and_a_longer_one_is_not() {
    let (a, mut b) = pair().await;
    b.subscribe();
    publish_until_heard(&a, &mut b, "ready").await;

    let longest = "m".repeat(OVERLAY_BYTES_MAX);
    a.publish(&(longest.clone() + "!"));
    a.publish(&longest);

    assert!(b.heard().await == longest);
    assert_eq!(a.count("too_long"), 1);
}

#[tokio::test]
async fn the_same_is_heard_once() {
    let (a, mut b) = pair().await;
    b.subscribe();
    publish_until_heard(&a, &mut b, "ready").await;

    let before = a.count("published_again");
    for text in ["once", "once", "then"] {
        a.publish(text);
    }

    assert_eq!(b.heard().await, "once");
    assert_eq!(b.heard().await, "then");
    assert_eq!(a.count("published_again"), before + 1);
}

#[tokio::test]
async fn who_unsubscribed_hears_no_more() {
    let (a, mut b) = pair().await;
    b.subscribe();
    publish_until_heard(&a, &mut b, "ready").await;

    b.send(OverlayCommand::Unsubscribe { topic: topic() });
    let before = a.count("published_to_nobody");
    let mut number = 0;
    let unheard = async {
        while a.count("published_to_nobody") == before {
            number += 1;
            a.publish(&format!("anyone? {number}"));
            tokio::time::sleep(LOOK).await;
        }
    };
    timeout(DEADLINE, unheard).await.unwrap();
    let heard = b.end().await.len();
    assert!(heard < number, "{heard} of {number}");
}

#[tokio::test]
async fn who_publishes_to_nobody_goes_on() {
    let a = Host::open(1).await;
    a.publish("anyone?");
    a.counts("published_to_nobody", 1).await;
}

/// ```text
///  1 ─ 2 ─ 3 ─ … ─ 20
/// ```
#[tokio::test]
async fn one_publication_passes_along_a_line_of_twenty() {
    reaches_all(1).await;
}

/// ```text
///  a ring of twenty, each with three neighbours on either side
/// ```
#[tokio::test]
async fn one_publication_reaches_twenty_hosts_once_each() {
    reaches_all(3).await;
}

/// Connects twenty hosts to so many ones before and after them (a line if it is one, else a ring),
/// publishes once and sees it heard by all, once each.
async fn reaches_all(reach: usize) {
    let mut hosts = members(20, Pace::default()).await;
    let many = hosts.len();
    let is_line = reach == 1;
    for host in &hosts {
        host.subscribe();
    }
    for (at, host) in hosts.iter().enumerate() {
        for next in (at + 1..=at + reach).filter(|it| !is_line || *it < many) {
            host.keep(&hosts[next % many]);
        }
    }
    for (at, host) in hosts.iter_mut().enumerate() {
        let neighbours = match at {
            0 | 19 if is_line => 1,
            _ => 2 * reach,
        };
        for _ in 0..neighbours {
            host.wait(|event| matches!(event, OverlayEvent::Connected { .. }).then_some(()))
                .await;
        }
    }
    let [first, others @ ..] = &mut hosts[..] else {
        unreachable!()
    };
    publish_until_heard(first, &mut others[0], "ready").await;

    first.publish("fire");
    for host in others {
        while host.heard().await != "fire" {}
    }
    for host in hosts {
        let rest = host.end().await;
        assert!(!rest.iter().any(is_fire), "{rest:?}");
    }
}

fn is_fire(event: &OverlayEvent) -> bool {
    matches!(event, OverlayEvent::Heard { bytes, .. } if bytes == b"fire")
}

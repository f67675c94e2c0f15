//! Who is let in, who is not, and what happens when hosts go and come back.

use super::*;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[tokio::test]
async fn hosts_that_both_call_meet_once() {
    let mut hosts = members(2, Pace::default()).await;
    let (mut b, mut a) = (hosts.pop().unwrap(), hosts.pop().unwrap());
    a.keep(&b);
    b.keep(&a);
    a.connected(&b).await;
    b.connected(&a).await;

    // What was asked after both connections stood is answered after one of them was closed.
    a.ask(&b, 1, "still there?");
    let (_, asked, _) = b.asked().await;
    b.answer(asked, "yes");
    assert_eq!(a.answered(1).await.as_deref(), Some("yes"));
    assert_eq!(a.end().await, []);
}

#[tokio::test]
async fn strangers_are_refused_both_ways_and_hear_nothing() {
    let (mut a, mut b) = pair().await;
    let stranger = Host::open(66).await;
    stranger.admit(&a);
    stranger.keep(&a);
    stranger.subscribe();
    b.subscribe();
    a.counts("not_admitted", 2).await;

    stranger.ask(&a, 1, "who are you?");
    a.keep(&stranger);
    a.ask(&stranger, 2, "and you?");
    assert_eq!(a.answered(2).await, None);
    a.ask(&b, 3, "heard?");
    let (_, asked, _) = b.asked().await;
    b.answer(asked, "no");
    a.answered(3).await;
    publish_until_heard(&a, &mut b, "secret").await;
    stranger.counts("no_answer", 1).await;

    let nothing = OverlayEvent::Answered {
        question: QuestionId(1),
        answer: None,
    };
    assert_eq!(stranger.end().await, [nothing]);
    assert!(a.count("not_admitted") >= 4, "{:?}", a.counted());
    assert_eq!(a.end().await, []);
}

#[tokio::test]
async fn hosts_of_two_networks_never_speak_whatever_their_keys() {
    let a = Host::open_with(config(1, 1), Pace::default()).await;
    let b = Host::open_with(config(2, 2), Pace::default()).await;
    a.admit(&b);
    b.admit(&a);
    a.keep(&b);
    b.keep(&a);

    a.counts("handshake_failed", 2).await;
    b.counts("handshake_failed", 2).await;

    assert_eq!(a.end().await, []);
    assert_eq!(b.end().await, []);
}

#[tokio::test]
async fn an_expelled_host_is_hung_up_on_and_let_in_no_more() {
    let (mut a, mut b) = pair().await;
    b.keep(&a);

    a.send(OverlayCommand::Expel { host: b.id() });
    a.disconnected(b.id()).await;
    b.disconnected(a.id()).await;
    a.counts("not_admitted", 2).await;
    assert_eq!(a.end().await, []);
}

#[tokio::test]
async fn a_host_that_is_gone_is_missed_and_found_again_at_its_new_address() {
    let (mut a, b) = pair().await;
    let (key, id) = (b.key, b.id());

    b.end().await;
    a.disconnected(id).await;

    let mut b = Host::open(key).await;
    b.admit(&a);
    a.admit(&b);
    a.connected(&b).await;
    b.connected(&a).await;
}

#[tokio::test]
async fn a_kept_host_is_called_again_until_it_is_back() {
    let (mut a, b) = pair().await;
    let (id, address) = (b.id(), b.address);
    b.end().await;
    a.disconnected(id).await;
    a.counts("unreachable", 2).await;

    let mut config = config(1, 2);
    config.listen = vec![address];
    let mut b = Host::open_with(config, Pace::default()).await;
    b.admit(&a);
    a.connected(&b).await;
    b.connected(&a).await;
}

/// ```text
///  a ── cable ── b      the cable falls silent: nothing comes through, nothing is closed
/// ```
#[tokio::test]
async fn a_host_that_falls_silent_is_missed() {
    let pace = Pace {
        ping_interval: Duration::from_millis(100),
        ping_timeout: Duration::from_millis(300),
        ..Pace::default()
    };
    let mut hosts = members(2, pace).await;
    let (mut b, mut a) = (hosts.pop().unwrap(), hosts.pop().unwrap());
    let (silence, silent) = watch::channel(false);
    a.admit_at(&b, cable(b.address, silent).await);
    a.keep(&b);
    a.connected(&b).await;
    b.connected(&a).await;

    silence.send(true).unwrap();
    a.disconnected(b.id()).await;
    b.disconnected(a.id()).await;
    assert!(a.count("silent") >= 1, "{:?}", a.counted());
}

#[tokio::test]
async fn a_released_connection_goes_once_nobody_needs_it() {
    let pace = Pace {
        idle_timeout: Duration::from_millis(500),
        ..Pace::default()
    };
    let mut hosts = members(2, pace).await;
    let (mut b, mut a) = (hosts.pop().unwrap(), hosts.pop().unwrap());
    a.subscribe();
    b.subscribe();
    a.keep(&b);
    a.connected(&b).await;
    publish_until_heard(&a, &mut b, "kept").await;

    a.send(OverlayCommand::Release { host: b.id() });
    a.disconnected(b.id()).await;
    b.disconnected(a.id()).await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_said_to_be() {
    let a = Host::open(1).await;
    let mut config = config(1, 2);
    config.listen = vec![a.address];
    let error = Overlay::open(config).await.unwrap_err().to_string();
    assert!(error.contains(&a.address.to_string()), "{error}");
}

/// Carries connections to `to` until it falls silent, and then holds them.
async fn cable(to: SocketAddr, silent: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(to).await.unwrap();
            let mut silent = silent.clone();
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => return,
                    _ = silent.wait_for(|it| *it) => {}
                }
                // Holds both ends for as long as the test lasts.
                std::future::pending::<()>().await;
            });
        }
    });
    address
}

//! Admitted hosts that do not keep to the protocols, and others that are served all the same.

use super::*;
use crate::behaviour::transport;
use crate::floods::Share;
use crate::gate::call;
use crate::identity::{keypair, multiaddr, peer_of};
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, Behaviour, Config, ProtocolSupport};
use libp2p::swarm::{self, NetworkBehaviour, Swarm};
use libp2p::{StreamProtocol, ping};
use std::io;

/// Writes whatever it is told to, and then waits without closing.
#[derive(Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_all(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_all(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&request).await?;
        io.flush().await?;
        std::future::pending().await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&response).await?;
        io.flush().await
    }
}

async fn read_all<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// What a host that means ill speaks: enough to stay.
#[derive(NetworkBehaviour)]
struct Ill {
    ping: ping::Behaviour,
    raw: Behaviour<Raw>,
}

/// The key of the host that means ill.
const ILL: u8 = 66;

/// Calls `victim`, writes `bytes` to a stream of `protocol`, and goes on until the test ends.
fn write(victim: &Host, protocol: &str, bytes: &[u8]) {
    let config = config(1, ILL);
    let keypair = keypair(&config.key);
    let transport = transport(&config, &keypair, &Pace::default()).unwrap();
    let protocol = StreamProtocol::try_from_owned(config.protocol(protocol)).unwrap();
    let protocols = Ill {
        ping: ping::Behaviour::default(),
        raw: Behaviour::new([(protocol, ProtocolSupport::Full)], Config::default()),
    };
    let own = keypair.public().to_peer_id();
    let mut swarm = Swarm::new(
        transport,
        protocols,
        own,
        swarm::Config::with_tokio_executor(),
    );
    let peer = peer_of(victim.id());
    swarm.add_peer_address(peer, multiaddr(victim.address));
    swarm.dial(call(peer)).unwrap();
    let raw = &mut swarm.behaviour_mut().raw;
    raw.send_request(&peer, bytes.to_vec());
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
}

/// Two hosts that are connected, of which the first has admitted one that means ill.
async fn pair_and_ill() -> (Host, Host) {
    let pace = Pace {
        handshake_timeout: Duration::from_secs(2),
        ..Pace::default()
    };
    let mut hosts = members(2, pace).await;
    let (mut b, mut a) = (hosts.pop().unwrap(), hosts.pop().unwrap());
    a.keep(&b);
    a.connected(&b).await;
    b.connected(&a).await;
    a.send(OverlayCommand::Admit {
        host: id(ILL),
        addresses: Vec::new(),
    });
    a.subscribe();
    b.subscribe();
    (a, b)
}

/// Sees that `b` is served by `a`, and that `a` has heard nothing else.
async fn others_are_served(mut a: Host, mut b: Host) {
    b.ask(&a, 1, "still there?");
    let (from, asked, _) = a.asked().await;
    assert_eq!(from, b.id());
    a.answer(asked, "yes");
    assert_eq!(b.answered(1).await.as_deref(), Some("yes"));
    publish_until_heard(&b, &mut a, "and gossip").await;
    assert_eq!(a.end().await, []);
}

#[tokio::test]
async fn an_overlong_question_ends_its_connection() {
    let (a, b) = pair_and_ill().await;
    write(&a, "ask/1", &[0xff; 100]);
    a.counts("unreadable", 1).await;
    others_are_served(a, b).await;
}

#[tokio::test]
async fn a_question_that_stalls_is_given_up() {
    let (a, b) = pair_and_ill().await;
    write(&a, "ask/1", &[0, 0, 0, 9, 1, 2, 3]);
    a.counts("stalled", 1).await;
    others_are_served(a, b).await;
}

#[tokio::test]
async fn who_never_says_what_it_speaks_is_hung_up_on() {
    let (a, b) = pair_and_ill().await;
    write(&a, "nonsense/1", b"hello?");
    a.counts("silent", 1).await;
    others_are_served(a, b).await;
}

#[tokio::test]
async fn nonsense_in_gossip_and_kademlia_hurts_nobody() {
    let (a, b) = pair_and_ill().await;
    for protocol in ["gossip/1.1.0", "kad/1"] {
        a.send(OverlayCommand::ServeKademlia(true));
        write(&a, protocol, &[0xff; 4096]);
        write(&a, protocol, &[9, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
    a.counts("silent", 1).await;
    others_are_served(a, b).await;
}

#[tokio::test]
async fn strangers_that_speak_no_libp2p_are_hung_up_on() {
    let (a, b) = pair_and_ill().await;
    let mut stream = tokio::net::TcpStream::connect(a.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request)
        .await
        .unwrap();
    a.counts("handshake_failed", 1).await;
    others_are_served(a, b).await;
}

/// Two hosts that are connected to a third, which may bring little.
async fn pair_and_small_share() -> (Host, Host, Host) {
    let small = Pace {
        share: Share {
            burst: 20,
            per_second: 10,
            excess_max: 20,
            shun: Duration::from_secs(2),
        },
        ..Pace::default()
    };
    let mut hosts = members(3, small).await;
    let (mut flooder, mut b, mut a) = (
        hosts.pop().unwrap(),
        hosts.pop().unwrap(),
        hosts.pop().unwrap(),
    );
    for host in [&b, &flooder] {
        a.keep(host);
        a.connected(host).await;
    }
    b.connected(&a).await;
    flooder.connected(&a).await;
    (a, b, flooder)
}

#[tokio::test]
async fn who_floods_gossip_is_hung_up_on_and_what_it_floods_is_not_passed_on() {
    let (mut a, mut b, flooder) = pair_and_small_share().await;
    a.subscribe();
    b.subscribe();
    publish_until_heard(&flooder, &mut a, "ready").await;

    for number in 0..100 {
        flooder.publish(&format!("flood {number}"));
    }

    a.disconnected(flooder.id()).await;
    assert!(a.count("flood") > 20, "{:?}", a.counted());
    // It is called, and calls, in vain; and is let in again after a while.
    a.counts("shunned", 1).await;
    a.connected(&flooder).await;
    // Who passed on what was taken is no flooder.
    a.ask(&b, 1, "still there?");
    let (_, asked, _) = b.asked().await;
    b.answer(asked, "yes");
    assert_eq!(a.answered(1).await.as_deref(), Some("yes"));
    let heard = b.end().await;
    let gone = |it: &OverlayEvent| matches!(it, OverlayEvent::Disconnected { .. });
    assert!(!heard.iter().any(gone), "{heard:?}");
    let floods = heard
        .iter()
        .filter(|it| matches!(it, OverlayEvent::Heard { .. }))
        .count();
    assert!(floods <= 30, "{floods} of a flood were passed on");
}

#[tokio::test]
async fn who_floods_with_questions_is_hung_up_on() {
    let (mut a, b, flooder) = pair_and_small_share().await;
    for question in 0..100 {
        flooder.ask(&a, question, "well?");
    }
    a.disconnected(flooder.id()).await;
    assert!(a.count("flood") > 20, "{:?}", a.counted());
    b.ask(&a, 1, "and you?");
    let asked = a
        .wait(|event| match event {
            OverlayEvent::Asked { from, asked, .. } if from == b.id() => Some(asked),
            _ => None,
        })
        .await;
    a.answer(asked, "here");
}

/// ```text
///  strangers at 127.0.0.2, all silent ──▶ a ◀── b, a member at 127.0.0.1
/// ```
#[tokio::test]
async fn strangers_that_say_nothing_leave_room_for_members() {
    let pace = Pace {
        // Longer than the test waits for anything.
        handshake_timeout: 2 * DEADLINE,
        ..Pace::default()
    };
    let mut hosts = members(2, pace).await;
    let (mut b, mut a) = (hosts.pop().unwrap(), hosts.pop().unwrap());
    let mut strangers = Vec::new();
    for _ in 0..100 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        strangers.push(socket.connect(a.address).await.unwrap());
    }
    a.counts("source_limit", 1).await;
    b.keep(&a);
    b.connected(&a).await;
    a.connected(&b).await;
}

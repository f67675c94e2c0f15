//! Admitted hosts that do not keep to the protocols, and others that are served all the same.

use super::*;
use crate::behaviour::transport;
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

//! The host's own address: hickory's server says what the reply function says.

use crate::lab::{DEADLINE, query_for};
use arc_swap::ArcSwap;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use margay_resolver::{Searches, serve_host};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;

/// Serves nothing but the zone itself, on a port of loopback, until the test's process ends.
fn served() -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = udp.local_addr().unwrap();
    let tcp = std::net::TcpListener::bind(addr).unwrap();
    udp.set_nonblocking(true).unwrap();
    tcp.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let udp = tokio::net::UdpSocket::from_std(udp).unwrap();
            let tcp = tokio::net::TcpListener::from_std(tcp).unwrap();
            serve_host(Arc::new(ArcSwap::default()), Searches::default(), udp, tcp).await
        })
    });
    addr
}

fn over_udp(server: SocketAddr, query: &[u8]) -> Message {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.send_to(query, server).unwrap();
    let mut bytes = [0; 2048];
    let length = client.recv(&mut bytes).unwrap();
    Message::from_vec(&bytes[..length]).unwrap()
}

fn over_tcp(server: SocketAddr, query: &[u8]) -> Message {
    let mut client = TcpStream::connect(server).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    client.write_all(&[&length, query].concat()).unwrap();
    let mut length = [0; 2];
    client.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    client.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap()
}

#[test]
fn the_host_is_answered_for_our_zone_and_refused_for_others() {
    let server = served();
    for ask in [over_udp, over_tcp] {
        let zone = ask(server, &query_for(7, "maTRix.", RecordType::SOA));
        assert_eq!(zone.metadata.id, 7);
        assert_eq!(zone.metadata.response_code, ResponseCode::NoError);
        assert!(zone.metadata.authoritative);
        assert_eq!(zone.queries[0].name.to_ascii(), "maTRix.");
        assert_eq!(zone.answers.len(), 1);

        let unknown = ask(server, &query_for(8, "web.matrix.", RecordType::A));
        assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(unknown.authorities.len(), 1);

        let foreign = ask(server, &query_for(9, "example.com.", RecordType::A));
        assert_eq!(foreign.metadata.response_code, ResponseCode::Refused);
        assert!(!foreign.metadata.authoritative);
    }
}

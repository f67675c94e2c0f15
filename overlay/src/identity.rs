//! Hosts as libp2p names them: each name is a pure function of the other.

use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use margay_core::host::HostId;
use margay_core::signature::PrivateKey;
use std::net::{IpAddr, SocketAddr};

/// What stands before an Ed25519 key in its peer ID: an identity multihash of 36 bytes, of a
/// protobuf that says type 1 and 32 bytes (libp2p specification, peer-ids).
const BEFORE_KEY: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The peer ID of a host. Whether its key is a point of the curve shows when it signs a handshake.
pub(crate) fn peer_of(host: HostId) -> PeerId {
    let bytes = [&BEFORE_KEY[..], host.as_bytes()].concat();
    PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer ID")
}

/// The host of a peer ID, unless that is made of another kind of key.
pub(crate) fn host_of(peer: &PeerId) -> Option<HostId> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&BEFORE_KEY)?.try_into().ok()?;
    Some(HostId::from_bytes(key))
}

/// The host's key, for handshakes.
pub(crate) fn keypair(key: &PrivateKey) -> Keypair {
    Keypair::ed25519_from_bytes(key.to_bytes()).expect("any 32 bytes are an Ed25519 secret")
}

/// Where TCP is listened to.
pub(crate) fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// The address of a listener, if it is one of TCP.
pub(crate) fn socket_addr(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_the_peer_id_that_its_key_has() {
        let key = PrivateKey::from_bytes(&[7; 32]);

        let peer = peer_of(key.public());

        assert_eq!(peer, keypair(&key).public().to_peer_id());
        assert_eq!(host_of(&peer), Some(key.public()));
    }

    #[test]
    fn a_peer_id_of_another_kind_names_no_host() {
        assert_eq!(host_of(&PeerId::random()), None);
    }

    #[test]
    fn addresses_read_back() {
        for text in ["10.1.2.3:4001", "[fd00::1]:4001"] {
            let address = text.parse().unwrap();
            assert_eq!(socket_addr(&multiaddr(address)), Some(address));
        }
        assert_eq!(socket_addr(&"/ip4/10.1.2.3/udp/1".parse().unwrap()), None);
    }
}

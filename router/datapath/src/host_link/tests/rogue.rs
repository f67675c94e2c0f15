//! A host that follows no rule: it speaks the protocol by hand.

use super::super::cookie::{Acquaintance, Tag, mac2};
use super::super::message::{Message, SessionIndex, covered_by_macs};
use super::super::noise::{Identity, Initiator, Keys};
use super::super::sealed::{InitiationNumber, Opening};
use super::super::*;
use super::net::{Net, statement};
use margay_core::host::OriginEpoch;
use std::net::SocketAddr;

/// The index that it uses for everything.
const INDEX: SessionIndex = SessionIndex(0x0060_0d1e);

pub(super) struct Rogue {
    identity: Identity,
    pub from: SocketAddr,
    count: u64,
}

/// A session of a rogue with a host.
pub(super) struct RogueSession {
    keys: Keys,
    theirs: SessionIndex,
    from: SocketAddr,
    counter: u64,
}

impl Rogue {
    /// With a key of its own, of the same network.
    pub fn new(secret: u8, from: SocketAddr) -> Rogue {
        Rogue::with_network(secret, from, NetworkSecret([7; 32]))
    }

    pub fn with_network(secret: u8, from: SocketAddr, network: NetworkSecret) -> Rogue {
        Rogue {
            identity: Identity::new(NoisePrivateKey::from_bytes([secret; 32]), network),
            from,
            count: 0,
        }
    }

    pub fn key(&self) -> NoiseKey {
        self.identity.public()
    }

    /// An initiation, with a cookie if it has one.
    pub fn initiation(&mut self, to: NoiseKey, cookie: Option<Tag>) -> Vec<u8> {
        self.initiate(to, cookie).1
    }

    fn initiate(&mut self, to: NoiseKey, cookie: Option<Tag>) -> (Initiator, Vec<u8>) {
        let number = InitiationNumber {
            epoch: OriginEpoch(1),
            count: self.count,
        };
        self.count += 1;
        let opening = Opening {
            number,
            introduction: statement("rogue"),
        };
        let (initiator, noise) = self.identity.initiate((to, INDEX), &opening, [5; 32]);
        let mut message = Message::Initiation {
            sender: INDEX,
            noise: &noise,
            mac1: [0; 16],
            mac2: [0; 16],
        };
        let them = Acquaintance::new(to);
        for step in 0..2 {
            let bytes = message.to_bytes();
            let (before_mac1, before_mac2) = covered_by_macs(&bytes).unwrap();
            if let Message::Initiation {
                mac1, mac2: two, ..
            } = &mut message
            {
                *mac1 = them.mac1(before_mac1);
                if step == 1 {
                    *two = cookie.map_or([0; 16], |cookie| mac2(&cookie, before_mac2));
                }
            }
        }
        (initiator, message.to_bytes())
    }

    /// The cookie in the last datagram that was sent, if that is one.
    pub fn cookie(&self, net: &Net, to: NoiseKey, initiation: &[u8]) -> Option<Tag> {
        let last = net.seen.last()?;
        let Ok(Message::Initiation { mac1, .. }) = Message::parse(initiation) else {
            return None;
        };
        match Message::parse(&last.bytes) {
            Ok(Message::CookieReply {
                receiver: INDEX,
                nonce,
                sealed,
            }) => Acquaintance::new(to).open_cookie(&sealed, nonce, &mac1),
            _ => None,
        }
    }

    /// A session with a host that admits everyone.
    pub fn link(&mut self, net: &mut Net, index: usize) -> RogueSession {
        let (mut initiator, initiation) = self.initiate(net.hosts[index].key, None);
        net.inject(index, self.from, &initiation);
        let response = net.seen.last().unwrap().bytes.clone();
        let Ok(Message::Response { noise, .. }) = Message::parse(&response) else {
            panic!("no response");
        };
        let answer = initiator.finish(noise).unwrap();
        RogueSession {
            keys: initiator.into_keys(),
            theirs: answer.session,
            from: self.from,
            counter: 0,
        }
    }
}

impl RogueSession {
    /// Sends any bytes, properly sealed.
    pub fn send(&mut self, net: &mut Net, index: usize, plaintext: &[u8]) {
        let sealed = self.keys.seal(self.counter, plaintext);
        let message = Message::Data {
            receiver: self.theirs,
            counter: self.counter,
            sealed: &sealed,
        };
        self.counter += 1;
        net.inject(index, self.from, &message.to_bytes());
    }
}

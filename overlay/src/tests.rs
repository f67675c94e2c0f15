//! Whole overlays over loopback, and what each of them hears.

mod asking;
mod corpus;
mod gossip;
mod kademlia;
mod malice;
mod meeting;

use crate::config::{OverlayConfig, Pace};
use crate::handle::{Overlay, OverlayEvents};
use margay_core::admission::NetworkId;
use margay_core::host::HostId;
use margay_core::overlay::{AskedId, OverlayCommand, OverlayEvent, OverlayKey, QuestionId, Topic};
use margay_core::signature::PrivateKey;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// Far more than anything takes; a test that waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// Between looks at a condition that no event tells.
const LOOK: Duration = Duration::from_millis(20);

/// One overlay, and what a test does with it.
struct Host {
    overlay: Overlay,
    events: OverlayEvents,
    key: u8,
    address: SocketAddr,
}

impl Host {
    /// A host of network 1 with the key of this number.
    async fn open(key: u8) -> Host {
        Self::open_with(config(1, key), Pace::default()).await
    }

    async fn open_with(config: OverlayConfig, pace: Pace) -> Host {
        let key = config.key.to_bytes()[0];
        let (overlay, events) = Overlay::open_at(config, pace).await.unwrap();
        let address = overlay.listening()[0];
        Host {
            overlay,
            events,
            key,
            address,
        }
    }

    fn id(&self) -> HostId {
        id(self.key)
    }

    fn send(&self, command: OverlayCommand) {
        assert!(self.overlay.send(command));
    }

    fn admit(&self, other: &Host) {
        self.admit_at(other, other.address);
    }

    fn admit_at(&self, other: &Host, address: SocketAddr) {
        self.send(OverlayCommand::Admit {
            host: other.id(),
            addresses: vec![address],
        });
    }

    fn keep(&self, other: &Host) {
        self.send(OverlayCommand::Keep { host: other.id() });
    }

    fn subscribe(&self) {
        self.send(OverlayCommand::Subscribe { topic: topic() });
    }

    fn publish(&self, text: &str) {
        self.send(OverlayCommand::Publish {
            topic: topic(),
            bytes: text.into(),
        });
    }

    fn ask(&self, other: &Host, question: u64, text: &str) {
        self.send(OverlayCommand::Ask {
            to: other.id(),
            question: QuestionId(question),
            bytes: text.into(),
        });
    }

    fn answer(&self, asked: AskedId, text: &str) {
        self.send(OverlayCommand::Answer {
            asked,
            bytes: text.into(),
        });
    }

    /// Waits for an event, and passes over all before it.
    async fn wait<T>(&mut self, mut pick: impl FnMut(OverlayEvent) -> Option<T>) -> T {
        let picked = async {
            loop {
                let event = self.events.next().await.unwrap();
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        };
        let picked = timeout(DEADLINE, picked).await;
        picked.unwrap_or_else(|_| panic!("host {} waits in vain: {:?}", self.key, self.counted()))
    }

    async fn connected(&mut self, other: &Host) {
        let host = other.id();
        self.wait(|event| (event == OverlayEvent::Connected { host }).then_some(()))
            .await;
    }

    async fn disconnected(&mut self, other: HostId) {
        let gone = OverlayEvent::Disconnected { host: other };
        self.wait(|event| (event == gone).then_some(())).await;
    }

    async fn heard(&mut self) -> String {
        self.wait(|event| match event {
            OverlayEvent::Heard { bytes, .. } => Some(String::from_utf8(bytes).unwrap()),
            _ => None,
        })
        .await
    }

    async fn asked(&mut self) -> (HostId, AskedId, String) {
        self.wait(|event| match event {
            OverlayEvent::Asked { from, asked, bytes } => {
                Some((from, asked, String::from_utf8(bytes).unwrap()))
            }
            _ => None,
        })
        .await
    }

    async fn answered(&mut self, question: u64) -> Option<String> {
        self.wait(|event| match event {
            OverlayEvent::Answered {
                question: about,
                answer,
            } if about == QuestionId(question) => {
                Some(answer.map(|it| String::from_utf8(it).unwrap()))
            }
            _ => None,
        })
        .await
    }

    /// Ends the host, and returns all that it had heard and the test had not.
    async fn end(mut self) -> Vec<OverlayEvent> {
        drop(self.overlay);
        let mut rest = Vec::new();
        while let Some(event) = timeout(DEADLINE, self.events.next()).await.unwrap() {
            rest.push(event);
        }
        rest
    }

    fn count(&self, name: &str) -> u64 {
        let mut named = self.overlay.drops();
        named.find(|(it, _)| *it == name).unwrap().1
    }

    fn counted(&self) -> Vec<(&'static str, u64)> {
        self.overlay.drops().filter(|(_, it)| *it > 0).collect()
    }

    /// Waits until something was counted so often.
    async fn counts(&self, name: &str, at_least: u64) {
        let reached = async {
            while self.count(name) < at_least {
                tokio::time::sleep(LOOK).await;
            }
        };
        let reached = timeout(DEADLINE, reached).await;
        reached.unwrap_or_else(|_| panic!("{name} stays below {at_least}: {:?}", self.counted()));
    }
}

fn id(key: u8) -> HostId {
    PrivateKey::from_bytes(&[key; 32]).public()
}

fn config(network: u8, key: u8) -> OverlayConfig {
    OverlayConfig {
        key: PrivateKey::from_bytes(&[key; 32]),
        network: NetworkId::from_root(HostId::from_bytes([network; 32])),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
    }
}

fn topic() -> Topic {
    Topic("site/rack1.paris".into())
}

/// So many hosts that admit each other; none calls another yet.
async fn members(how_many: u8, pace: Pace) -> Vec<Host> {
    let mut hosts = Vec::new();
    for key in 1..=how_many {
        hosts.push(Host::open_with(config(1, key), pace).await);
    }
    for host in &hosts {
        for other in hosts.iter().filter(|it| it.key != host.key) {
            host.admit(other);
        }
    }
    hosts
}

/// Two hosts that are connected.
async fn pair() -> (Host, Host) {
    let mut hosts = members(2, Pace::default()).await;
    let (mut b, mut a) = (hosts.pop().unwrap(), hosts.pop().unwrap());
    a.keep(&b);
    a.connected(&b).await;
    b.connected(&a).await;
    (a, b)
}

/// Publishes until `listener` hears it: subscriptions take a moment to get around.
async fn publish_until_heard(publisher: &Host, listener: &mut Host, text: &str) {
    let heard = async {
        loop {
            publisher.publish(text);
            let heard = async { while listener.heard().await != text {} };
            if timeout(5 * LOOK, heard).await.is_ok() {
                return;
            }
        }
    };
    timeout(DEADLINE, heard).await.unwrap();
}

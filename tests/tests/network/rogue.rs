//! A member of the network that is no daemon: let in like any host, and then it says what a test wants.
//!
//! It keeps its place in membership, catalog and gossip by core's own state machines, so that the
//! others hold it for one of theirs; what it says beside that is its test's.

mod body;
mod desk;
mod slander;

pub use desk::Desk;

use body::Body;
use margay_core::admission::{Contact, Issuer, LinkKey, Role, introduce};
use margay_core::host::HostId;
use margay_core::id::InstanceId;
use margay_core::name::SitePath;
use margay_core::overlay::{OverlayCommand, Topic};
use margay_core::peer::RemoteInstance;
use margay_core::signature::PrivateKey;
use margay_datapath::host_link::NoisePrivateKey;
use margay_tests::lab::{Lab, in_network, state_directory};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The port of its host link and its overlay, as of every host.
pub const PORT: u16 = 7400;

/// The kinds of payload that hosts send each other over the link.
pub const CATALOG: u8 = 3;
pub const INTRODUCTION: u8 = 4;
pub const REVOCATION: u8 = 5;

/// How it answers what others ask it over the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As a host does.
    Honest,
    /// Not at all.
    Mute,
    /// With bytes that mean nothing.
    Babbling,
}

/// What a test has it do.
pub enum Order {
    /// Send so many copies of a payload over the link.
    Say {
        to: HostId,
        payload: Vec<u8>,
        copies: usize,
    },
    /// Do something on the overlay.
    Overlay(OverlayCommand),
    /// Publish as many messages, of which no two are the same.
    Flood { topic: Topic, messages: usize },
    /// Tell the others, signed and in order, of an instance.
    Claim(Arc<RemoteInstance>),
    /// Tell each other host once that this one has ended.
    Slander(HostId),
    /// Let newcomers in by this issuer, whoever holds what it grants.
    LetIn(Box<Issuer>),
}

/// A host's two keys.
pub struct Keys {
    /// By which it is known.
    pub host: PrivateKey,
    /// Of its host link.
    pub link: NoisePrivateKey,
}

impl Keys {
    /// The rogue's, by which it is an issuer too.
    fn rogue() -> Keys {
        Keys {
            host: PrivateKey::from_bytes(&[66; 32]),
            link: NoisePrivateKey::from_bytes([66; 32]),
        }
    }

    /// Those of a host whose daemon has drawn them.
    pub fn of(lab: &Lab, host: &str) -> Keys {
        let host = lab.host(host);
        let read = |name: &str| {
            let path = host.inside(state_directory().join(name));
            secret(&std::fs::read_to_string(path).unwrap())
        };
        Keys {
            host: PrivateKey::from_bytes(&read("host.key")),
            link: NoisePrivateKey::from_bytes(read("link.key")),
        }
    }

    /// Its public key, by which others know it.
    pub fn id(&self) -> HostId {
        self.host.public()
    }

    fn link_key(&self) -> LinkKey {
        LinkKey(*self.link.public().as_bytes())
    }
}

/// 32 bytes, as a secret's file has them.
pub fn secret(digits: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
    }
    bytes
}

/// Where a host is to be, and as what.
pub struct Place<'a> {
    /// The host of the lab; it has no daemon.
    pub host: &'a str,
    /// The site that its certificate names.
    pub site: &'a str,
    /// Whether it may speak for that.
    pub is_gateway: bool,
}

/// The host that misbehaves, in a thread of its own; it ends with this value.
pub struct Rogue {
    keys: Keys,
    orders: mpsc::UnboundedSender<Order>,
}

impl Rogue {
    /// Lets it in by a certificate of `desk`, and has it find the others by way of `first`.
    pub fn enter(
        lab: &Lab,
        desk: &mut Desk,
        place: &Place<'_>,
        first: &str,
        manner: Manner,
    ) -> Rogue {
        let keys = Keys::rogue();
        let site: SitePath = place.site.parse().unwrap();
        let roles: BTreeSet<Role> = place
            .is_gateway
            .then_some(Role::Gateway)
            .into_iter()
            .collect();
        let may_be_gateway = place.is_gateway;
        let (credential, certificate) = desk.certify(keys.id(), place.host, &site, roles);
        let addresses = lab.addresses(place.host).into_iter();
        let addresses: Vec<_> = addresses.map(|it| SocketAddr::new(it, PORT)).collect();
        let contact = Contact {
            link_key: keys.link_key(),
            addresses: addresses.clone(),
            sequence: 1,
        };
        let introduction = introduce(&keys.host, &credential, &certificate, &contact);
        let beginning = body::Beginning {
            keys: Keys {
                host: keys.host.clone(),
                link: keys.link.clone(),
            },
            network: desk.network(),
            name: place.host.parse().unwrap(),
            site,
            may_be_gateway,
            introduction,
            addresses,
            first: (
                Keys::of(lab, first),
                SocketAddr::new(lab.addresses(first)[0], PORT),
            ),
            manner,
        };
        let (orders, taken) = mpsc::unbounded_channel();
        let (opened, opening) = std::sync::mpsc::channel();
        let namespace = lab.host(place.host).network_namespace();
        std::thread::spawn(move || {
            in_network(&namespace).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let (body, events) = Body::open(beginning).await;
                opened.send(()).unwrap();
                body.live(taken, events).await;
            });
        });
        opening.recv().expect("its sockets are open");
        Rogue { keys, orders }
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Has it do something, soon.
    pub fn order(&self, order: Order) {
        assert!(self.orders.send(order).is_ok(), "it has ended");
    }

    /// Has it send a payload over the link.
    pub fn say(&self, to: HostId, kind: u8, content: &[u8]) {
        let payload = [&[kind], content].concat();
        let copies = 1;
        self.order(Order::Say {
            to,
            payload,
            copies,
        });
    }

    /// Has it publish something.
    pub fn publish(&self, topic: &str, bytes: Vec<u8>) {
        let topic = Topic(topic.to_owned());
        self.order(Order::Overlay(OverlayCommand::Publish { topic, bytes }));
    }

    /// Has it tell of an instance as if it ran there.
    pub fn claim(&self, instance: RemoteInstance) {
        assert_ne!(instance.instance, InstanceId::HOST);
        self.order(Order::Claim(Arc::new(instance)));
    }
}

//! What keeps a rogue among the others: its link, its overlay, and core between them.

use super::desk::wall_time;
use super::slander::slander;
use super::{INTRODUCTION, Keys, Manner, Order};
use margay_core::admission::Role;
use margay_core::admission::{
    Issuer, JoinRequest, LinkKey, Membership, NetworkId, answer, is_newcomer,
};
use margay_core::host::{HostId, OriginEpoch};
use margay_core::moment::Moment;
use margay_core::name::{HostName, SitePath};
use margay_core::neighbourhood::{
    DatagramKind, Neighbour, Neighbourhood, NeighbourhoodConfig, NeighbourhoodInput,
    NeighbourhoodOutput,
};
use margay_core::overlay::OverlayCommand;
use margay_core::sites::SUMMARY_BYTES_MAX;
use margay_core::way::Path;
use margay_datapath::host_link::sealed::Statement;
use margay_datapath::host_link::socket::LinkSocket;
use margay_datapath::host_link::{
    ExchangeId, HostLink, HostLinkConfig, HostLinkLimits, Input, NetworkSecret, NoiseKey, Output,
};
use margay_overlay::{Overlay, OverlayConfig, OverlayEvents};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// How long nothing needs to be looked at.
const IDLE: Duration = Duration::from_secs(1);

/// Messages of a flood between looks at everything else.
const FLOOD_BATCH: usize = 64;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What it begins with.
pub struct Beginning {
    pub keys: Keys,
    pub network: NetworkId,
    pub name: HostName,
    pub site: SitePath,
    pub may_be_gateway: bool,
    pub introduction: Vec<u8>,
    pub addresses: Vec<SocketAddr>,
    /// The host that it calls first.
    pub first: (Keys, SocketAddr),
    pub manner: Manner,
}

/// Its link, its overlay, and core between them.
pub struct Body {
    own: HostId,
    introduction: Vec<u8>,
    /// By which it lets newcomers in.
    issuer: Option<Box<Issuer>>,
    known: Membership,
    link: HostLink,
    socket: AsyncFd<LinkSocket>,
    overlay: Overlay,
    near: Neighbourhood,
    manner: Manner,
    /// Whom it slanders, and to whom it has not done so yet.
    slandered: Option<(HostId, BTreeSet<HostId>)>,
}

impl Body {
    /// Opens its sockets in the calling thread's network, and calls the first host.
    pub async fn open(beginning: Beginning) -> (Body, OverlayEvents) {
        let Beginning { keys, network, .. } = beginning;
        let config = HostLinkConfig {
            private_key: keys.link,
            network: NetworkSecret(network.link_psk()),
            epoch: OriginEpoch(1),
            introduction: Statement::new(beginning.introduction.clone()).unwrap(),
            limits: HostLinkLimits::default(),
        };
        let mut link = HostLink::new(config, [66; 32], now());
        let (first, address) = beginning.first;
        link.handle_input(peer(first.id(), first.link_key(), vec![address]), now());
        let config = OverlayConfig {
            key: keys.host.clone(),
            network,
            listen: beginning.addresses.clone(),
        };
        let (overlay, events) = Overlay::open(config).await.unwrap();
        let config = NeighbourhoodConfig {
            key: keys.host.clone(),
            name: beginning.name,
            site: beginning.site,
            sponsor: None,
            epoch: OriginEpoch(1),
            network_key: network.address_key(),
            is_operator: false,
            may_be_gateway: beginning.may_be_gateway,
            summary_bytes_max: SUMMARY_BYTES_MAX,
        };
        // SAFETY: a link's socket keeps its descriptor until it is dropped, and nobody closes it before.
        let socket = unsafe { AsyncFd::register(LinkSocket::open(super::PORT).unwrap()) };
        let mut known = Membership::new(network);
        known.learn(&beginning.introduction, wall_time()).unwrap();
        let body = Body {
            own: keys.host.public(),
            introduction: beginning.introduction,
            issuer: None,
            known,
            link,
            socket: socket.unwrap(),
            overlay,
            near: Neighbourhood::new(config, 66, now()),
            manner: beginning.manner,
            slandered: None,
        };
        (body, events)
    }

    /// Goes on until nobody gives orders any more.
    pub async fn live(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut events: OverlayEvents,
    ) {
        loop {
            self.settle();
            let due = [self.link.poll_timeout(), self.near.poll_timeout()];
            let due = due.into_iter().flatten().min();
            let wait = due.map_or(IDLE, |due| due.since(now()));
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                event = events.next() => {
                    let said = NeighbourhoodInput::Overlay(event.expect("its overlay is ours"));
                    self.near.handle_input(said, now());
                }
                ready = self.socket.readable_mut() => {
                    ready.unwrap().clear_ready();
                    self.receive();
                }
                () = tokio::time::sleep(wait) => {}
            }
            self.settle();
            if self.link.poll_timeout().is_some_and(|due| due <= now()) {
                self.link.handle_timeout(now());
                self.settle();
            }
            if self.near.poll_timeout().is_some_and(|due| due <= now()) {
                self.near.handle_timeout(now());
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Say {
                to,
                payload,
                copies,
            } => {
                for number in 1..=copies {
                    let payload = payload.clone();
                    self.link.handle_input(Input::Send { to, payload }, now());
                    if number % FLOOD_BATCH == 0 {
                        self.settle();
                    }
                }
            }
            Order::Overlay(command) => drop(self.overlay.send(command)),
            Order::Claim(instance) => {
                self.near
                    .handle_input(NeighbourhoodInput::Own(instance), now());
            }
            Order::Slander(victim) => {
                let members = self.known.members().map(|it| it.certificate.host);
                let others = members.filter(|it| ![self.own, victim].contains(it));
                self.slandered = Some((victim, others.collect()));
            }
            Order::LetIn(issuer) => self.issuer = Some(issuer),
            Order::Flood { topic, messages } => {
                for number in 1..=messages {
                    let topic = topic.clone();
                    let bytes = format!("flood {number}").into_bytes();
                    self.overlay.send(OverlayCommand::Publish { topic, bytes });
                    if number % FLOOD_BATCH == 0 {
                        self.receive();
                        self.settle();
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            }
        }
    }

    fn receive(&mut self) {
        while let Some((from, datagram)) = self.socket.get_mut().receive().unwrap() {
            self.link
                .handle_input(Input::Received { from, datagram }, now());
        }
    }

    fn settle(&mut self) {
        loop {
            if let Some(output) = self.link.poll_output() {
                self.carry_out(output);
            } else if let Some(output) = self.near.poll_output() {
                self.carry_out_near(output);
            } else {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit { to, datagram } => self.socket.get_mut().send(to, &datagram),
            Output::Introduced {
                exchange,
                noise_key,
                introduction,
                ..
            } => self.introduced(exchange, noise_key, introduction.as_bytes()),
            Output::Answered { answer, .. } => self.learn(answer.as_bytes()),
            Output::Up { host, address } => {
                let path = Path {
                    ifindex: 1,
                    on_link: false,
                    source: address,
                    destination: address,
                };
                let up = NeighbourhoodInput::LinkUp { host, path };
                self.near.handle_input(up, now());
                self.tell_of_all(host);
            }
            Output::Down { host, .. } => {
                let down = NeighbourhoodInput::LinkDown { host };
                self.near.handle_input(down, now());
            }
            Output::Deliver { from, payload } => match payload.split_first() {
                Some((&INTRODUCTION, introduction)) => self.learn(introduction),
                Some((kind, bytes)) => {
                    if let Some(kind) = DatagramKind::from_number(*kind) {
                        let bytes = bytes.to_vec();
                        let heard = NeighbourhoodInput::Datagram { from, kind, bytes };
                        self.near.handle_input(heard, now());
                    }
                }
                None => {}
            },
            _ => {}
        }
    }

    /// Lets in who belongs to the network, or comes with a token of its desk; what others hold already
    /// it does not look at.
    fn introduced(&mut self, exchange: ExchangeId, key: NoiseKey, introduction: &[u8]) {
        let link_key = LinkKey(*key.as_bytes());
        let network = self.known.network();
        let nobody = Membership::new(network);
        let (host, answer) = if is_newcomer(introduction) {
            let request = JoinRequest::open(introduction, network, link_key).unwrap();
            let issuer = self.issuer.as_mut().expect("nobody has a token without it");
            let issued = issuer.redeem(&request, &nobody, wall_time()).unwrap();
            (issued.certificate.host, answer(Ok(&issued.credential)))
        } else {
            let mut nobody = nobody;
            let admitted = nobody.admit(introduction, link_key, wall_time());
            let (host, _) = admitted.expect("its certificate holds");
            self.learn(introduction);
            (host, self.introduction.clone())
        };
        let answer = Statement::new(answer).unwrap();
        let admit = Input::Admit {
            exchange,
            host,
            answer,
        };
        self.link.handle_input(admit, now());
    }

    fn learn(&mut self, introduction: &[u8]) {
        if let Ok((host, _)) = self.known.learn(introduction, wall_time()) {
            self.tell_near(host);
        }
    }

    fn tell_near(&mut self, host: HostId) {
        let Some(member) = self.known.member(&host).filter(|_| host != self.own) else {
            return;
        };
        let certificate = &member.certificate;
        let neighbour = Neighbour {
            host,
            site: certificate.site.clone(),
            may_be_gateway: certificate.roles.contains(&Role::Gateway),
            addresses: member.contact.addresses.clone(),
            blocks: certificate.blocks.clone(),
            is_operator: certificate.is_operator(),
        };
        self.near
            .handle_input(NeighbourhoodInput::Known(neighbour), now());
    }

    fn tell_of_all(&mut self, to: HostId) {
        for member in self.known.members().filter(|it| it.certificate.host != to) {
            let payload = [&[INTRODUCTION], &member.introduction[..]].concat();
            self.link.handle_input(Input::Send { to, payload }, now());
        }
    }

    fn slander_to(&mut self, to: HostId, honest: &[u8]) {
        let Some((victim, others)) = &mut self.slandered else {
            return;
        };
        if others.contains(&to)
            && let Some(datagram) = slander(honest, *victim)
        {
            others.remove(&to);
            let payload = [&[DatagramKind::Membership as u8], &datagram[..]].concat();
            self.link.handle_input(Input::Send { to, payload }, now());
        }
    }

    fn carry_out_near(&mut self, output: NeighbourhoodOutput) {
        match output {
            NeighbourhoodOutput::Datagram { to, kind, bytes } => {
                let payload = [&[kind as u8], &bytes[..]].concat();
                self.link.handle_input(Input::Send { to, payload }, now());
                if kind == DatagramKind::Membership {
                    self.slander_to(to, &bytes);
                }
            }
            NeighbourhoodOutput::Meet { host } => {
                if let Some(member) = self.known.member(&host) {
                    let contact = member.contact.clone();
                    let wanted = peer(host, contact.link_key, contact.addresses);
                    self.link.handle_input(wanted, now());
                }
            }
            NeighbourhoodOutput::Overlay(OverlayCommand::Answer { asked, bytes }) => {
                let bytes = match self.manner {
                    Manner::Honest => bytes,
                    Manner::Mute => return,
                    Manner::Babbling => vec![0xff; 64],
                };
                self.overlay.send(OverlayCommand::Answer { asked, bytes });
            }
            NeighbourhoodOutput::Overlay(command) => drop(self.overlay.send(command)),
            _ => {}
        }
    }
}

fn peer(host: HostId, key: LinkKey, addresses: Vec<SocketAddr>) -> Input<'static> {
    Input::SetPeer {
        host,
        noise_key: NoiseKey::from_bytes(key.0),
        addresses,
    }
}

fn now() -> Moment {
    Moment::from_nanos(u64::try_from(STARTED.elapsed().as_nanos()).unwrap())
}

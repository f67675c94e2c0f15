//! The task that drives the swarm: core's commands in, what the protocols say out.

use crate::behaviour::{Protocols, ProtocolsEvent};
use crate::codec::Carried;
use crate::config::{OverlayConfig, Pace};
use crate::connections::Connections;
use crate::drops::{Drops, OverlayDrop};
use crate::floods::{Floods, Verdict};
use crate::gate::{Gate, call};
use crate::gossip::publish;
use crate::identity::{host_of, multiaddr, peer_of};
use crate::kademlia::Kademlia;
use crate::questions::{Questions, Upshot};
use crate::queue::{Receiver, Sender};
use libp2p::connection_limits::Exceeded;
use libp2p::futures::StreamExt;
use libp2p::gossipsub::{IdentTopic, MessageAcceptance};
use libp2p::kad::Mode;
use libp2p::swarm::{ConnectionDenied, DialError, ListenError, SwarmEvent};
use libp2p::{PeerId, StreamProtocol, Swarm, gossipsub, identify, ping, request_response};
use margay_core::host::HostId;
use margay_core::overlay::{OverlayCommand, OverlayEvent, QuestionId, Topic};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at deadlines, at the least; they are no more exact than that.
const TICK: Duration = Duration::from_millis(250);

/// All of the overlay, on one task.
pub(crate) struct Task {
    swarm: Swarm<Gate<Protocols>>,
    kademlia_protocol: StreamProtocol,
    connections: Connections,
    questions: Questions,
    floods: Floods,
    kademlia: Kademlia,
    commands: Receiver<OverlayCommand>,
    events: Sender<OverlayEvent>,
    drops: Arc<Drops>,
}

impl Task {
    /// Everything at its start.
    pub(crate) fn new(
        config: &OverlayConfig,
        pace: &Pace,
        swarm: Swarm<Gate<Protocols>>,
        commands: Receiver<OverlayCommand>,
        events: Sender<OverlayEvent>,
        drops: Arc<Drops>,
    ) -> Self {
        let host = config.key.public();
        let own = *swarm.local_peer_id();
        let table = &swarm.behaviour().protocols.table;
        let kademlia_protocol = table.protocol_names()[0].clone();
        let [a, b, c, d, e, f, g, h, ..] = *host.as_bytes();
        let seed = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Task {
            kademlia_protocol,
            connections: Connections::new(own, pace, seed),
            questions: Questions::new(pace, drops.clone()),
            floods: Floods::new(pace.share),
            kademlia: Kademlia::new(host, pace, Instant::now(), drops.clone()),
            swarm,
            commands,
            events,
            drops,
        }
    }

    /// Runs until nobody sends commands any more; then all connections are closed.
    pub(crate) async fn run(mut self) {
        let mut looked = Instant::now();
        loop {
            let due = self.next_due().max(looked + TICK);
            tokio::select! {
                command = self.commands.receive() => match command {
                    Some(command) => self.handle_command(command, Instant::now()),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.handle_event(event, Instant::now()),
                () = tokio::time::sleep_until(due.into()) => {
                    looked = Instant::now();
                    self.handle_timeout(looked);
                }
            }
        }
    }

    fn handle_command(&mut self, command: OverlayCommand, now: Instant) {
        let protocols = &mut self.swarm.behaviour_mut().protocols;
        match command {
            OverlayCommand::Admit { host, addresses } => self.admit(host, addresses, now),
            OverlayCommand::Expel { host } => self.expel(host, now),
            OverlayCommand::Keep { host } => self.keep(host, now),
            OverlayCommand::Release { host } => self.connections.release(&peer_of(host), now),
            OverlayCommand::Subscribe { topic } => {
                if protocols
                    .gossip
                    .subscribe(&IdentTopic::new(topic.0))
                    .is_err()
                {
                    self.drops.count(OverlayDrop::TooLong);
                }
            }
            OverlayCommand::Unsubscribe { topic } => {
                protocols.gossip.unsubscribe(&IdentTopic::new(topic.0));
            }
            OverlayCommand::Publish { topic, bytes } => {
                if let Err(why) = publish(&mut protocols.gossip, topic, bytes) {
                    self.drops.count(why);
                }
            }
            OverlayCommand::Ask {
                to,
                question,
                bytes,
            } => {
                let told = self.ask(peer_of(to), question, bytes, now);
                self.tell(told);
            }
            OverlayCommand::Answer { asked, bytes } => {
                self.questions.answer(&mut protocols.asking, asked, bytes);
            }
            OverlayCommand::ServeKademlia(serve) => {
                let mode = if serve { Mode::Server } else { Mode::Client };
                protocols.table.set_mode(Some(mode));
            }
            OverlayCommand::Provide { key } => self.kademlia.provide(&mut protocols.table, key),
            OverlayCommand::StopProviding { key } => {
                self.kademlia.stop_providing(&mut protocols.table, key);
            }
            OverlayCommand::Find { key, question } => {
                let told = self.kademlia.find(&mut protocols.table, key, question, now);
                self.tell(told);
            }
        }
    }

    fn admit(&mut self, host: HostId, addresses: Vec<SocketAddr>, now: Instant) {
        let peer = peer_of(host);
        let addresses = addresses.into_iter().map(multiaddr).collect();
        let gate = self.swarm.behaviour_mut();
        gate.admit(peer, addresses);
        if gate.protocols.table.remove_peer(&peer).is_some() {
            gate.serves_kademlia(&peer);
        }
        self.connections.call_now(&peer, now);
        self.call(now);
    }

    fn expel(&mut self, host: HostId, now: Instant) {
        let peer = peer_of(host);
        let gate = self.swarm.behaviour_mut();
        gate.expel(&peer);
        gate.protocols.table.remove_peer(&peer);
        self.connections.release(&peer, now);
        // Fails only if there is no connection.
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn keep(&mut self, host: HostId, now: Instant) {
        let peer = peer_of(host);
        if self.swarm.behaviour().addresses(&peer).is_none() {
            self.drops.count(OverlayDrop::NotAdmitted);
            return;
        }
        self.connections.keep(peer, now);
        self.call(now);
    }

    fn ask(
        &mut self,
        peer: PeerId,
        question: QuestionId,
        bytes: Vec<u8>,
        now: Instant,
    ) -> Option<OverlayEvent> {
        let gate = self.swarm.behaviour_mut();
        if gate.addresses(&peer).is_none() {
            let why = OverlayDrop::NotAdmitted;
            return Some(self.questions.no_answer(question, why));
        }
        self.connections.use_now(&peer, now);
        let asking = &mut gate.protocols.asking;
        self.questions.ask(asking, &peer, question, bytes, now)
    }

    fn next_due(&self) -> Instant {
        let others = [self.connections.next_due(), self.questions.next_due()];
        let others = others.into_iter().flatten();
        others.fold(self.kademlia.next_due(), Instant::min)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.call(now);
        let close = self.connections.to_close(now);
        self.drops
            .count_many(OverlayDrop::Silent, close.silent.len());
        for id in close.silent.into_iter().chain(close.unneeded) {
            self.swarm.close_connection(id);
        }
        let table = &mut self.swarm.behaviour_mut().protocols.table;
        let found = self.kademlia.handle_timeout(table, now);
        let unanswered = self.questions.handle_timeout(now);
        for event in found.into_iter().chain(unanswered) {
            self.events.send(event);
        }
    }

    fn handle_event(&mut self, event: SwarmEvent<ProtocolsEvent>, now: Instant) {
        match event {
            SwarmEvent::Behaviour(event) => self.handle_protocols(event, now),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                let called = endpoint.is_dialer();
                self.connections.opened(peer_id, connection_id, called, now);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                cause,
                ..
            } => {
                tracing::debug!(%peer_id, ?cause, "connection closed");
                if self.connections.closed(&peer_id, connection_id, now) {
                    self.floods.gone(&peer_id, now);
                    let host = host_of(&peer_id);
                    self.tell(host.map(|host| OverlayEvent::Disconnected { host }));
                    self.call(now);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(?peer_id, %error, "call failed");
                self.count_call(&error);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "caller refused");
                self.count_caller(&error);
            }
            SwarmEvent::ListenerClosed { reason, .. } => {
                tracing::warn!(?reason, "other hosts cannot call any more");
            }
            _ => {}
        }
    }

    fn handle_protocols(&mut self, event: ProtocolsEvent, now: Instant) {
        match event {
            ProtocolsEvent::Identify(event) => self.handle_identify(event),
            ProtocolsEvent::Ping(ping::Event {
                connection,
                result: Err(why),
                ..
            }) => {
                tracing::debug!(%why, "no answer to a ping");
                if self.swarm.close_connection(connection) {
                    self.drops.count(OverlayDrop::Silent);
                }
            }
            ProtocolsEvent::Gossip(event) => self.handle_gossip(event, now),
            ProtocolsEvent::Asking(event) => self.handle_asking(event, now),
            ProtocolsEvent::Table(event) => {
                let gate = self.swarm.behaviour_mut();
                let told = self.kademlia.handle_event(gate, event, now);
                self.tell(told);
            }
            ProtocolsEvent::Ping(_) => {}
        }
    }

    /// A host that says what it speaks has let this one in.
    fn handle_identify(&mut self, event: identify::Event) {
        let identify::Event::Received {
            connection_id,
            peer_id,
            info,
        } = event
        else {
            return;
        };
        let gate = self.swarm.behaviour_mut();
        if info.protocols.contains(&self.kademlia_protocol) {
            gate.serves_kademlia(&peer_id);
        } else {
            gate.protocols.table.remove_peer(&peer_id);
        }
        if self.connections.speaks(&peer_id, connection_id) {
            let host = host_of(&peer_id);
            self.tell(host.map(|host| OverlayEvent::Connected { host }));
        }
    }

    fn handle_asking(&mut self, event: request_response::Event<Carried, Carried>, now: Instant) {
        if let request_response::Event::Message {
            peer,
            message: request_response::Message::Request { .. },
            ..
        } = &event
            && !self.takes(*peer, now)
        {
            return;
        }
        match self.questions.handle_event(event) {
            Upshot::Tell(event) => self.tell(Some(event)),
            Upshot::HangUp(id, event) => {
                self.swarm.close_connection(id);
                self.tell(event);
            }
            Upshot::Done => {}
        }
    }

    /// Whether one more message of a host is taken; who goes on beyond that is hung up on.
    fn takes(&mut self, peer: PeerId, now: Instant) -> bool {
        let verdict = self.floods.bring(peer, now);
        if verdict == Verdict::Take {
            return true;
        }
        self.drops.count(OverlayDrop::Flood);
        if verdict == Verdict::HangUp {
            tracing::warn!(%peer, "a host is hung up on, for it floods this one");
            let until = now + self.floods.shun();
            self.swarm.behaviour_mut().shun(peer, until);
            // Fails only if there is no connection.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        false
    }

    fn handle_gossip(&mut self, event: gossipsub::Event, now: Instant) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                let takes = self.takes(propagation_source, now);
                let acceptance = match takes {
                    true => MessageAcceptance::Accept,
                    false => MessageAcceptance::Ignore,
                };
                let gossip = &mut self.swarm.behaviour_mut().protocols.gossip;
                gossip.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
                if !takes {
                    return;
                }
                let from = host_of(&propagation_source);
                self.tell(from.map(|from| OverlayEvent::Heard {
                    topic: Topic(message.topic.into_string()),
                    from,
                    bytes: message.data,
                }));
            }
            gossipsub::Event::SlowPeer { peer_id, .. } => {
                tracing::debug!(%peer_id, "a neighbour is slow");
                self.drops.count(OverlayDrop::SlowNeighbour);
            }
            _ => {}
        }
    }

    /// Calls whom it is time to call.
    fn call(&mut self, now: Instant) {
        for peer in self.connections.due_calls(now) {
            if let Err(error) = self.swarm.dial(call(peer)) {
                self.count_call(&error);
            }
        }
    }

    fn tell(&self, event: Option<OverlayEvent>) {
        if let Some(event) = event {
            self.events.send(event);
        }
    }

    fn count_call(&self, error: &DialError) {
        match error {
            DialError::Denied { cause } => self.count_limit(cause),
            DialError::Transport(_) | DialError::NoAddresses => {
                self.drops.count(OverlayDrop::Unreachable);
            }
            DialError::WrongPeerId { .. } | DialError::LocalPeerId { .. } => {
                self.drops.count(OverlayDrop::HandshakeFailed);
            }
            DialError::DialPeerConditionFalse(_) | DialError::Aborted => {}
        }
    }

    fn count_caller(&self, error: &ListenError) {
        match error {
            ListenError::Denied { cause } => self.count_limit(cause),
            ListenError::Transport(_)
            | ListenError::WrongPeerId { .. }
            | ListenError::LocalPeerId { .. } => self.drops.count(OverlayDrop::HandshakeFailed),
            ListenError::Aborted => {}
        }
    }

    /// Whom the gate refuses it counts itself.
    fn count_limit(&self, cause: &ConnectionDenied) {
        if cause.downcast_ref::<Exceeded>().is_some() {
            self.drops.count(OverlayDrop::ConnectionLimit);
        }
    }
}

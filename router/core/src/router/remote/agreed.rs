//! The client's side of a flow that was accepted: it goes on once a link to its server's host stands.

use super::super::Router;
use super::asking::{HELD_MAX, Waiting};
use super::between;
use crate::choice::{Absence, Choice};
use crate::drop_reason::DropReason;
use crate::flow_table::OpenRequest;
use crate::host::HostId;
use crate::id::EndpointIndex;
use crate::moment::Moment;
use crate::packet::{self, Packet};
use crate::port::Output;
use crate::service_frame::{Accept, Attempt, FrameKind};
use std::time::Duration;

/// How long an accepted flow waits for a link to its server's host: several round trips of a handshake
/// around the world. With all the time for asking it is less than the server's host remembers it.
const LINK_WITHIN: Duration = Duration::from_secs(3);

/// Answers of a server that wait for that link, of one flow: as many as packets of its client.
const REPLIES_MAX: usize = HELD_MAX;

/// An answer that waits for a link to the server's host.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) accept: Accept,
    /// What the server has sent so far.
    replies: Vec<Vec<u8>>,
}

impl Agreed {
    fn new(accept: Accept) -> Self {
        let mut agreed = Agreed {
            accept,
            replies: Vec::new(),
        };
        let first = agreed.accept.reply.take();
        agreed.take(first);
        agreed
    }

    /// Keeps a reply once; tells whether there was room.
    fn take(&mut self, reply: Option<Vec<u8>>) -> bool {
        let Some(reply) = reply.filter(|reply| !self.replies.contains(reply)) else {
            return true;
        };
        let has_room = self.replies.len() < REPLIES_MAX;
        if has_room {
            self.replies.push(reply);
        }
        has_room
    }
}

impl Router {
    /// A server's host takes the flow: goes on with it, at once or when a link to that host stands.
    pub(in crate::router) fn accepted(
        &mut self,
        attempt: Attempt,
        accept: Accept,
        now: Moment,
    ) -> Result<(), DropReason> {
        let Some(mut waiting) = self.pending.remove(attempt) else {
            return self.accepted_again(attempt, accept, now);
        };
        if let Some(agreed) = &mut waiting.agreed {
            let is_same =
                agreed.accept.server == accept.server && agreed.accept.host == accept.host;
            let kept = is_same && agreed.take(accept.reply);
            self.pending.insert(waiting);
            return kept.then_some(()).ok_or(DropReason::HeldPackets);
        }
        let is_reached = self.peers.is_up(&accept.host);
        let agreed = Agreed::new(accept);
        if is_reached {
            return self.go_direct(waiting, agreed, now);
        }
        waiting.due = now + LINK_WITHIN;
        waiting.agreed = Some(agreed);
        self.pending.insert(waiting);
        Ok(())
    }

    /// Goes on with the flows that waited for a link to their server's host.
    pub(in crate::router) fn link_stands(&mut self, host: &HostId, now: Moment) {
        for attempt in self.pending.waiting_for(host) {
            let Some(mut waiting) = self.pending.remove(attempt) else {
                continue;
            };
            let gone_on = match waiting.agreed.take() {
                Some(agreed) => self.go_direct(waiting, agreed, now),
                None => {
                    self.pending.insert(waiting);
                    Ok(())
                }
            };
            if let Err(reason) = gone_on {
                self.drops.count(reason);
            }
        }
    }

    /// Opens a flow as its server's host took it, delivers what the server answered, and sends what
    /// waited.
    fn go_direct(
        &mut self,
        waiting: Waiting,
        agreed: Agreed,
        now: Moment,
    ) -> Result<(), DropReason> {
        let Agreed { accept, replies } = agreed;
        let is_as_asked = accept.server == waiting.open.server.instance;
        let opened = self.agree(&waiting, &accept);
        let opened = opened.and_then(|open| self.flows.open_as_agreed(open, now).map(|()| open));
        let open = match opened {
            Ok(open) => open,
            Err(reason) => {
                self.refuse(waiting, reason, now);
                return Ok(());
            }
        };
        self.drain_flows();
        let agreed = (open.delivered.reversed(), accept.host);
        self.agreed.note(waiting.attempt, agreed, now);
        self.send_frame(accept.host, waiting.attempt, FrameKind::Acknowledge);
        let mut delivered = Ok(());
        for reply in replies {
            delivered = delivered.and(self.deliver_reply(&open, waiting.endpoint, &reply));
        }
        // The server has the first one already.
        for frame in waiting.held.into_iter().skip(1) {
            self.outputs.push_back(Output::Forward(frame));
        }
        self.note_grant(&open, &accept);
        // Where another took the flow than was called, core would ask for the next one, too.
        if is_as_asked || waiting.open.choice != Choice::Called {
            self.aggregate(&open, now);
        }
        delivered
    }

    /// What both sides agreed on: as it was asked for, or another instance.
    fn agree(&mut self, waiting: &Waiting, accept: &Accept) -> Result<OpenRequest, DropReason> {
        let server = self.party_at(accept.server, accept.host);
        let mut open = OpenRequest {
            server: server.ok_or(DropReason::NoLocation)?,
            hops: between(&accept.hops),
            ..waiting.open
        };
        if accept.server != waiting.open.server.instance {
            if accept.address.is_ipv4() != open.delivered.destination.is_ipv4() {
                return Err(DropReason::NotUnderstoodFrame);
            }
            open.delivered.destination.set_ip(accept.address);
            open.choice = match open.choice {
                Choice::Called => Choice::Sibling(Absence::NotReady),
                other => other,
            };
        }
        Ok(open)
    }

    /// The acknowledgement was lost, or more replies were on their way before it.
    fn accepted_again(
        &mut self,
        attempt: Attempt,
        accept: Accept,
        now: Moment,
    ) -> Result<(), DropReason> {
        let reply = accept
            .reply
            .as_deref()
            .ok_or(DropReason::NotUnderstoodFrame)?;
        let key = Packet::parse(reply)?.key;
        if self.agreed.find(attempt, now) != Some(&(key, accept.host)) {
            return Err(DropReason::NotUnderstoodFrame);
        }
        let flow = self
            .flows
            .find(&key)
            .ok_or(DropReason::NotUnderstoodFrame)?;
        if flow.entries.reverse.key != key || flow.entries.server != accept.server {
            return Err(DropReason::NotUnderstoodFrame);
        }
        let (client, delivered) = (flow.entries.client, flow.entries.reverse.delivered);
        let network = self.instances.get(&client).and_then(|it| it.network);
        let endpoint = network.ok_or(DropReason::NoLocation)?.endpoint;
        let packet = packet::address_to(reply, delivered);
        let packet = packet.ok_or(DropReason::NotUnderstoodFrame)?;
        self.outputs.push_back(Output::Inject { endpoint, packet });
        self.send_frame(accept.host, attempt, FrameKind::Acknowledge);
        Ok(())
    }

    fn deliver_reply(
        &mut self,
        open: &OpenRequest,
        endpoint: EndpointIndex,
        reply: &[u8],
    ) -> Result<(), DropReason> {
        if Packet::parse(reply)?.key != open.delivered.reversed() {
            return Err(DropReason::NotUnderstoodFrame);
        }
        let packet = packet::address_to(reply, open.key.reversed());
        let packet = packet.ok_or(DropReason::NotUnderstoodFrame)?;
        self.outputs.push_back(Output::Inject { endpoint, packet });
        Ok(())
    }
}

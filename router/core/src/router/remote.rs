//! Flows between hosts: who is asked, who accepts, and when both sides' entries stand.
//!
//! ```text
//!  client's router                                  server's router
//!    first packet ──── Request ───────────────────▶ decides, accepts, delivers it
//!    opens its entries ◀─── Accept (with replies) ─ remembers what it accepted
//!    sends what waited ──── Acknowledge ──────────▶ opens its entries
//! ```
//! The first packet goes by service ID, through as many routers as it takes; all later ones go
//! direct. Each frame may be lost: the client's router asks again, with the same attempt, and gets
//! the same answer.
//!
//! Where the server's router accepts all flows of a client, both kernels open the further ones, and a
//! first packet that nothing admits any more comes back:
//!
//! ```text
//!  client's kernel                                 server's kernel
//!    first packet ────────────────────────────────▶ opens its entries, by an admission
//!                                                   or hands it up
//!  client's router                                 server's router
//!    asks as above ◀───────────────── Unadmitted ── decides nothing
//! ```

mod accepting;
mod admitting;
mod agreed;
mod asking;
mod granted;
mod recent;
mod requests;

#[cfg(test)]
pub(super) use accepting::ACCEPTED_PER_HOST_MAX;
pub(super) use accepting::Accepted;
pub(super) use admitting::Admissions;
pub(super) use asking::{PENDING_MAX, PENDING_PER_INSTANCE_MAX, Pending};
pub(super) use granted::Grants;
pub(super) use recent::Recent;
pub use requests::Requests;

use super::Router;
use super::upcall::Reporter;
use crate::drop_reason::DropReason;
use crate::host::HostId;
use crate::moment::Moment;
use crate::packet::Upcalled;
use crate::peer::RemoteInstance;
use crate::port::Output;
use crate::service_frame::{Attempt, FrameKind, ServiceFrame};

impl Router {
    /// Takes a service frame of another host.
    pub(super) fn service_frame(&mut self, from: HostId, bytes: &[u8], now: Moment) {
        let taken = match ServiceFrame::decode(bytes) {
            Ok(frame) => self.take_frame(from, frame, now),
            Err(_) => Err(DropReason::NotUnderstoodFrame),
        };
        if let Err(reason) = taken {
            self.drops.count(reason);
        }
    }

    fn take_frame(
        &mut self,
        from: HostId,
        frame: ServiceFrame,
        now: Moment,
    ) -> Result<(), DropReason> {
        let attempt = frame.attempt;
        if let Some(next) = self.next_on_the_way_back(&frame.kind) {
            let asked = self.passed_on.find(attempt, now);
            asked.ok_or(DropReason::NotUnderstoodFrame)?;
            self.send_frame(next, attempt, frame.kind);
            return Ok(());
        }
        match frame.kind {
            FrameKind::Request(request) => {
                let hops = request.hops.clone();
                if let Err(reason) = self.requested(from, attempt, request, now) {
                    self.drops.count(reason);
                    self.requests.requests_rejected += 1;
                    self.send_back(attempt, FrameKind::Reject { reason, hops });
                }
                Ok(())
            }
            FrameKind::Accept(accept) => self.accepted(attempt, accept, now),
            FrameKind::Acknowledge => self.acknowledged(from, attempt, now),
            FrameKind::Reject { reason, .. } => self.rejected(attempt, reason, now),
            FrameKind::Problem { packet } => {
                let output = self.problem(from, &packet)?;
                self.outputs.push_back(output);
                Ok(())
            }
            FrameKind::Unadmitted {
                packet,
                policy_epoch,
            } => self.unadmitted(from, packet, policy_epoch, now),
        }
    }

    /// Who this host is, if there are others.
    fn own_host(&self) -> Option<HostId> {
        self.config.host.as_ref().map(|own| own.id)
    }

    /// The router before this one on the way of a request, if the answer is not for this one.
    fn next_on_the_way_back(&self, kind: &FrameKind) -> Option<HostId> {
        let hops = hops_of(kind)?;
        let own = hops.iter().position(|hop| Some(*hop) == self.own_host())?;
        Some(*hops.get(own.checked_sub(1)?)?)
    }

    /// Answers a request: to the client's router itself if it is known here, else by the way that the
    /// request came.
    fn send_back(&mut self, attempt: Attempt, kind: FrameKind) {
        let hops = hops_of(&kind).unwrap_or_default();
        let direct = hops.first().filter(|client| self.peers.is_up(client));
        if let Some(to) = direct.or(hops.last()).copied() {
            self.send_frame(to, attempt, kind);
        }
    }

    fn send_frame(&mut self, to: HostId, attempt: Attempt, kind: FrameKind) {
        let frame = ServiceFrame { attempt, kind }.encode();
        self.outputs.push_back(Output::SendFrame { to, frame });
    }

    /// An ICMP error that an instance of the sending host sent about a packet of an open flow.
    fn problem(&self, from: HostId, packet: &[u8]) -> Result<Output, DropReason> {
        match Upcalled::parse(packet)? {
            Upcalled::Error(error) => self.translate(Reporter::There(from), packet, &error),
            Upcalled::Packet(_) | Upcalled::LaterFragment { .. } => {
                Err(DropReason::NotUnderstoodFrame)
            }
        }
    }
}

/// How many routers lie between the client's and the server's on the way of a request.
fn between(hops: &[HostId]) -> u8 {
    u8::try_from(hops.len().saturating_sub(1)).unwrap_or(u8::MAX)
}

/// The routers that passed on the request that a frame answers; `None`: it answers none.
fn hops_of(kind: &FrameKind) -> Option<&[HostId]> {
    match kind {
        FrameKind::Accept(accept) => Some(&accept.hops),
        FrameKind::Reject { hops, .. } => Some(hops),
        _ => None,
    }
}

/// Hands an error to the host of whoever shall read it.
pub(super) fn problem_for(receiver: &RemoteInstance, packet: &[u8]) -> Output {
    let kind = FrameKind::Problem {
        packet: packet.to_vec(),
    };
    // It is about a flow whose attempt is over.
    let attempt = Attempt(0);
    Output::SendFrame {
        to: receiver.host,
        frame: ServiceFrame { attempt, kind }.encode(),
    }
}

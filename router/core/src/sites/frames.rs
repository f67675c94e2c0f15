//! Service frames beyond the site: at its border a request carries its caller's own record.

use super::drops::SitesDrop;
use super::leases::CALLED_LEASE;
use super::message::{VERSION, Word, check_version, read};
use super::taking::Source;
use super::{Sites, SitesOutput};
use crate::catalog::{Catalog, Identity, SignedInstance};
use crate::host::HostId;
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::neighbourhood::{DATAGRAM_BYTES_MAX, DatagramKind};
use crate::packet::Packet;
use crate::peer::{Known, PeerInput};
use crate::service_frame::{FrameKind, Request, ServiceFrame};
use crate::wire::margay::sites as wire;
use prost::Message;
use std::net::IpAddr;

impl Sites {
    /// Sends a frame of the Router: as it is, or with its caller's record.
    pub(super) fn frame(&mut self, to: HostId, frame: Vec<u8>, catalog: &Catalog, now: Moment) {
        let request = request_of(&frame);
        if let Some(request) = &request {
            let leases = self.leases.of_service(&request.service);
            let ids: Vec<InstanceId> = leases.map(|it| it.told.instance).collect();
            ids.into_iter().for_each(|id| self.leases.used(id, now));
            self.meet_server(&to, request, now);
        }
        if self.members.is_far(&to) {
            self.sends_to(to, now);
            for id in self.leases.of_host(&to) {
                self.leases.used(id, now);
            }
        }
        let caller = request.and_then(|it| Some((*it.hops.first()?, it.client)));
        let beyond = |(host, _): &(HostId, InstanceId)| {
            self.members.site_of(host) != self.members.site_of(&to)
        };
        let Some((host, client)) = caller.filter(beyond) else {
            let kind = DatagramKind::ServiceFrame;
            let plain = SitesOutput::Datagram(to, kind, frame);
            return self.outputs.push_back(plain);
        };
        let Some(record) = self.record_of(&host, client, catalog) else {
            return self.count(SitesDrop::NoIntroduction);
        };
        let word = Word {
            origin: host,
            record: record.bytes().to_vec(),
        };
        let introduced = wire::IntroducedFrame {
            version: VERSION,
            caller: Some(word.into_wire()),
            frame,
        };
        let bytes = introduced.encode_to_vec();
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return self.count(SitesDrop::IntroductionTooLong);
        }
        let kind = DatagramKind::IntroducedFrame;
        self.outputs
            .push_back(SitesOutput::Datagram(to, kind, bytes));
    }

    /// Takes a frame with its caller's record.
    pub(super) fn introduced(
        &mut self,
        from: HostId,
        bytes: &[u8],
        now: Moment,
    ) -> Result<(), SitesDrop> {
        let introduced: wire::IntroducedFrame = read(bytes)?;
        check_version(introduced.version)?;
        let word = Word::read(introduced.caller.ok_or(SitesDrop::Unreadable)?)?;
        let request = request_of(&introduced.frame).ok_or(SitesDrop::Unreadable)?;
        if !self.members.is_near(&word.origin) && word.origin != self.members.host {
            let signed = self.verify(&word)?;
            let called = (request.hops.first(), request.client);
            if called != (Some(&word.origin), signed.instance.identity.number) {
                return Err(SitesDrop::NotItsOwn);
            }
            let source = Source {
                via: None,
                known: Known::Called,
                lease: CALLED_LEASE,
            };
            // What is known better already is no reason not to answer.
            match self.lease(signed, source, now) {
                Ok(()) | Err(SitesDrop::OldRecord) => {}
                Err(reason) => return Err(reason),
            }
        }
        let frame = introduced.frame;
        self.tell(PeerInput::Frame { from, frame });
        Ok(())
    }

    /// Has a link to the host of whom a request looks for, when this host's own instance calls.
    fn meet_server(&mut self, to: &HostId, request: &Request, now: Moment) {
        if request.hops.first() != Some(&self.members.host) {
            return;
        }
        let Some(address) = Packet::parse(&request.packet)
            .ok()
            .map(|it| it.key.destination.ip())
        else {
            return;
        };
        let leases = self.leases.of_service(&request.service);
        let server = leases.map(|it| &it.told).find(|told| {
            let called = told.addresses.called;
            address == IpAddr::from(called.v4) || address == IpAddr::from(called.v6)
        });
        if let Some(host) = server.map(|told| told.host).filter(|host| host != to) {
            self.sends_to(host, now);
        }
    }

    fn record_of(
        &self,
        host: &HostId,
        client: InstanceId,
        catalog: &Catalog,
    ) -> Option<SignedInstance> {
        let identity = Identity {
            born_at: *host,
            number: client,
        };
        let here = catalog.signed_instance(host, identity);
        let lease = self.leases.get(client).filter(|it| it.told.host == *host);
        here.or_else(|| lease.map(|it| it.signed.clone()))
    }
}

/// The request that a frame holds, if it does.
fn request_of(frame: &[u8]) -> Option<Request> {
    match ServiceFrame::decode(frame).ok()?.kind {
        FrameKind::Request(request) => Some(request),
        _ => None,
    }
}

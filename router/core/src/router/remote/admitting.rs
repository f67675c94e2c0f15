//! The server's side of flows that two kernels open between them: who need not ask, and what becomes of
//! first packets that nothing admits.

use super::super::Router;
use super::super::aged::AgedMap;
use super::super::aggregates::cell_of_instance;
use super::super::decision::Server;
use super::super::identities::all;
use crate::aggregate::{ADMISSIONS_MAX, Admission, AdmissionKey, EpochCell};
use crate::choice::Choice;
use crate::drop_reason::DropReason;
use crate::flow_key::{FlowKey, Protocol};
use crate::flow_table::{OpenRequest, Party};
use crate::id::{EndpointIndex, InstanceId, LocationIndex};
use crate::moment::Moment;
use crate::packet::{self, Packet};
use crate::peer::Known;
use crate::port::{Frame, Output};
use crate::service_frame::{Attempt, FrameKind, PACKET_BYTES_MAX, Scope};
use crate::way::Ingress;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The admissions that were made and not taken back, in force or not.
#[derive(Debug)]
pub(in crate::router) struct Admissions {
    open: AgedMap<AdmissionKey, Admission>,
}

impl Default for Admissions {
    fn default() -> Self {
        Admissions {
            open: AgedMap::new(ADMISSIONS_MAX),
        }
    }
}

impl Admissions {
    /// Takes out what covers packets of one address.
    fn take_of(&mut self, client: IpAddr) -> Vec<AdmissionKey> {
        let lowest = AdmissionKey {
            client,
            server: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            protocol: Protocol::Tcp,
        };
        let taken = self.open.take_from(lowest.., |key| key.client == client);
        taken.into_iter().map(|(key, _)| key).collect()
    }
}

impl Router {
    /// Has the kernel open further flows like this one, which is accepted, if nothing but the policy
    /// and its server decides on them.
    pub(super) fn admit_further(
        &mut self,
        open: &OpenRequest,
        endpoint: EndpointIndex,
        now: Moment,
    ) -> Scope {
        let Some(admission) = self.admission(open, endpoint) else {
            return Scope::Flow;
        };
        let key = admission.key;
        if self.admissions.open.get(&key) != Some(&admission) {
            self.aggregates.decide_under(admission.server_cell);
            let evicted = self.admissions.open.insert(key, admission);
            self.close_admissions(evicted.into_iter().collect());
            self.outputs.push_back(Output::OpenAdmission(admission));
        }
        self.flows.look_at_supply(now);
        self.drain_flows();
        Scope::Aggregate {
            policy_epoch: admission.policy_epoch,
        }
    }

    fn admission(&self, open: &OpenRequest, endpoint: EndpointIndex) -> Option<Admission> {
        let (client, server) = (open.client.instance, open.server.instance);
        let Some(Server::Here(instance)) = self.taking_flows(server) else {
            return None;
        };
        let service = self.services.find(&instance.plan.name.automaton)?;
        // Callers of other sites are forgotten while they call nobody: then nobody could tell their
        // routers to ask again.
        let stays_known = self.peers.instance(client)?.known == Known::Flooded;
        let may = self.config.aggregates
            && stays_known
            && self.services.table.is_settled(service.id)
            && !self.flows.is_near_limit(client);
        let server_cell = cell_of_instance(server);
        may.then(|| Admission {
            key: AdmissionKey::covering(open.key),
            client,
            from: open.client.location,
            server,
            endpoint,
            policy_epoch: self.aggregates.epoch(EpochCell::Policy),
            server_cell,
            server_epoch: self.aggregates.epoch(server_cell),
        })
    }

    /// Has every flow of another host's instance asked for.
    pub(in crate::router) fn end_admissions_of(&mut self, client: InstanceId) {
        let Some(remote) = self.peers.instance(client) else {
            return;
        };
        let addresses = all(remote.addresses);
        let taken = addresses.map(|address| self.admissions.take_of(address));
        self.close_admissions(taken.concat());
    }

    fn close_admissions(&mut self, keys: Vec<AdmissionKey>) {
        if !keys.is_empty() {
            self.outputs.push_back(Output::CloseAdmissions(keys));
        }
    }

    /// Takes a first packet of another host that the kernel opened no flow for.
    pub(in crate::router) fn peer_upcall(
        &mut self,
        from: Option<LocationIndex>,
        frame: &Frame,
        now: Moment,
    ) {
        if let Err(reason) = self.let_in_or_return(from, frame.packet(), now) {
            self.drops.count(reason);
        }
    }

    /// Delivers it if its flow is admitted all the same, else has its host's router ask.
    fn let_in_or_return(
        &mut self,
        from: Option<LocationIndex>,
        bytes: &[u8],
        now: Moment,
    ) -> Result<(), DropReason> {
        let packet = Packet::parse(bytes)?;
        if !packet.opens_a_flow() {
            return Err(DropReason::NoAdmission);
        }
        let whole = packet::address_to(bytes, packet.key);
        let packet_bytes = whole.filter(|packet| packet.len() <= PACKET_BYTES_MAX);
        let packet_bytes = packet_bytes.ok_or(DropReason::NotCarried)?;
        if let Some(endpoint) = from.and_then(|from| self.open_admitted(packet.key, from, now)) {
            let packet = packet_bytes;
            self.outputs.push_back(Output::Inject { endpoint, packet });
            return Ok(());
        }
        if from.is_none() {
            // Should the kernel not have taken the admission, it is told again with the next request.
            let key = AdmissionKey::covering(packet.key);
            self.admissions.open.remove(&key);
        }
        self.return_packet(packet.key.source.ip(), packet_bytes)
    }

    /// Opens a flow that the kernel could not: it had no slots left, or its keys were being closed.
    /// Answers where its packet is delivered.
    fn open_admitted(
        &mut self,
        key: FlowKey,
        from: LocationIndex,
        now: Moment,
    ) -> Option<EndpointIndex> {
        let admission = *self.admissions.open.get(&AdmissionKey::covering(key))?;
        let in_force = |cell, epoch| self.aggregates.epoch(cell) == epoch;
        if admission.from != from
            || !in_force(EpochCell::Policy, admission.policy_epoch)
            || !in_force(admission.server_cell, admission.server_epoch)
            || self.flows.is_near_limit(admission.client)
        {
            return None;
        }
        let server = self.instances.get(&admission.server)?.party()?;
        // Several packets can be on their way up before the first has opened their flow.
        if let Some(direction) = self.flows.direction(&key) {
            let is_this =
                direction.ingress == Ingress::Peer(from) && direction.location == server.location;
            return is_this.then_some(admission.endpoint);
        }
        let client = Party {
            instance: admission.client,
            ingress: Ingress::Peer(from),
            location: from,
        };
        let request = OpenRequest {
            key,
            delivered: key,
            client,
            server,
            choice: Choice::Aggregate,
            hops: 0,
        };
        self.flows.open_as_agreed(request, now).ok()?;
        self.note_load(server.instance, now);
        self.flows.look_at_supply(now);
        self.drain_flows();
        Some(admission.endpoint)
    }

    /// Has the router of whoever holds `source` ask for the packet's flow.
    fn return_packet(&mut self, source: IpAddr, packet: Vec<u8>) -> Result<(), DropReason> {
        let client = self.identities.find(source);
        let client = client.and_then(|holder| self.peers.instance(holder.instance?));
        let host = client.ok_or(DropReason::NoAdmission)?.host;
        if !self.peers.is_up(&host) {
            return Err(DropReason::NoAdmission);
        }
        self.requests.packets_returned += 1;
        let policy_epoch = self.aggregates.epoch(EpochCell::Policy);
        let kind = FrameKind::Unadmitted {
            packet,
            policy_epoch,
        };
        // Nobody asked for it.
        self.send_frame(host, Attempt(0), kind);
        Ok(())
    }
}

//! The neighbourhood: driven here between the host link and the Router.

use super::identity::Identity;
use super::payload::Kind;
use super::{Errand, Hosts};
use crate::journal::{MembershipRecord, RecordedMembership};
use margay_core::admission::Role;
use margay_core::host::{HostId, OriginEpoch};
use margay_core::id::InstanceId;
use margay_core::moment::Moment;
use margay_core::name::AutomatonName;
use margay_core::neighbourhood::{
    DatagramKind, Neighbour, Neighbourhood, NeighbourhoodConfig, NeighbourhoodInput,
    NeighbourhoodOutput,
};
use margay_core::peer::RemoteInstance;
use margay_core::port::Input;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Begins alone, with what an earlier run was asked to keep.
pub(super) fn begin(
    own: &Identity,
    recorded: &RecordedMembership,
    summary_bytes_max: usize,
    seed: [u8; 8],
    now: Moment,
) -> Neighbourhood {
    let config = NeighbourhoodConfig {
        key: own.keys.host.clone(),
        name: own.entry.name.clone(),
        site: own.entry.site.clone(),
        sponsor: own.entry.sponsor.as_ref().map(|sponsor| sponsor.host),
        epoch: own.epoch,
        network_key: own.entry.network.address_key(),
        is_operator: own.certificate.is_operator(),
        may_be_gateway: own.certificate.roles.contains(&Role::Gateway),
        summary_bytes_max,
    };
    let mut near = Neighbourhood::new(config, u64::from_ne_bytes(seed), now);
    for bytes in recorded.kept.clone() {
        near.handle_input(NeighbourhoodInput::Kept { bytes }, now);
    }
    near
}

impl Hosts {
    /// Tells the neighbourhood of a member.
    pub(super) fn tell_of(&mut self, host: HostId, now: Moment) {
        let Some(member) = self.membership.member(&host) else {
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
            .handle_input(NeighbourhoodInput::Known(neighbour), now);
    }

    /// Passes on what the host link brought.
    pub(super) fn near_said(
        &mut self,
        from: HostId,
        kind: DatagramKind,
        bytes: &[u8],
        now: Moment,
    ) {
        let bytes = bytes.to_vec();
        self.near
            .handle_input(NeighbourhoodInput::Datagram { from, kind, bytes }, now);
    }

    /// Tells the others of an instance here.
    pub fn own_instance(&mut self, instance: Arc<RemoteInstance>, now: Moment) {
        self.near
            .handle_input(NeighbourhoodInput::Own(instance), now);
        self.settle(now);
    }

    /// Tells the others that an instance here is no more.
    pub fn own_instance_gone(&mut self, instance: InstanceId, now: Moment) {
        self.near
            .handle_input(NeighbourhoodInput::OwnGone { instance }, now);
        self.settle(now);
    }

    /// Sends one of the Router's frames.
    pub fn send_frame(&mut self, to: HostId, frame: Vec<u8>, now: Moment) {
        self.near
            .handle_input(NeighbourhoodInput::SendFrame { to, frame }, now);
        self.settle(now);
    }

    /// Looks for a service beyond the site.
    pub fn seek(&mut self, service: AutomatonName, now: Moment) {
        self.near
            .handle_input(NeighbourhoodInput::Seek { service }, now);
        self.settle(now);
    }

    /// With these hosts flows are open here.
    pub fn busy_with(&mut self, hosts: BTreeSet<HostId>, now: Moment) {
        self.near
            .handle_input(NeighbourhoodInput::Busy { hosts }, now);
        self.settle(now);
    }

    /// Tells the others that this host goes, and ends all links.
    pub fn leave(&mut self, now: Moment) {
        self.near.handle_input(NeighbourhoodInput::Leave, now);
    }

    /// This host's life was raised above one that others remember.
    pub(super) fn outlived(&mut self, epoch: OriginEpoch, now: Moment) {
        self.near
            .handle_input(NeighbourhoodInput::Epoch(epoch), now);
    }

    pub(super) fn carry_out_near(&mut self, output: NeighbourhoodOutput, now: Moment) {
        match output {
            NeighbourhoodOutput::Datagram { to, kind, bytes } => {
                let kind = match kind {
                    DatagramKind::Membership => Kind::Membership,
                    DatagramKind::ServiceFrame => Kind::ServiceFrame,
                    DatagramKind::Catalog => Kind::Catalog,
                    DatagramKind::IntroducedFrame => Kind::IntroducedFrame,
                };
                self.send(to, kind, &bytes, now);
            }
            NeighbourhoodOutput::Echo { to } => self.ask_keeper(to, now),
            NeighbourhoodOutput::Peer(input) => self.inputs.push_back(Input::Peer(input)),
            NeighbourhoodOutput::Apply(composition) => {
                let composition = composition.as_ref().clone();
                self.inputs.push_back(Input::Composition(composition));
            }
            NeighbourhoodOutput::Forget(name) => {
                self.inputs.push_back(Input::CompositionGone(name));
            }
            NeighbourhoodOutput::Keep { composition, bytes } => {
                let record = MembershipRecord::Kept(composition, bytes);
                self.run(Errand::Record(vec![record]));
            }
            NeighbourhoodOutput::Meet { host } => self.look_for(host, now),
            NeighbourhoodOutput::Part { host } => self.hang_up(host, now),
            // Who finds the queue full is dropped and counted there.
            NeighbourhoodOutput::Overlay(command) => {
                tracing::trace!(?command, "to the overlay");
                let _ = self.overlay.send(command);
            }
            NeighbourhoodOutput::Left => self.hang_up_on_all(now),
            NeighbourhoodOutput::Outlived(epoch) => {
                tracing::warn!(
                    "an older state of this host was restored: others know a later life of it"
                );
                self.run(Errand::Outlive(epoch));
            }
        }
    }
}

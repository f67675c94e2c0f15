//! Other hosts: where they are, what runs there, and what follows for flows, names and balance.

use super::Router;
use super::identities::all;
use crate::drop_reason::DropReason;
use crate::flow_table::{FlowInput, Party};
use crate::grouped::Grouped;
use crate::host::HostId;
use crate::id::{InstanceId, LocationIndex};
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::peer::{Distance, Known, PeerInput, PeerLocation, RemoteInstance};
use crate::port::{Output, Record};
use crate::way::{Ingress, Path, Way};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How many other hosts a router knows at most: a site's hosts, and those of other sites that its
/// flows go to.
pub const PEERS_MAX: usize = 4_096;

/// How long flows to hosts that a former daemon knew wait until it is known again what runs there:
/// several rounds of the catalog's repair.
pub(super) const REACQUAINT_WITHIN: Duration = Duration::from_secs(60);

/// Another host.
#[derive(Debug)]
struct Peer {
    location: LocationIndex,
    path: Option<Path>,
    /// Whether new flows may go there.
    up: bool,
    /// Whether it is gone with all that ran on it.
    lost: bool,
    instances: BTreeSet<InstanceId>,
}

/// All other hosts, and the instances there.
#[derive(Debug, Default)]
pub(super) struct Peers {
    hosts: BTreeMap<HostId, Peer>,
    instances: BTreeMap<InstanceId, Arc<RemoteInstance>>,
    by_automaton: Grouped<AutomatonName>,
    /// Those whose first packets a host passes on while no link to their own stands.
    by_via: Grouped<HostId>,
    /// Until when flows to instances that nobody told of yet are taken for sound.
    pub(super) reacquaint_until: Option<Moment>,
}

impl Peers {
    /// An instance of another host.
    pub(super) fn instance(&self, id: InstanceId) -> Option<&Arc<RemoteInstance>> {
        self.instances.get(&id)
    }

    /// All instances of other hosts.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<RemoteInstance>> {
        self.instances.values()
    }

    /// The instances of an automaton on other hosts.
    pub(super) fn instances_of(
        &self,
        automaton: &AutomatonName,
    ) -> impl Iterator<Item = &Arc<RemoteInstance>> {
        let ids = self.by_automaton.of(automaton);
        ids.filter_map(|id| self.instances.get(&id))
    }

    /// An instance of another host, if new flows may go to it.
    pub(super) fn taking_flows(&self, id: InstanceId) -> Option<&Arc<RemoteInstance>> {
        let remote = self.instances.get(&id)?;
        let has_cell = self.hosts.contains_key(&remote.host);
        (remote.ready && has_cell && self.asked_for(remote).is_some()).then_some(remote)
    }

    /// Which router to ask for a flow to a remote instance: its own host's while a link to that stands,
    /// else the one that passes first packets on.
    pub(super) fn asked_for(&self, remote: &RemoteInstance) -> Option<HostId> {
        let passed_on = remote.via.into_iter();
        let mut routers = std::iter::once(remote.host).chain(passed_on);
        routers.find(|router| self.is_up(router))
    }

    /// Whether a link to a host stands, and new flows may go there.
    pub(super) fn is_up(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|peer| peer.up)
    }

    /// Whether a host is gone with all that ran on it.
    pub(super) fn is_lost(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|peer| peer.lost)
    }

    /// A remote instance's side of a flow, wherever its host says that it is.
    pub(super) fn party(&self, instance: InstanceId, host: &HostId) -> Option<Party> {
        let peer = self.hosts.get(host)?;
        Some(Party {
            instance,
            ingress: Ingress::Peer(peer.location),
            location: peer.location,
        })
    }

    /// Whether a flow's side lies on a host whose instances are not told of again yet.
    pub(super) fn may_be(&self, party: Party) -> bool {
        let unknown = !self.instances.contains_key(&party.instance);
        let known_host = self.hosts.values().any(|peer| {
            party.location == peer.location && party.ingress == Ingress::Peer(peer.location)
        });
        self.reacquaint_until.is_some() && unknown && known_host
    }

    fn host_mut(&mut self, host: HostId, first: LocationIndex) -> Option<(&mut Peer, bool)> {
        let is_new = !self.hosts.contains_key(&host);
        if is_new {
            let taken: BTreeSet<_> = self.hosts.values().map(|peer| peer.location.0).collect();
            let free = (first.0..).take(PEERS_MAX).find(|it| !taken.contains(it))?;
            let mut peer = Peer::at(LocationIndex(free));
            // They may have been told of before it could be reached.
            let there = self.instances.values().filter(|it| it.host == host);
            peer.instances = there.map(|it| it.instance).collect();
            self.hosts.insert(host, peer);
        }
        Some((self.hosts.get_mut(&host)?, is_new))
    }

    fn enter(&mut self, remote: Arc<RemoteInstance>) -> Option<Arc<RemoteInstance>> {
        let id = remote.instance;
        let before = self.leave(id);
        let automaton = remote.name.automaton.clone();
        self.by_automaton.insert(automaton, id);
        if let Some(via) = remote.via {
            self.by_via.insert(via, id);
        }
        if let Some(peer) = self.hosts.get_mut(&remote.host) {
            peer.instances.insert(id);
        }
        self.instances.insert(id, remote);
        before
    }

    fn leave(&mut self, id: InstanceId) -> Option<Arc<RemoteInstance>> {
        let remote = self.instances.remove(&id)?;
        if let Some(peer) = self.hosts.get_mut(&remote.host) {
            peer.instances.remove(&id);
        }
        self.by_automaton.remove(&remote.name.automaton, id);
        if let Some(via) = &remote.via {
            self.by_via.remove(via, id);
        }
        Some(remote)
    }

    /// The services whose first packets go by way of a host: its instances', and those that it passes
    /// on.
    fn services_by_way_of(&self, host: &HostId) -> BTreeSet<AutomatonName> {
        let there = self.hosts.get(host).into_iter();
        let there = there.flat_map(|peer| peer.instances.iter().copied());
        let behind = self.by_via.of(host);
        let remotes = there.chain(behind).filter_map(|id| self.instances.get(&id));
        remotes
            .map(|remote| remote.name.automaton.clone())
            .collect()
    }
}

impl Peer {
    fn at(location: LocationIndex) -> Self {
        Peer {
            location,
            path: None,
            up: false,
            lost: false,
            instances: BTreeSet::new(),
        }
    }
}

impl Router {
    /// Takes what is told of other hosts.
    pub(super) fn peer_input(&mut self, input: PeerInput, now: Moment) {
        match input {
            PeerInput::Up { host, path } => self.peer_up(host, path, now),
            PeerInput::Down { host } => self.peer_down(host, now),
            PeerInput::Lost { host } => self.peer_lost(host, now),
            PeerInput::Instance(remote) => self.remote_instance(remote, now),
            PeerInput::InstanceGone { instance } => self.remote_instance_gone(instance, now),
            PeerInput::BusyWanted => {
                let hosts = self.busy_hosts();
                self.outputs.push_back(Output::BusyWith { hosts });
            }
            PeerInput::Sought { service } => self.sought(&service, now),
            PeerInput::Frame { from, frame } => self.service_frame(from, &frame, now),
        }
    }

    /// Takes over where an earlier run put other hosts.
    pub(super) fn adopt_peers(&mut self, locations: &[PeerLocation], now: Moment) {
        for PeerLocation { host, location } in locations {
            self.peers.hosts.insert(*host, Peer::at(*location));
        }
        if !locations.is_empty() {
            self.peers.reacquaint_until = Some(now + REACQUAINT_WITHIN);
        }
    }

    /// Closes the flows to other hosts of which nobody knows by now what they are.
    pub(super) fn peers_timeout(&mut self, now: Moment) {
        if self
            .peers
            .reacquaint_until
            .is_some_and(|until| until <= now)
        {
            self.peers.reacquaint_until = None;
            self.close_forbidden(now);
        }
    }

    fn peer_up(&mut self, host: HostId, path: Path, now: Moment) {
        let Some(peer) = self.peer_mut(host) else {
            self.drops.count(DropReason::NoLocation);
            return;
        };
        let location = peer.location;
        let is_new_path = peer.path.replace(path) != Some(path);
        let was_up = std::mem::replace(&mut peer.up, true);
        peer.lost = false;
        if is_new_path {
            let way = Way::Peer(path);
            self.outputs
                .push_back(Output::SetLocation { location, way });
        }
        if !was_up {
            self.served_changed(&host);
            self.link_stands(&host, now);
        }
    }

    /// A host, which has a location cell from now on; the cell leads nowhere until it can be reached.
    /// `None`: all cells are taken.
    fn peer_mut(&mut self, host: HostId) -> Option<&mut Peer> {
        let first = self.config.peer_locations_from;
        let (peer, is_new) = self.peers.host_mut(host, first)?;
        if is_new {
            let location = peer.location;
            let record = Record::PeerLocation(PeerLocation { host, location });
            self.outputs.push_back(Output::Record(record));
        }
        Some(peer)
    }

    /// A remote instance's side of a flow, be its host reached yet or not.
    pub(super) fn party_at(&mut self, instance: InstanceId, host: HostId) -> Option<Party> {
        self.peer_mut(host)?;
        self.peers.party(instance, &host)
    }

    fn peer_down(&mut self, host: HostId, now: Moment) {
        let peer = self.peers.hosts.get_mut(&host);
        if peer.is_some_and(|peer| std::mem::replace(&mut peer.up, false)) {
            self.served_changed(&host);
            self.grants.forget_host(&host);
            self.decide_pending_anew(&host, now);
        }
    }

    fn peer_lost(&mut self, host: HostId, now: Moment) {
        self.peer_down(host, now);
        let Some(peer) = self.peers.hosts.get_mut(&host) else {
            return;
        };
        peer.lost = true;
        for instance in peer.instances.clone() {
            self.end_admissions_of(instance);
            self.flow_input(FlowInput::NetworkGone(instance), now);
        }
    }

    fn remote_instance(&mut self, remote: Arc<RemoteInstance>, now: Moment) {
        let (id, automaton) = (remote.instance, remote.name.automaton.clone());
        self.identities.hold_remote(&remote);
        if self
            .peers
            .instance(id)
            .is_some_and(|it| it.host != remote.host)
        {
            // What it was admitted to is for packets of the host that it left.
            self.end_admissions_of(id);
        }
        let before = self.peers.enter(Arc::clone(&remote));
        // Who is behind a gateway may be called before a link to its host stands.
        if remote.via.is_some() || remote.known == Known::Called {
            self.peer_mut(remote.host);
        }
        let takes_flows = |it: &RemoteInstance| (it.ready, it.weight, it.host, it.via, it.distance);
        match before {
            Some(before) if takes_flows(&before) == takes_flows(&remote) => {
                self.names.changed(&automaton);
            }
            _ => {
                debug_assert!(
                    !self.instances.contains_key(&id),
                    "an identity is at one place"
                );
                self.service_changed(&automaton);
                self.names.changed(&automaton);
            }
        }
        self.found(&automaton, now);
    }

    fn remote_instance_gone(&mut self, id: InstanceId, now: Moment) {
        self.end_admissions_of(id);
        if let Some(remote) = self.peers.leave(id) {
            self.identities.bury_remote(&remote, now);
            self.service_changed(&remote.name.automaton);
            self.names.changed(&remote.name.automaton);
            self.flow_input(FlowInput::ProgramEnded(id), now);
        }
    }

    fn served_changed(&mut self, host: &HostId) {
        for service in self.peers.services_by_way_of(host) {
            self.service_changed(&service);
            self.names.changed(&service);
        }
    }

    /// The hosts of other sites with whose instances flows are open.
    fn busy_hosts(&self) -> BTreeSet<HostId> {
        let remotes = self.peers.instances.values();
        let far = remotes.filter(|remote| remote.distance > Distance::NONE);
        let busy = far.filter(|remote| {
            let (flows, id) = (&self.flows, remote.instance);
            flows.load(id) > 0 || flows.opened_by(id) > 0
        });
        busy.map(|remote| remote.host).collect()
    }

    /// Which automaton an instance is of, here or on another host.
    pub(super) fn automaton_of(&self, id: InstanceId) -> Option<&AutomatonName> {
        let here = self.instances.get(&id).map(|it| &it.plan.name.automaton);
        here.or_else(|| Some(&self.peers.instance(id)?.name.automaton))
    }

    /// Whether a remote instance may send from `addr`.
    pub(super) fn holds_remotely(remote: &RemoteInstance, addr: std::net::IpAddr) -> bool {
        all(remote.addresses).contains(&addr)
    }
}

//! This host among others: who they are, and the links to them.
//!
//! The router thread owns a [`Hosts`]: what comes by the host link goes through it, what the Router
//! wants sent leaves by it, and what takes time is an [`Errand`] that others run.

mod admission;
pub mod commands;
pub mod composing;
mod echoes;
mod errand;
pub mod founding;
pub mod identity;
pub mod joining;
mod neighbours;
mod overlay;
mod payload;
mod renewal;
mod roster;
mod secret_file;

pub use errand::{Errand, run as run_errands};
pub use secret_file::make as make_secret_file;

use crate::cli::UpOptions;
use crate::journal::{Journal, MembershipRecord, Recorded, random};
use crate::router_thread::now;
use anyhow::{Context, Result};
use identity::{Identity, Keys};
use margay_core::admission::{Issuer, Membership, NetworkId};
use margay_core::echo::EchoSecret;
use margay_core::host::HostId;
use margay_core::moment::Moment;
use margay_core::name::HostName;
use margay_core::neighbourhood::{DatagramKind, Neighbourhood, NeighbourhoodInput};
use margay_core::port::Input;
use margay_core::wall_time::WallTime;
use margay_core::way::Path;
use margay_datapath::datapath::Datapath;
use margay_datapath::host_link::socket::LinkSocket;
use margay_datapath::host_link::{
    self, HostLink, HostLinkConfig, HostLinkLimits, LinkDrop, NetworkSecret, NoiseKey, Output,
    Party, sealed::Statement,
};
use margay_keeper::KeeperClient;
use margay_overlay::{Overlay, OverlayConfig, OverlayEvents};
use payload::Kind;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Datagrams taken before first packets and commands get their turn again.
const DATAGRAM_BATCH: usize = 64;

/// How often certificates are looked at, which last for days, and tickets that did not come are asked for.
const LOOK_AROUND: Duration = Duration::from_secs(60);

/// A payload was of a kind that this version does not know.
const UNKNOWN_PAYLOAD: &str = "unknown_payload";

/// A link that works.
#[derive(Clone, Debug)]
struct Linked {
    /// Where the other host is.
    address: SocketAddr,
    /// How packets get there, once it is found out.
    path: Option<Path>,
}

/// Why a link does not work, as the other host said.
type Refusals = BTreeMap<HostId, String>;

/// This host's links, and what it knows of the members of its network.
pub struct Hosts {
    own: Identity,
    membership: Membership,
    issuer: Option<Issuer>,
    link: HostLink,
    socket: LinkSocket,
    /// From which tickets for the own keeper's echo follow, if it answers.
    echo_secret: Option<EchoSecret>,
    links: BTreeMap<HostId, Linked>,
    overlay: Overlay,
    refusals: Refusals,
    /// Whose refusal was logged last, and why: who comes again is refused again.
    refused: BTreeMap<NoiseKey, String>,
    /// How often what another host showed or passed on was refused, by the reason's name.
    refused_for: BTreeMap<&'static str, u64>,
    /// Devices from which the kernel takes other hosts' packets.
    devices: BTreeSet<u32>,
    /// Who of the site is up, and what runs there.
    near: Neighbourhood,
    /// What the Router is to be told.
    inputs: VecDeque<Input>,
    /// Unbounded as a type, bounded in fact: a handful for each handshake, which are few a second.
    errands: mpsc::UnboundedSender<Errand>,
    /// When to look at certificates next.
    look_at: Moment,
    asked_to_renew: Option<WallTime>,
}

/// What [`Hosts`] begins with.
struct Beginning {
    own: Identity,
    membership: Membership,
    issuer: Option<Issuer>,
    near: Neighbourhood,
    socket: LinkSocket,
    echo_secret: Option<EchoSecret>,
    overlay: Overlay,
    seed: [u8; 32],
    errands: mpsc::UnboundedSender<Errand>,
}

/// Opens the links of this host, if it belongs to a network and others shall reach it.
///
/// A host whose certificate does not hold any more goes on alone, with the addresses that it has.
pub async fn open(
    keys: &Keys,
    keeper: &KeeperClient,
    journal: &mut Journal,
    recorded: &Recorded,
    options: &UpOptions,
    errands: mpsc::UnboundedSender<Errand>,
) -> Result<Option<(Hosts, OverlayEvents)>> {
    let underlay = &options.underlay;
    let (Some(recorded), Some(first)) = (&recorded.membership, underlay.first()) else {
        return Ok(None);
    };
    let epoch = journal.raise_epoch()?;
    let opened = Identity::open(keys.clone(), recorded, underlay.to_vec(), epoch);
    let (own, membership, issuer) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!("this host has no link to others: {error:#}");
            return Ok(None);
        }
    };
    if let Some(issuer) = &issuer {
        let issued = MembershipRecord::IssuedInAll(issuer.records().collect());
        journal.commit_membership(&[issued])?;
    }
    let near = neighbours::begin(&own, recorded, options.summary_bytes_max, random()?, now());
    let echo_secret = echoes::answered_by(keeper, first.port())?;
    let socket = LinkSocket::open(first.port());
    let config = OverlayConfig {
        key: own.keys.host.clone(),
        network: own.entry.network,
        listen: underlay.to_vec(),
    };
    let (overlay, events) = Overlay::open(config)
        .await
        .context("cannot open the overlay")?;
    let beginning = Beginning {
        own,
        membership,
        issuer,
        near,
        socket: socket.with_context(|| format!("cannot open UDP port {}", first.port()))?,
        echo_secret,
        overlay,
        seed: random()?,
        errands,
    };
    let hosts = Hosts::new(beginning, now())?;
    Ok(Some((hosts, events)))
}

impl Hosts {
    /// Begins to look for the members that are known.
    fn new(beginning: Beginning, now: Moment) -> Result<Hosts> {
        let Beginning {
            own,
            membership,
            issuer,
            near,
            socket,
            echo_secret,
            overlay,
            seed,
            errands,
        } = beginning;
        let network = own.entry.network;
        let host = own.keys.host.public();
        let known = membership
            .member(&host)
            .context("this host is no member of its own network")?;
        let config = HostLinkConfig {
            private_key: own.keys.link.clone(),
            network: NetworkSecret(network.link_psk()),
            epoch: own.epoch,
            introduction: Statement::new(known.introduction.clone())?,
            limits: HostLinkLimits::default(),
        };
        let mut hosts = Hosts {
            own,
            membership,
            issuer,
            link: HostLink::new(config, seed, now),
            socket,
            echo_secret,
            links: BTreeMap::new(),
            overlay,
            refusals: Refusals::new(),
            refused: BTreeMap::new(),
            refused_for: BTreeMap::new(),
            devices: BTreeSet::new(),
            near,
            inputs: VecDeque::new(),
            errands,
            look_at: now,
            asked_to_renew: None,
        };
        hosts.begin_with_all(now);
        Ok(hosts)
    }

    /// Takes datagrams that wait, up to a batch; what is left makes the next wait return at once.
    pub fn receive(&mut self, now: Moment) -> Result<()> {
        for _ in 0..DATAGRAM_BATCH {
            let received = self.socket.receive();
            let Some((from, datagram)) = received.context("cannot read the host link's socket")?
            else {
                break;
            };
            let received = host_link::Input::Received { from, datagram };
            self.link.handle_input(received, now);
            self.settle(now);
        }
        Ok(())
    }

    /// Does what time asks for.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.link.poll_timeout().is_some_and(|due| due <= now) {
            self.link.handle_timeout(now);
        }
        if self.near.poll_timeout().is_some_and(|due| due <= now) {
            self.near.handle_timeout(now);
        }
        if self.look_at <= now {
            self.look_at = now + LOOK_AROUND;
            self.look_at_certificates(now);
            self.want_missing_tickets(now);
        }
        self.settle(now);
    }

    /// When to call [`Hosts::handle_timeout`].
    pub fn poll_timeout(&self) -> Moment {
        let both = [self.link.poll_timeout(), self.near.poll_timeout()];
        let both = both.into_iter().flatten();
        both.fold(self.look_at, Moment::min)
    }

    /// What the Router is to be told. Poll after everything else.
    pub fn poll_input(&mut self) -> Option<Input> {
        self.inputs.pop_front()
    }

    /// Which network.
    pub fn network(&self) -> NetworkId {
        self.own.entry.network
    }

    /// What was dropped of what others say: by whom, why and how often.
    pub fn drops(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counted = self.link.drops();
        let link = LinkDrop::ALL.iter();
        let link = link.map(|reason| ("link", reason.name(), counted.of(*reason)));
        let overlay = self.overlay.drops();
        let overlay = overlay.map(|(reason, count)| ("overlay", reason, count));
        let refused = self.refused_for.iter();
        let refused = refused.map(|(reason, count)| ("admission", *reason, *count));
        let all = link.chain(self.near.drops()).chain(overlay);
        all.chain(refused).collect()
    }

    /// Takes note of how packets get to a host whose link is up at `address`, and has the kernel take
    /// that host's packets from the device of the path.
    pub fn path_found(
        &mut self,
        host: HostId,
        address: SocketAddr,
        path: Path,
        datapath: &mut Datapath,
        now: Moment,
    ) {
        let linked = self.links.get_mut(&host);
        let Some(linked) = linked.filter(|linked| linked.address == address) else {
            return;
        };
        if !self.devices.contains(&path.ifindex) {
            if let Err(error) = datapath.attach_underlay(path.ifindex) {
                tracing::error!(%error, host = host.short(), "no packets go to this host");
                return;
            }
            self.devices.insert(path.ifindex);
        }
        linked.path = Some(path);
        self.near
            .handle_input(NeighbourhoodInput::LinkUp { host, path }, now);
    }

    fn begin_with_all(&mut self, now: Moment) {
        let members = self.membership.members();
        let hosts: Vec<HostId> = members.map(|member| member.certificate.host).collect();
        for host in hosts {
            self.tell_of(host, now);
        }
        self.settle(now);
    }

    /// Wants a link to a member, or to whoever let this host in, which is known by the token only at first.
    fn look_for(&mut self, host: HostId, now: Moment) {
        let sponsor = self.own.entry.sponsor.clone();
        if let Some(member) = self.membership.member(&host) {
            let contact = member.contact.clone();
            self.set_peer(host, contact.link_key.0, contact.addresses, now);
        } else if let Some(sponsor) = sponsor.filter(|sponsor| sponsor.host == host) {
            self.set_peer(host, sponsor.link_key, sponsor.addresses, now);
        }
    }

    fn set_peer(&mut self, host: HostId, key: [u8; 32], addresses: Vec<SocketAddr>, now: Moment) {
        if host != self.own.keys.host.public() {
            let noise_key = NoiseKey::from_bytes(key);
            let wanted = host_link::Input::SetPeer {
                host,
                noise_key,
                addresses,
            };
            self.link.handle_input(wanted, now);
        }
    }

    fn send(&mut self, to: HostId, kind: Kind, content: &[u8], now: Moment) {
        let payload = payload::seal(kind, content);
        self.link
            .handle_input(host_link::Input::Send { to, payload }, now);
    }

    /// Carries out all that the link wants done. Call after each visit.
    pub fn settle(&mut self, now: Moment) {
        loop {
            if let Some(output) = self.link.poll_output() {
                self.carry_out(output, now);
            } else if let Some(output) = self.near.poll_output() {
                self.carry_out_near(output, now);
            } else {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output, now: Moment) {
        match output {
            Output::Transmit { to, datagram } => self.socket.send(to, &datagram),
            Output::Introduced {
                exchange,
                from,
                noise_key,
                introduction,
            } => self.introduced(exchange, from, noise_key, introduction.as_bytes(), now),
            Output::Answered {
                by: Party::Host(host),
                answer,
            } => self.answered(host, answer.as_bytes(), now),
            Output::Refused {
                by: Party::Host(host),
                reason,
            } => self.was_refused(host, reason),
            Output::Up { host, address } => {
                self.refusals.remove(&host);
                tracing::info!(host = %self.name_of(&host), %address, "a link is up");
                self.found_at(host, address);
                self.tell_all(host, now);
                self.want_ticket(host, now);
            }
            Output::Roamed { host, address } => self.found_at(host, address),
            Output::Down { host, reason } => {
                let reason = reason.name();
                tracing::info!(host = %self.name_of(&host), reason, "a link is down");
                self.links.remove(&host);
                self.near
                    .handle_input(NeighbourhoodInput::LinkDown { host }, now);
            }
            Output::KeeperAnswered { host } => self.keeper_answered(host, now),
            Output::Deliver { from, payload } => self.deliver(from, &payload, now),
            // Only a newcomer asks an address, and it is no member yet.
            Output::Answered { .. } | Output::Refused { .. } | Output::Unanswered { .. } => {}
        }
    }

    fn found_at(&mut self, host: HostId, address: SocketAddr) {
        let path = None;
        self.links.insert(host, Linked { address, path });
        self.run(Errand::FindPath { host, address });
    }

    fn deliver(&mut self, from: HostId, payload: &[u8], now: Moment) {
        match payload::open(payload) {
            Some((Kind::ServiceFrame, bytes)) => {
                self.near_said(from, DatagramKind::ServiceFrame, bytes, now);
            }
            Some((Kind::IntroducedFrame, bytes)) => {
                self.near_said(from, DatagramKind::IntroducedFrame, bytes, now);
            }
            Some((Kind::Introduction, introduction)) => self.heard_of(from, introduction, now),
            Some((Kind::Revocation, revocation)) => self.heard_revocation(from, revocation, now),
            Some((Kind::RenewalRequest, request)) => self.renewal_wanted(from, request),
            Some((Kind::RenewalAnswer, answer)) => self.renewal_answered(from, answer, now),
            Some((Kind::Membership, bytes)) => {
                self.near_said(from, DatagramKind::Membership, bytes, now);
            }
            Some((Kind::Catalog, bytes)) => {
                self.near_said(from, DatagramKind::Catalog, bytes, now);
            }
            Some((Kind::TicketWanted, _)) => self.ticket_wanted(from, now),
            Some((Kind::Ticket, ticket)) => self.ticket_given(from, ticket, now),
            None => {
                tracing::debug!(from = from.short(), "a payload that nobody here reads");
                self.count_refused(UNKNOWN_PAYLOAD);
            }
        }
    }

    fn run(&self, errand: Errand) {
        if self.errands.send(errand).is_err() {
            tracing::debug!("an errand came after the daemon's end");
        }
    }

    /// What to call hosts where a person reads.
    pub fn names(&self, hosts: &[HostId]) -> Vec<String> {
        hosts.iter().map(|host| self.name_of(host)).collect()
    }

    /// Those names that no member has.
    pub fn strangers(&self, names: BTreeSet<HostName>) -> BTreeSet<HostName> {
        let unknown = |name: &HostName| self.membership.named(name).is_none();
        names.into_iter().filter(unknown).collect()
    }

    /// Whether others refuse this host, and nobody lets it in.
    pub fn is_shut_out(&self) -> bool {
        !self.refusals.is_empty() && self.links.is_empty()
    }

    /// What to call a host in a log.
    fn name_of(&self, host: &HostId) -> String {
        let member = self.membership.member(host);
        member.map_or_else(
            || host.short(),
            |member| member.certificate.name.to_string(),
        )
    }
}

impl AsFd for Hosts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The time of day.
pub fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    WallTime::from_unix_seconds(since.unwrap_or_default().as_secs())
}

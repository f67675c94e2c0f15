//! Services of which no instance is known here that takes flows: they are sought beyond the site, and
//! first packets to them wait for what comes of it.

use super::Router;
use super::remote::{PENDING_MAX, PENDING_PER_INSTANCE_MAX};
use crate::drop_reason::DropReason;
use crate::id::EndpointIndex;
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::packet::Packet;
use crate::port::{Frame, Output};
use std::collections::BTreeMap;
use std::time::Duration;

/// How soon is asked again for what is still sought: whoever searches may have lost the question.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// How long a search may take; clients of DNS ask other servers after 2 s and more.
const SEARCH_WITHIN: Duration = Duration::from_millis(1_800);

/// How long what was not found is not sought again: a client that insists asks that often.
const NOT_FOUND_FOR: Duration = Duration::from_secs(2);

/// How many services are sought at once, or remembered for it.
const SEARCHES_MAX: usize = 4_096;

/// What is sought, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Seeking {
    searches: BTreeMap<AutomatonName, Search>,
    /// When the next search changes by itself.
    next: Option<Moment>,
    /// First packets that wait, in all.
    held: usize,
}

/// The search for one service.
#[derive(Debug)]
struct Search {
    stage: Stage,
    /// First packets that wait for it.
    held: Vec<(EndpointIndex, Frame)>,
    /// When the last one was over, and how many instances it had found.
    last: Option<(Moment, usize)>,
}

/// Where a search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Under way, and asked for last at a moment.
    UnderWay { asked: Moment, until: Moment },
    /// Nothing was found; it is not repeated for a while.
    NotFound { until: Moment },
    /// Nobody wants it.
    Idle,
}

impl Search {
    fn due(&self) -> Option<Moment> {
        match self.stage {
            Stage::UnderWay { until, .. } | Stage::NotFound { until } => Some(until),
            Stage::Idle => None,
        }
    }
}

impl Seeking {
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.next
    }

    fn schedule(&mut self) {
        self.next = self.searches.values().filter_map(Search::due).min();
    }

    fn holds(&self, endpoint: EndpointIndex) -> usize {
        let held = self.searches.values().flat_map(|search| &search.held);
        held.filter(|(from, _)| *from == endpoint).count()
    }
}

/// What an operator is told of the search for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SearchView {
    /// Whether it is under way.
    pub(super) under_way: bool,
    /// How long ago the last one was over, and how many instances it had found.
    pub(super) last: Option<(Duration, usize)>,
}

impl Router {
    /// Somebody asks for a service of which no instance takes flows here.
    pub(super) fn wanted(&mut self, service: &AutomatonName, now: Moment) {
        if !self.may_be_sought(service) {
            return;
        }
        let searches = &mut self.seeking.searches;
        if searches.len() >= SEARCHES_MAX && !searches.contains_key(service) {
            searches.retain(|_, search| search.stage != Stage::Idle);
            if searches.len() >= SEARCHES_MAX {
                return;
            }
        }
        let search = searches.entry(service.clone()).or_insert(Search {
            stage: Stage::Idle,
            held: Vec::new(),
            last: None,
        });
        let until = match search.stage {
            Stage::UnderWay { asked, .. } if now.since(asked) < AGAIN_AFTER => return,
            Stage::UnderWay { until, .. } => until,
            _ => now + SEARCH_WITHIN,
        };
        search.stage = Stage::UnderWay { asked: now, until };
        self.seeking.schedule();
        let service = service.clone();
        self.outputs.push_back(Output::Seek { service });
    }

    /// Whether a search could find a service now that none takes flows of here.
    pub(super) fn may_be_sought(&self, service: &AutomatonName) -> bool {
        let search = self.seeking.searches.get(service);
        let is_in_vain =
            search.is_some_and(|search| matches!(search.stage, Stage::NotFound { .. }));
        let declared = self.services.find(service);
        let is_absent = declared.is_some_and(|it| self.balancer(it).candidates().is_empty());
        self.config.host.is_some() && is_absent && !is_in_vain
    }

    /// A search is over.
    pub(super) fn sought(&mut self, service: &AutomatonName, now: Moment) {
        let found = self
            .peers
            .instances_of(service)
            .filter(|remote| self.peers.taking_flows(remote.instance).is_some());
        let found = found.count();
        let declared = self.services.find(service);
        let takes = declared.is_some_and(|it| !self.balancer(it).candidates().is_empty());
        let Some(search) = self.seeking.searches.get_mut(service) else {
            return;
        };
        search.last = Some((now, found));
        let until = now + NOT_FOUND_FOR;
        search.stage = match takes {
            true => Stage::Idle,
            false => Stage::NotFound { until },
        };
        match takes {
            true => self.names.seek_again(service),
            false => self.names.not_found(service),
        }
        self.seeking.schedule();
        self.decide_sought(service, now);
    }

    /// An instance of a service is known from now on: what waits for one need not wait for more.
    pub(super) fn found(&mut self, service: &AutomatonName, now: Moment) {
        let search = self.seeking.searches.get(service);
        if search.is_some_and(|search| !search.held.is_empty()) && !self.may_be_sought(service) {
            self.decide_sought(service, now);
        }
    }

    /// What a search came to, for an operator.
    pub(super) fn search(&self, service: &AutomatonName, now: Moment) -> Option<SearchView> {
        let search = self.seeking.searches.get(service)?;
        Some(SearchView {
            under_way: matches!(search.stage, Stage::UnderWay { .. }),
            last: search.last.map(|(at, found)| (now.since(at), found)),
        })
    }

    pub(super) fn seeking_timeout(&mut self, now: Moment) {
        if self.seeking.next.is_none_or(|next| now < next) {
            return;
        }
        let searches = self.seeking.searches.iter();
        let due = searches.filter(|(_, search)| search.due().is_some_and(|due| due <= now));
        let due: Vec<_> = due
            .map(|(service, search)| (service.clone(), search.stage))
            .collect();
        for (service, stage) in due {
            if matches!(stage, Stage::UnderWay { .. }) {
                self.sought(&service, now);
                continue;
            }
            if let Some(search) = self.seeking.searches.get_mut(&service) {
                search.stage = Stage::Idle;
            }
            self.names.seek_again(&service);
        }
        self.seeking.schedule();
    }

    /// Keeps a first packet to a service that nobody here serves until it was sought; gives it back
    /// with the reason to refuse it if that is no use.
    pub(super) fn hold_for_search(
        &mut self,
        endpoint: EndpointIndex,
        packet: &Packet,
        frame: Frame,
        reason: DropReason,
        now: Moment,
    ) -> Result<(), (Frame, DropReason)> {
        let called = self.identities.find(packet.key.destination.ip());
        let service = called.map(|called| called.automaton.clone());
        let service = service.filter(|service| self.may_be_sought(service));
        let Some(service) = service.filter(|_| reason == DropReason::NoInstance) else {
            return Err((frame, reason));
        };
        self.wanted(&service, now);
        let has_room = self.seeking.held < PENDING_MAX
            && self.seeking.holds(endpoint) < PENDING_PER_INSTANCE_MAX;
        let Some(search) = self.seeking.searches.get_mut(&service).filter(|_| has_room) else {
            return Err((frame, DropReason::HeldPackets));
        };
        let same = |(from, held): &(EndpointIndex, Frame)| {
            *from == endpoint && held.packet() == frame.packet()
        };
        if !search.held.iter().any(same) {
            search.held.push((endpoint, frame));
            self.seeking.held += 1;
        }
        Ok(())
    }

    fn decide_sought(&mut self, service: &AutomatonName, now: Moment) {
        let Some(search) = self.seeking.searches.get_mut(service) else {
            return;
        };
        let held = std::mem::take(&mut search.held);
        self.seeking.held -= held.len();
        for (endpoint, frame) in held {
            self.upcall(endpoint, frame, now);
        }
    }
}

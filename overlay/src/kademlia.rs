//! Kademlia: who is one to ask about a key. Provider records only, kept by the hosts that serve.

use crate::behaviour::Protocols;
use crate::config::{OverlayConfig, Pace};
use crate::drops::{Drops, OverlayDrop};
use crate::gate::Gate;
use crate::identity::host_of;
use crate::providers::{ProviderStore, record_key};
use libp2p::kad::store::RecordStore;
use libp2p::kad::{
    Behaviour, BucketInserts, Caching, Config, Event, GetProvidersOk, InboundRequest, Mode,
    QueryId, QueryResult, StoreInserts,
};
use libp2p::{PeerId, StreamProtocol};
use margay_core::host::HostId;
use margay_core::overlay::{OverlayEvent, OverlayKey, QuestionId};
use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many hosts hold a provider record, those nearest to its key: enough that some are up, and
/// few enough that each look-up and announcement calls few hosts.
const HOLDERS: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");

/// How long a provider record lives with its holders, who may be gone or miss an announcement.
const RECORD_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Between announcements of all that this host provides.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// After a new host serves, so long until all is announced to it too; others may come meanwhile.
const ANNOUNCE_DELAY: Duration = Duration::from_secs(1);

/// The least between two announcements of all.
const ANNOUNCE_INTERVAL_MIN: Duration = Duration::from_secs(5);

/// How many keys are announced at once.
const ANNOUNCING_MAX: usize = 8;

/// For an announcement; a busy host takes longer than a look-up may.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many keys this host provides: no more than holders keep of one provider.
const PROVIDED_MAX: usize = 20_000;

/// How many searches are under way at once.
const SEARCHES_MAX: usize = 256;

/// How many hosts a search finds: more than anyone asks.
const FOUND_MAX: usize = 20;

/// Between visits to hosts that serve, which keep the table of them true.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30 * 60);

pub(crate) type Table = Behaviour<ProviderStore>;

/// The name of the protocol, by which hosts that serve are known.
pub(crate) fn protocol(config: &OverlayConfig) -> Result<StreamProtocol, String> {
    StreamProtocol::try_from_owned(config.protocol("kad/1")).map_err(|error| error.to_string())
}

/// Kademlia (libp2p specification, kad-dht) as a client at first. What others say to be stored is
/// looked at before it is; who serves is put into the table by hand.
pub(crate) fn table(protocol: StreamProtocol, own: PeerId) -> Table {
    let mut settings = Config::new(protocol);
    settings
        .set_replication_factor(HOLDERS)
        .set_query_timeout(ANNOUNCE_TIMEOUT)
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_record_ttl(Some(RECORD_LIFETIME))
        .set_provider_publication_interval(None)
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_caching(Caching::Disabled)
        .set_periodic_bootstrap_interval(Some(REFRESH_INTERVAL));
    let mut table = Behaviour::with_config(own, ProviderStore::new(own), settings);
    table.set_mode(Some(Mode::Client));
    table
}

impl Gate<Protocols> {
    /// Puts a host that serves Kademlia into the table. Its addresses stand there because some must;
    /// the gate knows where it is called.
    pub(crate) fn serves_kademlia(&mut self, peer: &PeerId) {
        for address in self.addresses(peer).unwrap_or_default().to_vec() {
            self.protocols.table.add_address(peer, address);
        }
    }
}

/// What this host provides and searches.
pub(crate) struct Kademlia {
    own: HostId,
    provided: BTreeSet<OverlayKey>,
    /// To be announced, and announced right now.
    waiting: VecDeque<OverlayKey>,
    announcing: Vec<QueryId>,
    announced_at: Instant,
    announce_at: Instant,
    searches: Vec<Search>,
    search_timeout: Duration,
    drops: Arc<Drops>,
}

struct Search {
    query: QueryId,
    question: QuestionId,
    hosts: BTreeSet<HostId>,
    until: Instant,
}

impl Search {
    fn found(self) -> OverlayEvent {
        OverlayEvent::Found {
            question: self.question,
            hosts: self.hosts.into_iter().collect(),
        }
    }
}

impl Kademlia {
    /// Provides and searches nothing yet.
    pub(crate) fn new(own: HostId, pace: &Pace, now: Instant, drops: Arc<Drops>) -> Self {
        Kademlia {
            own,
            provided: BTreeSet::new(),
            waiting: VecDeque::new(),
            announcing: Vec::new(),
            announced_at: now,
            announce_at: now + ANNOUNCE_INTERVAL,
            searches: Vec::new(),
            search_timeout: pace.search_timeout,
            drops,
        }
    }

    /// Makes known that this host is one to ask about `key`.
    pub(crate) fn provide(&mut self, table: &mut Table, key: OverlayKey) {
        if self.provided.len() >= PROVIDED_MAX && !self.provided.contains(&key) {
            self.drops.count(OverlayDrop::TooManyProvided);
        } else if self.provided.insert(key) {
            self.waiting.push_back(key);
            self.announce(table);
        }
    }

    /// Makes it known no more; what others hold of it runs out.
    pub(crate) fn stop_providing(&mut self, table: &mut Table, key: OverlayKey) {
        self.provided.remove(&key);
        table.stop_providing(&record_key(key));
    }

    /// Searches who provides `key`; tells core at once if that cannot be.
    pub(crate) fn find(
        &mut self,
        table: &mut Table,
        key: OverlayKey,
        question: QuestionId,
        now: Instant,
    ) -> Option<OverlayEvent> {
        if self.searches.len() >= SEARCHES_MAX {
            self.drops.count(OverlayDrop::TooManySearches);
            let hosts = Vec::new();
            return Some(OverlayEvent::Found { question, hosts });
        }
        self.searches.push(Search {
            query: table.get_providers(record_key(key)),
            question,
            hosts: BTreeSet::new(),
            until: now + self.search_timeout,
        });
        None
    }

    /// Takes in what the table says of hosts, records and queries.
    pub(crate) fn handle_event(
        &mut self,
        gate: &mut Gate<Protocols>,
        event: Event,
        now: Instant,
    ) -> Option<OverlayEvent> {
        match event {
            Event::InboundRequest { request } => self.store(&mut gate.protocols.table, request),
            Event::RoutingUpdated {
                is_new_peer: true, ..
            } => {
                let soon = (now + ANNOUNCE_DELAY).max(self.announced_at + ANNOUNCE_INTERVAL_MIN);
                self.announce_at = self.announce_at.min(soon);
            }
            Event::OutboundQueryProgressed {
                id, result, step, ..
            } => return self.handle_progress(gate, id, result, step.last),
            _ => {}
        }
        None
    }

    /// When there is something to end or to announce next.
    pub(crate) fn next_due(&self) -> Instant {
        let searches = self.searches.iter().map(|it| it.until);
        searches.fold(self.announce_at, Instant::min)
    }

    /// Ends searches whose time is over, announces what is due and forgets what ran out.
    pub(crate) fn handle_timeout(&mut self, table: &mut Table, now: Instant) -> Vec<OverlayEvent> {
        let over = self.searches.extract_if(.., |it| it.until <= now);
        let over: Vec<_> = over.collect();
        for search in &over {
            if let Some(mut query) = table.query_mut(&search.query) {
                query.finish();
            }
        }
        if self.announce_at <= now {
            self.announced_at = now;
            self.announce_at = now + ANNOUNCE_INTERVAL;
            self.waiting = self.provided.iter().copied().collect();
            table.store_mut().sweep(now);
            self.announce(table);
        }
        over.into_iter().map(Search::found).collect()
    }

    /// Announces what waits, as much as may be under way at once.
    fn announce(&mut self, table: &mut Table) {
        while self.announcing.len() < ANNOUNCING_MAX {
            let Some(key) = self.waiting.pop_front() else {
                return;
            };
            if !self.provided.contains(&key) {
                continue;
            }
            match table.start_providing(record_key(key)) {
                Ok(query) => self.announcing.push(query),
                Err(_) => self.drops.count(OverlayDrop::ProvidersFull),
            }
        }
    }

    fn store(&self, table: &mut Table, request: InboundRequest) {
        let stored = match request {
            InboundRequest::AddProvider {
                record: Some(record),
            } => {
                let stored = table.store_mut().add_provider(record);
                stored.map_err(|_| OverlayDrop::ProvidersFull)
            }
            InboundRequest::PutRecord { .. } => Err(OverlayDrop::NotAProvider),
            _ => Ok(()),
        };
        if let Err(why) = stored {
            self.drops.count(why);
        }
    }

    fn handle_progress(
        &mut self,
        gate: &mut Gate<Protocols>,
        id: QueryId,
        result: QueryResult,
        last: bool,
    ) -> Option<OverlayEvent> {
        if let Some(at) = self.announcing.iter().position(|it| *it == id) {
            if last {
                self.announcing.swap_remove(at);
                self.announce(&mut gate.protocols.table);
            }
            return None;
        }
        let at = self.searches.iter().position(|it| it.query == id)?;
        let search = &mut self.searches[at];
        if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) =
            result
        {
            let hosts = providers.iter().filter_map(|peer| {
                let host = host_of(peer)?;
                (host == self.own || gate.addresses(peer).is_some()).then_some(host)
            });
            let room = FOUND_MAX.saturating_sub(search.hosts.len());
            search.hosts.extend(hosts.take(room));
        }
        if search.hosts.len() >= FOUND_MAX
            && let Some(mut query) = gate.protocols.table.query_mut(&id)
        {
            query.finish();
        }
        (last || search.hosts.len() >= FOUND_MAX).then(|| self.searches.swap_remove(at).found())
    }
}

//! Who provides what, as far as this host keeps it for others: provider records and nothing else.

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use margay_core::overlay::OverlayKey;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter;
use std::time::Instant;

/// How many keys are kept: some 20 MB.
const KEYS_MAX: usize = 100_000;

/// How many providers of one key are kept: more than anyone asks.
const PROVIDERS_MAX: usize = 20;

/// How many keys are kept for one provider, lest one fills the store for all.
const KEYS_OF_PROVIDER_MAX: usize = 20_000;

/// Provider records by key, in memory.
#[derive(Debug)]
pub(crate) struct ProviderStore {
    own: PeerId,
    providers: BTreeMap<OverlayKey, Vec<Provider>>,
    /// How many keys each provider has here.
    shares: BTreeMap<PeerId, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Provider {
    peer: PeerId,
    /// Never, for what this host provides itself.
    expires: Option<Instant>,
}

impl Provider {
    fn record(&self, key: OverlayKey) -> ProviderRecord {
        ProviderRecord {
            key: record_key(key),
            provider: self.peer,
            expires: self.expires,
            addresses: Vec::new(),
        }
    }

    fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// A key as libp2p's Kademlia has it.
pub(crate) fn record_key(key: OverlayKey) -> RecordKey {
    RecordKey::new(&key.0)
}

fn overlay_key(key: &RecordKey) -> Option<OverlayKey> {
    key.as_ref().try_into().ok().map(OverlayKey)
}

impl ProviderStore {
    /// An empty store of the host `own`.
    pub(crate) fn new(own: PeerId) -> Self {
        ProviderStore {
            own,
            providers: BTreeMap::new(),
            shares: BTreeMap::new(),
        }
    }

    /// Forgets what was not provided again in time.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let shares = &mut self.shares;
        self.providers.retain(|_, providers| {
            providers.retain(|it| {
                let stays = !it.has_expired(now);
                if !stays {
                    give_back(shares, &it.peer);
                }
                stays
            });
            !providers.is_empty()
        });
    }
}

/// Counts one key of a provider less.
fn give_back(shares: &mut BTreeMap<PeerId, usize>, peer: &PeerId) {
    if let Some(share) = shares.get_mut(peer) {
        *share -= 1;
        if *share == 0 {
            shares.remove(peer);
        }
    }
}

impl RecordStore for ProviderStore {
    type RecordsIter<'a> = iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        iter::empty()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let key = overlay_key(&record.key).ok_or(Error::ValueTooLarge)?;
        let provider = Provider {
            peer: record.provider,
            expires: record.expires,
        };
        if let Some(providers) = self.providers.get_mut(&key) {
            if let Some(known) = providers.iter_mut().find(|it| it.peer == provider.peer) {
                *known = provider;
                return Ok(());
            }
            if providers.len() >= PROVIDERS_MAX {
                return Err(Error::MaxProvidedKeys);
            }
        } else if self.providers.len() >= KEYS_MAX {
            return Err(Error::MaxProvidedKeys);
        }
        let share = self.shares.entry(provider.peer).or_default();
        if *share >= KEYS_OF_PROVIDER_MAX {
            return Err(Error::MaxProvidedKeys);
        }
        *share += 1;
        self.providers.entry(key).or_default().push(provider);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let Some(key) = overlay_key(key) else {
            return Vec::new();
        };
        let providers = self.providers.get(&key).into_iter().flatten();
        providers.map(|it| it.record(key)).collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let own = |(key, providers): (&OverlayKey, &Vec<Provider>)| {
            let own = providers.iter().find(|it| it.peer == self.own)?;
            Some(Cow::Owned(own.record(*key)))
        };
        let provided: Vec<_> = self.providers.iter().filter_map(own).collect();
        provided.into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, peer: &PeerId) {
        let Some(key) = overlay_key(key) else {
            return;
        };
        let Some(providers) = self.providers.get_mut(&key) else {
            return;
        };
        if let Some(at) = providers.iter().position(|it| it.peer == *peer) {
            providers.remove(at);
            give_back(&mut self.shares, peer);
        }
        if providers.is_empty() {
            self.providers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn key(number: usize) -> OverlayKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        OverlayKey(bytes)
    }

    fn record(number: usize, provider: PeerId, expires: Option<Instant>) -> ProviderRecord {
        Provider {
            peer: provider,
            expires,
        }
        .record(key(number))
    }

    fn providers(store: &ProviderStore, number: usize) -> Vec<PeerId> {
        let records = store.providers(&record_key(key(number)));
        records.into_iter().map(|it| it.provider).collect()
    }

    #[test]
    fn what_is_not_provided_again_is_forgotten_and_makes_room() {
        let (own, other) = (PeerId::random(), PeerId::random());
        let mut store = ProviderStore::new(own);
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        store.add_provider(record(1, own, None)).unwrap();
        store.add_provider(record(1, other, Some(later))).unwrap();
        store.add_provider(record(2, other, Some(now))).unwrap();

        store.sweep(now);
        assert_eq!(providers(&store, 1), [own, other]);
        assert!(providers(&store, 2).is_empty());

        store.sweep(later);
        assert_eq!(providers(&store, 1), [own]);
        assert_eq!(store.shares, BTreeMap::from([(own, 1)]));
        assert_eq!(store.provided().count(), 1);
    }

    #[test]
    fn one_provider_cannot_fill_the_store() {
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let mut store = ProviderStore::new(PeerId::random());
        let taken = (0..KEYS_MAX)
            .filter(|it| store.add_provider(record(*it, greedy, None)).is_ok())
            .count();

        assert_eq!(taken, KEYS_OF_PROVIDER_MAX);
        store.add_provider(record(0, other, None)).unwrap();
        assert_eq!(providers(&store, 0), [greedy, other]);

        store.remove_provider(&record_key(key(0)), &greedy);
        store.add_provider(record(KEYS_MAX, greedy, None)).unwrap();
    }

    #[test]
    fn keys_providers_and_records_are_bounded() {
        let mut store = ProviderStore::new(PeerId::random());
        for _ in 0..PROVIDERS_MAX {
            store
                .add_provider(record(1, PeerId::random(), None))
                .unwrap();
        }
        store
            .add_provider(record(1, PeerId::random(), None))
            .unwrap_err();
        assert_eq!(providers(&store, 1).len(), PROVIDERS_MAX);

        let odd = RecordKey::new(&[7; 31]);
        let odd = ProviderRecord::new(odd, PeerId::random(), Vec::new());
        store.add_provider(odd).unwrap_err();
        store.put(Record::new(vec![7; 32], Vec::new())).unwrap_err();
    }
}

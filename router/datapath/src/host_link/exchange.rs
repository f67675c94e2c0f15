//! Initiations that opened and wait for core's word: few, and not for long.

use super::drop_reason::LinkDrop;
use super::key::NoiseKey;
use super::message::SessionIndex;
use super::noise::Responder;
use super::port::ExchangeId;
use super::sealed::InitiationNumber;
use super::shared::Shared;
use margay_core::moment::Moment;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long core may take: an initiator that waited so long has tried again.
pub const EXCHANGE_LIFE: Duration = Duration::from_secs(5);

/// One initiation.
pub(super) struct Exchange {
    pub from: SocketAddr,
    pub key: NoiseKey,
    pub number: InitiationNumber,
    pub theirs: SessionIndex,
    pub responder: Responder,
}

/// All that wait, at most one of each key.
#[derive(Default)]
pub(super) struct Exchanges {
    /// In the order in which they came, which is the order in which they end.
    waiting: BTreeMap<ExchangeId, (Moment, Exchange)>,
    by_key: BTreeMap<NoiseKey, ExchangeId>,
    opened: u64,
}

impl Exchanges {
    /// Takes one more; a newer initiation takes its sender's older one's place.
    pub fn open(
        &mut self,
        exchange: Exchange,
        most: usize,
        now: Moment,
    ) -> Result<ExchangeId, LinkDrop> {
        if let Some(id) = self.by_key.get(&exchange.key).copied() {
            if self.waiting[&id].1.number >= exchange.number {
                return Err(LinkDrop::ReplayedInitiation);
            }
            self.take(id);
        }
        if self.waiting.len() >= most {
            return Err(LinkDrop::ExchangesFull);
        }
        let id = ExchangeId(self.opened);
        self.opened += 1;
        self.by_key.insert(exchange.key, id);
        self.waiting.insert(id, (now + EXCHANGE_LIFE, exchange));
        Ok(id)
    }

    /// Hands out one that waits.
    pub fn take(&mut self, id: ExchangeId) -> Option<Exchange> {
        let (_, exchange) = self.waiting.remove(&id)?;
        self.by_key.remove(&exchange.key);
        Some(exchange)
    }

    /// Drops those about which core said nothing.
    pub fn expire(&mut self, shared: &mut Shared, now: Moment) {
        while let Some((id, (ends, _))) = self.waiting.first_key_value()
            && *ends <= now
        {
            let id = *id;
            self.take(id);
            shared.drop(LinkDrop::ExchangeExpired);
        }
    }

    /// When the next of them has waited too long.
    pub fn next_end(&self) -> Option<Moment> {
        let (_, (ends, _)) = self.waiting.first_key_value()?;
        Some(*ends)
    }
}

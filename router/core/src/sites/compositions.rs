//! Compositions between sites: published by gateways once, and asked for where that was lost.

use super::drops::SitesDrop;
use super::members::weight;
use super::message::{Answer, FILLED_BYTES, Question};
use super::{COMPOSITIONS, Sites, SitesOutput};
use crate::catalog::{
    COMPOSITION_BYTES_MAX, COMPOSITIONS_MAX, Catalog, GOSSIP_BYTES_MAX, SignedComposition,
};
use crate::composition::CompositionName;
use crate::host::HostId;
use crate::id::Version;
use crate::moment::Moment;
use crate::overlay::{AskedId, OverlayCommand, QuestionId, Topic};
use crate::wire::margay::sites as wire;
use rand::Rng;
use rand::seq::IteratorRandom;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How often a gateway asks one of another site, give or take a quarter.
pub(super) const EXCHANGE_EVERY: Duration = Duration::from_secs(5);

/// A composition is published unless it was heard from elsewhere meanwhile.
const PUBLISHED_AFTER: Duration = Duration::from_millis(500);

/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// The longest encoded composition: its signer, its signature and what stands around them.
const WHOLE_BYTES_MAX: usize = COMPOSITION_BYTES_MAX + 256;

/// What is fetched now.
#[derive(Debug)]
struct Fetch {
    name: String,
    bytes: Vec<u8>,
}

/// What is under way with a gateway of another site.
#[derive(Debug)]
struct Round {
    with: HostId,
    question: QuestionId,
    until: Moment,
    fetch: Option<Fetch>,
    lacking: VecDeque<String>,
    /// Behind which name the inventory goes on.
    after: Option<String>,
    /// Behind which name it was asked for last, and how many names were listed so far.
    asked_after: String,
    listed: usize,
}

impl Round {
    /// Takes note of a page of an inventory. Names ascend, and are no more than anyone has: whoever
    /// repeats itself would be asked for ever.
    fn take_note(&mut self, held: &wire::Held) -> Result<(), SitesDrop> {
        let mut last = self.asked_after.as_str();
        for named in &held.compositions {
            if named.name.as_str() <= last {
                return Err(SitesDrop::Unreadable);
            }
            last = &named.name;
        }
        self.listed += held.compositions.len();
        (self.listed <= COMPOSITIONS_MAX)
            .then_some(())
            .ok_or(SitesDrop::Unreadable)
    }
}

/// The exchange of compositions.
#[derive(Debug)]
pub(super) struct Exchange {
    at: Moment,
    round: Option<Round>,
    /// When each is to be published; as many as there are compositions.
    publish: BTreeMap<CompositionName, Moment>,
    /// Hashes of what was heard: all gateways heard that, and nobody need publish it again.
    heard: BTreeSet<u64>,
}

impl Exchange {
    pub(super) fn new(now: Moment) -> Self {
        Exchange {
            at: now + EXCHANGE_EVERY,
            round: None,
            publish: BTreeMap::new(),
            heard: BTreeSet::new(),
        }
    }

    pub(super) fn due(&self) -> Moment {
        let first = self.publish.values().min().copied();
        let until = self.round.as_ref().map(|round| round.until);
        let due = [first, until].into_iter().flatten().min();
        due.map_or(self.at, |due| due.min(self.at))
    }

    /// Takes note that a composition is news here.
    pub(super) fn changed(&mut self, name: CompositionName, now: Moment) {
        self.publish.insert(name, now + PUBLISHED_AFTER);
    }

    pub(super) fn expects(&self, question: QuestionId) -> bool {
        self.round
            .as_ref()
            .is_some_and(|it| it.question == question)
    }
}

impl Sites {
    pub(super) fn exchange_timeout(&mut self, catalog: &Catalog, now: Moment) {
        let due = self.exchange.publish.iter().filter(|(_, at)| **at <= now);
        let due: Vec<CompositionName> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.exchange.publish.remove(&name);
            let signed = catalog
                .signed_composition(&name)
                .map(SignedComposition::to_bytes);
            // A longer one is found by asking.
            let news = signed.filter(|it| {
                let heard = self.exchange.heard.contains(&weight(&[it]));
                !heard && self.is_acting() && it.len() <= GOSSIP_BYTES_MAX
            });
            if let Some(bytes) = news {
                let topic = Topic(COMPOSITIONS.to_owned());
                self.overlay(OverlayCommand::Publish { topic, bytes });
            }
        }
        if self
            .exchange
            .round
            .as_ref()
            .is_some_and(|it| it.until <= now)
        {
            self.exchange.round = None;
        }
        if self.exchange.at > now {
            return;
        }
        let quarter = EXCHANGE_EVERY / 4;
        let more = self.random.random_range(Duration::ZERO..quarter * 2);
        self.exchange.at = now + EXCHANGE_EVERY - quarter + more;
        if !self.is_acting() || self.exchange.round.is_some() {
            return;
        }
        let gateways = self.members.connected_gateways().copied();
        if let Some(with) = gateways.choose(&mut self.random) {
            let question = self.question_id();
            self.exchange.round = Some(Round {
                with,
                question,
                until: now + ANSWERED_WITHIN,
                fetch: None,
                lacking: VecDeque::new(),
                after: Some(String::new()),
                asked_after: String::new(),
                listed: 0,
            });
            self.exchange_on(catalog, now);
        }
    }

    /// Takes what was published in another site.
    pub(super) fn hear_composition(&mut self, bytes: &[u8]) -> Result<(), SitesDrop> {
        let composition = SignedComposition::from_bytes(bytes);
        let composition = composition.ok_or(SitesDrop::Unreadable)?;
        if self.exchange.heard.len() >= COMPOSITIONS_MAX {
            self.exchange.heard.clear();
        }
        self.exchange.heard.insert(weight(&[bytes]));
        let output = SitesOutput::Composition(Box::new(composition));
        self.outputs.push_back(output);
        Ok(())
    }

    pub(super) fn exchange_answered(
        &mut self,
        answer: Option<Answer>,
        catalog: &Catalog,
        now: Moment,
    ) -> Result<(), SitesDrop> {
        let Some(round) = &mut self.exchange.round else {
            return Err(SitesDrop::Unasked);
        };
        match (answer, round.fetch.take()) {
            (Some(Answer::Held(held)), None) => {
                if let Err(reason) = round.take_note(&held) {
                    self.exchange.round = None;
                    return Err(reason);
                }
                let last = held.compositions.last().map(|it| it.name.clone());
                round.after = last.filter(|_| held.more);
                let lacking = held.compositions.into_iter().filter(|it| {
                    catalog.lacks_composition(&it.name, Version(it.number), &it.content)
                });
                round.lacking.extend(lacking.map(|it| it.name));
            }
            (Some(Answer::Piece(piece)), Some(fetch)) => {
                if let Err(reason) = self.take_piece(fetch, piece) {
                    self.exchange.round = None;
                    return Err(reason);
                }
            }
            (None, _) => self.exchange.round = None,
            _ => {
                self.exchange.round = None;
                return Err(SitesDrop::Unreadable);
            }
        }
        self.exchange_on(catalog, now);
        Ok(())
    }

    fn take_piece(&mut self, mut fetch: Fetch, piece: wire::Piece) -> Result<(), SitesDrop> {
        let total = piece.total as usize;
        if total == 0 {
            return Ok(());
        }
        let grown = fetch.bytes.len() + piece.bytes.len();
        let goes_on = piece.offset as usize == fetch.bytes.len() && !piece.bytes.is_empty();
        if !goes_on || grown > total || total > WHOLE_BYTES_MAX {
            return Err(SitesDrop::CompositionTooLong);
        }
        fetch.bytes.extend(piece.bytes);
        if grown < total {
            if let Some(round) = &mut self.exchange.round {
                round.fetch = Some(fetch);
            }
            return Ok(());
        }
        let composition = SignedComposition::from_bytes(&fetch.bytes);
        let composition = composition.ok_or(SitesDrop::Unreadable)?;
        let output = SitesOutput::Composition(Box::new(composition));
        self.outputs.push_back(output);
        Ok(())
    }

    /// Asks what is to be asked next; ends the round when that is nothing.
    fn exchange_on(&mut self, catalog: &Catalog, now: Moment) {
        let id = self.question_id();
        let Some(round) = &mut self.exchange.round else {
            return;
        };
        if round.fetch.is_none() {
            round.fetch = round.lacking.pop_front().map(|name| Fetch {
                name,
                bytes: Vec::new(),
            });
        }
        let question = match (&round.fetch, round.after.take()) {
            (Some(fetch), after) => {
                round.after = after;
                Question::Fetch {
                    name: fetch.name.clone(),
                    offset: fetch.bytes.len() as u32,
                }
            }
            (None, Some(after)) => {
                round.asked_after.clone_from(&after);
                Question::Inventory {
                    sum: catalog.compositions_sum(),
                    after,
                }
            }
            (None, None) => {
                self.exchange.round = None;
                return;
            }
        };
        (round.question, round.until) = (id, now + ANSWERED_WITHIN);
        let (to, question, bytes) = (round.with, id, question.encode());
        self.overlay(OverlayCommand::Ask {
            to,
            question,
            bytes,
        });
    }

    pub(super) fn answer_inventory(
        &mut self,
        asked: AskedId,
        sum: &[u8],
        after: &str,
        catalog: &Catalog,
    ) {
        let mut held = wire::Held::default();
        let mut filled = 0;
        if catalog.compositions_sum() != sum {
            for (name, version, content) in catalog.compositions_after(after) {
                filled += name.len() + content.len() + 24;
                if filled > FILLED_BYTES {
                    held.more = true;
                    break;
                }
                held.compositions.push(wire::Composition {
                    name,
                    number: version.0,
                    content,
                });
            }
        }
        self.answer(asked, Answer::Held(held));
    }

    pub(super) fn answer_fetch(
        &mut self,
        asked: AskedId,
        name: &str,
        offset: u32,
        catalog: &Catalog,
    ) {
        let name = name.parse::<CompositionName>().ok();
        let signed = name.and_then(|name| catalog.signed_composition(&name));
        let bytes = signed.map(SignedComposition::to_bytes).unwrap_or_default();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let piece = wire::Piece {
            offset,
            total: bytes.len() as u32,
            bytes: rest[..rest.len().min(FILLED_BYTES)].to_vec(),
        };
        self.answer(asked, Answer::Piece(piece));
    }
}

//! Repair: one random host at a time is asked for what is lacking here.

use super::form::read_host;
use super::origin::Origin;
use super::read::read;
use super::record::{Record, Sum, VERSION};
use super::{COMPOSITION_BYTES_MAX, Catalog, CatalogDrop, CatalogOutput};
use crate::host::{HostId, OriginEpoch};
use crate::moment::Moment;
use crate::wire::margay::catalog as wire;
use prost::Message;
use rand::Rng;
use rand::seq::IteratorRandom;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often a host asks another, give or take a quarter.
pub const REPAIR_EVERY: Duration = Duration::from_secs(2);

/// How soon a host asks that has just met another.
const REPAIR_SOON: Duration = Duration::from_millis(100);

/// The longest question: all origins, and all compositions by name.
pub const ASK_BYTES_MAX: usize = 1 << 20;

/// An answer ends behind the record or composition with which it reaches this, at the latest.
pub const ANSWERED_BYTES_MAX: usize = 256 << 10;

/// The longest answer: filled but for one composition, and with a section for each origin.
pub const ANSWER_BYTES_MAX: usize = ANSWERED_BYTES_MAX + COMPOSITION_BYTES_MAX + (256 << 10);

/// The most answers that one round asks for: enough for 100,000 services of one host.
pub const ANSWERS_A_ROUND: u32 = 256;

/// What protobuf writes around a section, at most.
const SECTION_FRAME_BYTES: usize = 96;

/// A question that was not answered yet.
#[derive(Clone, Copy, Debug)]
struct Asked {
    to: HostId,
    inventory: bool,
    answers: u32,
}

/// When and whom to ask.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) at: Moment,
    /// Of the question that is out; each has another.
    round: u64,
    asked: Option<Asked>,
    /// When a host last had nothing more for us.
    pub(super) repaired: Option<Moment>,
}

impl Repair {
    pub(super) fn new(now: Moment) -> Self {
        Repair {
            at: now,
            round: 0,
            asked: None,
            repaired: None,
        }
    }

    pub(super) fn due(&self) -> Moment {
        self.at
    }

    /// Asks soon: somebody is new.
    pub(super) fn soon(&mut self, now: Moment) {
        self.at = self.at.min(now + REPAIR_SOON);
    }
}

impl Catalog {
    /// Asks a random host, if it is time, and tidies up.
    pub(super) fn tick(&mut self, now: Moment) {
        if self.repair.at > now {
            return;
        }
        let quarter = REPAIR_EVERY / 4;
        self.repair.at =
            now + REPAIR_EVERY - quarter + self.random.random_range(Duration::ZERO..quarter * 2);
        let hosts: Vec<HostId> = self.origins.keys().copied().collect();
        for host in hosts {
            if let Some(origin) = self.origins.get_mut(&host) {
                origin.asked = 0;
                origin.forget_taken_back(now, self.limits.taken_back_kept);
            }
            self.settle(&host, now);
        }
        self.bindings.forget(self.limits.taken_back_kept, now);
        if let Some(to) = self.up.iter().copied().choose(&mut self.random) {
            self.ask(Asked {
                to,
                inventory: false,
                answers: 0,
            });
        }
    }

    /// Answers a host with what it lacks.
    pub(super) fn answer(&mut self, from: HostId, bytes: &[u8]) {
        let ask = self
            .may_ask(&from)
            .and_then(|()| read::<wire::Ask>(bytes, ASK_BYTES_MAX));
        let ask = match ask {
            Ok(ask) => ask,
            Err(reason) => return self.count(reason),
        };
        let mut answer = wire::Answer {
            version: VERSION,
            round: ask.round,
            ..wire::Answer::default()
        };
        self.answer_records(&ask, &mut answer);
        self.answer_compositions(&ask, &mut answer);
        let bytes = answer.encode_to_vec();
        debug_assert!(bytes.len() <= ANSWER_BYTES_MAX);
        self.outputs
            .push_back(CatalogOutput::Answer { to: from, bytes });
    }

    /// Learns from an answer, and asks on.
    pub(super) fn learn(&mut self, from: HostId, bytes: &[u8], now: Moment) {
        let answer = match read::<wire::Answer>(bytes, ANSWER_BYTES_MAX) {
            Ok(answer) => answer,
            Err(reason) => return self.count(reason),
        };
        let expected = |asked: &Asked| asked.to == from && self.repair.round == answer.round;
        let Some(asked) = self.repair.asked.filter(expected) else {
            return self.count(CatalogDrop::Unasked);
        };
        self.repair.asked = None;
        let nothing = answer.sections.is_empty() && answer.compositions.is_empty();
        for section in answer.sections {
            self.learn_section(section, now);
        }
        for composition in answer.compositions {
            self.hear_composition(composition);
        }
        let inventory = answer.inventory && !asked.inventory;
        let more = answer.more && !nothing;
        if (more || inventory) && asked.answers < ANSWERS_A_ROUND {
            self.ask(Asked {
                to: from,
                inventory: asked.inventory || inventory,
                answers: asked.answers + 1,
            });
        } else if !more {
            self.repair.repaired = Some(now);
        }
    }

    fn ask(&mut self, asked: Asked) {
        self.repair.round = self.random.random();
        self.repair.asked = Some(asked);
        let mark = |(host, origin): (&HostId, &Origin)| wire::Mark {
            origin: host.as_bytes().to_vec(),
            epoch: origin.life.epoch.0,
            complete: origin.complete,
            checked: origin.check.as_ref().map(|check| check.checked),
        };
        let ask = wire::Ask {
            version: VERSION,
            round: self.repair.round,
            marks: self.origins.iter().map(mark).collect(),
            compositions: self.compositions.sum.to_bytes(),
            inventory: asked.inventory.then(|| self.compositions.inventory()),
        };
        let bytes = ask.encode_to_vec();
        debug_assert!(bytes.len() <= ASK_BYTES_MAX);
        self.outputs.push_back(CatalogOutput::Ask {
            to: asked.to,
            bytes,
        });
    }

    fn may_ask(&mut self, from: &HostId) -> Result<(), CatalogDrop> {
        let asker = self.origins.get_mut(from);
        let asker = asker.ok_or(CatalogDrop::NotCertified)?;
        if asker.asked > ANSWERS_A_ROUND {
            return Err(CatalogDrop::AskedTooOften);
        }
        asker.asked += 1;
        Ok(())
    }

    fn answer_records(&self, ask: &wire::Ask, answer: &mut wire::Answer) {
        let marks = ask.marks.iter();
        let marks: BTreeMap<HostId, &wire::Mark> = marks
            .filter_map(|mark| Some((read_host(&mark.origin)?, mark)))
            .collect();
        let mut filled = 0;
        for (host, origin) in &self.origins {
            let Some(after) = lacks_after(origin, marks.get(host).copied()) else {
                continue;
            };
            if filled >= self.limits.answered_bytes {
                answer.more = true;
                break;
            }
            let section = section(
                host,
                origin,
                after,
                (&mut filled, self.limits.answered_bytes),
            );
            answer.more |= section.through < section.complete;
            answer.sections.push(section);
        }
    }

    fn answer_compositions(&self, ask: &wire::Ask, answer: &mut wire::Answer) {
        let Some(inventory) = &ask.inventory else {
            let theirs = Sum::from_bytes(&ask.compositions);
            answer.inventory = theirs != Some(self.compositions.sum);
            return;
        };
        let mut filled: usize = answer.sections.iter().map(wire::Section::encoded_len).sum();
        for (composition, bytes) in self.compositions.lacking(inventory) {
            if filled >= self.limits.answered_bytes {
                answer.more = true;
                break;
            }
            filled += bytes;
            answer.compositions.push(composition.to_wire());
        }
    }

    /// Takes what is so of one origin between two sequences.
    fn learn_section(&mut self, section: wire::Section, now: Moment) {
        let Some(host) = read_host(&section.origin) else {
            return self.count(CatalogDrop::Unreadable);
        };
        let epoch = OriginEpoch(section.epoch);
        let known = self.origins.get(&host);
        let checks = known.is_some_and(|origin| continues_check(origin, &section));
        let mut covered = known.is_some_and(|origin| continues(origin, &section));
        let mut listed = BTreeSet::new();
        for record in &section.records {
            let place = Record::place(record);
            let believed = match self.believe(&host, record, true, now) {
                Err(CatalogDrop::Known) => Ok(()),
                other => other,
            };
            match (believed, place) {
                (Ok(()), Ok((of, sequence))) if of == epoch => {
                    let ascends = listed.last().is_none_or(|last| *last < sequence);
                    covered &= ascends && sequence > section.after;
                    listed.insert(sequence);
                    if covered {
                        self.complete(&host, epoch, sequence);
                    }
                }
                (Err(reason), _) => {
                    covered = false;
                    self.count(reason);
                }
                _ => covered = false,
            }
        }
        if covered {
            self.complete(&host, epoch, section.through);
        }
        if checks && covered {
            self.advance_check(&host, &section, &listed, now);
        }
        self.settle(&host, now);
    }

    /// Everything up to `sequence` is here, as far as there is any.
    fn complete(&mut self, host: &HostId, epoch: OriginEpoch, sequence: u64) {
        let origin = self.origins.get_mut(host);
        if let Some(origin) = origin.filter(|origin| origin.life.epoch == epoch) {
            origin.complete_through(sequence.min(origin.highest));
        }
    }

    /// Goes on with a second look; at its end, if all adds up, what nobody listed is not so.
    fn advance_check(
        &mut self,
        host: &HostId,
        section: &wire::Section,
        listed: &BTreeSet<u64>,
        now: Moment,
    ) {
        let Some(origin) = self.origins.get_mut(host) else {
            return;
        };
        let range = origin.range(section.after, section.through);
        let unlisted = range.map(|(sequence, _)| sequence);
        let unlisted: Vec<u64> = unlisted.filter(|it| !listed.contains(it)).collect();
        let Some(check) = &mut origin.check else {
            return;
        };
        check.doubtful.extend(unlisted);
        check.checked = section.through;
        if section.through < section.complete {
            return;
        }
        let part_of = |wire: &[u8]| Record::read_again(host, wire).part;
        let Some(proven) = origin.end_check(part_of) else {
            return;
        };
        let mut gone = Vec::new();
        for sequence in proven.over {
            let record = origin.range(sequence - 1, sequence).next();
            let record = record.map(|(_, it)| Record::read_again(host, &it.wire));
            let removed = record.and_then(|it| origin.remove(sequence, &it.key, it.part));
            gone.extend(removed);
        }
        for stored in gone {
            self.strike(host, &stored, now);
        }
        for wire in proven.found {
            self.write_down(host, Record::read_again(host, &wire), &wire, now);
        }
    }
}

/// From which sequence on somebody with `mark` lacks records that we have; `None`: from none.
fn lacks_after(origin: &Origin, mark: Option<&wire::Mark>) -> Option<u64> {
    // What does not add up here helps nobody.
    if origin.check.is_some() || origin.complete == 0 {
        return None;
    }
    let mark = mark.filter(|mark| OriginEpoch(mark.epoch) >= origin.life.epoch);
    let after = match mark {
        None => 0,
        Some(mark) if OriginEpoch(mark.epoch) > origin.life.epoch => return None,
        Some(mark) if mark.complete > origin.complete => return None,
        // Only what adds up here tells what is not so any more.
        Some(mark) if mark.checked.is_some() && !origin.is_sound() => return None,
        Some(mark) => mark.checked.unwrap_or(mark.complete),
    };
    (after < origin.complete).then_some(after)
}

/// As many of an origin's records as still fit.
fn section(
    host: &HostId,
    origin: &Origin,
    after: u64,
    (filled, filled_max): (&mut usize, usize),
) -> wire::Section {
    let mut section = wire::Section {
        origin: host.as_bytes().to_vec(),
        epoch: origin.life.epoch.0,
        after,
        through: origin.complete,
        complete: origin.complete,
        records: Vec::new(),
    };
    *filled += SECTION_FRAME_BYTES;
    let mut through = after;
    for (sequence, stored) in origin.range(after, origin.complete) {
        if *filled >= filled_max {
            section.through = through;
            break;
        }
        *filled += stored.wire.len();
        section.records.push(stored.wire.to_vec());
        through = sequence;
    }
    section
}

/// Whether a section begins no later than where we are.
fn continues(origin: &Origin, section: &wire::Section) -> bool {
    let epoch = OriginEpoch(section.epoch);
    if epoch == origin.life.epoch {
        section.after <= origin.complete
    } else {
        epoch > origin.life.epoch && section.after == 0
    }
}

/// Whether a section goes on where our second look is.
fn continues_check(origin: &Origin, section: &wire::Section) -> bool {
    let check = origin.check.as_ref();
    OriginEpoch(section.epoch) == origin.life.epoch
        && check.is_some_and(|check| check.checked == section.after)
}

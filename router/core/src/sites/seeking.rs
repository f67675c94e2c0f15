//! Seeking: instances of a service that the own site has not, asked for step by step.
//!
//! ```text
//!   host ──── Seek ───▶ gateway of its site ─── Seek ───▶ gateway that a summary names,
//!        ◀── Found ───                      ◀── Found ──  else up to three that Kademlia names
//! ```

use super::arranging::overlay_key;
use super::drops::SitesDrop;
use super::members::weight;
use super::message::{Answer, FILLED_BYTES, FOUND_MAX, Question, Way, Word};
use super::{Sites, SitesOutput};
use crate::catalog::{Catalog, SignedInstance};
use crate::host::HostId;
use crate::id::InstanceId;
use crate::moment::Moment;
use crate::name::AutomatonName;
use crate::overlay::{AskedId, OverlayCommand, QuestionId};
use crate::peer::{Known, PeerInput};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How often a question is passed on at most: gateways of tiers down and up.
pub(super) const PASSES_MAX: u32 = 8;

/// How long the Router waits for a service that is sought: a program sees a slow DNS answer.
const SOUGHT_WITHIN: Duration = Duration::from_millis(1_500);

/// How long a host of the own site waits: it may still ask another gateway.
const ANSWERED_WITHIN: Duration = Duration::from_millis(1_200);

/// How long a host of another site waits.
const PASSED_WITHIN: Duration = Duration::from_millis(800);

/// After so long without an answer the next is asked beside the one before.
const NEXT_AFTER: Duration = Duration::from_millis(400);

/// How long it is remembered that nobody serves a service.
pub(super) const VAIN_FOR: Duration = Duration::from_secs(2);

/// Services that were sought in vain and are remembered.
const VAIN_MAX: usize = 4_096;

/// Searches under way at once.
pub(super) const SEARCHES_MAX: usize = 1_024;

/// Who may wait for one of them.
const WAITERS_MAX: usize = 64;

/// How many gateways of summaries, and of those that Kademlia names, are asked.
const ASKED_MAX: usize = 3;

/// A service, and how often the question for it may be passed on; [`PASSES_MAX`] for the own site.
type Sought = (AutomatonName, u32);

#[derive(Debug, PartialEq, Eq)]
enum Waiter {
    Router,
    Host(HostId, AskedId),
    Renewal,
}

#[derive(Debug)]
struct Search {
    waiters: Vec<Waiter>,
    candidates: VecDeque<HostId>,
    asked: BTreeMap<QuestionId, HostId>,
    /// Whether Kademlia may still be asked.
    may_find: bool,
    finding: Option<QuestionId>,
    way: Way,
    /// Whether anybody said that there is none.
    answered: bool,
    next: Moment,
    deadline: Moment,
}

/// All searches under way, and those that were in vain.
#[derive(Debug, Default)]
pub(super) struct Searches {
    under_way: BTreeMap<Sought, Search>,
    questions: BTreeMap<QuestionId, Sought>,
    vain: BTreeMap<AutomatonName, Moment>,
}

impl Searches {
    pub(super) fn due(&self) -> Option<Moment> {
        let due = self.under_way.values();
        due.map(|search| search.next.min(search.deadline)).min()
    }

    fn is_vain(&self, service: &AutomatonName, now: Moment) -> bool {
        self.vain.get(service).is_some_and(|until| *until > now)
    }

    fn remember_vain(&mut self, service: AutomatonName, now: Moment) {
        if self.vain.len() >= VAIN_MAX {
            self.vain.retain(|_, until| *until > now);
        }
        if self.vain.len() < VAIN_MAX {
            self.vain.insert(service, now + VAIN_FOR);
        }
    }
}

impl Sites {
    /// Looks for instances of a service, for the Router.
    pub(super) fn seek(&mut self, service: AutomatonName, now: Moment) {
        self.summaries.used(&service, now);
        if self.use_leases(&service, now) || self.searches.is_vain(&service, now) {
            return self.tell(PeerInput::Sought { service });
        }
        let gateway = self.is_acting();
        self.search((service, PASSES_MAX), Waiter::Router, gateway, now);
    }

    /// Asks for a service's instances again, whose leases end soon.
    pub(super) fn renew(&mut self, service: AutomatonName, now: Moment) {
        let gateway = self.is_acting();
        self.search((service, PASSES_MAX), Waiter::Renewal, gateway, now);
    }

    /// Answers a host that seeks, at once or once it is known.
    pub(super) fn asked_to_seek(
        &mut self,
        (from, asked): (HostId, AskedId),
        (service, passes, held): (AutomatonName, u32, &[InstanceId]),
        catalog: &Catalog,
        now: Moment,
    ) -> Result<(), SitesDrop> {
        let near = self.members.is_near(&from);
        self.summaries.used(&service, now);
        let here = catalog.signed_instances_of(&service).into_iter();
        let here: Vec<_> = here
            .filter(|it| it.instance.takes_flows || held.contains(&it.instance.identity.number))
            .collect();
        if here.iter().any(|it| it.instance.takes_flows) && !near {
            let answer = found(here, Way::Site, &from, held);
            self.answer(asked, answer);
            return Ok(());
        }
        if near && self.use_leases(&service, now) {
            self.answer_from_leases(&service, &from, asked, held);
        } else if near && self.searches.is_vain(&service, now) || !near && passes == 0 {
            self.answer(asked, found(Vec::new(), Way::Site, &from, held));
        } else {
            let passes = if near {
                PASSES_MAX
            } else {
                passes.min(PASSES_MAX - 1)
            };
            self.search((service, passes), Waiter::Host(from, asked), true, now);
        }
        Ok(())
    }

    /// Goes on with searches whose last step had no answer in time.
    pub(super) fn search_on(&mut self, now: Moment) {
        let due = |it: &Search| it.next.min(it.deadline) <= now;
        let due = self.searches.under_way.iter().filter(|(_, it)| due(it));
        let due: Vec<Sought> = due.map(|(sought, _)| sought.clone()).collect();
        for sought in due {
            let over = |it: &Search| it.deadline <= now;
            match self.searches.under_way.get(&sought).is_some_and(over) {
                true => self.finish(&sought, now),
                false => self.proceed(&sought, now),
            }
        }
    }

    /// Takes what somebody answered to a question for a service.
    pub(super) fn found_instances(
        &mut self,
        question: QuestionId,
        answer: Option<(Vec<Word>, Way)>,
        now: Moment,
    ) -> Result<(), SitesDrop> {
        let sought = self.searches.questions.remove(&question);
        let sought = sought.ok_or(SitesDrop::Unasked)?;
        let Some(search) = self.searches.under_way.get_mut(&sought) else {
            return Err(SitesDrop::Unasked);
        };
        let from = search.asked.remove(&question).ok_or(SitesDrop::Unasked)?;
        search.answered |= answer.is_some();
        let own_way = search.way;
        let mut any = false;
        if let Some((words, way)) = answer {
            let known = match own_way.max(way) {
                Way::LookUp => Known::LookedUp,
                Way::Site | Way::Summary => Known::Summarised,
            };
            for word in words {
                let taken = self.take_found(&word, &sought.0, (from, known), now);
                match taken {
                    Ok(()) => any = true,
                    Err(reason) => self.count(reason),
                }
            }
        }
        match any {
            true => self.finish(&sought, now),
            false => self.proceed_if_idle(&sought, now),
        }
        Ok(())
    }

    /// Takes whom Kademlia names.
    pub(super) fn found(&mut self, question: QuestionId, hosts: &[HostId], now: Moment) {
        let Some(sought) = self.searches.questions.remove(&question) else {
            return self.count(SitesDrop::Unasked);
        };
        let far = hosts.iter().filter(|host| self.members.is_far(host));
        let far: Vec<HostId> = far.take(ASKED_MAX).copied().collect();
        if let Some(search) = self.searches.under_way.get_mut(&sought) {
            search.finding = None;
            search.answered |= far.is_empty();
            search.way = Way::LookUp;
        }
        for host in far {
            self.ask_host(&sought, host, now);
        }
        self.proceed_if_idle(&sought, now);
    }

    fn search(&mut self, sought: Sought, waiter: Waiter, as_gateway: bool, now: Moment) {
        if let Some(search) = self.searches.under_way.get_mut(&sought) {
            match search.waiters.len() < WAITERS_MAX {
                true if waiter == Waiter::Renewal => {}
                true => search.waiters.push(waiter),
                false => self.turn_away(sought.0, &waiter),
            }
            return;
        }
        if self.searches.under_way.len() >= SEARCHES_MAX {
            return self.turn_away(sought.0, &waiter);
        }
        let within = match &waiter {
            Waiter::Router | Waiter::Renewal => SOUGHT_WITHIN,
            Waiter::Host(host, _) if self.members.is_near(host) => ANSWERED_WITHIN,
            Waiter::Host(..) => PASSED_WITHIN,
        };
        let asker = match &waiter {
            Waiter::Host(host, _) => self.members.site_of(host).cloned(),
            Waiter::Router | Waiter::Renewal => None,
        };
        let candidates: VecDeque<HostId> = match as_gateway {
            true => {
                let named = self
                    .summaries
                    .who_serves(&sought.0, &self.members, asker.as_ref());
                named.into_iter().take(ASKED_MAX).collect()
            }
            false => self.gateways_to_ask(&sought.0),
        };
        let passes_on = sought.1 == PASSES_MAX;
        let search = Search {
            waiters: vec![waiter],
            may_find: passes_on && (as_gateway || candidates.is_empty()),
            candidates,
            asked: BTreeMap::new(),
            finding: None,
            way: if as_gateway { Way::Summary } else { Way::Site },
            // Who may not pass it on answers with what it knows.
            answered: as_gateway && !passes_on,
            next: now,
            deadline: now + within,
        };
        self.searches.under_way.insert(sought.clone(), search);
        self.proceed(&sought, now);
    }

    /// The gateways of the own site, each service's questions beginning with another.
    fn gateways_to_ask(&self, service: &AutomatonName) -> VecDeque<HostId> {
        let own = self.members.host;
        let mut gateways = self.acting_gateways();
        gateways.retain(|host| *host != own);
        let order = |host: &HostId| weight(&[service.as_str().as_bytes(), host.as_bytes()]);
        gateways.sort_by_cached_key(order);
        gateways.into()
    }

    fn turn_away(&mut self, service: AutomatonName, waiter: &Waiter) {
        self.count(SitesDrop::TooManySeeks);
        if *waiter == Waiter::Router {
            self.tell(PeerInput::Sought { service });
        }
    }

    fn proceed_if_idle(&mut self, sought: &Sought, now: Moment) {
        let search = self.searches.under_way.get(sought);
        if search.is_some_and(|it| it.asked.is_empty() && it.finding.is_none()) {
            self.proceed(sought, now);
        }
    }

    /// Asks whoever is next; ends it if nobody is left who could answer.
    fn proceed(&mut self, sought: &Sought, now: Moment) {
        let Some(search) = self.searches.under_way.get_mut(sought) else {
            return;
        };
        search.next = now + NEXT_AFTER;
        if let Some(host) = search.candidates.pop_front() {
            self.ask_host(sought, host, now);
        } else if std::mem::take(&mut search.may_find) {
            let question = self.question_id();
            if let Some(search) = self.searches.under_way.get_mut(sought) {
                search.finding = Some(question);
            }
            self.searches.questions.insert(question, sought.clone());
            let key = overlay_key(&sought.0);
            self.overlay(OverlayCommand::Find { key, question });
        } else if search.asked.is_empty() && search.finding.is_none() {
            self.finish(sought, now);
        } else {
            search.next = search.deadline;
        }
    }

    fn ask_host(&mut self, (service, passes): &Sought, host: HostId, now: Moment) {
        let question = self.question_id();
        let sought = (service.clone(), *passes);
        let Some(search) = self.searches.under_way.get_mut(&sought) else {
            return;
        };
        search.asked.insert(question, host);
        search.next = now + NEXT_AFTER;
        self.searches.questions.insert(question, sought);
        let held = self.leases.of_service(service);
        let held = held.map(|lease| lease.told.instance).collect();
        let bytes = Question::Seek {
            service: service.clone(),
            passes: passes.saturating_sub(1),
            held,
        };
        let bytes = bytes.encode();
        let to = host;
        self.overlay(OverlayCommand::Ask {
            to,
            question,
            bytes,
        });
    }

    fn finish(&mut self, sought: &Sought, now: Moment) {
        let Some(search) = self.searches.under_way.remove(sought) else {
            return;
        };
        let open = search.asked.keys().chain(&search.finding);
        open.for_each(|question| drop(self.searches.questions.remove(question)));
        let service = &sought.0;
        let known = self.leases.of_service(service).any(|it| it.told.ready);
        if !known && search.answered && sought.1 == PASSES_MAX {
            self.searches.remember_vain(service.clone(), now);
        }
        for waiter in search.waiters {
            match waiter {
                Waiter::Router => {
                    let service = service.clone();
                    self.tell(PeerInput::Sought { service });
                }
                Waiter::Host(from, asked) if known || search.answered => {
                    self.answer_from_leases(service, &from, asked, &[]);
                }
                Waiter::Host(..) | Waiter::Renewal => {}
            }
        }
    }

    /// Whether instances of a service are leased that take flows; they are used then.
    fn use_leases(&mut self, service: &AutomatonName, now: Moment) -> bool {
        let found = self.leases.of_service(service);
        let found = found.filter(|it| it.told.known != Known::Called && it.until > now);
        let fresh: Vec<(InstanceId, bool)> =
            found.map(|it| (it.told.instance, it.told.ready)).collect();
        for (id, _) in &fresh {
            self.leases.used(*id, now);
        }
        fresh.iter().any(|(_, ready)| *ready)
    }

    fn answer_from_leases(
        &mut self,
        service: &AutomatonName,
        from: &HostId,
        asked: AskedId,
        held: &[InstanceId],
    ) {
        let leases = self.leases.of_service(service);
        let leases: Vec<_> = leases
            .filter(|it| it.told.known != Known::Called && it.told.ready)
            .collect();
        let looked_up = leases.iter().any(|it| it.told.known == Known::LookedUp);
        let way = if looked_up { Way::LookUp } else { Way::Summary };
        let signed = leases.into_iter().map(|it| it.signed.clone()).collect();
        self.answer(asked, found(signed, way, from, held));
    }

    pub(super) fn answer(&mut self, asked: AskedId, answer: Answer) {
        let bytes = answer.encode();
        let answer = OverlayCommand::Answer { asked, bytes };
        self.outputs.push_back(SitesOutput::Overlay(answer));
    }
}

/// As many instances as an answer holds: first what the asker has, then others, other ones for each
/// asker.
fn found(mut signed: Vec<SignedInstance>, way: Way, from: &HostId, held: &[InstanceId]) -> Answer {
    signed.sort_by_cached_key(|it| {
        let number = it.instance.identity.number;
        let order = weight(&[from.as_bytes(), &number.0.to_be_bytes()]);
        (!held.contains(&number), order)
    });
    let mut filled = 0;
    let words = signed.into_iter().take(FOUND_MAX).map(|it| Word {
        origin: it.origin,
        record: it.bytes().to_vec(),
    });
    let words = words.take_while(|word| {
        filled += word.record.len();
        filled <= FILLED_BYTES
    });
    Answer::Found {
        words: words.collect(),
        way,
    }
}

//! The flow table: every open flow, its slots, and when it has ended.
//!
//! The kernel executes the flows and counts their packets; this table decides which there are. It
//! looks at the kernel's counters only when a flow could have ended, never at all flows at once.

mod age;
mod change;
mod flow;
mod limits;
mod pairs;
mod rows;
mod supply;

pub use age::{CLOSED_LINGER, ECHO_IDLE_MAX, FlowState, HALF_OPEN_MAX, TCP_IDLE_MAX};
pub use age::{UDP_STREAM_IDLE_MAX, UDP_UNANSWERED_MAX};
pub use change::{FlowChange, FlowEnd};
pub use flow::{Flow, OpenRequest, Party};
pub use limits::FlowLimits;
pub use pairs::PAIR_REST;

use crate::choice::Choice;
use crate::drop_reason::DropReason;
use crate::flow_key::FlowKey;
use crate::id::{InstanceId, SlotIndex};
use crate::moment::Moment;
use crate::port::{AdoptedFlow, DirectionEntry, FlowEntries, FlowReading, Output, TakenPair};
use crate::seeded::{SeededMap, seeded_map};
use age::Verdict;
use pairs::{Pair, PairPool};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use rows::Rows;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use supply::Supply;

/// Flows of one reading: small enough that first packets hardly wait behind it (about 0.2 ms).
pub const READ_BATCH_MAX: usize = 512;

/// The shortest time between two readings: with [`READ_BATCH_MAX`] this allows 100,000 flows a
/// second, three times the shortest-lived load that one host can open.
pub const READ_PACE: Duration = Duration::from_millis(5);

/// When a reading that was never answered is asked for again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// How long the TCP flows towards an ended program stay, so that its dying sockets' FIN and RST
/// reach the other side.
pub const DYING_SOCKETS_LINGER: Duration = Duration::from_secs(1);

/// Where source ports are moved to when two flows would collide (RFC 6335 section 6: dynamic).
const REMAP_PORT_FIRST: u16 = 49_152;

/// Ports tried before a colliding flow is refused; with nine in ten taken, one flow in a million
/// fails to find a free one.
const REMAP_TRIES_MAX: u16 = 128;

/// What the table is told.
#[derive(Debug)]
pub enum FlowInput {
    /// The kernel did not take the flow's entries.
    Refused(FlowKey),
    /// What the kernel counted.
    Read(Vec<FlowReading>),
    /// What the kernel took of its supply.
    Taken(Vec<TakenPair>),
    /// The instance's program ended: its peers shall learn it, then bind anew.
    ProgramEnded(InstanceId),
    /// The instance has no network any more.
    NetworkGone(InstanceId),
    /// The instance takes no new flow: those that it serves shall be looked at now.
    LookAt(InstanceId),
    /// The instance's program is about to be told to stop: its connections learn that from it, all
    /// else binds anew.
    Stopping(InstanceId),
}

/// What a server made of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Which instance.
    pub server: InstanceId,
    /// Whether it was called by IPv4; else by IPv6.
    pub by_ipv4: bool,
    /// Whether it answered.
    pub answered: bool,
}

impl Judgement {
    fn of(flow: &Flow, answered: bool) -> Self {
        Judgement {
            server: flow.entries.server,
            by_ipv4: flow.entries.forward.key.source.is_ipv4(),
            answered,
        }
    }
}

/// How many flows an instance takes part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    as_client: u32,
    as_server: u32,
}

/// All open flows.
#[derive(Debug)]
pub struct FlowTable {
    limits: FlowLimits,
    pairs: PairPool,
    flows: Rows,
    /// Both directions' keys.
    keys: SeededMap<FlowKey, SlotIndex>,
    held: SeededMap<InstanceId, Held>,
    /// When to look at which flow.
    due: BTreeSet<(Moment, Pair)>,
    /// Readings are paced: none before this.
    read_next: Moment,
    supply: Supply,
    random: SmallRng,
    outputs: VecDeque<Output>,
    /// Servers that answered a connection, or did not; as many as flows were read at once.
    judgements: Vec<Judgement>,
    /// Whether somebody listens to changes.
    told: bool,
    changes: VecDeque<FlowChange>,
}

impl FlowTable {
    /// Makes an empty table.
    pub fn new(limits: FlowLimits, seed: u64, now: Moment) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        FlowTable {
            limits,
            pairs: PairPool::new(limits.flows_max),
            flows: Rows::default(),
            keys: seeded_map(random.next_u64()),
            held: seeded_map(random.next_u64()),
            due: BTreeSet::new(),
            read_next: now,
            supply: Supply::new(limits.flows_max),
            random,
            outputs: VecDeque::new(),
            judgements: Vec::new(),
            told: false,
            changes: VecDeque::new(),
        }
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: FlowInput, now: Moment) {
        match input {
            FlowInput::Refused(forward) => self.refused(forward, now),
            FlowInput::Read(readings) => {
                for reading in readings {
                    self.read(reading, now);
                }
            }
            FlowInput::Taken(taken) => self.taken(taken, now),
            FlowInput::ProgramEnded(instance) => self.program_ended(instance, now),
            FlowInput::NetworkGone(instance) => {
                self.want_every_flow();
                let concerns = |flow: &Flow| flow.concerns(instance);
                self.close_where(concerns, FlowEnd::NetworkGone, now);
            }
            FlowInput::LookAt(instance) => {
                self.want_every_flow();
                let serves = |flow: &Flow| flow.entries.server == instance && !flow.doomed;
                for pair in self.pairs_where(serves) {
                    self.reschedule(pair, now);
                }
            }
            FlowInput::Stopping(instance) => {
                let serves = |flow: &Flow| flow.entries.server == instance;
                let told_otherwise = |flow: &Flow| serves(flow) && !flow.closes_by_itself();
                self.close_where(told_otherwise, FlowEnd::ServerEnded, now);
            }
        }
    }

    /// Lets time pass: asks for the counters of flows that could have ended.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.supply.take_look(now) {
            self.look_at_supply(now);
        }
        if self.next_reading().is_none_or(|due| now < due) {
            return;
        }
        let taken = self.supply.take_due(now);
        self.read_taken(taken);
        let mut batch = Vec::new();
        for _ in 0..READ_BATCH_MAX {
            let Some((_, pair)) = self.due.first().copied().filter(|(at, _)| *at <= now) else {
                break;
            };
            if self.flows.get(pair).is_some_and(|flow| flow.doomed) {
                self.close(pair, FlowEnd::ServerEnded, now);
            } else if let Some(flow) = self.reschedule(pair, now + READ_AGAIN) {
                batch.push(flow.slots());
            }
        }
        if !batch.is_empty() {
            self.outputs.push_back(Output::ReadFlows(batch));
        }
        self.read_next = now + READ_PACE;
    }

    /// The next effect; `None` once drained.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Which servers answered a connection, and which did not, since that was asked last.
    pub fn take_judgements(&mut self) -> Vec<Judgement> {
        std::mem::take(&mut self.judgements)
    }

    /// The next change; `None` once drained, and while nobody listens.
    pub fn poll_change(&mut self) -> Option<FlowChange> {
        self.changes.pop_front()
    }

    /// Tells changes from now on, or no more.
    pub fn tell_changes(&mut self, told: bool) {
        self.told = told;
    }

    fn tell(&mut self, change: impl FnOnce() -> FlowChange) {
        if self.told {
            self.changes.push_back(change());
        }
    }

    /// When to call [`FlowTable::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let look = self.supply.next_look();
        look.into_iter().chain(self.next_reading()).min()
    }

    fn next_reading(&self) -> Option<Moment> {
        let due = self.due.first().map(|(due, _)| *due);
        let due = due.into_iter().chain(self.supply.next_reading()).min()?;
        Some(due.max(self.read_next))
    }

    /// Opens a flow whose key is not in the table; the error is the reason to refuse its packet.
    pub fn open(&mut self, request: OpenRequest, now: Moment) -> Result<(), DropReason> {
        self.begin(request, Output::OpenFlow, now)
    }

    fn begin(
        &mut self,
        request: OpenRequest,
        output: fn(FlowEntries) -> Output,
        now: Moment,
    ) -> Result<(), DropReason> {
        debug_assert!(!self.keys.contains_key(&request.key), "look up first");
        let mut random = self.random.clone();
        let delivered = self.room(&request, &mut random, now)?;
        self.random = random;
        let pair = self.pairs.take(now).ok_or(DropReason::FlowTableFull)?;
        let entries = request.entries(delivered, pair);
        self.outputs.push_back(output(entries.clone()));
        self.hold(entries.client, entries.server);
        self.insert(Flow {
            hops: request.hops,
            ..Flow::new(entries, request.choice, now, now)
        });
        self.keep_some_for_core();
        Ok(())
    }

    /// Lets the packets of another host's flow in, as agreed; answers are handed up until
    /// [`FlowTable::open_answers`].
    pub fn let_in(&mut self, request: OpenRequest, now: Moment) -> Result<(), DropReason> {
        self.check_agreed(&request, now)?;
        self.begin(request, Output::LetIn, now)
    }

    /// Has the kernel carry the answers, too; tells whether there is such a flow.
    pub fn open_answers(&mut self, forward: &FlowKey) -> bool {
        let entries = self.find(forward).map(|flow| flow.entries.clone());
        let found = entries.filter(|entries| entries.forward.key == *forward);
        let is_there = found.is_some();
        self.outputs.extend(found.map(Output::OpenFlow));
        is_there
    }

    /// Lets the packets of another host's flow in no more: it never had its entries.
    pub fn shut_out(&mut self, forward: &FlowKey, now: Moment) {
        self.close_where(
            |flow| flow.entries.forward.key == *forward,
            FlowEnd::Silent,
            now,
        );
    }

    /// Closes the flow of this forward key, which its server's host admits not.
    pub fn give_back(&mut self, forward: &FlowKey, now: Moment) {
        if let Some(slot) = self.keys.get(forward).copied() {
            self.close(Pair::with(slot), FlowEnd::Unadmitted, now);
        }
    }

    /// Opens a flow of which another host knows already how its packets are delivered: nothing is moved.
    pub fn open_as_agreed(&mut self, request: OpenRequest, now: Moment) -> Result<(), DropReason> {
        self.check_agreed(&request, now)?;
        self.open(request, now)
    }

    /// What [`FlowTable::open_as_agreed`] would say.
    pub fn check_agreed(&self, request: &OpenRequest, now: Moment) -> Result<(), DropReason> {
        let free = |key| !self.keys.contains_key(key);
        let answers = request.delivered.reversed();
        if !free(&request.key) || !free(&answers) {
            return Err(DropReason::NoPortLeft);
        }
        self.try_open(request, now).map(drop)
    }

    /// What [`FlowTable::open`] would do: the packet as its receiver would see it, or why not.
    pub fn try_open(&self, request: &OpenRequest, now: Moment) -> Result<FlowKey, DropReason> {
        self.room(request, &mut self.random.clone(), now)
    }

    fn room(
        &self,
        request: &OpenRequest,
        random: &mut SmallRng,
        now: Moment,
    ) -> Result<FlowKey, DropReason> {
        if self.opened_by(request.client.instance) >= self.limits.flows_per_instance_max {
            return Err(DropReason::FlowLimitInstance);
        }
        let delivered = self.free_delivered(request, random);
        let delivered = delivered.ok_or(DropReason::NoPortLeft)?;
        let free = self.pairs.has_room(now);
        free.then_some(delivered).ok_or(DropReason::FlowTableFull)
    }

    /// How many flows there may be.
    pub fn limits(&self) -> FlowLimits {
        self.limits
    }

    /// Takes over a flow that outlived the daemon if its halves fit together and nobody holds its
    /// keys and slots, else closes it. Flows come in the order of their slots, before any is opened.
    pub fn adopt(&mut self, adopted: AdoptedFlow, now: Moment) {
        let AdoptedFlow { entries, opened } = adopted;
        let (forward, reverse) = (entries.forward, entries.reverse);
        let free = |key| !self.keys.contains_key(key);
        if !(forward.key != reverse.key
            && forward.delivered == reverse.key.reversed()
            && reverse.delivered == forward.key.reversed()
            && free(&forward.key)
            && free(&reverse.key))
        {
            return self.disown(&entries, now);
        }
        match self.reserve(&entries, now) {
            Some(_) => {
                self.hold(entries.client, entries.server);
                self.insert(Flow::new(entries, Choice::Adopted, opened, now));
            }
            None => self.close_entries(&entries),
        }
    }

    /// Closes a flow that outlived the daemon; comes in the same order as [`FlowTable::adopt`].
    pub fn disown(&mut self, entries: &FlowEntries, now: Moment) {
        if let Some(pair) = self.reserve(entries, now) {
            self.pairs.give_back(pair, now);
        }
        self.close_entries(entries);
    }

    fn reserve(&mut self, entries: &FlowEntries, now: Moment) -> Option<Pair> {
        let pair = Pair::of(entries.forward.slot, entries.reverse.slot)?;
        self.pairs.reserve(pair, now).then_some(pair)
    }

    /// Flows that end in a row are closed as one: the kernel is asked once for all of them.
    fn close_entries(&mut self, entries: &FlowEntries) {
        match self.outputs.back_mut() {
            Some(Output::CloseFlows(flows)) => flows.push(entries.keys()),
            _ => {
                let flows = vec![entries.keys()];
                self.outputs.push_back(Output::CloseFlows(flows));
            }
        }
    }

    /// Closes a flow that is over as far as was read: unless its keys are used again meanwhile.
    fn close_unused(&mut self, flow: &Flow) {
        match self.outputs.back_mut() {
            Some(Output::CloseUnused(flows)) => flows.push(flow.spent()),
            _ => {
                let flows = vec![flow.spent()];
                self.outputs.push_back(Output::CloseUnused(flows));
            }
        }
    }

    /// The direction that `key` belongs to, if its flow is open.
    pub fn direction(&self, key: &FlowKey) -> Option<&DirectionEntry> {
        let entries = &self.find(key)?.entries;
        let both = [&entries.forward, &entries.reverse];
        both.into_iter().find(|direction| direction.key == *key)
    }

    /// The open flow one of whose directions has this key.
    pub fn find(&self, key: &FlowKey) -> Option<&Flow> {
        self.flows.get(Pair::with(*self.keys.get(key)?))
    }

    /// How many flows `instance` serves.
    pub fn load(&self, instance: InstanceId) -> u32 {
        self.held.get(&instance).map_or(0, |held| held.as_server)
    }

    /// How many flows `instance` has opened.
    pub fn opened_by(&self, instance: InstanceId) -> u32 {
        self.held.get(&instance).map_or(0, |held| held.as_client)
    }

    /// All flows, ordered by slot.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter()
    }

    /// The flows behind the one that holds `slot`, ordered by slot.
    pub fn iter_behind(&self, slot: SlotIndex) -> impl Iterator<Item = &Flow> {
        self.flows.iter_from(Pair::with(slot).row() + 1)
    }

    /// How many flows are open.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether no flow is open.
    pub fn is_empty(&self) -> bool {
        self.flows.len() == 0
    }

    /// Closes every flow that `keep` does not keep; looks at all of them.
    pub fn retain(&mut self, keep: impl Fn(&FlowEntries) -> bool, now: Moment) {
        self.want_every_flow();
        self.close_where(|flow| !keep(&flow.entries), FlowEnd::Forbidden, now);
    }

    /// The packet as its receiver shall see it, with a source port for which the answers' key is
    /// free.
    fn free_delivered(&self, request: &OpenRequest, random: &mut SmallRng) -> Option<FlowKey> {
        let free = |delivered: &FlowKey| {
            let answers = delivered.reversed();
            answers != request.key && !self.keys.contains_key(&answers)
        };
        let mut delivered = request.delivered;
        if free(&delivered) {
            return Some(delivered);
        }
        let span = u16::MAX - REMAP_PORT_FIRST + 1;
        let start = random.random_range(0..span);
        (0..REMAP_TRIES_MAX).find_map(|step| {
            let port = REMAP_PORT_FIRST + (start + step) % span;
            delivered.source.set_port(port);
            free(&delivered).then_some(delivered)
        })
    }

    /// Counts a flow to both its sides.
    fn hold(&mut self, client: InstanceId, server: InstanceId) {
        self.held.entry(client).or_default().as_client += 1;
        self.held.entry(server).or_default().as_server += 1;
    }

    /// Takes back what [`FlowTable::hold`] counted.
    fn release(&mut self, entries: &FlowEntries) {
        self.count_less(entries.client, |held| held.as_client -= 1);
        self.count_less(entries.server, |held| held.as_server -= 1);
    }

    fn count_less(&mut self, instance: InstanceId, change: impl Fn(&mut Held)) {
        if let Some(held) = self.held.get_mut(&instance) {
            change(held);
            if *held == Held::default() {
                self.held.remove(&instance);
            }
        }
    }

    /// Enters a flow that is held already.
    fn insert(&mut self, flow: Flow) {
        self.tell(|| FlowChange::Opened(flow.clone()));
        let (entries, pair) = (&flow.entries, flow.pair());
        self.keys.insert(entries.forward.key, pair.forward());
        self.keys.insert(entries.reverse.key, pair.reverse());
        self.due.insert((flow.due, pair));
        self.flows.insert(pair, flow);
    }

    /// Forgets a flow and lets its slots rest.
    fn remove(&mut self, pair: Pair, end: FlowEnd, now: Moment) -> Option<Flow> {
        let flow = self.flows.remove(pair)?;
        self.tell(|| FlowChange::Closed(flow.clone(), end));
        self.keys.remove(&flow.entries.forward.key);
        self.keys.remove(&flow.entries.reverse.key);
        self.due.remove(&(flow.due, pair));
        self.release(&flow.entries);
        self.pairs.give_back(pair, now);
        Some(flow)
    }

    fn close(&mut self, pair: Pair, end: FlowEnd, now: Moment) {
        if let Some(flow) = self.remove(pair, end, now) {
            self.close_entries(&flow.entries);
        }
    }

    fn close_where(&mut self, chosen: impl Fn(&Flow) -> bool, end: FlowEnd, now: Moment) {
        for pair in self.pairs_where(chosen) {
            self.close(pair, end, now);
        }
    }

    fn refused(&mut self, forward: FlowKey, now: Moment) {
        if let Some(slot) = self
            .keys
            .get(&forward)
            .copied()
            .filter(|s| Pair::is_forward(*s))
        {
            self.remove(Pair::with(slot), FlowEnd::KernelRefused, now);
        }
    }

    fn read(&mut self, reading: FlowReading, now: Moment) {
        let Some(slot) = self.keys.get(&reading.forward_key).copied() else {
            return;
        };
        let pair = Pair::with(slot);
        let Some(flow) = self.flows.get_mut(pair).filter(|flow| !flow.doomed) else {
            return;
        };
        let before = flow.state();
        flow.forward = reading.forward;
        flow.reverse = reading.reverse;
        if flow.state() == FlowState::Closed {
            flow.paced_from = now;
        }
        if !flow.judged
            && let Some(answered) = flow.answered(now)
        {
            flow.judged = true;
            self.judgements.push(Judgement::of(flow, answered));
        }
        if self.told && flow.state() != before {
            self.changes.push_back(FlowChange::Changed(flow.clone()));
        }
        match flow.verdict(now) {
            Verdict::Ended => {
                let end = FlowEnd::by_itself(flow);
                if let Some(flow) = self.remove(pair, end, now) {
                    self.close_unused(&flow);
                }
            }
            Verdict::LookAgain(at) => {
                self.reschedule(pair, at);
            }
        }
    }

    fn reschedule(&mut self, pair: Pair, at: Moment) -> Option<&mut Flow> {
        let flow = self.flows.get_mut(pair)?;
        self.due.remove(&(flow.due, pair));
        self.due.insert((at, pair));
        flow.due = at;
        Some(flow)
    }

    fn program_ended(&mut self, instance: InstanceId, now: Moment) {
        self.want_every_flow();
        for pair in self.pairs_where(|flow| flow.entries.server == instance) {
            let Some(flow) = self.flows.get_mut(pair) else {
                continue;
            };
            if flow.closes_by_itself() {
                flow.doomed = true;
                self.reschedule(pair, now + DYING_SOCKETS_LINGER);
            } else {
                self.close(pair, FlowEnd::ServerEnded, now);
            }
        }
    }

    /// The pairs of certain flows; looks at all of them.
    fn pairs_where(&self, chosen: impl Fn(&Flow) -> bool) -> Vec<Pair> {
        let flows = self.iter().filter(|flow| chosen(flow));
        flows.map(Flow::pair).collect()
    }
}

#[cfg(test)]
mod tests;

//! Leases: which addresses are held, which rest in quarantine, which come next.

use crate::address::{AddressPlan, InstanceAddresses, Ipv4Block, VirtualIp};
use crate::id::InstanceId;
use crate::moment::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a freed address rests: longer than any client keeps an answer (TTL 1) or goes on
/// retrying a connection (Linux gives up a SYN after about two minutes).
pub const QUARANTINE: Duration = Duration::from_secs(600);

/// No IPv4 address is left to give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no address is left in {block}: {held} are held, {quarantined} rest for up to ten minutes; \
     delete instances, wait, or give the host a larger block"
)]
pub struct PoolExhausted {
    /// The block that is used up.
    pub block: Ipv4Block,
    /// Addresses that identities hold.
    pub held: usize,
    /// Addresses that were freed lately.
    pub quarantined: usize,
}

/// Gives addresses to identities, and never one that is held or was freed lately.
///
/// IPv4 addresses are counted one by one. IPv6 addresses follow from the identity, which is never
/// used twice.
#[derive(Debug)]
pub struct AddressBook {
    plan: AddressPlan,
    /// The number that is tried next; they go round, so that the longest unused comes first.
    next: u32,
    held: BTreeSet<Ipv4Addr>,
    /// Freed addresses and when they may be given again.
    quarantined: BTreeMap<Ipv4Addr, Moment>,
    /// The same by time.
    ends: BTreeSet<(Moment, Ipv4Addr)>,
}

impl AddressBook {
    /// Opens an empty book.
    pub fn new(plan: AddressPlan, _now: Moment) -> Self {
        AddressBook {
            plan,
            next: 1,
            held: BTreeSet::new(),
            quarantined: BTreeMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// Which addresses it gives.
    pub fn plan(&self) -> AddressPlan {
        self.plan
    }

    /// Gives `instance` its addresses.
    pub fn allocate(
        &mut self,
        instance: InstanceId,
        now: Moment,
    ) -> Result<InstanceAddresses, PoolExhausted> {
        let number = self.take_number(now)?;
        let (called_v4, caller_v4) = self.plan.v4_of(number);
        let (called_v6, caller_v6) = self.plan.v6_of(instance);
        let vip = |v4, v6| VirtualIp { v4, v6 };
        self.held.extend([called_v4, caller_v4]);
        Ok(InstanceAddresses {
            called: vip(called_v4, called_v6),
            caller: vip(caller_v4, caller_v6),
        })
    }

    /// Gives an address that is called only, to be held until it is dropped.
    pub fn allocate_called(&mut self, now: Moment) -> Result<Ipv4Addr, PoolExhausted> {
        let number = self.take_number(now)?;
        let (called, _) = self.plan.v4_of(number);
        self.held.insert(called);
        Ok(called)
    }

    /// Takes note of an address that is called only and that an earlier run gave.
    pub fn adopt_called(&mut self, called: Ipv4Addr) {
        if self.plan.holds_v4(called) {
            self.held.insert(called);
        }
    }

    /// Takes an address back that is called only and that no caller knows any more.
    pub fn drop_called(&mut self, called: Ipv4Addr) {
        self.held.remove(&called);
    }

    /// Takes note of addresses that an identity of an earlier run holds.
    pub fn adopt(&mut self, addresses: InstanceAddresses) {
        self.held.extend(self.own(addresses));
        self.resume_after(addresses);
    }

    /// Takes the addresses back; they rest for [`QUARANTINE`] before they are given again.
    pub fn free(&mut self, addresses: InstanceAddresses, now: Moment) {
        for addr in self.own(addresses) {
            self.held.remove(&addr);
        }
        self.rest(addresses, QUARANTINE, now);
    }

    /// Lets addresses that an earlier run freed `free_for` ago rest for what is left of
    /// [`QUARANTINE`].
    pub fn quarantine(&mut self, addresses: InstanceAddresses, free_for: Duration, now: Moment) {
        self.rest(addresses, QUARANTINE.saturating_sub(free_for), now);
        self.resume_after(addresses);
    }

    /// Ends the quarantines that are over.
    pub fn handle_timeout(&mut self, now: Moment) {
        while let Some((end, addr)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            self.ends.remove(&(end, addr));
            self.quarantined.remove(&addr);
        }
        debug_assert_eq!(self.ends.len(), self.quarantined.len());
    }

    /// When the next quarantine ends; changes with every `free`, `quarantine` and timeout.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// The addresses that this plan could give; those of another plan cannot collide.
    fn own(&self, addresses: InstanceAddresses) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let plan = self.plan;
        let both = [addresses.called.v4, addresses.caller.v4];
        both.into_iter().filter(move |addr| plan.holds_v4(*addr))
    }

    /// Lets addresses rest for `left`, or for longer if they do already.
    fn rest(&mut self, addresses: InstanceAddresses, left: Duration, now: Moment) {
        if left.is_zero() {
            return;
        }
        let end = now + left;
        for addr in self.own(addresses) {
            let known = self.quarantined.get(&addr).copied();
            if known.is_some_and(|known| known >= end) {
                continue;
            }
            if let Some(known) = known {
                self.ends.remove(&(known, addr));
            }
            self.quarantined.insert(addr, end);
            self.ends.insert((end, addr));
        }
    }

    /// Counts on where an earlier run stopped: what lies behind its last address rested longest.
    fn resume_after(&mut self, addresses: InstanceAddresses) {
        let used = self.plan.number_of(addresses.called.v4);
        if let Some(used) = used.filter(|used| *used >= self.next) {
            self.next = self.after(used);
        }
    }

    /// The number behind `number`, round the pool.
    fn after(&self, number: u32) -> u32 {
        number % self.plan.identities_max() + 1
    }

    /// The next number whose addresses are both free; the one behind it is next.
    fn take_number(&mut self, now: Moment) -> Result<u32, PoolExhausted> {
        self.handle_timeout(now);
        let number = self.free_number().ok_or_else(|| PoolExhausted {
            block: self.plan.v4_block(),
            held: self.held.len(),
            quarantined: self.quarantined.len(),
        })?;
        self.next = self.after(number);
        Ok(number)
    }

    /// The first free number from `next` on, once round.
    fn free_number(&self) -> Option<u32> {
        let last = self.plan.identities_max();
        (self.next..=last).chain(1..self.next).find(|number| {
            let (called, caller) = self.plan.v4_of(*number);
            self.is_free(called) && self.is_free(caller)
        })
    }

    fn is_free(&self, addr: Ipv4Addr) -> bool {
        !self.held.contains(&addr) && !self.quarantined.contains_key(&addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// Six identities: small enough that random steps meet every border.
    const SMALL: &str = "10.0.0.0/28";

    fn book(block: &str) -> AddressBook {
        let plan = AddressPlan::new(&[0; 32], block.parse().unwrap());
        AddressBook::new(plan, Moment::ORIGIN)
    }

    fn at(seconds: u64) -> Moment {
        Moment::ORIGIN + Duration::from_secs(seconds)
    }

    fn last_byte(addresses: InstanceAddresses) -> u8 {
        addresses.called.v4.octets()[3]
    }

    #[test]
    fn numbers_ascend_and_both_halves_go_together() {
        let mut book = book("100.64.0.0/10");
        for number in 1..=3 {
            let addresses = book.allocate(InstanceId(number.into()), at(0)).unwrap();
            assert_eq!(addresses.called.v4, Ipv4Addr::new(100, 64, 0, number));
            assert_eq!(addresses.caller.v4, Ipv4Addr::new(100, 96, 0, number));
        }
    }

    #[test]
    fn freed_address_rests_and_then_the_longest_unused_comes_first() {
        let mut book = book(SMALL);
        let first = book.allocate(InstanceId(1), at(0)).unwrap();
        book.free(first, at(0));
        let later: Vec<_> = (2..7)
            .map(|id| book.allocate(InstanceId(id), at(700)).unwrap())
            .collect();
        assert_eq!(
            later.iter().map(|one| last_byte(*one)).collect::<Vec<_>>(),
            [2, 3, 4, 5, 6]
        );
        assert_eq!(book.allocate(InstanceId(7), at(700)).map(last_byte), Ok(1));
    }

    #[test]
    fn full_pool_says_what_holds_it_and_recovers_when_quarantine_ends() {
        let mut book = book(SMALL);
        let all: Vec<_> = (1..7)
            .map(|id| book.allocate(InstanceId(id), at(0)).unwrap())
            .collect();
        book.free(all[3], at(10));
        let error = book.allocate(InstanceId(7), at(10) + QUARANTINE - Duration::from_nanos(1));
        let error = error.unwrap_err().to_string();
        assert_eq!(
            error,
            "no address is left in 10.0.0.0/28: 10 are held, 2 rest for up to ten minutes; delete \
             instances, wait, or give the host a larger block"
        );
        assert_eq!(book.poll_timeout(), Some(at(610)));
        assert_eq!(book.allocate(InstanceId(7), at(610)).map(last_byte), Ok(4));
    }

    #[test]
    fn next_run_counts_on_behind_the_last_one() {
        let mut first = book(SMALL);
        let [one, two, three] = [1, 2, 3].map(|id| first.allocate(InstanceId(id), at(0)).unwrap());
        let mut second = book(SMALL);
        second.quarantine(three, QUARANTINE, at(1_000));
        second.quarantine(one, Duration::from_secs(540), at(1_000));
        second.adopt(two);
        assert_eq!(
            second.allocate(InstanceId(4), at(1_000)).map(last_byte),
            Ok(4)
        );
        assert_eq!(second.poll_timeout(), Some(at(1_060)));
    }

    #[test]
    fn of_two_quarantines_the_longer_counts() {
        for order in [[0, 300], [300, 0]] {
            let mut book = book(SMALL);
            let one = book.allocate(InstanceId(1), at(0)).unwrap();
            for free_for in order {
                book.quarantine(one, Duration::from_secs(free_for), at(0));
            }
            assert_eq!(book.poll_timeout(), Some(at(600)));
            book.handle_timeout(at(300));
            assert_eq!(book.poll_timeout(), Some(at(600)));
        }
    }

    #[test]
    fn address_given_again_before_the_crash_is_not_lost_to_its_old_quarantine() {
        let mut book = book(SMALL);
        let held = book.allocate(InstanceId(1), at(0)).unwrap();
        book.quarantine(held, QUARANTINE, at(0));
        book.quarantine(held, Duration::ZERO, at(0));
        book.handle_timeout(at(600));
        let others: Vec<_> = (2..9)
            .map_while(|id| book.allocate(InstanceId(id), at(600)).ok())
            .collect();
        assert_eq!(others.len(), 5);
        assert!(others.iter().all(|other| other.called.v4 != held.called.v4));
    }

    #[test]
    fn addresses_of_another_plan_are_never_given_where_the_plans_overlap() {
        let mut wide = book("10.0.0.0/28");
        let old: Vec<_> = (1..7)
            .map(|id| wide.allocate(InstanceId(id), at(0)).unwrap())
            .collect();
        let mut narrow = book("10.0.0.0/29");
        old.iter().for_each(|one| narrow.adopt(*one));
        assert!(narrow.allocate(InstanceId(7), at(0)).is_err());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Allocate,
        Free(usize),
        Restart,
        Wait(u64),
        Timeout,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Allocate),
            3 => any::<usize>().prop_map(Step::Free),
            1 => Just(Step::Restart),
            2 => (0u64..400).prop_map(Step::Wait),
            1 => Just(Step::Timeout),
        ]
    }

    /// A book beside a plain list of what it must remember.
    struct Model {
        book: AddressBook,
        held: Vec<InstanceAddresses>,
        freed: VecDeque<(InstanceAddresses, Moment)>,
        now: Moment,
        instances: u64,
    }

    impl Model {
        fn step(&mut self, step: Step) {
            match step {
                Step::Allocate => self.allocate(),
                Step::Free(index) if !self.held.is_empty() => {
                    let addresses = self.held.remove(index % self.held.len());
                    self.book.free(addresses, self.now);
                    self.freed.push_back((addresses, self.now));
                }
                Step::Free(_) => {}
                Step::Restart => {
                    self.book = book(SMALL);
                    self.held.iter().for_each(|one| self.book.adopt(*one));
                    for (addresses, freed) in &self.freed {
                        self.book
                            .quarantine(*addresses, self.now.since(*freed), self.now);
                    }
                }
                Step::Wait(seconds) => self.now = self.now + Duration::from_secs(seconds),
                Step::Timeout => self.timeout(),
            }
        }

        fn allocate(&mut self) {
            self.instances += 1;
            let given = self.book.allocate(InstanceId(self.instances), self.now);
            let resting = |(_, freed): &&(_, Moment)| self.now.since(*freed) < QUARANTINE;
            let resting: Vec<_> = self
                .freed
                .iter()
                .filter(resting)
                .map(|(one, _)| *one)
                .collect();
            match given {
                Ok(given) => {
                    for other in self.held.iter().chain(&resting) {
                        for (one, other) in
                            [(given.called, other.called), (given.caller, other.caller)]
                        {
                            assert!(one.v4 != other.v4 && one.v6 != other.v6, "{one:?} twice");
                        }
                    }
                    self.held.push(given);
                }
                Err(_) => assert_eq!(self.held.len() + resting.len(), 6, "refused too early"),
            }
        }

        fn timeout(&mut self) {
            if let Some(end) = self.book.poll_timeout().filter(|end| *end > self.now) {
                let before = format!("{:?}", self.book);
                self.book
                    .handle_timeout(self.now.max(end - Duration::from_nanos(1)));
                assert_eq!(
                    format!("{:?}", self.book),
                    before,
                    "an early timeout did something"
                );
            }
            self.book.handle_timeout(self.now);
            assert!(self.book.poll_timeout().is_none_or(|next| next > self.now));
        }
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice_while_held_or_resting(
            steps in proptest::collection::vec(any_step(), 1..120),
        ) {
            let mut model = Model {
                book: book(SMALL),
                held: Vec::new(),
                freed: VecDeque::new(),
                now: at(1_000),
                instances: 0,
            };
            steps.into_iter().for_each(|step| model.step(step));
            model.timeout();
        }
    }
}

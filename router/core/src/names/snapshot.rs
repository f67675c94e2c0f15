//! Names, who may see them and where they lead, at one moment.

use super::answer::{Answer, ExtendedError, ServiceTarget, Zone};
use super::{ANSWER_ADDRESSES_MAX, QuestionKind};
use crate::address::{AddressPlan, InstanceAddresses, VirtualIp};
use crate::balance::{Balancer, Candidate, Draw};
use crate::composition::{CompositionName, Port, Transport};
use crate::id::{InstanceId, Version};
use crate::name::{AutomatonName, ZONE};
use foldhash::fast::FixedState;
use rpds::HashTrieMapSync;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A table whose copies share what they have in common. It is hashed without a secret: who declares
/// services could make names collide, but names are not declared by who asks.
type SharedMap<K, V> = HashTrieMapSync<K, V, FixedState>;

/// Names, who may see them and where they lead, at one moment.
///
/// A copy costs nothing and shares everything; a change to it costs as much as the service that
/// changes, however many there are.
#[derive(Clone, Debug, Default)]
pub struct NamesSnapshot {
    /// Which addresses have names, if any.
    pub(super) plan: Option<AddressPlan>,
    /// Who may ask for names of other zones.
    outgoing: Arc<BTreeSet<InstanceId>>,
    /// Whether there is anybody who could know of services beyond the site.
    seeks: bool,
    /// Services that were sought a moment ago, and not found.
    not_found: Arc<BTreeSet<AutomatonName>>,
    services: SharedMap<AutomatonName, Service>,
    holders: SharedMap<IpAddr, Holder>,
}

/// A service as DNS shows it.
#[derive(Clone, Debug)]
pub struct NamedService {
    /// Its name below the zone.
    pub name: AutomatonName,
    /// Orders its answers: between those of its instances that take flows, and only those.
    pub balancer: Balancer,
    /// What its composition says of it.
    pub declaration: Arc<Declaration>,
    /// What is answered for its name in place of its instances, if anything.
    pub vip: Option<VirtualIp>,
    /// Its instances; of two with one ordinal the first counts.
    pub instances: Vec<NamedInstance>,
    /// Who may see it; for all others it does not exist.
    pub callers: BTreeSet<InstanceId>,
}

/// What a composition says of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Which composition.
    pub composition: CompositionName,
    /// Of which version.
    pub version: Version,
    /// What others may call, by the port's name.
    pub ports: BTreeMap<String, Port>,
}

/// An instance of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedInstance {
    /// Which.
    pub instance: InstanceId,
    /// Its number among its siblings, from 1.
    pub ordinal: u32,
    /// By which version of its composition it was made.
    pub version: Version,
    /// What its callers call, and what it calls from.
    pub addresses: InstanceAddresses,
    /// Whether it takes flows.
    pub ready: bool,
}

/// A service in the shape that answers are made from: candidates and addresses side by side.
///
/// A look-up's time goes into memory that is fetched: of most services there is one instance and there
/// are two callers at most, and these lie in the service itself.
#[derive(Debug)]
pub(super) struct Service {
    /// In order.
    callers: SmallVec<[InstanceId; 2]>,
    /// Balances between the ready instances.
    balancer: Balancer,
    /// What is called to reach each candidate.
    called: SmallVec<[VirtualIp; 1]>,
    vip: Option<VirtualIp>,
    name: AutomatonName,
    declaration: Arc<Declaration>,
    /// Each candidate's place among `instances`.
    places: Vec<usize>,
    instances: Vec<NamedInstance>,
}

/// The priority of those among whom the caller chooses (RFC 2782, "Priority").
const FIRST: u16 = 0;

/// The priority of those whom it calls when none of them answers.
const LAST_RESORT: u16 = 1;

/// The weight of a target that is the only one: there is nothing to choose (RFC 2782, "Weight").
const WEIGHT_OF_ONE: u16 = 0;

/// Whose an address is.
#[derive(Debug, PartialEq)]
pub(crate) struct Holder {
    automaton: AutomatonName,
    /// Which instance's; `None`: the service's own.
    instance: Option<(InstanceId, u32)>,
}

impl NamesSnapshot {
    /// Takes the services of one moment; of two with one name the later counts. `plan` says which
    /// addresses are answered for in the reverse zones.
    pub fn new(plan: AddressPlan, services: impl IntoIterator<Item = NamedService>) -> Self {
        let mut snapshot = NamesSnapshot {
            plan: Some(plan),
            ..NamesSnapshot::default()
        };
        for service in services {
            snapshot.insert(service);
        }
        snapshot
    }

    /// Lets these callers ask for names of other zones.
    pub fn with_outgoing(mut self, outgoing: BTreeSet<InstanceId>) -> Self {
        self.outgoing = Arc::new(outgoing);
        self
    }

    /// Lets `caller` ask for names of other zones from now on.
    pub(crate) fn let_out(&mut self, caller: InstanceId) {
        Arc::make_mut(&mut self.outgoing).insert(caller);
    }

    /// Undoes [`NamesSnapshot::let_out`].
    pub(crate) fn keep_in(&mut self, caller: InstanceId) {
        if self.outgoing.contains(&caller) {
            Arc::make_mut(&mut self.outgoing).remove(&caller);
        }
    }

    /// Whether `caller` may ask for names of other zones.
    pub(super) fn lets_out(&self, caller: InstanceId) -> bool {
        self.outgoing.contains(&caller)
    }

    /// The same, with services sought beyond the site of which no instance takes flows here.
    pub fn with_seeking(mut self) -> Self {
        self.seeks = true;
        self
    }

    /// Notes that a service was sought and not found: whoever asks is told so.
    pub fn note_not_found(&mut self, service: &AutomatonName) {
        Arc::make_mut(&mut self.not_found).insert(service.clone());
    }

    /// Has a service sought again from now on.
    pub fn seek_again(&mut self, service: &AutomatonName) {
        if self.not_found.contains(service) {
            Arc::make_mut(&mut self.not_found).remove(service);
        }
    }

    /// What is answered of a service, or that it is to be sought first.
    pub(super) fn unless_sought(&self, service: &Service, answer: Answer) -> Answer {
        let absent = match &answer {
            Answer::NoData(_, Some(error)) => {
                [ExtendedError::NONE_READY, ExtendedError::NOT_READY].contains(error)
            }
            Answer::NameError(_, error) => *error == ExtendedError::NO_SUCH_INSTANCE,
            _ => false,
        };
        let is_worth_it = absent && self.seeks && service.called.is_empty();
        if !is_worth_it || self.not_found.contains(&service.name) {
            return answer;
        }
        Answer::Sought {
            service: service.name.clone(),
            otherwise: Box::new(answer),
        }
    }

    /// Takes a service as it is now, in place of what was known of it.
    pub fn insert(&mut self, service: NamedService) {
        self.remove(&service.name);
        let mut hold = |addr, instance| {
            let automaton = service.name.clone();
            let holder = Holder {
                automaton,
                instance,
            };
            self.holders.insert_mut(addr, holder);
        };
        for named in &service.instances {
            for addr in addresses(named) {
                hold(addr, Some((named.instance, named.ordinal)));
            }
        }
        if let Some(vip) = service.vip {
            hold(vip.v4.into(), None);
            hold(vip.v6.into(), None);
        }
        let service = Service::from(service);
        self.services.insert_mut(service.name.clone(), service);
    }

    /// Forgets a service and whose its addresses were.
    pub fn remove(&mut self, name: &AutomatonName) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let vips = service.vip.into_iter();
        let vips = vips.flat_map(|vip| [IpAddr::from(vip.v4), vip.v6.into()]);
        for addr in service.instances.iter().flat_map(addresses).chain(vips) {
            // An address may have passed to another service meanwhile.
            let holder = self.holders.get(&addr);
            if holder.is_some_and(|holder| holder.automaton == *name) {
                self.holders.remove_mut(&addr);
            }
        }
        self.services.remove_mut(name);
    }

    /// All that it holds but loads, in order.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (BTreeMap<AutomatonName, String>, BTreeMap<IpAddr, &Holder>) {
        let held = |service: &Service| {
            let (declaration, vip, instances) =
                (&service.declaration, &service.vip, &service.instances);
            format!(
                "{declaration:?} {vip:?} {instances:?} {:?}",
                service.callers
            )
        };
        let services = self.services.iter();
        let services = services.map(|(name, service)| (name.clone(), held(service)));
        let holders = self.holders.iter().map(|(addr, holder)| (*addr, holder));
        (services.collect(), holders.collect())
    }

    /// The service of this name, if `caller` may see it.
    pub(super) fn service(&self, name: &str, caller: InstanceId) -> Option<&Service> {
        let service = self.services.get(name)?;
        service.is_seen_by(caller).then_some(service)
    }

    /// The name of whoever holds `addr`, if it is the caller itself or `caller` may see it.
    pub(crate) fn name_of(&self, addr: IpAddr, caller: InstanceId) -> Option<String> {
        let holder = self.holders.get(&addr)?;
        let service = self.services.get(&holder.automaton)?;
        let own = holder
            .instance
            .is_some_and(|(instance, _)| instance == caller);
        let seen = own || service.is_seen_by(caller);
        seen.then(|| match holder.instance {
            Some((_, ordinal)) => service.instance_name(ordinal),
            None => service.whole_name(),
        })
    }
}

/// All addresses of an instance.
fn addresses(named: &NamedInstance) -> [IpAddr; 4] {
    let InstanceAddresses { called, caller } = named.addresses;
    [
        called.v4.into(),
        called.v6.into(),
        caller.v4.into(),
        caller.v6.into(),
    ]
}

impl From<NamedService> for Service {
    fn from(service: NamedService) -> Self {
        let instances = &service.instances;
        let ids = instances.iter().map(|named| named.instance);
        let by_id: BTreeMap<InstanceId, usize> = ids.zip(0..).collect();
        let place = |candidate: &Candidate| {
            let place = by_id.get(&candidate.instance).copied();
            place.expect("candidates are instances")
        };
        let places: Vec<usize> = service.balancer.candidates().iter().map(place).collect();
        let called = places
            .iter()
            .map(|place| instances[*place].addresses.called);
        Service {
            name: service.name,
            declaration: service.declaration,
            vip: service.vip,
            called: called.collect(),
            balancer: service.balancer,
            places,
            instances: service.instances,
            callers: service.callers.into_iter().collect(),
        }
    }
}

impl Service {
    fn is_seen_by(&self, caller: InstanceId) -> bool {
        self.callers.binary_search(&caller).is_ok()
    }

    /// What the service's own name holds.
    pub(super) fn answer(&self, caller: InstanceId, kind: QuestionKind, draw: Draw) -> Answer {
        let called = || self.order(caller, draw).map(|index| self.called[index]);
        match (kind, self.vip) {
            (QuestionKind::A, Some(vip)) => Answer::V4(vec![vip.v4]),
            (QuestionKind::Aaaa, Some(vip)) => Answer::V6(vec![vip.v6]),
            (QuestionKind::A | QuestionKind::Aaaa, _) if self.called.is_empty() => none_ready(),
            (QuestionKind::A, _) => Answer::V4(called().map(|addr| addr.v4).collect()),
            (QuestionKind::Aaaa, _) => Answer::V6(called().map(|addr| addr.v6).collect()),
            (QuestionKind::Txt, _) => Answer::Texts(self.texts(self.declaration.version)),
            _ => Answer::NoData(Zone::SERVICES, None),
        }
    }

    /// What the name of one of its instances holds.
    pub(super) fn answer_for(&self, ordinal: u32, kind: QuestionKind) -> Answer {
        let found = self.instances.iter().find(|named| named.ordinal == ordinal);
        let Some(named) = found else {
            return Answer::NameError(Zone::SERVICES, ExtendedError::NO_SUCH_INSTANCE);
        };
        let called = named.addresses.called;
        match kind {
            QuestionKind::A | QuestionKind::Aaaa if !named.ready => {
                Answer::NoData(Zone::SERVICES, Some(ExtendedError::NOT_READY))
            }
            QuestionKind::A => Answer::V4(vec![called.v4]),
            QuestionKind::Aaaa => Answer::V6(vec![called.v6]),
            QuestionKind::Txt => {
                let mut texts = self.texts(named.version);
                texts.push(format!("instance={ordinal}.{}", self.name));
                Answer::Texts(texts)
            }
            _ => Answer::NoData(Zone::SERVICES, None),
        }
    }

    /// What the name of one of its ports holds, `_http._tcp.web.matrix`.
    pub(super) fn answer_for_port(
        &self,
        port: &str,
        transport: Transport,
        caller: InstanceId,
        kind: QuestionKind,
        draw: Draw,
    ) -> Answer {
        let declared = self.declaration.ports.get(port);
        let Some(port) = declared.filter(|port| port.protocol == transport) else {
            return Answer::NameError(Zone::SERVICES, ExtendedError::NO_SUCH_PORT);
        };
        if kind != QuestionKind::Srv {
            return Answer::NoData(Zone::SERVICES, None);
        }
        if let Some(called) = self.vip {
            return Answer::Targets(vec![ServiceTarget {
                name: self.whole_name(),
                priority: FIRST,
                weight: WEIGHT_OF_ONE,
                port: port.port,
                called,
            }]);
        }
        if self.called.is_empty() {
            return none_ready();
        }
        let targets = self.order(caller, draw).map(|index| ServiceTarget {
            name: self.instance_name(self.instances[self.places[index]].ordinal),
            priority: match self.balancer.is_last_resort(caller, index) {
                true => LAST_RESORT,
                false => FIRST,
            },
            weight: self.balancer.candidates()[index].declared_weight(),
            port: port.port,
            called: self.called[index],
        });
        let mut targets: Vec<ServiceTarget> = targets.collect();
        if let [only] = &mut targets[..] {
            only.weight = WEIGHT_OF_ONE;
        }
        Answer::Targets(targets)
    }

    /// Whether any port of it is of this transport.
    pub(super) fn speaks(&self, transport: Transport) -> bool {
        let mut ports = self.declaration.ports.values();
        ports.any(|port| port.protocol == transport)
    }

    /// Indices of candidates, the balancer's choice for `caller` first.
    fn order(&self, caller: InstanceId, draw: Draw) -> impl Iterator<Item = usize> {
        self.balancer.order(caller, draw, ANSWER_ADDRESSES_MAX)
    }

    fn whole_name(&self) -> String {
        format!("{}.{ZONE}", self.name)
    }

    fn instance_name(&self, ordinal: u32) -> String {
        format!("{ordinal}.{}.{ZONE}", self.name)
    }

    fn texts(&self, version: Version) -> Vec<String> {
        vec![
            format!("composition={}", self.declaration.composition),
            format!("version={version}"),
        ]
    }
}

fn none_ready() -> Answer {
    Answer::NoData(Zone::SERVICES, Some(ExtendedError::NONE_READY))
}

//! Gateways, summaries, leases and searches, one by one.

use super::leases::{LEASE, LEASES_MAX, RENEWED_BEFORE};
use super::members::weight;
use super::message::{Answer, Question, Way, Word};
use super::seeking::{SEARCHES_MAX, VAIN_FOR};
use super::*;
use crate::address::{AddressPlan, InstanceAddresses, Ipv4Block, VirtualIp};
use crate::catalog::{
    CatalogConfig, CatalogInput, CatalogLimits, FLUSH_AFTER, Generation, Identity, Instance,
    Service, SignedInstance, Statement,
};
use crate::id::{InstanceId, Version};
use crate::overlay::AskedId;
use crate::peer::{Known, RemoteInstance};
use crate::service_frame::{Attempt, FrameKind, Request, ServiceFrame};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

const NETWORK_KEY: [u8; 32] = [7; 32];
const PATH: Path = Path {
    ifindex: 9,
    on_link: true,
    source: ADDRESS,
    destination: ADDRESS,
};

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4_899);

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[number; 32])
}

fn id(number: u8) -> HostId {
    key(number).public()
}

fn block(number: u8) -> Ipv4Block {
    Ipv4Block::new(Ipv4Addr::new(100, 64 + number, 0, 0), 20).unwrap()
}

fn name(text: &str) -> AutomatonName {
    text.parse().unwrap()
}

fn neighbour(number: u8, site: &str) -> Neighbour {
    Neighbour {
        host: id(number),
        site: site.parse().unwrap(),
        may_be_gateway: false,
        addresses: Vec::new(),
        blocks: vec![block(number)],
        is_operator: false,
    }
}

/// A host with others around it, and a catalog of its own.
struct Here {
    sites: Sites,
    catalog: Catalog,
    now: Moment,
}

impl Here {
    /// `others`: which hosts, and where.
    fn new(number: u8, site: &str, others: &[(u8, &str)]) -> Self {
        let mut here = Here::begin(number, site, None);
        for (number, at) in others {
            here.tell(SitesInput::Known(neighbour(*number, at)));
            if *at == site {
                here.tell(SitesInput::Up(id(*number)));
            }
        }
        here.pass(Duration::from_secs(3));
        here
    }

    /// As a host that knows nobody but whoever let it in.
    fn begin(number: u8, site: &str, sponsor: Option<HostId>) -> Self {
        let config = SitesConfig {
            key: key(number),
            site: site.parse().unwrap(),
            may_be_gateway: false,
            sponsor,
            epoch: OriginEpoch(1),
            network_key: NETWORK_KEY,
            summary_bytes_max: SUMMARY_BYTES_MAX,
        };
        let now = Moment::from_nanos(1_000_000_000);
        Here {
            sites: Sites::new(config, number.into(), now),
            catalog: catalog(number),
            now,
        }
    }

    fn tell(&mut self, input: SitesInput) {
        self.sites.handle_input(input, &self.catalog, self.now);
    }

    fn outputs(&mut self) -> Vec<SitesOutput> {
        std::iter::from_fn(|| self.sites.poll_output()).collect()
    }

    /// Passes time, and gives back what was wanted meanwhile.
    fn pass(&mut self, time: Duration) -> Vec<SitesOutput> {
        let end = self.now + time;
        let mut outputs = self.outputs();
        while let Some(due) = self.sites.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.sites.handle_timeout(&self.catalog, self.now);
            outputs.extend(self.outputs());
        }
        self.now = end;
        outputs
    }

    fn dropped(&self, reason: SitesDrop) -> u64 {
        let drops: BTreeMap<_, _> = self.sites.drops().collect();
        drops.get(&reason).copied().unwrap_or(0)
    }

    fn seek(&mut self, service: &str) -> Vec<SitesOutput> {
        self.tell(SitesInput::Seek(name(service)));
        self.outputs()
    }

    fn answer(&mut self, question: QuestionId, words: Vec<Word>) {
        let way = Way::Site;
        let answer = Some(Answer::Found { words, way }.encode());
        let event = OverlayEvent::Answered { question, answer };
        self.tell(SitesInput::Overlay(event));
    }

    fn hear(&mut self, tier: &str, bytes: Vec<u8>) {
        let topic = Topic(format!("tier/{tier}"));
        let from = id(9);
        let heard = OverlayEvent::Heard { topic, from, bytes };
        self.tell(SitesInput::Overlay(heard));
    }

    /// As a leaf host that has found what host 5 serves.
    fn with_lease() -> Self {
        let mut here = leaf();
        let (_, question, _) = asked(&here.seek("web")).remove(0);
        here.answer(question, vec![word(5, "web", 1)]);
        here
    }
}

fn catalog(number: u8) -> Catalog {
    let config = CatalogConfig {
        key: key(number),
        epoch: OriginEpoch(1),
        limits: CatalogLimits::default(),
    };
    Catalog::new(config, 1, Moment::ORIGIN)
}

/// What a host says of its first instance, as one of its `flows`-th words.
fn signed(number: u8, service: &str, flows: u32) -> SignedInstance {
    let mut catalog = catalog(number);
    for word in 0..=flows {
        let statement = Statement::Instance(instance(number, service, word));
        catalog.handle_input(CatalogInput::State(statement), Moment::ORIGIN);
        catalog.handle_timeout(Moment::ORIGIN + FLUSH_AFTER);
    }
    catalog.signed_instances_of(&name(service)).remove(0)
}

fn word(number: u8, service: &str, flows: u32) -> Word {
    let signed = signed(number, service, flows);
    Word {
        origin: id(number),
        record: signed.bytes().to_vec(),
    }
}

fn instance(number: u8, service: &str, flows: u32) -> Instance {
    let plan = AddressPlan::new(&NETWORK_KEY, block(number));
    let instance = InstanceId(u64::from(block(number).base().to_bits()) << 32 | 1);
    let (called, caller) = plan.v6_of(instance);
    let vip = |v4: Ipv4Block, v6| VirtualIp {
        v4: Ipv4Addr::from_bits(v4.base().to_bits() + 1),
        v6,
    };
    Instance {
        identity: Identity {
            born_at: id(number),
            number: instance,
        },
        service: Service {
            composition: "shop".parse().unwrap(),
            automaton: name(service),
        },
        ordinal: NonZeroU32::MIN,
        version: Version(1),
        addresses: InstanceAddresses {
            called: vip(plan.v4_called, called),
            caller: vip(plan.v4_caller, caller),
        },
        ports: BTreeMap::new(),
        takes_flows: true,
        weight: 100,
        flows,
        processor: 0,
        generation: Generation(1),
    }
}

/// A host of `rack1.paris` that does not act; hosts 5 and 6 are of `rack1.rome`.
fn leaf() -> Here {
    let near: Vec<u8> = vec![1, 2, 3];
    let mut ranked = near.clone();
    ranked.sort_by_key(|it| weight(&[b"rack1.paris", id(*it).as_bytes()]));
    let own = ranked[2];
    let mut others: Vec<(u8, &str)> = vec![(5, "rack1.rome"), (6, "rack1.rome")];
    others.extend(
        near.into_iter()
            .filter(|it| *it != own)
            .map(|it| (it, "rack1.paris")),
    );
    Here::new(own, "rack1.paris", &others)
}

fn asked(outputs: &[SitesOutput]) -> Vec<(HostId, QuestionId, Vec<u8>)> {
    let asked = outputs.iter().filter_map(|output| match output {
        SitesOutput::Overlay(OverlayCommand::Ask {
            to,
            question,
            bytes,
        }) => Some((*to, *question, bytes.clone())),
        _ => None,
    });
    asked.collect()
}

fn found(outputs: &[SitesOutput]) -> Vec<QuestionId> {
    let found = outputs.iter().filter_map(|output| match output {
        SitesOutput::Overlay(OverlayCommand::Find { question, .. }) => Some(*question),
        _ => None,
    });
    found.collect()
}

fn sought(outputs: &[SitesOutput]) -> usize {
    let is = |it: &&SitesOutput| matches!(it, SitesOutput::Peer(PeerInput::Sought { .. }));
    outputs.iter().filter(is).count()
}

fn gone(outputs: &[SitesOutput]) -> usize {
    let is = |it: &&SitesOutput| matches!(it, SitesOutput::Peer(PeerInput::InstanceGone { .. }));
    outputs.iter().filter(is).count()
}

/// The summary that a gateway publishes of its site.
fn published(outputs: &[SitesOutput]) -> Vec<Vec<u8>> {
    let published = outputs.iter().filter_map(|output| match output {
        SitesOutput::Overlay(OverlayCommand::Publish { topic, bytes }) => {
            topic.0.starts_with("tier/").then(|| bytes.clone())
        }
        _ => None,
    });
    published.collect()
}

/// A gateway alone in its site; in `paris`, unless its site is an outermost one.
fn gateway(number: u8, site: &str, others: &[(u8, &str)]) -> Here {
    let here = Here::new(number, site, others);
    assert!(here.sites.is_acting());
    here
}

#[test]
fn the_first_two_that_are_up_act_and_the_next_takes_a_dead_ones_place() {
    let mut here = leaf();
    assert!(!here.sites.is_acting());
    let first = here.sites.acting_gateways();
    assert_eq!(first.len(), 2);
    here.tell(SitesInput::Down(first[0]));
    let outputs = here.pass(Duration::from_secs(3));
    let serves = |outputs: &[SitesOutput], on| {
        let command = OverlayCommand::ServeKademlia(on);
        let mut outputs = outputs.iter();
        outputs.any(|it| matches!(it, SitesOutput::Overlay(it) if *it == command))
    };
    assert!(here.sites.is_acting() && serves(&outputs, true));
    here.tell(SitesInput::Up(first[0]));
    let outputs = here.pass(Duration::from_secs(1));
    assert!(!here.sites.is_acting() && serves(&outputs, false));
}

#[test]
fn a_gateway_of_many_services_says_so_a_few_at_a_time_and_leaves_none_out() {
    let mut here = gateway(1, "paris", &[]);
    for number in 0..1_000 {
        let service = name(&format!("service-{number}"));
        here.sites.serves(service, 1, here.now);
    }
    let provided = |outputs: &[SitesOutput]| {
        let is_provided =
            |it: &&SitesOutput| matches!(it, SitesOutput::Overlay(OverlayCommand::Provide { .. }));
        outputs.iter().filter(is_provided).count()
    };
    let first = provided(&here.pass(Duration::from_millis(150)));
    assert!((1..=256).contains(&first), "{first}");
    let rest = provided(&here.pass(Duration::from_secs(2)));
    assert_eq!(first + rest, 1_000);
}

#[test]
fn equal_seeks_are_asked_once_and_all_are_told() {
    let mut here = leaf();
    let outputs = here.seek("web");
    let (to, question, bytes) = asked(&outputs).remove(0);
    assert!(here.sites.acting_gateways().contains(&to));
    assert!(matches!(
        Question::decode(&bytes),
        Ok(Question::Seek { .. })
    ));
    assert!(asked(&here.seek("web")).is_empty());
    here.answer(question, vec![word(5, "web", 1)]);
    let outputs = here.outputs();
    assert_eq!(sought(&outputs), 2);
    let view = here.sites.view();
    assert_eq!((view.leases[0].host, view.leases[0].via), (id(5), Some(to)));
    assert_eq!(view.leases[0].known, Known::Summarised);
}

#[test]
fn another_gateway_is_asked_when_the_first_is_silent_and_time_ends_it() {
    let mut here = leaf();
    let first = asked(&here.seek("web")).remove(0).0;
    let outputs = here.pass(Duration::from_secs(1));
    assert_ne!(asked(&outputs)[0].0, first);
    let outputs = here.pass(Duration::from_secs(1));
    assert_eq!(sought(&outputs), 1, "in vain, and not for ever");
}

#[test]
fn what_was_sought_in_vain_is_asked_for_again_only_after_a_while() {
    let mut here = leaf();
    let (_, question, _) = asked(&here.seek("web")).remove(0);
    here.answer(question, Vec::new());
    let (_, question, _) = asked(&here.outputs()).remove(0);
    here.answer(question, Vec::new());
    assert_eq!(sought(&here.outputs()), 1);
    let outputs = here.seek("web");
    assert_eq!((asked(&outputs).len(), sought(&outputs)), (0, 1));
    here.pass(VAIN_FOR);
    assert_eq!(asked(&here.seek("web")).len(), 1);
}

#[test]
fn no_more_services_are_sought_at_once_than_may_be() {
    let mut here = leaf();
    for number in 0..=SEARCHES_MAX {
        here.seek(&format!("web-{number}"));
    }
    assert_eq!(here.dropped(SitesDrop::TooManySeeks), 1);
}

#[test]
fn unused_leases_end_and_used_ones_are_asked_for_again() {
    let mut here = Here::with_lease();
    let outputs = here.pass(LEASE);
    assert_eq!((asked(&outputs).len(), gone(&outputs)), (0, 1));
    let mut here = Here::with_lease();
    here.seek("web");
    let outputs = here.pass(LEASE - RENEWED_BEFORE);
    let (_, question, bytes) = asked(&outputs).remove(0);
    let Ok(Question::Seek { held, .. }) = Question::decode(&bytes) else {
        panic!("not a seek");
    };
    assert_eq!(held.len(), 1);
    here.answer(question, vec![word(5, "web", 2)]);
    assert_eq!(gone(&here.pass(LEASE - Duration::from_secs(1))), 0);
    assert_eq!(gone(&here.pass(Duration::from_secs(2))), 1);
}

#[test]
fn no_more_leases_are_held_than_may_be_and_the_least_used_one_gives_way() {
    let mut here = Here::with_lease();
    let found = here.sites.leases.iter().next().unwrap();
    let (signed, told) = (found.signed.clone(), Arc::clone(&found.told));
    let first_of_rest = here.now + Duration::from_millis(1);
    for number in 1..LEASES_MAX as u64 {
        let told = RemoteInstance {
            instance: InstanceId(number),
            ..RemoteInstance::clone(&told)
        };
        let used = first_of_rest + Duration::from_nanos(number);
        let gave_way = here
            .sites
            .leases
            .put(signed.clone(), Arc::new(told), used + LEASE, used);
        assert_eq!(gave_way.len(), 0, "at {number}");
    }
    here.pass(Duration::from_secs(1));
    // The oldest of all, and the only one that is used.
    here.sites.leases.used(told.instance, here.now);

    let (_, question, _) = asked(&here.seek("mail")).remove(0);
    here.answer(question, vec![word(6, "mail", 1)]);

    let gone = here.outputs().into_iter().find_map(|output| match output {
        SitesOutput::Peer(PeerInput::InstanceGone { instance }) => Some(instance),
        _ => None,
    });
    assert_eq!(gone, Some(InstanceId(1)));
    assert_eq!(here.dropped(SitesDrop::LeasesFull), 1);
    assert_eq!(here.sites.leases.len(), LEASES_MAX);
    assert_eq!(here.sites.leases.of_service(&name("mail")).count(), 1);
}

#[test]
fn an_instance_with_open_flows_is_held_while_its_link_stands_and_takes_no_new_ones() {
    let mut here = Here::with_lease();
    here.tell(SitesInput::Link(id(5), Some(PATH)));
    here.tell(SitesInput::Busy(BTreeSet::from([id(5)])));
    let outputs = here.pass(LEASE);
    assert_eq!(gone(&outputs), 0);
    let unready =
        |it: &SitesOutput| matches!(it, SitesOutput::Peer(PeerInput::Instance(it)) if !it.ready);
    assert!(outputs.iter().any(unready));
    here.tell(SitesInput::Link(id(5), None));
    let outputs = here.pass(LOST_AFTER);
    let lost = |it: &SitesOutput| matches!(it, SitesOutput::Peer(PeerInput::Lost { .. }));
    assert!(outputs.iter().any(lost));
    assert_eq!(gone(&outputs), 1);
}

#[test]
fn forged_foreign_and_outdated_words_are_told_apart() {
    let mut here = Here::with_lease();
    let service = name("web");
    let from = (id(1), Known::LookedUp);
    let now = here.now;
    let mut take = |word: Word| here.sites.take_found(&word, &service, from, now);
    let mut forged = word(5, "web", 1);
    forged.origin = id(6);
    assert_eq!(take(forged), Err(SitesDrop::Forged));
    let mut stranger = word(5, "web", 1);
    stranger.origin = id(77);
    assert_eq!(take(stranger), Err(SitesDrop::UnknownMember));
    assert_eq!(take(word(5, "mail", 1)), Err(SitesDrop::OtherService));
    assert_eq!(take(word(5, "web", 0)), Err(SitesDrop::OldRecord));
    assert_eq!(take(word(5, "web", 2)), Ok(()));
    let mut catalog = catalog(6);
    let anothers = Instance {
        addresses: instance(5, "web", 1).addresses,
        ..instance(6, "web", 1)
    };
    let statement = CatalogInput::State(Statement::Instance(anothers));
    catalog.handle_input(statement, Moment::ORIGIN);
    catalog.handle_timeout(Moment::ORIGIN + FLUSH_AFTER);
    let record = catalog
        .signed_instances_of(&service)
        .remove(0)
        .bytes()
        .to_vec();
    let origin = id(6);
    assert_eq!(take(Word { origin, record }), Err(SitesDrop::NotItsOwn));
}

#[test]
fn a_summary_leads_to_its_gateway_and_else_kademlia_is_asked() {
    let mut there = gateway(5, "rack2.paris", &[(1, "rack1.paris")]);
    there.tell(SitesInput::Serves(name("web"), 3));
    let summary = published(&there.pass(SUMMARY_EVERY)).remove(0);
    let mut here = gateway(1, "rack1.paris", &[(5, "rack2.paris"), (6, "rome")]);
    let outputs = here.seek("mail");
    let question = found(&outputs)[0];
    let hosts = vec![id(6)];
    here.tell(SitesInput::Overlay(OverlayEvent::Found { question, hosts }));
    let (to, question, _) = asked(&here.outputs()).remove(0);
    assert_eq!(to, id(6));
    here.answer(question, vec![word(6, "mail", 1)]);
    assert_eq!(here.sites.view().leases[0].known, Known::LookedUp);
    here.hear("paris", summary);
    let outputs = here.seek("web");
    assert_eq!((asked(&outputs)[0].0, found(&outputs).len()), (id(5), 0));
}

#[test]
fn summaries_never_go_back_and_are_their_gateways_own() {
    let mut there = gateway(5, "rack2.paris", &[(1, "rack1.paris")]);
    there.tell(SitesInput::Serves(name("web"), 3));
    let outputs = there.pass(SUMMARY_EVERY * 3);
    let summaries = published(&outputs);
    let [first, second, ..] = &summaries[..] else {
        panic!("too few summaries");
    };
    let mut here = gateway(1, "rack1.paris", &[(5, "rack2.paris"), (6, "rome")]);
    here.hear("paris", second.clone());
    here.hear("paris", first.clone());
    here.hear("paris", second.clone());
    assert_eq!(here.dropped(SitesDrop::OldSummary), 2);
    here.pass(SUMMARY_KEPT + SUMMARY_EVERY);
    here.hear("paris", second.clone());
    assert_eq!(
        here.dropped(SitesDrop::OldSummary),
        3,
        "not even when it was forgotten"
    );
    here.hear("rome", summaries[2].clone());
    assert_eq!(
        here.dropped(SitesDrop::NotAGateway),
        1,
        "heard in another tier"
    );
    let mut other = gateway(1, "rack1.paris", &[(5, "rack1.rome")]);
    other.hear("paris", summaries[2].clone());
    assert_eq!(other.dropped(SitesDrop::NotAGateway), 1, "of another site");
}

#[test]
fn a_tier_is_summed_up_one_tier_further_out() {
    let mut there = gateway(5, "b.rack1.paris", &[(1, "a.rack1.paris")]);
    there.tell(SitesInput::Serves(name("web"), 3));
    let summary = published(&there.pass(SUMMARY_EVERY)).remove(0);
    let mut here = gateway(
        1,
        "a.rack1.paris",
        &[(5, "b.rack1.paris"), (6, "a.rack2.paris")],
    );
    here.tell(SitesInput::Serves(name("web"), 2));
    here.hear("rack1.paris", summary);
    let outputs = here.pass(SUMMARY_EVERY);
    let mut outside = gateway(6, "a.rack2.paris", &[(1, "a.rack1.paris")]);
    for bytes in published(&outputs) {
        outside.hear("paris", bytes);
    }
    let asker = asked(&outside.seek("web"));
    assert_eq!(asker[0].0, id(1));
    assert!(
        outside.dropped(SitesDrop::NotAGateway) > 0,
        "the site's own goes no further"
    );
}

#[test]
fn near_and_used_services_stay_when_summaries_outgrow_their_budget() {
    let others = [(5, "rack2.paris"), (6, "x.rome")];
    let mut here = gateway(1, "rack1.paris", &others);
    let mut there = gateway(5, "rack2.paris", &[(1, "rack1.paris")]);
    for number in 0..200 {
        there.tell(SitesInput::Serves(name(&format!("web-{number:03}")), 1));
    }
    let summaries = published(&there.pass(SUMMARY_EVERY * 2));
    here.sites.summaries = Summaries::new(8 << 10);
    here.seek("web-199");
    here.hear("paris", summaries.last().unwrap().clone());
    let held = here.sites.view();
    assert!(held.summary_bytes <= 8 << 10 && held.summary_bytes > 6 << 10);
    assert!(here.dropped(SitesDrop::SummaryBudget) > 50);
    let serves = |here: &Here, service: &str| {
        let sites = &here.sites;
        !sites
            .summaries
            .who_serves(&name(service), &sites.members, None)
            .is_empty()
    };
    assert!(serves(&here, "web-199") && !serves(&here, "web-000"));
}

#[test]
fn whoever_may_not_pass_a_question_on_answers_at_once() {
    let mut here = gateway(1, "rack1.paris", &[(5, "rack2.paris")]);
    let service = name("web");
    let bytes = |passes| {
        let (service, held) = (service.clone(), Vec::new());
        Question::Seek {
            service,
            passes,
            held,
        }
        .encode()
    };
    let ask = |here: &mut Here, passes| {
        let (from, asked, bytes) = (id(5), AskedId(1), bytes(passes));
        here.tell(SitesInput::Overlay(OverlayEvent::Asked {
            from,
            asked,
            bytes,
        }));
        let outputs = here.outputs();
        let answers = outputs
            .iter()
            .filter(|it| matches!(it, SitesOutput::Overlay(OverlayCommand::Answer { .. })));
        (answers.count(), asked_and_found(&outputs))
    };
    assert_eq!(ask(&mut here, 0), (1, 0));
    assert_eq!(
        ask(&mut here, 3),
        (1, 0),
        "no summary names it, and Kademlia is not asked twice"
    );
}

fn asked_and_found(outputs: &[SitesOutput]) -> usize {
    asked(outputs).len() + found(outputs).len()
}

#[test]
fn a_request_that_leaves_the_site_says_who_calls() {
    let mut here = Here::new(1, "rack1.paris", &[(5, "rack2.paris")]);
    let statement = Statement::Instance(instance(1, "shopper", 0));
    here.catalog
        .handle_input(CatalogInput::State(statement), here.now);
    here.catalog.handle_timeout(here.now + FLUSH_AFTER);
    let request = |client: InstanceId| {
        let kind = FrameKind::Request(Request {
            client,
            caller: name("shopper"),
            service: name("web"),
            called: None,
            composition: "shop".parse().unwrap(),
            version: Version(1),
            hops: vec![id(1)],
            packet: vec![0; 1_400],
        });
        let attempt = Attempt(1);
        ServiceFrame { attempt, kind }.encode()
    };
    let client = instance(1, "shopper", 0).identity.number;
    here.tell(SitesInput::Frame(id(5), request(InstanceId(99))));
    assert_eq!(here.dropped(SitesDrop::NoIntroduction), 1);
    here.tell(SitesInput::Frame(id(5), request(client)));
    let sent = here.outputs().into_iter().find_map(|output| match output {
        SitesOutput::Datagram(_, DatagramKind::IntroducedFrame, bytes) => Some(bytes),
        _ => None,
    });
    let mut there = Here::new(5, "rack2.paris", &[(1, "rack1.paris")]);
    there.tell(SitesInput::Introduced(id(1), sent.unwrap()));
    let outputs = there.outputs();
    let [
        SitesOutput::Peer(PeerInput::Instance(caller)),
        SitesOutput::Peer(PeerInput::Frame { frame, .. }),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    assert_eq!(
        (caller.instance, caller.known, caller.via),
        (client, Known::Called, None)
    );
    assert_eq!(*frame, request(client));
}

#[test]
fn a_request_through_a_gateway_has_its_client_meet_the_server() {
    let mut here = Here::with_lease();
    let own = here.sites.members.host;
    let via = here.sites.view().leases[0].via.unwrap();
    let called = instance(5, "web", 1).addresses.called.v4;
    let mut packet = Vec::new();
    let header = etherparse::PacketBuilder::ipv4([100, 64, 9, 1], called.octets(), 64);
    header.udp(1_000, 53).write(&mut packet, b"?").unwrap();
    let kind = FrameKind::Request(Request {
        client: InstanceId(7),
        caller: name("shopper"),
        service: name("web"),
        called: None,
        composition: "shop".parse().unwrap(),
        version: Version(1),
        hops: vec![own],
        packet,
    });
    let attempt = Attempt(1);
    here.pass(Duration::from_secs(1));
    here.tell(SitesInput::Frame(
        via,
        ServiceFrame { attempt, kind }.encode(),
    ));
    let is_met = |it: &SitesOutput| matches!(it, SitesOutput::Meet(host) if *host == id(5));
    assert!(here.outputs().iter().any(is_met));
    let outputs = here.pass(LEASE * 3);
    let parts = |it: &SitesOutput| matches!(it, SitesOutput::Part(host) if *host == id(5));
    assert!(outputs.iter().any(parts), "once its lease is over");
}

#[test]
fn the_link_to_whoever_let_this_host_in_is_wanted_from_the_first_moment_and_for_good() {
    let mut here = Here::begin(1, "rack1.paris", Some(id(5)));
    let is_met = |it: &SitesOutput| matches!(it, SitesOutput::Meet(host) if *host == id(5));
    assert!(here.pass(Duration::ZERO).iter().any(is_met));
    here.tell(SitesInput::Known(neighbour(5, "rack1.rome")));
    here.tell(SitesInput::Known(neighbour(2, "rack1.paris")));
    here.tell(SitesInput::Up(id(2)));
    let parts = |it: &SitesOutput| matches!(it, SitesOutput::Part(_));
    assert!(!here.pass(LEASE * 3).iter().any(parts));
}

#[test]
fn the_router_is_asked_with_whom_flows_are_open_while_instances_of_other_sites_are_known() {
    let asks = |outputs: &[SitesOutput]| {
        let is = |it: &&SitesOutput| matches!(it, SitesOutput::Peer(PeerInput::BusyWanted));
        outputs.iter().filter(is).count()
    };
    let mut here = leaf();
    assert_eq!(asks(&here.pass(LEASE)), 0);
    let mut here = Here::with_lease();
    assert_eq!(asks(&here.pass(LEASE - Duration::from_secs(1))), 6);
    here.pass(Duration::from_secs(2));
    assert_eq!(asks(&here.pass(LEASE)), 0);
}

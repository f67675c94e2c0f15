//! Membership by itself: what it takes, what it says of whom, and what a pause or a flap means.

use super::*;
use crate::wire::margay::membership as wire;
use prost::Message as _;

fn id(number: u8) -> HostId {
    HostId::from_bytes([number; 32])
}

fn all(count: u8) -> BTreeSet<HostId> {
    (0..count).map(id).collect()
}

/// Hosts whose datagrams arrive at once unless they are cut off.
struct Site {
    now: Moment,
    members: Vec<Membership>,
    cut: BTreeSet<usize>,
    keepers: bool,
    log: Vec<(usize, MembershipOutput)>,
}

impl Site {
    fn new(count: u8) -> Self {
        let now = Moment::from_nanos(7);
        let member = |number| {
            let config = MembershipConfig {
                host: id(number),
                epoch: OriginEpoch(1),
            };
            let mut member = Membership::new(config, number.into(), now);
            member.handle_input(MembershipInput::Peers(all(count)), now);
            member
        };
        Site {
            now,
            members: (0..count).map(member).collect(),
            cut: BTreeSet::new(),
            keepers: true,
            log: Vec::new(),
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(10);
            for index in 0..self.members.len() {
                if self.cut.contains(&index) {
                    continue;
                }
                if self.members[index]
                    .poll_timeout()
                    .is_some_and(|at| at <= self.now)
                {
                    self.members[index].handle_timeout(self.now);
                }
                self.drain(index);
            }
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.members[index].poll_output() {
            match output {
                MembershipOutput::Datagram { to, bytes } => {
                    assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
                    let to = usize::from(to.as_bytes()[0]);
                    if !self.cut.contains(&to) && !self.cut.contains(&index) {
                        let from = id(u8::try_from(index).unwrap());
                        let input = MembershipInput::Datagram { from, bytes };
                        self.members[to].handle_input(input, self.now);
                        self.drain(to);
                    }
                }
                MembershipOutput::Echo { to } if self.keepers => {
                    self.members[index].handle_input(MembershipInput::Echoed(to), self.now);
                }
                output => self.log.push((index, output)),
            }
        }
    }

    fn up(&self, index: usize) -> BTreeSet<HostId> {
        self.members[index].up().map(|(host, _)| host).collect()
    }

    fn said(&self, of: HostId) -> Vec<&'static str> {
        let about = |output: &MembershipOutput| match output {
            MembershipOutput::Up { host, .. } if *host == of => Some("up"),
            MembershipOutput::Down { host } if *host == of => Some("down"),
            MembershipOutput::Silent { host } if *host == of => Some("silent"),
            _ => None,
        };
        let first = self.log.iter().filter(|(index, _)| *index == 0);
        first.filter_map(|(_, output)| about(output)).collect()
    }
}

/// Takes a host away for as long as it takes to be missed, and brings it back.
fn flap(site: &mut Site, index: usize) {
    site.cut.insert(index);
    site.pass(Duration::from_secs(5));
    site.cut.remove(&index);
}

#[test]
fn everyone_finds_everyone_and_a_death_is_known_within_three_seconds() {
    let mut site = Site::new(8);
    site.pass(Duration::from_secs(4));
    assert!((0..8).all(|index| site.up(index).len() == 7));
    site.cut.insert(5);
    site.pass(Duration::from_secs(3));
    assert!((0..5).all(|index| !site.up(index).contains(&id(5))));
    assert_eq!(site.said(id(5)), ["up", "down"]);
}

#[test]
fn host_is_silent_only_when_its_keeper_is_too() {
    let mut site = Site::new(3);
    site.pass(Duration::from_secs(4));
    site.cut.insert(2);
    site.pass(Duration::from_secs(20));
    assert_eq!(site.said(id(2)), ["up", "down"]);
    site.keepers = false;
    site.pass(SILENT_AFTER + ECHO_EVERY);
    assert_eq!(site.said(id(2)), ["up", "down", "silent"]);
}

#[test]
fn first_return_is_at_once_and_each_further_one_takes_longer() {
    let mut site = Site::new(3);
    site.pass(Duration::from_secs(4));
    flap(&mut site, 2);
    site.pass(Duration::from_secs(2));
    assert!(site.up(0).contains(&id(2)));
    let mut waits = Vec::new();
    for _ in 0..3 {
        flap(&mut site, 2);
        let back = site.now;
        while !site.up(0).contains(&id(2)) {
            site.pass(Duration::from_millis(100));
        }
        waits.push(site.now.since(back));
    }
    assert!(
        waits[0] >= HELD_FIRST && waits[0] < HELD_FIRST * 2,
        "{waits:?}"
    );
    assert!(
        waits[1] >= HELD_FIRST * 2 && waits[2] >= HELD_FIRST * 4,
        "{waits:?}"
    );
}

#[test]
fn flapping_is_forgiven_after_a_long_time_up() {
    let mut site = Site::new(3);
    site.pass(Duration::from_secs(4));
    flap(&mut site, 2);
    flap(&mut site, 2);
    site.pass(FORGIVEN_AFTER + Duration::from_secs(5));
    flap(&mut site, 2);
    site.pass(Duration::from_secs(2));
    assert!(site.up(0).contains(&id(2)));
}

#[test]
fn host_that_stood_still_blames_nobody() {
    let mut site = Site::new(4);
    site.pass(Duration::from_secs(4));
    // The first host's time jumps; the others lived on without missing it.
    let now = site.now + Duration::from_secs(30);
    site.members[0].handle_timeout(now);
    site.now = now;
    let rest: Vec<usize> = (1..4).collect();
    for index in rest {
        site.members[index].handle_timeout(now);
        site.drain(index);
    }
    site.drain(0);
    site.pass(Duration::from_secs(5));
    for other in 1..4 {
        assert_eq!(site.said(id(other)), ["up"]);
    }
}

#[test]
fn restarted_host_is_up_in_its_new_life_at_once() {
    let mut site = Site::new(3);
    site.pass(Duration::from_secs(4));
    let config = MembershipConfig {
        host: id(2),
        epoch: OriginEpoch(2),
    };
    site.members[2] = Membership::new(config, 99, site.now);
    let peers = MembershipInput::Peers(all(3));
    site.members[2].handle_input(peers, site.now);
    site.pass(Duration::from_millis(500));
    let lives: Vec<_> = site.members[0]
        .up()
        .filter(|(host, _)| *host == id(2))
        .collect();
    assert_eq!(lives, [(id(2), OriginEpoch(2))]);
}

#[test]
fn host_that_leaves_is_down_at_once() {
    let mut site = Site::new(4);
    site.pass(Duration::from_secs(4));
    site.members[2].handle_input(MembershipInput::Leave, site.now);
    site.drain(2);
    assert_eq!(site.log.last(), Some(&(2, MembershipOutput::Left)));
    assert_eq!(site.members[2].poll_timeout(), None);
    site.cut.insert(2);
    site.pass(Duration::from_millis(600));
    assert!(!site.up(0).contains(&id(2)));
}

#[test]
fn host_without_a_certificate_any_more_is_down_and_silent() {
    let mut site = Site::new(3);
    site.pass(Duration::from_secs(4));
    let fewer = MembershipInput::Peers(all(2));
    site.members[0].handle_input(fewer, site.now);
    site.drain(0);
    assert_eq!(site.said(id(2)), ["up", "down", "silent"]);
    site.pass(Duration::from_secs(5));
    assert!(!site.up(0).contains(&id(2)));
    let drops: BTreeMap<_, _> = site.members[0].drops().collect();
    assert!(drops[&MembershipDrop::NotOfThisSite] > 0, "{drops:?}");
}

/// A gossip from `source` to the first host of a site of three: that `about` live.
fn gossip(source: HostId, about: &[HostId]) -> Vec<u8> {
    let alive = about.iter().map(|host| (*host, 1, wire::State::Alive));
    gossip_of(source, &alive.collect::<Vec<_>>())
}

/// The same with lives and states.
fn gossip_of(source: HostId, about: &[(HostId, u64, wire::State)]) -> Vec<u8> {
    let member = |host: HostId, epoch| wire::Member {
        host: host.as_bytes().to_vec(),
        epoch,
        renewal: 0,
    };
    let heading = wire::Heading {
        version: 1,
        source: Some(member(source, 1)),
        incarnation: 0,
        destination: Some(member(id(0), 1)),
        message: Some(wire::heading::Message::Gossip(wire::Nothing {})),
    };
    let mut bytes = heading.encode_length_delimited_to_vec();
    bytes.extend_from_slice(&u16::try_from(about.len()).unwrap().to_be_bytes());
    for (host, epoch, state) in about {
        let update = wire::Update {
            member: Some(member(*host, *epoch)),
            incarnation: 0,
            state: (*state).into(),
        };
        bytes.extend(update.encode_length_delimited_to_vec());
    }
    bytes
}

fn drops_after(bytes: Vec<u8>) -> Vec<MembershipDrop> {
    let mut site = Site::new(3);
    let from = id(1);
    let input = MembershipInput::Datagram { from, bytes };
    site.members[0].handle_input(input, site.now);
    site.members[0].drops().map(|(reason, _)| reason).collect()
}

#[test]
fn every_wrong_datagram_is_dropped_by_name() {
    let good = gossip(id(1), &[id(2)]);
    assert_eq!(drops_after(good.clone()), []);
    assert_eq!(
        drops_after(vec![0; DATAGRAM_BYTES_MAX + 1]),
        [MembershipDrop::TooLong]
    );
    for wrong in [
        &good[..good.len() - 1],
        &[good.clone(), vec![0]].concat(),
        &[],
    ] {
        assert_eq!(drops_after(wrong.to_vec()), [MembershipDrop::Unreadable]);
    }
    assert_eq!(
        drops_after(gossip(id(2), &[])),
        [MembershipDrop::Impersonated]
    );
    let mut site = Site::new(3);
    let stranger = MembershipInput::Datagram {
        from: id(9),
        bytes: gossip(id(9), &[]),
    };
    site.members[0].handle_input(stranger, site.now);
    let drops: Vec<_> = site.members[0].drops().collect();
    assert_eq!(drops, [(MembershipDrop::NotOfThisSite, 1)]);
}

#[test]
fn strangers_in_a_datagram_are_left_out_and_the_rest_counts() {
    let mut site = Site::new(3);
    let bytes = gossip(id(1), &[id(9), id(2), id(8)]);
    let from = id(1);
    let input = MembershipInput::Datagram { from, bytes };
    site.members[0].handle_input(input, site.now);
    assert_eq!(site.up(0), BTreeSet::from([id(1), id(2)]));
    let known: Vec<HostId> = site.members[0]
        .foca
        .iter_membership_state()
        .map(|member| member.id().host)
        .collect();
    assert_eq!(known.len(), 2, "{known:?}");
}

#[test]
fn later_life_that_is_over_already_is_not_up() {
    let mut site = Site::new(3);
    let from = id(1);
    for epoch in [1, 2] {
        let bytes = gossip_of(from, &[(id(2), epoch, wire::State::Down)]);
        let input = MembershipInput::Datagram { from, bytes };
        site.members[0].handle_input(input, site.now);
    }
    assert_eq!(site.up(0), BTreeSet::from([from]));
}

/// A datagram of host 3 to host 0 that says one thing of another host.
fn lie(update: &foca::Member<Member>) -> Vec<u8> {
    let header = foca::Header {
        src: Member::new(id(3), OriginEpoch(1)),
        src_incarnation: 0,
        dst: Member::new(id(0), OriginEpoch(1)),
        message: foca::Message::Gossip,
    };
    let mut bytes = Vec::new();
    let mut codec = WireCodec;
    foca::Codec::encode_header(&mut codec, &header, &mut bytes).unwrap();
    bytes.extend(1u16.to_be_bytes());
    foca::Codec::encode_member(&mut codec, update, &mut bytes).unwrap();
    bytes
}

/// A member says of another that it lives, or has ended, in a life that wins over all that it can say.
#[test]
fn nobody_can_keep_another_down_by_telling_of_a_life_that_it_never_had() {
    let last = Member {
        host: id(1),
        epoch: OriginEpoch(u64::MAX),
        renewal: u64::MAX,
    };
    let alive = foca::Member::new(last, 0, foca::State::Alive);
    for update in [foca::Member::down(last), alive] {
        let mut site = Site::new(4);
        site.pass(Duration::from_secs(5));
        let (from, bytes) = (id(3), lie(&update));
        site.members[0].handle_input(MembershipInput::Datagram { from, bytes }, site.now);
        site.drain(0);

        site.pass(Duration::from_secs(20));

        for index in [0, 2, 3] {
            let said = site.said(id(1));
            assert!(site.up(index).contains(&id(1)), "{index}: {said:?}");
        }
        assert_eq!(site.up(1).len(), 3);
        assert!(
            site.members[0]
                .drops()
                .any(|(it, _)| it == MembershipDrop::Contradicted)
        );
    }
}

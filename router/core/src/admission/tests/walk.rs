//! An issuer that crashes at any moment gives no name and no block twice.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

/// Four blocks, so that random steps meet every border.
const RANGE: &str = "10.0.0.0/18";

const HOSTS: u8 = 7;

#[derive(Clone, Debug)]
enum Step {
    Invite {
        uses: u32,
    },
    Redeem {
        host: u8,
        token: Index,
        name: u8,
    },
    Renew {
        host: u8,
    },
    Revoke {
        host: u8,
    },
    Release,
    Wait {
        hours: u32,
    },
    /// The issuer's host restarts; what was said last is lost before it was journalled, or not.
    Crash {
        lost: bool,
    },
    /// The journal is written anew from the issuer's own summary.
    Compact,
}

fn any_step() -> impl Strategy<Value = Step> {
    let host = || 1..=HOSTS;
    prop_oneof![
        2 => (1u32..4).prop_map(|uses| Step::Invite { uses }),
        8 => (host(), any::<Index>(), 1u8..6)
            .prop_map(|(host, token, name)| Step::Redeem { host, token, name }),
        3 => host().prop_map(|host| Step::Renew { host }),
        2 => host().prop_map(|host| Step::Revoke { host }),
        2 => Just(Step::Release),
        2 => (1u32..60).prop_map(|hours| Step::Wait { hours }),
        2 => any::<bool>().prop_map(|lost| Step::Crash { lost }),
        1 => Just(Step::Compact),
    ]
}

/// An issuer beside its journal and all that ever left it.
struct Walk {
    world: World,
    journal: Vec<IssuerRecord>,
    /// What the last step put out: durable and said in one, or neither, when a crash comes.
    last: Option<Said>,
    tokens: Vec<Token>,
    uses: Vec<(TokenId, HostId, u32)>,
    /// The newest certificate of each host, whoever may still show it.
    shown: Vec<Issued>,
    revoked: BTreeSet<(HostId, Serial)>,
    seeds: u8,
    now: WallTime,
}

/// What leaves the issuer once its records are durable.
#[derive(Default)]
struct Said {
    records: Vec<IssuerRecord>,
    token: Option<(Token, u32)>,
    redeemed: Option<TokenId>,
    issued: Option<Issued>,
    revocation: Option<Revocation>,
}

impl Walk {
    fn new() -> Self {
        Walk {
            world: World::of(root(100), Host::new(101), RANGE),
            journal: Vec::new(),
            last: None,
            tokens: Vec::new(),
            uses: Vec::new(),
            shown: Vec::new(),
            revoked: BTreeSet::new(),
            seeds: 0,
            now: FOUNDED,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Crash { lost: true } => self.last = None,
            _ => self.settle(),
        }
        let said = match step {
            Step::Invite { uses } => self.invite(*uses),
            Step::Redeem { host, token, name } => self.redeem(*host, token, *name),
            Step::Renew { host } => self.renew(*host),
            Step::Revoke { host } => self.revoke(*host),
            Step::Release => self.release(),
            Step::Wait { hours } => {
                self.now = self.now + HOUR * *hours;
                self.world.known.sweep(self.now);
                None
            }
            Step::Crash { .. } => {
                self.restart();
                None
            }
            Step::Compact => {
                self.journal = self.world.issuer.records().collect();
                None
            }
        };
        self.last = said;
    }

    /// The journal has the last step's records, and what it said leaves the host.
    fn settle(&mut self) {
        let Some(said) = self.last.take() else {
            return;
        };
        self.journal.extend(said.records);
        if let Some((token, uses)) = said.token {
            self.uses.push((token.id, self.world.desk.id(), uses));
            self.tokens.push(token);
        }
        if let Some(revocation) = said.revocation {
            self.world
                .known
                .revoke(&revocation.bytes, self.now)
                .unwrap();
            self.revoked
                .insert((revocation.host, revocation.serial_max));
        }
        if let Some(issued) = said.issued {
            if let Some(token) = said.redeemed {
                self.uses.push((token, issued.certificate.host, 0));
            }
            self.show(issued);
        }
    }

    /// No two hosts can show certificates of one name, or of blocks that overlap, at one time.
    fn show(&mut self, issued: Issued) {
        let new = &issued.certificate;
        self.shown.retain(|old| old.certificate.host != new.host);
        for old in &self.shown {
            let old = &old.certificate;
            let void = self.world.known.revocations();
            let lives = void.membership_revoked(&old.host, old.serial).is_none()
                && old.validity.phase(self.now) == Phase::Current;
            if lives {
                assert_ne!(old.name, new.name);
                assert!(
                    !old.blocks[0].overlaps(new.blocks[0]),
                    "{old:?} and {new:?}"
                );
            }
        }
        let above =
            |(host, serial_max): &(HostId, Serial)| *host != new.host || *serial_max < new.serial;
        assert!(self.revoked.iter().all(above), "{new:?} is void already");
        self.shown.push(issued);
    }

    fn invite(&mut self, uses: u32) -> Option<Said> {
        self.seeds = self.seeds.wrapping_add(1);
        let terms = Terms {
            site: "paris".parse().unwrap(),
            roles: BTreeSet::new(),
            lifetime: DAY,
            uses,
        };
        let counter = Counter {
            link_key: self.world.desk.link_key,
            addresses: Vec::new(),
        };
        let seed = [self.seeds; 32];
        let (token, records) = self
            .world
            .issuer
            .invite(&terms, &counter, &seed, self.now)
            .unwrap();
        Some(Said {
            records,
            token: Some((token, uses)),
            ..Said::default()
        })
    }

    fn redeem(&mut self, host: u8, token: &Index, name: u8) -> Option<Said> {
        let token = token
            .get(self.tokens.get(..).filter(|it| !it.is_empty())?)
            .clone();
        let name = format!("h{name}");
        let issued = self
            .world
            .redeem(&Host::new(host), &token, &name, self.now)
            .ok()?;
        Some(Said {
            records: issued.records.clone(),
            redeemed: Some(token.id),
            issued: Some(issued),
            ..Said::default()
        })
    }

    fn renew(&mut self, host: u8) -> Option<Said> {
        let host = Host::new(host);
        let shown = self
            .shown
            .iter()
            .find(|it| it.certificate.host == host.id())?;
        let introduction = host.introduce(shown, 1);
        let member = self.world.check(&introduction, self.now).ok()?;
        let issued = self
            .world
            .issuer
            .renew(&member, &self.world.known, self.now);
        let issued = issued.unwrap_or_else(|refused| panic!("a member is not renewed: {refused}"));
        Some(Said {
            records: issued.records.clone(),
            issued: Some(issued),
            ..Said::default()
        })
    }

    fn revoke(&mut self, host: u8) -> Option<Said> {
        let host = Host::new(host).id();
        let (revocation, records) = self.world.issuer.revoke(host, &self.world.known, self.now);
        Some(Said {
            records,
            revocation: Some(revocation),
            ..Said::default()
        })
    }

    fn release(&mut self) -> Option<Said> {
        let resting = self.world.issuer.resting(self.now).next()?.host;
        let record = self.world.issuer.release(resting, self.now);
        Some(Said {
            records: vec![record.expect("it rests")],
            ..Said::default()
        })
    }

    fn restart(&mut self) {
        let written = serde_records(&self.journal);
        let world = &mut self.world;
        let nobody = Membership::new(world.root.network());
        let config = config(&world.root, &world.desk, RANGE, &nobody);
        world.issuer = Issuer::new(config, written).unwrap();
    }

    /// No token admitted more hosts than it says.
    fn check_uses(&self) {
        for token in &self.tokens {
            let of_token = self.uses.iter().filter(|(id, ..)| *id == token.id);
            let allowed: u32 = of_token.clone().map(|(.., uses)| uses).sum();
            let used: BTreeSet<_> = of_token
                .filter(|(.., uses)| *uses == 0)
                .map(|it| it.1)
                .collect();
            assert!(
                used.len() <= allowed as usize,
                "{token:?} admitted {used:?}"
            );
        }
    }
}

/// The records as a journal gives them back.
fn serde_records(records: &[IssuerRecord]) -> Vec<IssuerRecord> {
    let written = toml::to_string(&Journal {
        records: records.to_vec(),
    })
    .unwrap();
    let read: Journal = toml::from_str(&written).unwrap();
    assert_eq!(read.records, records);
    read.records
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Journal {
    records: Vec<IssuerRecord>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_name_and_no_block_is_given_twice_whenever_the_issuer_crashes(
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut walk = Walk::new();
        for step in &steps {
            walk.step(step);
        }
        walk.settle();
        walk.check_uses();
    }
}

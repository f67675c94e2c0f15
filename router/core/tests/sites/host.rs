//! One simulated host: its neighbourhood, what its Router was told, and what is durable.

use super::plan::{HOSTS_A_SITE, SITES};
use margay_core::address::{AddressPlan, InstanceAddresses, Ipv4Block, VirtualIp};
use margay_core::composition::{CompositionName, WEIGHT};
use margay_core::host::{HostId, OriginEpoch};
use margay_core::id::{InstanceId, Version};
use margay_core::moment::Moment;
use margay_core::name::{AutomatonName, InstanceName, SitePath};
use margay_core::neighbourhood::{
    Neighbour, Neighbourhood, NeighbourhoodConfig, NeighbourhoodInput,
};
use margay_core::overlay::{OverlayKey, Topic};
use margay_core::peer::{Distance, Known, RemoteInstance};
use margay_core::signature::PrivateKey;
use margay_core::sites::SUMMARY_BYTES_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

const NETWORK_KEY: [u8; 32] = [7; 32];

pub struct Host {
    pub number: usize,
    pub id: HostId,
    pub near: Option<Neighbourhood>,
    pub epoch: u64,
    pub rate: i32,
    pub wake: Option<Duration>,
    pub lies_until: Duration,
    /// What earlier lives of its daemon refused.
    refused: BTreeMap<&'static str, u64>,
    /// Whether its instance runs.
    pub serves: bool,
    /// Raised with each word about the instance, and seen in it.
    pub words: u32,
    pub kept: BTreeMap<CompositionName, Vec<u8>>,
    /// What its Router was told and not that it is gone.
    pub told: BTreeMap<InstanceId, Arc<RemoteInstance>>,
    pub sought: BTreeSet<AutomatonName>,
    pub met: BTreeSet<usize>,
    pub keeps: BTreeSet<usize>,
    pub topics: BTreeSet<Topic>,
    pub provides: BTreeSet<OverlayKey>,
}

pub fn key(number: usize) -> PrivateKey {
    PrivateKey::from_bytes(&[u8::try_from(number).unwrap() + 1; 32])
}

pub fn site_of(number: usize) -> SitePath {
    SITES[number / HOSTS_A_SITE].parse().unwrap()
}

fn block(number: usize) -> Ipv4Block {
    let base = Ipv4Addr::new(100, 64 + u8::try_from(number).unwrap(), 0, 0);
    Ipv4Block::new(base, 20).unwrap()
}

/// Hosts that say which compositions there are: one of every other site.
pub fn is_operator(number: usize) -> bool {
    number.is_multiple_of(2 * HOSTS_A_SITE)
}

/// In one site two hosts hold the role, in the others nobody does.
fn may_be_gateway(number: usize) -> bool {
    number == 1 || number == 2
}

/// The service of a site.
pub fn service(site: usize) -> AutomatonName {
    format!("web-of-{site}").parse().unwrap()
}

impl Host {
    pub fn new(number: usize, rate: i32) -> Self {
        Host {
            number,
            id: key(number).public(),
            near: None,
            epoch: 0,
            rate,
            wake: None,
            lies_until: Duration::ZERO,
            refused: BTreeMap::new(),
            serves: true,
            words: 0,
            kept: BTreeMap::new(),
            told: BTreeMap::new(),
            sought: BTreeSet::new(),
            met: BTreeSet::new(),
            keeps: BTreeSet::new(),
            topics: BTreeSet::new(),
            provides: BTreeSet::new(),
        }
    }

    /// What its clock shows.
    pub fn shows(&self, real: Duration) -> Moment {
        let nanos = real.as_nanos() as i128;
        let shown = nanos + nanos * i128::from(self.rate) / 1_000;
        Moment::from_nanos(1_000_000_000 + shown as u64)
    }

    /// When its clock shows it.
    pub fn when(&self, shown: Moment) -> Duration {
        let shown = i128::from(shown.as_nanos()) - 1_000_000_000;
        let real = (shown * 1_000).div_euclid(1_000 + i128::from(self.rate)) + 1;
        Duration::from_nanos(real.max(0) as u64)
    }

    pub fn as_neighbour(&self) -> Neighbour {
        Neighbour {
            host: self.id,
            site: site_of(self.number),
            may_be_gateway: may_be_gateway(self.number),
            addresses: Vec::new(),
            blocks: vec![block(self.number)],
            is_operator: is_operator(self.number),
        }
    }

    /// Starts the daemon, in a life of its own.
    pub fn start(&mut self, seed: u64, now: Duration) {
        self.epoch += 1;
        let config = NeighbourhoodConfig {
            key: key(self.number),
            name: format!("host{}", self.number).parse().unwrap(),
            site: site_of(self.number),
            sponsor: None,
            epoch: OriginEpoch(self.epoch),
            network_key: NETWORK_KEY,
            is_operator: is_operator(self.number),
            may_be_gateway: may_be_gateway(self.number),
            summary_bytes_max: SUMMARY_BYTES_MAX,
        };
        let now = self.shows(now);
        let mut near = Neighbourhood::new(config, seed, now);
        for bytes in self.kept.clone().into_values() {
            near.handle_input(NeighbourhoodInput::Kept { bytes }, now);
        }
        self.near = Some(near);
    }

    /// How often it refused something of another site for this reason.
    pub fn refused(&self, name: &str) -> u64 {
        let drops = self.near.iter().flat_map(Neighbourhood::drops);
        let now = drops.filter(|(part, reason, _)| *part == "sites" && *reason == name);
        let now: u64 = now.map(|(_, _, count)| count).sum();
        now + self.refused.get(name).copied().unwrap_or(0)
    }

    pub fn stop(&mut self) {
        for (part, reason, count) in self.near.iter().flat_map(Neighbourhood::drops) {
            if part == "sites" {
                *self.refused.entry(reason).or_default() += count;
            }
        }
        self.near = None;
        self.wake = None;
        self.told.clear();
        self.sought.clear();
        self.met.clear();
        self.keeps.clear();
        self.topics.clear();
        self.provides.clear();
    }

    /// What its Router says of its instance now.
    pub fn instance(&self) -> RemoteInstance {
        let block = block(self.number);
        let number = InstanceId(u64::from(block.base().to_bits()) << 32 | 1);
        let plan = AddressPlan::new(&NETWORK_KEY, block);
        let (called, caller) = plan.v6_of(number);
        let second = |block: Ipv4Block| Ipv4Addr::from_bits(block.base().to_bits() + 1);
        RemoteInstance {
            instance: number,
            host: self.id,
            name: InstanceName {
                automaton: service(self.number / HOSTS_A_SITE),
                ordinal: 1 + (self.number % HOSTS_A_SITE) as u32,
            },
            composition: "shop".parse().unwrap(),
            version: Version(1),
            addresses: InstanceAddresses {
                called: VirtualIp {
                    v4: second(plan.v4_called),
                    v6: called,
                },
                caller: VirtualIp {
                    v4: second(plan.v4_caller),
                    v6: caller,
                },
            },
            ready: self.serves,
            weight: WEIGHT,
            flows: self.words,
            processor: 0,
            distance: Distance(0),
            via: None,
            known: Known::Flooded,
        }
    }
}

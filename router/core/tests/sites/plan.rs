//! What a seed draws.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

/// Hosts of a site.
pub const HOSTS_A_SITE: usize = 3;

/// ```text
///           root ── madrid
///          /    \
///      paris    rome
///      /   \      |
///   rack1 rack2 rack1
/// ```
pub const SITES: [&str; 4] = ["rack1.paris", "rack2.paris", "rack1.rome", "madrid"];

#[derive(Clone, Debug)]
pub enum Step {
    /// A host's daemon dies, and starts again later.
    Crash { host: usize, back_after: Duration },
    /// The gateways of a site die one after the other.
    KillGateways { site: usize },
    /// Some sites hear nothing of the others for a while.
    Divide { sites: usize, lasts: Duration },
    /// Every daemon dies at once.
    RestartAll,
    /// The hosts of a site say something else than they should.
    Lie { site: usize, lasts: Duration },
    /// A host's instance ends, or runs again.
    Toggle { host: usize },
    /// An operator applies the next version of a composition, or withdraws it.
    Compose { host: usize, withdraw: bool },
    /// A host's Router wants a service.
    Seek { host: usize, site: usize },
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Thousandths.
    pub loss: u32,
    pub duplicates: u32,
    pub delay_max: Duration,
    /// Thousandths by which clocks are fast.
    pub rates: Vec<i32>,
    pub disturbed_for: Duration,
    pub steps: Vec<(Duration, Step)>,
}

impl Plan {
    pub fn draw(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let hosts = SITES.len() * HOSTS_A_SITE;
        let disturbed_for = Duration::from_secs(16);
        let mut steps = Vec::new();
        for _ in 0..random.random_range(16..40) {
            let at = random.random_range(Duration::from_secs(3)..disturbed_for);
            let host = random.random_range(0..hosts);
            let site = random.random_range(0..SITES.len());
            let lasts = random.random_range(Duration::from_secs(1)..Duration::from_secs(7));
            let step = match random.random_range(0..20) {
                0..2 => Step::Crash {
                    host,
                    back_after: lasts,
                },
                2 => Step::KillGateways { site },
                3 => Step::Divide {
                    sites: random.random_range(1..(1 << SITES.len()) - 1),
                    lasts,
                },
                4 if random.random_range(0..4) == 0 => Step::RestartAll,
                4..8 => Step::Lie { site, lasts },
                8..10 => Step::Toggle { host },
                10..13 => Step::Compose {
                    host,
                    withdraw: random.random_range(0..3) == 0,
                },
                _ => Step::Seek { host, site },
            };
            steps.push((at, step));
        }
        Plan {
            seed,
            loss: random.random_range(0..100),
            duplicates: random.random_range(0..50),
            delay_max: Duration::from_millis(random.random_range(2..40)),
            rates: (0..hosts).map(|_| random.random_range(-50..50)).collect(),
            disturbed_for,
            steps,
        }
    }
}

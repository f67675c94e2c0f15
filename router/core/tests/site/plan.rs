//! What one seed draws: the hosts, the network, and everything that goes wrong.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::fmt;
use std::time::Duration;

/// How long the site is disturbed.
const DISTURBED_SECONDS: std::ops::Range<u64> = 40..120;

/// One thing that happens. Hosts are numbers, taken modulo the hosts that there are.
#[derive(Clone, Debug)]
pub enum Step {
    /// A host says something new about an instance, a service's address or itself.
    Say { host: usize, what: u32 },
    /// A host takes something back.
    TakeBack { host: usize, what: usize },
    /// The operator applies the next version of a composition at a host.
    Apply { host: usize, withdrawn: bool },
    /// An identity is given to another host.
    Move {
        from: usize,
        to: usize,
        which: usize,
    },
    /// A daemon ends; perhaps its keeper and its instances too; perhaps it comes back.
    Crash {
        host: usize,
        reboot: bool,
        back: Option<Duration>,
    },
    /// Every daemon ends at once and comes back.
    CrashAll { reboot: bool },
    /// A host comes back with the state of an earlier life, from a backup.
    Restore { host: usize },
    /// A host stands still.
    Pause { host: usize, lasts: Duration },
    /// Hosts of two sides do not hear each other.
    Partition { sides: u64, lasts: Duration },
    /// One host does not hear another, which hears it.
    HalfOpen {
        from: usize,
        to: usize,
        lasts: Duration,
    },
    /// A host goes down and up again, over and over.
    Flap { host: usize, times: u32 },
    /// A message of long ago comes again, at whatever host.
    Replay { to: usize, which: usize },
    /// A message comes with wrong bytes.
    Garble { to: usize, which: usize, at: usize },
    /// A host's answers leave records out and say that they do not.
    Lie { host: usize, lasts: Duration },
}

/// Everything that one seed draws.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub hosts: usize,
    /// In thousandths.
    pub loss: u32,
    pub duplicates: u32,
    pub delay_max: Duration,
    /// How often a message is very late, in thousandths, and by how much.
    pub stragglers: u32,
    pub straggler_delay_max: Duration,
    /// How long what was taken back is kept: so short that some of it is forgotten in the run.
    pub taken_back_kept: Duration,
    pub disturbed: Duration,
    pub steps: Vec<(Duration, Step)>,
}

impl Plan {
    /// Draws everything from `seed`.
    pub fn draw(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let disturbed = Duration::from_secs(random.random_range(DISTURBED_SECONDS));
        let count = random.random_range(30..90);
        let mut steps: Vec<(Duration, Step)> = (0..count)
            .map(|_| {
                (
                    random.random_range(Duration::ZERO..disturbed),
                    step(&mut random),
                )
            })
            .collect();
        steps.sort_by_key(|(at, _)| *at);
        let smaller = random.random_range(3..=12);
        Plan {
            seed,
            hosts: random.random_range(3..=smaller),
            loss: random.random_range(0..250),
            duplicates: random.random_range(0..200),
            delay_max: Duration::from_millis(random.random_range(1..60)),
            stragglers: random.random_range(0..30),
            straggler_delay_max: Duration::from_millis(random.random_range(100..20_000)),
            taken_back_kept: Duration::from_secs(random.random_range(5..60)),
            disturbed,
            steps,
        }
    }

    /// Nothing goes wrong unless steps say so.
    #[allow(dead_code, reason = "canaries use it")]
    pub fn calm(hosts: usize, steps: Vec<(Duration, Step)>) -> Self {
        Plan {
            seed: 1,
            hosts,
            loss: 0,
            duplicates: 0,
            delay_max: Duration::from_millis(5),
            stragglers: 0,
            straggler_delay_max: Duration::from_millis(1),
            taken_back_kept: Duration::from_secs(3_600),
            disturbed: Duration::from_secs(30),
            steps,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { steps, .. } = self;
        let head = Plan {
            steps: Vec::new(),
            ..self.clone()
        };
        writeln!(f, "{head:?}")?;
        for (at, step) in steps {
            writeln!(f, "{:9.3} s {step:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

fn step(random: &mut SmallRng) -> Step {
    let host = random.random_range(0..64);
    let lasts = Duration::from_millis(random.random_range(500..40_000));
    match random.random_range(0..100) {
        0..30 => Step::Say {
            host,
            what: random.random_range(0..12),
        },
        30..42 => Step::TakeBack {
            host,
            what: random.random_range(0..64),
        },
        42..48 => Step::Apply {
            host,
            withdrawn: random.random_range(0..5) == 0,
        },
        48..56 => Step::Move {
            from: host,
            to: random.random_range(0..64),
            which: random.random_range(0..64),
        },
        56..64 => Step::Crash {
            host,
            reboot: random.random_range(0..3) == 0,
            back: (random.random_range(0..5) > 0)
                .then(|| Duration::from_millis(random.random_range(50..15_000))),
        },
        64..66 => Step::CrashAll {
            reboot: random.random(),
        },
        66..68 => Step::Restore { host },
        68..71 => Step::Pause {
            host,
            lasts: lasts / 4,
        },
        71..76 => Step::Partition {
            sides: random.random(),
            lasts,
        },
        76..80 => Step::HalfOpen {
            from: host,
            to: random.random_range(0..64),
            lasts,
        },
        80..82 => Step::Flap {
            host,
            times: random.random_range(2..5),
        },
        82..90 => Step::Replay {
            to: host,
            which: random.random_range(0..100_000),
        },
        90..96 => Step::Garble {
            to: host,
            which: random.random_range(0..100_000),
            at: random.random_range(0..100_000),
        },
        _ => Step::Lie { host, lasts },
    }
}

//! The daemon killed at random moments of whatever it does: what is left is understood, and nothing
//! leaks.

use crate::possessions::until_possessions;
use crate::world::{shell, text};
use margay_tests::lab::Host;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How often the daemon is killed.
const KILLS: usize = 50;

/// The longest that a change goes on before the daemon is killed: making six instances takes longer,
/// so that at most moments one of them is half made or half gone.
const KILLED_AFTER_MAX: Duration = Duration::from_millis(150);

/// The seed, unless this variable gives another.
const SEED_VARIABLE: &str = "MARGAY_TEST_SEED";

/// What is under way when the daemon is killed.
#[derive(Clone, Copy, Debug)]
enum Change {
    Apply { replicas: u32 },
    Delete,
    Restart,
}

impl Change {
    fn draw(random: &mut SmallRng) -> Change {
        match random.random_range(0..5) {
            0 => Change::Delete,
            1 => Change::Restart,
            _ => Change::Apply {
                replicas: random.random_range(1..7),
            },
        }
    }
}

fn composition(version: usize, replicas: u32) -> String {
    format!(
        r#"
[composition]
name = "kills"
version = {version}

[automaton.front]
command = ["sleep", "infinity"]
needs = ["back"]

[automaton.back]
command = ["sleep", "{}"]
replicas = {replicas}
ports = {{ tcp = {{ port = 80, protocol = "tcp" }} }}
"#,
        // Half of the versions run another program, so that instances are replaced too.
        60_000 + version % 2
    )
}

/// Has `change` begin; a command that the daemon's end cuts off fails, as it should.
fn begin(host: &Host, change: Change, version: usize) -> Option<Child> {
    let command = match change {
        Change::Apply { replicas } => {
            let file = host
                .write("kills.toml", composition(version, replicas))
                .unwrap();
            let mut command = host.margay(&["apply"]);
            command.arg(file);
            command
        }
        Change::Delete => host.margay(&["delete", "kills"]),
        Change::Restart => {
            host.stop_daemon().unwrap();
            host.spawn_daemon(&[]).unwrap();
            return None;
        }
    };
    let mut command = command;
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    Some(quiet.stderr(Stdio::null()).spawn().unwrap())
}

#[test]
fn whenever_the_daemon_is_killed_the_next_one_understands_what_is_left_and_nothing_leaks() {
    let seed = std::env::var(SEED_VARIABLE)
        .ok()
        .and_then(|seed| seed.parse().ok());
    let clock = || UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed: u64 = seed.unwrap_or_else(clock);
    println!("seed {seed}: {SEED_VARIABLE}={seed} draws the same again");
    let mut random = SmallRng::seed_from_u64(seed);
    let host = Host::start().unwrap();
    until_possessions(&host, 0);

    for version in 1..=KILLS {
        let change = Change::draw(&mut random);
        let killed_after = random.random_range(Duration::ZERO..KILLED_AFTER_MAX);
        println!("{version}: killed after {killed_after:?} of {change:?}");
        let command = begin(&host, change, version);
        let deadline = Instant::now() + killed_after;
        while Instant::now() < deadline {
            std::thread::yield_now();
        }
        host.kill_daemon_unasked().unwrap();
        if let Some(mut command) = command {
            command.wait().unwrap();
        }
        host.start_daemon()
            .unwrap_or_else(|error| panic!("{error:#}\n{}", host.log_tail()));
    }

    let last = host.write("kills.toml", composition(KILLS + 1, 3)).unwrap();
    let mut apply = host.margay(&["apply"]);
    let applied = apply.arg(last).stdin(Stdio::null()).output().unwrap();
    assert!(applied.status.success(), "{}", text(&applied));
    until_possessions(&host, 4);
    let instances = host.instances().unwrap();
    let addresses: BTreeSet<_> = instances
        .iter()
        .flat_map(|it| [it.called_v4, it.caller_v4])
        .collect();
    assert_eq!(addresses.len(), 8, "{instances:#?}");
    let deleted = host
        .margay(&["delete", "kills"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(deleted.status.success(), "{}", text(&deleted));
    until_possessions(&host, 0);
    assert_eq!(shell(&host, "pgrep -xc sleep || true").trim(), "0");
}

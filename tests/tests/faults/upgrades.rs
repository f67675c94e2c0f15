//! The daemon replaced under load, again and again: nobody notices.

use crate::world::{SEEN_MAX, Talk, margay, shell, text, until_ready};
use margay_tests::lab::{Host, PLACE, until};

/// How often the daemon is replaced.
const UPGRADES: usize = 20;

/// Connections that ask all the time.
const BUSY: u32 = 100;

/// Connections that are silent until all is over.
const IDLE: u32 = 1_000;

const PORT: u16 = 7779;

fn composition() -> String {
    format!(
        r#"
[composition]
name = "upgrades"
version = 1

[automaton.crowd]
command = ["/usr/bin/python3", "{PLACE}/crowded.py", "{PORT}"]
ports = {{ tcp = {{ port = {PORT}, protocol = "tcp" }}, udp = {{ port = {PORT}, protocol = "udp" }} }}
ready = {{ tcp = true, port = "tcp", every_ms = 1000 }}

[automaton.caller]
command = ["sleep", "infinity"]
needs = ["crowd"]
"#
    )
}

/// The numbers of the lines that the server has written so far, as its log holds them.
fn lines(host: &Host) -> Vec<u32> {
    let logged = margay(host, &["logs", "crowd", "-n", "1000000"]);
    let logged = text(&logged);
    let numbers = logged.lines().filter_map(|line| line.strip_prefix("line "));
    numbers.map(|number| number.parse().unwrap()).collect()
}

/// ```text
///   caller ══ 100 busy, 1,000 idle connections, datagrams ══ crowd ── log lines ── keeper ── daemon
///                                                                                            20 times
/// ```
#[test]
fn upgrades_under_load_reset_nothing_fail_nothing_and_lose_no_line() {
    let host = Host::without_daemon().unwrap();
    for (name, program) in [
        ("crowd.py", include_str!("programs/crowd.py")),
        ("crowded.py", include_str!("programs/crowded.py")),
    ] {
        host.write(name, program).unwrap();
    }
    host.start_daemon().unwrap();
    host.apply(&composition()).unwrap();
    until_ready(&host, &["1.crowd", "1.caller"]);
    let (path, numbers) = (format!("{PLACE}/crowd.py"), [PORT.into(), BUSY, IDLE]);
    let numbers = numbers.map(|number| number.to_string());
    let words = [
        "/usr/bin/python3",
        &path,
        &numbers[0],
        &numbers[1],
        &numbers[2],
    ];
    let mut load = Talk::start(host.exec("1.caller", &words));
    assert_eq!(load.hear(), "ready");
    let keeper = shell(&host, "pgrep -ox margay-keeper");

    for _ in 0..UPGRADES {
        host.stop_daemon().unwrap();
        host.start_daemon().unwrap();
    }

    load.tell("enough");
    let sums = load.hear();
    let sum = |name: &str| -> u64 {
        let found = sums
            .split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.unwrap().parse().unwrap()
    };
    let log = || host.log_tail();
    assert_eq!(
        (sum("resets"), sum("failed"), sum("lost")),
        (0, 0, 0),
        "{sums}\n{}",
        log()
    );
    assert!(
        sum("asked") > u64::from(IDLE + BUSY) && sum("datagrams") > 0,
        "{sums}"
    );
    assert_eq!(shell(&host, "pgrep -ox margay-keeper"), keeper);
    let written = until("the lines of the last start", SEEN_MAX, || {
        let found = lines(&host);
        Ok((found.len() > UPGRADES).then_some(found))
    })
    .unwrap();
    let gap = written.windows(2).find(|pair| pair[0] + 1 != pair[1]);
    assert_eq!(
        (written.first(), gap),
        (Some(&1), None),
        "of {} lines",
        written.len()
    );
}

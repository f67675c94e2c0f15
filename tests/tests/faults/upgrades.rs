//! The daemon replaced under load, again and again: nobody notices.

use crate::world::{SEEN_MAX, Talk, margay, shell, text, until_ready};
use margay_tests::lab::{Host, PLACE, run_directory, state_directory, until};
use redb::{Database, TableDefinition};

/// How often the daemon is replaced.
const UPGRADES: usize = 20;

/// Which of them finds the kernel's maps in the first layout.
const OLDER_LAYOUT: usize = 6;

/// Which of them finds the journal in the first schema.
const OLDER_SCHEMA: usize = 12;

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

/// Makes the kernel's maps what the first layout would have left. The programs on the devices keep
/// those that they were loaded with, as they would have.
fn age_maps(host: &Host) {
    let pins = run_directory().join("bpf");
    shell(
        host,
        &format!("python3 {PLACE}/age_maps.py {}", pins.display()),
    );
}

/// Makes the journal what the first schema would have left.
fn age_journal(host: &Host) {
    let journal = state_directory().join("margay.redb");
    let read = host.command("cat").arg(&journal).output().unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(outside.path(), &read.stdout).unwrap();
    let database = Database::open(outside.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    let drained: TableDefinition<u64, ()> = TableDefinition::new("drained");
    let vips: TableDefinition<&str, &[u8]> = TableDefinition::new("service_vips");
    let meta: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
    assert!(transaction.delete_table(drained).unwrap());
    assert!(transaction.delete_table(vips).unwrap());
    let schema = transaction
        .open_table(meta)
        .unwrap()
        .remove("schema")
        .unwrap()
        .is_some();
    assert!(schema, "the journal says its schema");
    transaction.commit().unwrap();
    drop(database);
    let name = journal.strip_prefix(PLACE).unwrap();
    host.write(
        name.to_str().unwrap(),
        std::fs::read(outside.path()).unwrap(),
    )
    .unwrap();
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
        ("age_maps.py", include_str!("programs/age_maps.py")),
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

    for upgrade in 0..UPGRADES {
        host.stop_daemon().unwrap();
        match upgrade {
            OLDER_LAYOUT => age_maps(&host),
            OLDER_SCHEMA => age_journal(&host),
            _ => {}
        }
        host.start_daemon().unwrap();
    }
    let told = std::fs::read_to_string(host.log()).unwrap();
    assert!(told.contains("taking over the maps of an older version"));
    assert!(told.contains("the journal was brought up to date"));

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

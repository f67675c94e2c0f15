//! What a host has that instances need: as much as they need, and nothing is left of others.

use crate::world::{SEEN_MAX, SPARES, shell};
use margay_keeper::KeeperClient;
use margay_tests::lab::{Host, run_directory, state_directory, until};
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use std::collections::BTreeMap;

/// What an instance has one of, each.
const KINDS: [&str; 8] = [
    "devices",
    "links",
    "cgroups",
    "namespaces",
    "files",
    "held dns",
    "held log",
    "held netns",
];

/// How many there are of each kind.
type Counts = BTreeMap<String, usize>;

/// The host's keeper, spoken to past the daemon.
pub(crate) fn keeper(host: &Host) -> KeeperClient {
    let socket = run_directory().join("keeper.sock");
    KeeperClient::connect(&host.inside(socket)).unwrap()
}

/// Waits until the host has what so many instances need, and nothing else.
pub(crate) fn until_possessions(host: &Host, instances: usize) {
    // Some networks are made ahead, whole but for their instances.
    let spares = |kind| match kind {
        "devices" | "links" => SPARES,
        _ => 0,
    };
    let expected: Counts = KINDS
        .map(|kind| (kind.to_owned(), instances + spares(kind)))
        .into();
    let settled = until("nothing is left over", SEEN_MAX, || {
        let whole = host.instances()?.len() == instances;
        Ok((whole && possessions(host) == expected).then_some(()))
    });
    if let Err(error) = settled {
        let (has, log) = (possessions(host), host.log_tail());
        panic!(
            "{error}: the host has\n{has:#?}\n{:#?}\n{log}",
            host.instances()
        );
    }
}

/// How many instances the journal knows, drained ones, and ones whose addresses rest; the daemon must
/// be away.
pub(crate) fn recorded(host: &Host) -> (u64, u64, u64) {
    let journal = host.inside(state_directory().join("margay.redb"));
    let database = Database::open(journal).unwrap();
    let transaction = database.begin_read().unwrap();
    let numbered = |name: &'static str| {
        let table: TableDefinition<u64, &[u8]> = TableDefinition::new(name);
        transaction.open_table(table).unwrap().len().unwrap()
    };
    let drained: TableDefinition<u64, ()> = TableDefinition::new("drained");
    let drained = transaction.open_table(drained).unwrap().len().unwrap();
    (numbered("instances"), drained, numbered("quarantine"))
}

fn possessions(host: &Host) -> Counts {
    let said = shell(
        host,
        r#"
        echo devices $(ip -o link | grep -c ': mg[0-9a-f]*@' || true)
        echo links $(ls /media/run/bpf/links | grep -c '^instance-' || true)
        echo cgroups $(find $(awk '$3 == "cgroup2" { print $2 }' /proc/self/mounts | tail -1) \
            -mindepth 2 -type d -path '*/margay-*' | wc -l)
        echo namespaces $(ls -l /proc/$(pgrep -ox margay-keeper)/fd | grep -c 'net:\[' || true)
        echo files $(ls /media/state/instances 2>/dev/null | wc -l)
        "#,
    );
    let lines = said.lines().filter_map(|line| line.split_once(' '));
    let mut counts: Counts = lines
        .map(|(kind, count)| (kind.to_owned(), count.parse().unwrap()))
        .collect();
    let held = keeper(host).held().unwrap();
    for kind in KINDS {
        let Some(prefix) = kind.strip_prefix("held ") else {
            continue;
        };
        let named = |name: &&String| name.split('/').next() == Some(prefix);
        counts.insert(kind.to_owned(), held.iter().filter(named).count());
    }
    counts
}

//! The small world that the tests of names share, and questions asked in it.

use margay_tests::lab::{Host, Instance, PLACE};
use std::time::Duration;

/// How long a change may take to be seen, on a busy machine.
pub(crate) const SEEN_MAX: Duration = Duration::from_secs(30);

/// A host whose instances are all ready, after `composition` was applied; in it, `{PLACE}` stands
/// for the directory of the programs.
pub(crate) fn host_with(composition: &str) -> Host {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    host.start_daemon().unwrap();
    populate(&host, composition);
    host
}

/// Applies `composition` and waits until all its instances are ready.
pub(crate) fn populate(host: &Host, composition: &str) {
    host.apply(&composition.replace("{PLACE}", PLACE)).unwrap();
    host.until_ready(SEEN_MAX).unwrap();
}

/// Puts the programs of this world where instances can run them.
pub(crate) fn furnish(host: &Host) {
    for (name, text) in [
        ("dig.py", include_str!("programs/dig.py")),
        ("whoami.py", include_str!("programs/whoami.py")),
    ] {
        host.write(name, text).unwrap();
    }
}

/// The named instance, by `margay ps`.
pub(crate) fn instance(host: &Host, name: &str) -> Instance {
    let instances = host.instances().unwrap();
    let found = instances.iter().find(|it| it.name == name);
    found
        .unwrap_or_else(|| panic!("no {name} among {instances:#?}"))
        .clone()
}

/// What an instance's resolver says: the response code and the records, sorted.
pub(crate) fn dig(host: &Host, caller: &str, name: &str, kind: &str) -> Vec<String> {
    let program = format!("{PLACE}/dig.py");
    let said = host.run(caller, &["/usr/bin/python3", &program, name, kind]);
    let said = said.unwrap();
    let mut lines = said.lines().map(str::trim);
    let mut told = vec![lines.next().unwrap().to_owned()];
    told.extend(lines.map(str::to_owned));
    told[1..].sort();
    told
}

//! A full disk.

use crate::world::{
    Talk, composition, furnish, instance, margay, populate, shell, text, until_ready,
};
use margay_tests::lab::{Host, state_directory};

/// Fills the state directory to its last byte.
const FILL: &str = "for size in 64k 4k 1; do
    dd if=/dev/zero of=/media/state/filler-$size bs=$size 2>/dev/null || true
done";

const EXTRA: &str = r#"
[automaton.extra]
command = ["sleep", "infinity"]
needs = ["echo"]
"#;

#[test]
fn full_disk_refuses_a_change_with_its_path_and_loses_nothing() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    shell(&host, "mount -t tmpfs -o size=8m small /media/state");
    host.start_daemon().unwrap();
    populate(&host, "");
    let mut client = Talk::connected(&host, "1.caller");
    let echo = instance(&host, "1.echo");
    shell(&host, FILL);
    let before = text(&margay(&host, &["ps", "--json"]));
    let newer = composition(EXTRA).replace("version = 1", "version = 2");
    let file = host.write("newer.toml", &newer).unwrap();
    let apply = ["apply", file.to_str().unwrap()];

    for change in [&apply, &["delete", "faults"]] {
        let refused = margay(&host, change);

        let told = text(&refused);
        assert_eq!(refused.status.code(), Some(1), "{change:?}: {told}");
        let journal = state_directory().join("margay.redb");
        assert!(told.contains(journal.to_str().unwrap()), "{told}");
        assert!(told.contains("No space left"), "{told}");
        assert!(told.contains("nothing was changed"), "{told}");
        assert_eq!(text(&margay(&host, &["ps", "--json"])), before);
    }
    client.echoes("live");
    drop(Talk::connected(&host, "1.caller"));
    host.kill_daemon().unwrap();
    host.start_daemon()
        .unwrap_or_else(|error| panic!("{error}\n{}", host.log_tail()));
    assert_eq!(text(&margay(&host, &["ps", "--json"])), before);
    drop(Talk::connected(&host, "1.caller"));

    shell(&host, "rm /media/state/filler-*");
    let applied = margay(&host, &apply);
    assert!(applied.status.success(), "{}", text(&applied));
    until_ready(&host, &["1.echo", "1.caller", "1.extra"]);
    host.kill_daemon().unwrap();
    host.start_daemon().unwrap();
    until_ready(&host, &["1.echo", "1.caller", "1.extra"]);
    client.echoes("restarted");
    assert_eq!(instance(&host, "1.echo").pid, echo.pid);
}

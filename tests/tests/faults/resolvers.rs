//! The host's own ways to resolve names, which must not reach instances.

use crate::world::{Talk, furnish, populate, shell};
use margay_tests::lab::{Host, until};
use std::process::Stdio;
use std::time::Duration;

/// The host's `/etc` and `/run` with links, and an order of look-ups that never asks DNS.
const DECOYS: &str = r#"
cp -a /etc /media/etc
rm -f /media/etc/resolv.conf
ln -s /run/systemd/resolve/stub-resolv.conf /media/etc/resolv.conf
echo 'hosts: resolve [!UNAVAIL=return] myhostname' >/media/etc/nsswitch.conf
echo '192.0.2.1 echo.matrix echo' >>/media/etc/hosts
mount --bind /media/etc /etc
mount -t tmpfs -o mode=755 none /run
mkdir -p /run/nscd /run/systemd/resolve
echo 'nameserver 192.0.2.53' >/run/systemd/resolve/stub-resolv.conf
"#;

/// Something that listens where nscd would, and tells of each caller until its input ends.
const NSCD: &str = r#"
import os, select, socket, sys
nscd = socket.socket(socket.AF_UNIX)
nscd.bind("/run/nscd/socket")
os.chmod("/run/nscd/socket", 0o666)
nscd.listen()
print("listens", flush=True)
while sys.stdin not in select.select([nscd, sys.stdin], [], [])[0]:
    nscd.accept()[0].close()
    print("was asked", flush=True)
"#;

#[test]
fn hosts_own_resolvers_do_not_reach_instances() {
    let host = Host::without_daemon().unwrap();
    furnish(&host);
    shell(&host, DECOYS);
    let mut decoy = host.command("/usr/bin/python3");
    decoy.args(["-c", NSCD]);
    let mut nscd = Talk::start(decoy);
    assert_eq!(nscd.hear(), "listens");
    let mut getent = host.command("getent");
    getent.args(["hosts", "echo.matrix"]).stdin(Stdio::null());
    assert!(getent.output().is_ok());
    assert_eq!(
        nscd.hear(),
        "was asked",
        "glibc does not fall for the decoy"
    );
    until("no question is left", Duration::from_secs(5), || {
        Ok((!nscd.has_answered()).then_some(()))
    })
    .unwrap();
    host.start_daemon().unwrap();
    populate(&host, "");
    while nscd.has_answered() {}

    let mut client = Talk::connected(&host, "1.caller");
    let names = client.ask("names echo.matrix");

    let echo = crate::world::instance(&host, "1.echo");
    assert_eq!(names, format!("{} {}", echo.called_v4, echo.called_v6));
    let resolv = host.run("1.caller", &["cat", "/etc/resolv.conf"]).unwrap();
    assert!(resolv.contains("nameserver 169.254.53.53"), "{resolv}");
    assert!(!resolv.contains("192.0.2.53"), "{resolv}");
    assert!(!nscd.has_answered(), "an instance asked nscd");
}

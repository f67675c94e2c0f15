//! The few files of `/etc` that an instance sees differently from the host.

use anyhow::{Context, Result};
use margay_core::name::ZONE;
use margay_core::port::InstancePlan;
use margay_datapath::namespace::DNS_ADDRESS;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The look-up order of glibc: no cache daemon, no systemd-resolved, no mDNS in between.
const NSSWITCH: &str = "\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
";

/// Writes the files into `dir`, over which the instance sees the host's own `/etc`.
pub fn write(dir: &Path, plan: &InstancePlan) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    // A total of some seconds for musl (`timeout` is all it waits) as for glibc (`timeout` is each
    // try's): a question that arrives while the daemon restarts is answered afterwards.
    let resolv = format!("nameserver {DNS_ADDRESS}\nsearch {ZONE}\noptions timeout:2 attempts:5\n");
    let (v4, v6) = (plan.addresses.called.v4, plan.addresses.called.v6);
    let name = &plan.name;
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{v4} {name}\n{v6} {name}\n"
    );
    for (file, text) in [
        ("resolv.conf", resolv.as_str()),
        ("nsswitch.conf", NSSWITCH),
        ("hosts", hosts.as_str()),
        ("hostname", &format!("{name}\n")),
    ] {
        let path = dir.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

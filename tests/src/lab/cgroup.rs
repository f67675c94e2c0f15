//! The cgroup of a lab host: the one thing that the kernel does not remove with its namespaces.

use super::until;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How the directories of lab hosts begin; the owner's process follows.
const PREFIX: &str = "margay-lab-";

/// How long killed processes may take to leave their cgroups.
const EMPTY_MAX: Duration = Duration::from_secs(5);

/// Distinguishes the hosts of one process.
static HOSTS: AtomicU32 = AtomicU32::new(0);

/// A directory of the cgroup2 file system, removed with all below it when dropped.
pub(super) struct Cgroup {
    /// Where the cgroup2 file system is mounted.
    pub(super) mount: PathBuf,
    /// The directory.
    pub(super) path: PathBuf,
}

impl Cgroup {
    /// Makes one, and removes those whose owner was killed.
    pub(super) fn new() -> Result<Cgroup> {
        let mount = mount_point()?;
        sweep(&mount);
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let path = mount.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Cgroup { mount, path })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let removed = until("the cgroup is empty", EMPTY_MAX, || {
            Ok(remove(&self.path).is_ok().then_some(()))
        });
        if let Err(error) = removed {
            eprintln!("{} stays behind: {error}", self.path.display());
        }
    }
}

/// Where the cgroup2 file system is mounted: `/sys/fs/cgroup`, or below it beside version 1.
fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    });
    found.context("no cgroup2 file system is mounted; try: mount -t cgroup2 none /sys/fs/cgroup")
}

/// Removes what hosts left behind whose owner did not live to do so.
fn sweep(mount: &Path) {
    let Ok(entries) = fs::read_dir(mount) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path()).ok();
        }
    }
}

/// Removes a cgroup and those below it; cgroups hold no other directories.
fn remove(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

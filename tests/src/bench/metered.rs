//! A cgroup that meters the processor time of a program and of all that it forks.

use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A cgroup of its own for one program.
pub struct Metered {
    path: PathBuf,
}

impl Metered {
    /// Makes an empty one.
    pub fn new(name: &str) -> Result<Metered> {
        let path = cgroup_root()?.join(format!("metered-{name}"));
        fs::create_dir(&path).with_context(|| format!("make the cgroup {}", path.display()))?;
        Ok(Metered { path })
    }

    /// Has `command` begin inside, with all that it will fork.
    pub fn confine(&self, command: &mut Command) -> Result<()> {
        let members = self.path.join("cgroup.procs");
        let members = fs::OpenOptions::new()
            .write(true)
            .open(&members)
            .with_context(|| format!("open {}", members.display()))?;
        // SAFETY: between fork and exec only one write to an open descriptor is made.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::write(&members, b"0")
                    .map(drop)
                    .map_err(Into::into)
            });
        }
        Ok(())
    }

    /// The processor time that its members, dead ones too, have used so far, user and system.
    pub fn used(&self) -> Result<Duration> {
        let path = self.path.join("cpu.stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let micros = text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
            .with_context(|| format!("find usage_usec in {}", path.display()))?;
        Ok(Duration::from_micros(micros))
    }
}

/// Where this namespace's cgroups (version 2) are mounted; the last mount lies on top.
fn cgroup_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let mut places = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    });
    places
        .next_back()
        .context("no cgroup2 file system is mounted: processor time cannot be metered")
}

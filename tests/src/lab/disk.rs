//! What outlives a host that loses its power: its state directory.

use super::namespaces::Namespaces;
use super::state_directory;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;

/// A state directory that is held when its host is gone; its file system lives as long.
pub(super) struct Disk {
    directory: File,
}

impl Disk {
    /// Holds the state directory of a host.
    pub(super) fn hold(namespaces: &Namespaces) -> Result<Disk> {
        let path = namespaces.outside(&state_directory());
        let directory =
            File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Disk { directory })
    }

    /// Copies all of it into the state directory of another host.
    pub(super) fn copy_to(&self, namespaces: &Namespaces) -> Result<()> {
        let (own, fd) = (std::process::id(), self.directory.as_raw_fd());
        let copied = Command::new("cp")
            .args(["--archive", &format!("/proc/{own}/fd/{fd}/.")])
            .arg(namespaces.outside(&state_directory()))
            .output()
            .context("cannot run cp")?;
        let said = String::from_utf8_lossy(&copied.stderr);
        ensure!(copied.status.success(), "cannot copy the state: {said}");
        Ok(())
    }
}

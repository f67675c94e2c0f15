//! The cgroups of instances: killing all of one, and removing it once it is empty.

use margay_core::moment::Moment;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a busy cgroup is left alone before the next try: the kernel lets go of a dead process
/// within milliseconds.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Tries before a cgroup is left to the operator: ten seconds' worth.
const TRIES_MAX: u32 = 500;

/// Kills every process in the cgroup; a cgroup that is gone has none.
pub(super) fn kill(cgroup: &Path) {
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
}

/// Cgroups that could not be removed yet.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    busy: BTreeMap<PathBuf, Busy>,
}

#[derive(Debug)]
struct Busy {
    tries: u32,
    next: Moment,
}

impl Leftovers {
    /// Removes `cgroup`, now or soon, killing what is left in it.
    pub(super) fn remove(&mut self, cgroup: &Path, now: Moment) {
        if is_busy(cgroup) {
            self.busy.insert(
                cgroup.into(),
                Busy {
                    tries: 1,
                    next: now + RETRY_AFTER,
                },
            );
        }
    }

    /// Leaves `cgroup` alone after all: it is in use again.
    pub(super) fn keep(&mut self, cgroup: &Path) {
        self.busy.remove(cgroup);
    }

    /// Tries again those that are due.
    pub(super) fn handle_timeout(&mut self, now: Moment) {
        self.busy.retain(|cgroup, busy| {
            if busy.next > now {
                return true;
            }
            busy.tries += 1;
            busy.next = now + RETRY_AFTER;
            let again = is_busy(cgroup);
            if again && busy.tries > TRIES_MAX {
                super::note(&format!(
                    "the cgroup {} stays busy; left there",
                    cgroup.display()
                ));
                return false;
            }
            again
        });
    }

    /// When the next try is due.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.busy.values().map(|busy| busy.next).min()
    }
}

/// Removes `cgroup`; true if something is still in it.
fn is_busy(cgroup: &Path) -> bool {
    let Err(error) = fs::remove_dir(cgroup) else {
        return false;
    };
    let busy = error.raw_os_error() == Some(Errno::EBUSY as i32);
    if busy {
        kill(cgroup);
    }
    busy
}

//! Where the daemon keeps what on disk.

use anyhow::{Context, Result, bail};
use margay_core::id::InstanceId;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The state directory (survives a reboot) and the run directory (does not).
#[derive(Clone, Debug)]
pub struct Directories {
    /// Journal, logs and the instances' own files.
    pub state: PathBuf,
    /// Sockets and the BPF file system.
    pub run: PathBuf,
}

impl Directories {
    /// The socket on which operators are answered.
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// The socket of the keeper.
    pub fn keeper_socket(&self) -> PathBuf {
        self.run.join("keeper.sock")
    }

    /// Where the kernel's maps and links are pinned.
    pub fn bpf(&self) -> PathBuf {
        self.run.join("bpf")
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        self.state.join("margay.redb")
    }

    /// The private key by which this host is known in its network.
    pub fn host_key(&self) -> PathBuf {
        self.state.join("host.key")
    }

    /// The private key of the host link.
    pub fn link_key(&self) -> PathBuf {
        self.state.join("link.key")
    }

    /// The newest file of the flow log.
    pub fn flow_log(&self) -> PathBuf {
        self.state.join("flows.log")
    }

    /// What belongs to instances, a directory for each.
    pub fn instances(&self) -> PathBuf {
        self.state.join("instances")
    }

    /// Everything that belongs to one instance.
    pub fn instance(&self, instance: InstanceId) -> PathBuf {
        self.instances().join(instance.to_string())
    }

    /// The instance's view of what is special in `/etc`.
    pub fn instance_etc(&self, instance: InstanceId) -> PathBuf {
        self.instance(instance).join("etc")
    }

    /// The instance's own persistent directory.
    pub fn instance_state(&self, instance: InstanceId) -> PathBuf {
        self.instance(instance).join("state")
    }

    /// The instance's newest log file.
    pub fn log(&self, instance: InstanceId) -> PathBuf {
        self.instance(instance).join("log")
    }

    /// Makes both directories and takes them for this process alone.
    pub fn claim(&self) -> Result<Claim> {
        // Instances reach their own files below the state directory through bind mounts only, so
        // nobody but root needs to pass.
        make_private(&self.state)?;
        make_private(&self.run)?;
        Ok(Claim {
            _state: lock(&self.state)?,
            _run: lock(&self.run)?,
        })
    }
}

/// Both directories, held by this process until it ends.
#[derive(Debug)]
pub struct Claim {
    _state: Flock<File>,
    _run: Flock<File>,
}

fn make_private(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))
        .with_context(|| format!("cannot restrict {} to root", dir.display()))
}

fn lock(dir: &Path) -> Result<Flock<File>> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!(
            "another daemon uses {}; stop it first, or give this one directories of its own \
             with --state and --run",
            dir.display()
        ),
        Err((_, errno)) => bail!("cannot lock {}: {errno}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_daemon_on_one_state_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directories {
            state: dir.path().join("s"),
            run: dir.path().join("r1"),
        };
        let second = Directories {
            run: dir.path().join("r2"),
            ..first.clone()
        };
        let claim = first.claim().unwrap();
        let error = second.claim().unwrap_err().to_string();
        assert!(error.contains("another daemon uses"), "{error}");
        drop(claim);
        second.claim().unwrap();
    }
}

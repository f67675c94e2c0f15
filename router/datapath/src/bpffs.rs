//! Mounts the filesystem that keeps maps and programs alive while the daemon is away.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no place to pin maps and programs.
#[derive(Debug, thiserror::Error)]
pub enum BpffsError {
    /// The directory could not be made or looked at.
    #[error("cannot use {} for pinned maps: {source}; give a writable directory", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The mount was refused.
    #[error(
        "cannot mount bpffs at {path}: {source}; run as root, or mount it beforehand with \
         `mount -t bpf bpf {path}`",
        path = dir.display()
    )]
    Mount {
        /// The directory.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Makes sure that a bpffs is mounted at `dir`, which is made if it does not exist.
pub fn ensure_mounted(dir: &Path) -> Result<(), BpffsError> {
    let unusable = |source| BpffsError::Directory {
        dir: dir.to_owned(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(unusable)?;
    if is_bpffs(dir).map_err(unusable)? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), dir, Some("bpf"), flags, Some("mode=0700")).map_err(|errno| {
        BpffsError::Mount {
            dir: dir.to_owned(),
            source: errno.into(),
        }
    })
}

/// Takes the bpffs at `dir` away, unless it was mounted there by someone else or not at all.
pub fn unmount(dir: &Path) -> Result<(), BpffsError> {
    match umount(dir) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(BpffsError::Directory {
            dir: dir.to_owned(),
            source: errno.into(),
        }),
    }
}

/// Says whether `dir` lies on a bpffs.
fn is_bpffs(dir: &Path) -> io::Result<bool> {
    Ok(statfs(dir)?.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};

    /// Runs `body` where mounts are its own.
    fn with_own_mounts(body: impl FnOnce() + Send) {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
                body();
            });
        });
    }

    #[test]
    fn bpffs_is_mounted_once_at_a_directory_that_is_made() {
        with_own_mounts(|| {
            mount(
                Some("own"),
                "/mnt",
                Some("tmpfs"),
                MsFlags::empty(),
                None::<&str>,
            )
            .unwrap();
            let dir = Path::new("/mnt/not/yet/there");

            ensure_mounted(dir).unwrap();
            assert!(is_bpffs(dir).unwrap());
            ensure_mounted(dir).unwrap();

            let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            assert_eq!(
                mounts.matches(" /mnt/not/yet/there ").count(),
                1,
                "{mounts}"
            );
        });
    }

    #[test]
    fn a_file_in_the_way_is_named_in_the_error() {
        let error = ensure_mounted(Path::new("/proc/version/bpf")).unwrap_err();

        assert!(error.to_string().contains("/proc/version/bpf"), "{error}");
    }
}

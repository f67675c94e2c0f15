//! The file tree of an instance: the host's, read-only, with private directories where programs
//! write and none of the host's sockets, devices or control filesystems.
//!
//! ```text
//!   /            the host's, read-only, without setuid and devices
//!   /etc         the host's under the instance's resolv.conf, nsswitch.conf and hosts
//!   /run /tmp .. fresh; hides the sockets of nscd, systemd-resolved, docker, Margay itself
//!   /run/state   the instance's persistent directory
//!   /proc        of its pid namespace
//!   /sys         of its network namespace, read-only; no cgroups, no bpffs
//!   /dev         a handful of harmless devices, its own terminals and shared memory
//! ```

use super::{ConfinementError, Step};
use crate::system::{self, MOUNT_NO_DEVICES, MOUNT_NO_SETUID, MOUNT_READ_ONLY};
use nix::mount::MsFlags;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

/// Where an instance finds its persistent directory.
pub(crate) const STATE_DIRECTORY: &str = "/run/state";

/// Directories that are fresh for each instance, where the host has them. The last two are real
/// directories on some hosts only, and hold nscd's socket and shared caches.
const SCRATCH_DIRECTORIES: [&str; 5] = ["/run", "/tmp", "/var/tmp", "/var/run", "/var/cache/nscd"];

/// The size of each fresh directory, in memory: the temporary files of a busy server fit, and one
/// instance takes a few hundred megabytes of the host at most. Large files belong to the state.
const SCRATCH_OPTIONS: &str = "mode=1777,size=64m,nr_inodes=65536";

/// Devices that harm nobody; programs expect all of them.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What `/dev` links to, beside its devices.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Where the new `/dev` grows before it covers the old one.
const NEW_DEVICES: &str = "/run/.dev";

/// Builds the tree in the caller's own, new mount namespace.
///
/// What is kept of the host is detached first, then all is covered, then the kept is put back: so
/// `state_dir` may lie below a directory that is covered.
pub(crate) fn build(etc_dir: &Path, state_dir: &Path) -> Result<(), ConfinementError> {
    keep_to_ourselves()?;
    let state = detach(state_dir)?;
    system::restrict_mount(state.as_fd(), MOUNT_NO_SETUID | MOUNT_NO_DEVICES)
        .step(|| format!("restrict {}", state_dir.display()))?;
    let devices = DEVICES
        .iter()
        .map(|device| Ok((*device, detach(&Path::new("/dev").join(device))?)))
        .collect::<Result<Vec<_>, ConfinementError>>()?;

    cover_etc(etc_dir)?;
    system::restrict_every_mount(MOUNT_READ_ONLY | MOUNT_NO_SETUID | MOUNT_NO_DEVICES)
        .step(|| "make the host's files read-only".into())?;
    for directory in scratch_directories() {
        mount("tmpfs", &directory, MsFlags::MS_NODEV, SCRATCH_OPTIONS)?;
    }

    make_directory(Path::new(STATE_DIRECTORY), 0o755)?;
    put_back(&state, Path::new(STATE_DIRECTORY))?;
    build_devices(&devices)?;
    mount(
        "proc",
        Path::new("/proc"),
        MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        "",
    )?;
    let read_only = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount("sysfs", Path::new("/sys"), read_only, "")
}

/// From here on, mounts travel neither to the host nor from it.
fn keep_to_ourselves() -> Result<(), ConfinementError> {
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .step(|| "make mounts private".into())
}

/// Lays `etc_dir` over the host's `/etc`: whether the host's resolv.conf is a link, or its
/// nsswitch.conf missing, makes no difference then.
fn cover_etc(etc_dir: &Path) -> Result<(), ConfinementError> {
    // Relative, so that no character of the path can mean something to overlayfs.
    std::env::set_current_dir(etc_dir).step(|| format!("enter {}", etc_dir.display()))?;
    nix::mount::mount(
        Some("margay-etc"),
        "/etc",
        Some("overlay"),
        MsFlags::MS_RDONLY,
        Some("lowerdir=.:/etc"),
    )
    .step(|| format!("lay {} over /etc", etc_dir.display()))?;
    std::env::set_current_dir("/").step(|| "enter /".into())
}

/// The scratch directories of this host, links followed, none twice or inside another.
fn scratch_directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = Vec::new();
    for name in SCRATCH_DIRECTORIES {
        let Ok(directory) = fs::canonicalize(name) else {
            continue;
        };
        let covered = directories.iter().any(|other| directory.starts_with(other));
        if directory.is_dir() && !covered {
            directories.push(directory);
        }
    }
    directories
}

fn build_devices(devices: &[(&str, OwnedFd)]) -> Result<(), ConfinementError> {
    let root = Path::new(NEW_DEVICES);
    make_directory(root, 0o755)?;
    mount(
        "tmpfs",
        root,
        MsFlags::MS_NOEXEC,
        "mode=755,size=64k,nr_inodes=64",
    )?;
    for (name, device) in devices {
        let target = root.join(name);
        File::create(&target).step(|| format!("create {}", target.display()))?;
        put_back(device, &target)?;
    }
    for (target, name) in DEVICE_LINKS {
        symlink(target, root.join(name)).step(|| format!("link /dev/{name}"))?;
    }
    let memory = root.join("shm");
    make_directory(&memory, 0o755)?;
    mount("tmpfs", &memory, MsFlags::MS_NODEV, SCRATCH_OPTIONS)?;
    let terminals = root.join("pts");
    make_directory(&terminals, 0o755)?;
    mount(
        "devpts",
        &terminals,
        MsFlags::MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620",
    )?;
    nix::mount::mount(
        Some(root),
        "/dev",
        None::<&str>,
        MsFlags::MS_MOVE,
        None::<&str>,
    )
    .step(|| "exchange /dev".into())?;
    fs::remove_dir(root).step(|| format!("remove {NEW_DEVICES}"))
}

fn detach(path: &Path) -> Result<OwnedFd, ConfinementError> {
    system::detach_copy(path).step(|| format!("open {}", path.display()))
}

fn put_back(mount: &OwnedFd, target: &Path) -> Result<(), ConfinementError> {
    system::attach(mount.as_fd(), target).step(|| format!("mount on {}", target.display()))
}

/// Mounts a fresh filesystem, never with setuid.
fn mount(kind: &str, target: &Path, flags: MsFlags, options: &str) -> Result<(), ConfinementError> {
    system::mount_fresh(kind, target, flags | MsFlags::MS_NOSUID, options)
        .step(|| format!("mount a fresh {kind} on {}", target.display()))
}

fn make_directory(path: &Path, mode: u32) -> Result<(), ConfinementError> {
    fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .step(|| format!("create {}", path.display()))
}

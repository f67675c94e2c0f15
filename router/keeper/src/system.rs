//! The system calls that nix does not offer, each behind one safe function.

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::unistd::Pid;
use std::ffi::CString;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `open_tree`: a detached copy of the mount (linux/mount.h).
const OPEN_TREE_CLONE: libc::c_uint = 1;
/// `move_mount`: the source is the descriptor itself (linux/mount.h).
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
/// `mount_setattr` attributes (linux/mount.h).
pub(crate) const MOUNT_READ_ONLY: u64 = 0x1;
/// See [`MOUNT_READ_ONLY`].
pub(crate) const MOUNT_NO_SETUID: u64 = 0x2;
/// See [`MOUNT_READ_ONLY`].
pub(crate) const MOUNT_NO_DEVICES: u64 = 0x4;
/// `capset`'s interface with 64 capabilities (linux/capability.h).
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING)` (linux/keyctl.h).
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
/// `ioctl(SIOCOUTQ)`: bytes sent and not yet read (linux/sockios.h).
const SIOCOUTQ: libc::c_ulong = 0x5411;
/// The kernel's highest signal number.
const SIGNAL_MAX: libc::c_int = 64;

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Turns a raw system call's answer into a result.
fn checked(answer: libc::c_long) -> Result<libc::c_long, Errno> {
    Errno::result(answer)
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

/// Takes ownership of a descriptor that the kernel has just made.
fn owned(answer: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(answer).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel returned this descriptor to us alone in the call before.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What [`clone_process`] made.
pub(crate) enum Cloned {
    /// This is the new process.
    Child,
    /// This is the parent; the descriptor becomes readable when the child has ended.
    Parent { child: Pid, pidfd: OwnedFd },
}

/// Forks into the new namespaces named by `flags` (`CLONE_NEW*`).
///
/// Only for a process of one thread: the C library is not told of this fork (clone3(2)).
pub(crate) fn clone_process(flags: libc::c_int) -> Result<Cloned, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid `clone_args` (no flags, no pointers).
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from((flags | libc::CLONE_PIDFD).cast_unsigned());
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: without CLONE_VM this is a fork; `arguments` and `pidfd` outlive the call, and the
    // caller has one thread, so the child finds every lock of this process free.
    let answer = checked(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    })?;
    match i32::try_from(answer).map_err(|_| Errno::EOVERFLOW)? {
        0 => Ok(Cloned::Child),
        child => Ok(Cloned::Parent {
            child: Pid::from_raw(child),
            pidfd: owned(pidfd.into())?,
        }),
    }
}

/// Opens a descriptor of the process `pid`.
pub(crate) fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed.
    owned(checked(unsafe {
        libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0)
    })?)
}

/// Sends `signal` to the process of `pidfd`; no other process can ever receive it.
pub(crate) fn pidfd_send_signal(
    pidfd: BorrowedFd<'_>,
    signal: nix::sys::signal::Signal,
) -> Result<(), Errno> {
    // SAFETY: the siginfo pointer is null, which asks for the kernel's default.
    checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// Takes a detached copy of the mount at `path`: a directory, or a single file.
pub(crate) fn detach_copy(path: &Path) -> Result<OwnedFd, Errno> {
    let path = c_path(path)?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: `path` is a C string that outlives the call.
    owned(checked(unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags)
    })?)
}

/// Attaches a detached mount at `target`.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: &Path) -> Result<(), Errno> {
    let target = c_path(target)?;
    // SAFETY: both paths are C strings that outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Adds `attributes` to one detached mount.
pub(crate) fn restrict_mount(mount: BorrowedFd<'_>, attributes: u64) -> Result<(), Errno> {
    mount_setattr(mount.as_raw_fd(), c"", libc::AT_EMPTY_PATH, attributes)
}

/// Adds `attributes` to every mount of this mount namespace.
pub(crate) fn restrict_every_mount(attributes: u64) -> Result<(), Errno> {
    mount_setattr(libc::AT_FDCWD, c"/", libc::AT_RECURSIVE, attributes)
}

fn mount_setattr(
    base: RawFd,
    path: &std::ffi::CStr,
    flags: libc::c_int,
    set: u64,
) -> Result<(), Errno> {
    let attributes = MountAttributes {
        set,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: `path` and `attributes` outlive the call and have the kernel's layout.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            base,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })
    .map(drop)
}

/// Mounts a fresh filesystem of `kind` at `target`.
pub(crate) fn mount_fresh(
    kind: &str,
    target: &Path,
    flags: MsFlags,
    options: &str,
) -> Result<(), Errno> {
    nix::mount::mount(Some(kind), target, Some(kind), flags, Some(options))
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: RawFd) -> Result<(), Errno> {
    // SAFETY: the callers are freshly forked processes that own no Rust value with a descriptor
    // in this range which they will use or drop again.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }).map(drop)
}

/// Leaves only stdin, stdout, stderr and `report` (moved to descriptor 3, closed on exec) open.
pub(crate) fn keep_only_stdio_and(report: OwnedFd) -> Result<OwnedFd, Errno> {
    const REPORT: RawFd = 3;
    let report = std::mem::ManuallyDrop::new(report);
    if report.as_raw_fd() == REPORT {
        close_from(REPORT + 1)?;
        return owned(REPORT.into());
    }
    // SAFETY: dup3 passes no memory; whatever descriptor 3 was, its owner never runs again in
    // this freshly forked process.
    checked(unsafe { libc::syscall(libc::SYS_dup3, report.as_raw_fd(), REPORT, libc::O_CLOEXEC) })?;
    close_from(REPORT + 1)?;
    owned(REPORT.into())
}

/// Waits for any signal that is blocked, and takes it.
pub(crate) fn take_signal() -> Result<libc::c_int, Errno> {
    // SAFETY: `signals` is filled by sigfillset before use; the info pointer may be null.
    let signal = unsafe {
        let mut signals = std::mem::zeroed();
        libc::sigfillset(&raw mut signals);
        libc::sigwaitinfo(&raw const signals, std::ptr::null_mut())
    };
    Errno::result(signal)
}

/// Sends the signal of this number to `pid`.
pub(crate) fn send_signal(pid: Pid, signal: libc::c_int) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}

/// Gives every signal its default disposition again and blocks none.
pub(crate) fn reset_signals() -> Result<(), Errno> {
    // The kernel's `struct sigaction` is at most this long; all-zero means SIG_DFL and no flags.
    let default = [0_u64; 4];
    let set_bytes = SIGNAL_MAX.cast_unsigned() / u8::BITS;
    for signal in 1..=SIGNAL_MAX {
        // Past the C library, which keeps signals 32 and 33 to itself, even if they came ignored.
        // SAFETY: SIG_DFL installs no code, and `default` outlives the call. SIGKILL and SIGSTOP
        // refuse, and need no reset.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                libc::c_ulong::from(set_bytes),
            )
        };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()
}

/// Drops every capability for good: bounding, ambient, inheritable, effective and permitted.
///
/// Call [`forbid_capabilities`] before the user changes and this one after.
pub(crate) fn drop_capabilities() -> Result<(), Errno> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    let header = Header {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    // Two sets of effective, permitted and inheritable, 32 capabilities each.
    let none = [0_u32; 6];
    // SAFETY: both have the layout of capset(2), version 3, and outlive the call.
    checked(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) }).map(drop)
}

/// Empties the bounding and ambient sets and locks the secure bits, so that no user id, not even
/// 0, and no file gives a capability back.
pub(crate) fn forbid_capabilities() -> Result<(), Errno> {
    for capability in 0.. {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(()) => {}
            // Past the last capability that this kernel knows.
            Err(Errno::EINVAL) if capability > 0 => break,
            Err(error) => return Err(error),
        }
    }
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned().into(),
    )?;
    let bits =
        libc::SECBIT_NOROOT | libc::SECBIT_NO_SETUID_FIXUP | libc::SECBIT_NO_CAP_AMBIENT_RAISE;
    // Each bit's lock is the bit above it (linux/securebits.h).
    let locked = bits | bits << 1 | libc::SECBIT_KEEP_CAPS_LOCKED;
    prctl(libc::PR_SET_SECUREBITS, locked.cast_unsigned().into())
}

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> Result<(), Errno> {
    const UNUSED: libc::c_ulong = 0;
    // SAFETY: the options used here take numbers only.
    Errno::result(unsafe { libc::prctl(option, argument, UNUSED, UNUSED, UNUSED) }).map(drop)
}

/// Leaves the session keyring of the parent, whose keys would else be possessed by the child.
pub(crate) fn join_new_keyring() -> Result<(), Errno> {
    // SAFETY: a null name asks for an anonymous keyring.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    match checked(answer) {
        // A kernel built without keyrings has none to leak.
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Bytes that were sent on `socket` and not yet read by its peer, with the kernel's overhead.
pub(crate) fn unread_bytes(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut unread: libc::c_int = 0;
    // SAFETY: SIOCOUTQ stores one int, which outlives the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCOUTQ, &raw mut unread) };
    Errno::result(answer)?;
    usize::try_from(unread).map_err(|_| Errno::EOVERFLOW)
}

//! What an instance may do: no capability, no way to gain one, bounded resources.

use super::{ConfinementError, Step, User};
use crate::system;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{setgroups, setresgid, setresuid};

/// Processes and threads of one user: a thousand worker threads of a large server, four times
/// over, and a fork bomb that the host hardly feels.
const PROCESSES_MAX: u64 = 4096;

/// Descriptors of one process: what servers of many connections ask for; a soft limit below it
/// only makes them fail later.
const DESCRIPTORS_MAX: u64 = 65_536;

/// Bounds what one process of an instance may take, as long as it may still be told so.
pub(crate) fn lower_limits() -> Result<(), ConfinementError> {
    let limits = [
        (Resource::RLIMIT_NPROC, PROCESSES_MAX),
        (Resource::RLIMIT_NOFILE, DESCRIPTORS_MAX),
        // A core file would land in the state directory and fill it.
        (Resource::RLIMIT_CORE, 0),
    ];
    for (resource, limit) in limits {
        // Only a privileged keeper may grant more than its own hard limit.
        if setrlimit(resource, limit, limit).is_err() {
            let (_, hard) = getrlimit(resource).step(|| format!("read {resource:?}"))?;
            let limit = limit.min(hard);
            setrlimit(resource, limit, limit).step(|| format!("limit {resource:?}"))?;
        }
    }
    Ok(())
}

/// Becomes `user` for good: no groups, no capabilities, and nothing that could give one back.
pub(crate) fn renounce(user: User) -> Result<(), ConfinementError> {
    umask(Mode::from_bits_truncate(0o022));
    system::join_new_keyring().step(|| "leave the host's keyring".into())?;
    system::forbid_capabilities().step(|| "drop the bounding set".into())?;
    setgroups(&[]).step(|| "leave all groups".into())?;
    setresgid(user.gid, user.gid, user.gid).step(|| format!("become group {}", user.gid))?;
    setresuid(user.uid, user.uid, user.uid).step(|| format!("become user {}", user.uid))?;
    system::drop_capabilities().step(|| "drop all capabilities".into())?;
    prctl::set_no_new_privs().step(|| "renounce new privileges".into())?;
    // Until it executes another program, nobody of the same user may look into this process.
    prctl::set_dumpable(false).step(|| "hide from debuggers".into())
}

//! What an instance sees of the host, and what it may do: one definition for its program and for
//! commands that join it later.

mod filesystem;
mod privileges;
mod user;

pub(crate) use filesystem::{STATE_DIRECTORY, build as build_filesystem};
pub(crate) use privileges::{lower_limits, renounce as renounce_privileges};
pub use user::DEFAULT_USER_BASE;
pub(crate) use user::User;

use nix::errno::Errno;
use thiserror::Error;

/// The step of confinement that failed.
#[derive(Debug, Error)]
pub(crate) enum ConfinementError {
    /// The kernel refused.
    #[error("cannot {step}: {}", source.desc())]
    Kernel { step: String, source: Errno },
    /// No program may run as this user.
    #[error("{0}")]
    User(String),
}

/// Names the step that an error interrupted.
pub(crate) trait Step<T> {
    /// Says which step failed, as what follows "cannot".
    fn step(self, step: impl FnOnce() -> String) -> Result<T, ConfinementError>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, ConfinementError> {
        self.map_err(|source| ConfinementError::Kernel {
            step: step(),
            source,
        })
    }
}

impl<T> Step<T> for std::io::Result<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, ConfinementError> {
        self.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            .step(step)
    }
}

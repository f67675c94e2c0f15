//! Outlives the daemon: parents instances and holds what must not die with it.
//!
//! The binary `margay-keeper` is [`keeper`]: one thread, one `poll` loop. The daemon speaks to it
//! through [`client`]; `margay exec` joins an instance through [`exec`].
//!
//! ```text
//!   daemon ── SOCK_SEQPACKET, SCM_RIGHTS ──► margay-keeper ── clone3 ──► init (pid 1) ──► program
//!   (may die at any time)                    held descriptors            own net, mount, pid, ipc,
//!                                            restarts, log pipes         uts and cgroup namespaces
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that panics has failed, as it should"
    )
)]

pub mod client;
mod confinement;
pub mod exec;
pub mod keeper;
pub mod launch;
pub mod message;
mod program;
mod system;
mod wire;

pub use client::{EventStream, KeeperClient, KeeperError};
pub use exec::{ExecError, InstanceTarget, exec_in_instance};
pub use launch::KeeperLaunch;
pub use message::{
    Event, InstanceState, InstanceStatus, KeeperInfo, ProcessSpec, Started, namespace_name,
};

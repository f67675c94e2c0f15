//! The messages between the keeper and its clients, and their bounds.
//!
//! Each message is one JSON value in one packet. Fields that a reader does not know are ignored and
//! new fields must have a default, so that keepers and clients of adjacent versions work together.

use margay_core::echo::EchoSecret;
use margay_core::id::InstanceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The largest message: a command and environment of a generous size, yet below the kernel's
/// default socket buffer (212,992 bytes), so that a message can always be sent whole.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// The most descriptors under one held name; the kernel allows 253 in a message (`SCM_MAX_FD`).
pub const DESCRIPTORS_PER_NAME_MAX: usize = 64;

/// The longest name of held descriptors: `dns/12345/udp6` and alike, with room to spare.
pub const NAME_BYTES_MAX: usize = 128;

/// Entries in one answer to a listing: 256 of the longest entries stay below
/// [`MESSAGE_BYTES_MAX`]; the client asks on from the last one.
pub(crate) const PAGE_ENTRIES: usize = 256;

/// The longest name of an instance: what the kernel takes as a host name.
pub const INSTANCE_NAME_BYTES_MAX: usize = 64;

/// A program as the keeper starts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Whose program this is; its network namespace is held as `netns/ID`.
    pub instance: InstanceId,
    /// The instance's name, `2.web`; its host name too.
    pub name: String,
    /// Program and arguments; the program is searched in `PATH`.
    pub command: Vec<String>,
    /// Environment beyond `PATH`, `HOME` and `STATE_DIRECTORY`, or instead of them.
    pub environment: BTreeMap<String, String>,
    /// The user to run as; `None`: an unprivileged one of its own, see
    /// [`crate::exec::DEFAULT_USER_BASE`].
    pub user: Option<String>,
    /// The directory of `resolv.conf`, `nsswitch.conf` and `hosts` that covers the host's `/etc`.
    pub etc_dir: PathBuf,
    /// The instance's persistent directory, seen by it as `/run/state`.
    pub state_dir: PathBuf,
    /// The cgroup (version 2) to create for it.
    pub cgroup: PathBuf,
    /// Whether it is started again when it ends by itself.
    pub restart: bool,
}

/// What the keeper says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperInfo {
    /// The version of its binary.
    pub version: String,
    /// Its process id, which an upgrade does not change.
    pub pid: u32,
}

/// A program that was started.
#[derive(Debug)]
pub struct Started {
    /// The process id of the instance's init, as the keeper sees it.
    pub init_pid: i32,
    /// The non-blocking read end of the pipe that carries stdout and stderr.
    pub log: OwnedFd,
}

/// How an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Its program runs (or is being ended).
    Running,
    /// Its program ended and will be started again.
    Backoff,
    /// Its program ended and stays so.
    Stopped,
}

/// One line of [`crate::KeeperClient::list`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// The instance.
    pub instance: InstanceId,
    /// Its name.
    pub name: String,
    /// The process id of its init while it runs.
    pub init_pid: Option<i32>,
    /// How often its program was started again.
    pub restarts: u32,
    /// How it is.
    pub state: InstanceState,
}

/// What happened to an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Its program was started, for the first time or again.
    Started {
        /// The instance.
        instance: InstanceId,
        /// The process id of its init.
        init_pid: i32,
    },
    /// Its program ended by itself, or could not be run.
    Exited {
        /// The instance.
        instance: InstanceId,
        /// How it ended, for people.
        status: String,
        /// When it is started again; `None`: it is not.
        restart_after_ms: Option<u64>,
    },
    /// It was stopped as asked; none of its processes is left.
    Stopped {
        /// The instance.
        instance: InstanceId,
    },
}

/// What a client asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Hello {},
    Hold { name: String },
    Fetch { name: String },
    Release { name: String },
    Held { after: Option<String> },
    CreateNamespace { instance: InstanceId },
    Start(ProcessSpec),
    Stop { instance: InstanceId, grace_ms: u64 },
    Kill { instance: InstanceId },
    Remove { instance: InstanceId },
    List { after: Option<InstanceId> },
    Upgrade { binary: PathBuf },
    Shutdown {},
    Subscribe {},
    AnswerEchoes { port: u16 },
}

/// The keeper's answer to one [`Request`]; descriptors travel beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Done {},
    Info(KeeperInfo),
    Missing {},
    Names { names: Vec<String> },
    Started { init_pid: i32 },
    Instances { instances: Vec<InstanceStatus> },
    Echoes { secret: EchoSecret },
    Refused { reason: String },
}

/// What a subscriber receives after the [`Reply`] to its subscription.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Notice {
    Event(Event),
    /// The last notice on this connection.
    Dropped {
        reason: String,
    },
}

/// The name under which an instance's network namespace is held.
pub fn namespace_name(instance: InstanceId) -> String {
    format!("netns/{instance}")
}

/// The name under which the read end of an instance's log pipe is held.
pub fn log_name(instance: InstanceId) -> String {
    format!("log/{instance}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_newer_version_are_ignored() {
        let request = r#"{"stop":{"instance":3,"grace_ms":10,"politely":true}}"#;

        let parsed: Request = serde_json::from_str(request).unwrap();

        assert!(matches!(
            parsed,
            Request::Stop {
                instance: InstanceId(3),
                grace_ms: 10
            }
        ));
    }

    #[test]
    fn hello_may_grow_fields() {
        let request = r#"{"hello":{"version":"9.9.9"}}"#;

        assert!(matches!(
            serde_json::from_str(request).unwrap(),
            Request::Hello {}
        ));
    }

    #[test]
    fn a_full_page_of_the_longest_entries_fits_a_message() {
        let status = InstanceStatus {
            instance: InstanceId(u64::MAX),
            name: "\u{1}".repeat(INSTANCE_NAME_BYTES_MAX),
            init_pid: Some(i32::MAX),
            restarts: u32::MAX,
            state: InstanceState::Running,
        };
        let instances = Reply::Instances {
            instances: vec![status; PAGE_ENTRIES],
        };
        let names = Reply::Names {
            names: vec!["x".repeat(NAME_BYTES_MAX); PAGE_ENTRIES],
        };

        for page in [instances, names] {
            assert!(serde_json::to_vec(&page).unwrap().len() <= MESSAGE_BYTES_MAX);
        }
    }
}

//! Starts a keeper that outlives its starter.

use crate::client::{KeeperError, wait_readable};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest wait for a keeper that starts: it has only a socket to bind, on a host that may be
/// busy starting everything else.
const START_WAIT_MAX: Duration = Duration::from_secs(10);

/// The most that is read of what a failing keeper says.
const COMPLAINT_BYTES_MAX: usize = 4096;

/// How to start a keeper where none runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperLaunch {
    /// The `margay-keeper` binary.
    pub binary: PathBuf,
    /// Where it writes `keeper.log`; created if it is not there.
    pub state_dir: PathBuf,
}

/// Starts a keeper that listens at `socket`; it leaves this process's session and stays in its
/// cgroup.
pub(crate) fn launch(socket: &Path, launch: &KeeperLaunch) -> Result<(), KeeperError> {
    let failed = |reason: String| KeeperError::NotStarted {
        binary: launch.binary.clone(),
        reason,
    };
    std::fs::create_dir_all(&launch.state_dir).map_err(|error| {
        failed(format!(
            "cannot create {}: {error}",
            launch.state_dir.display()
        ))
    })?;
    let mut starter = Command::new(&launch.binary)
        .arg("--socket")
        .arg(socket)
        .arg("--log")
        .arg(launch.state_dir.join("keeper.log"))
        .arg("--detach")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    // The pipe ends when the keeper listens and has exchanged its stderr for the log, or has failed.
    let complaint = read_to_end(&mut starter, &failed)?;
    let status = starter.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(format!("{} ({status})", complaint.trim())))
}

/// Reads what the starting keeper says; kills it when it neither listens nor fails in time.
fn read_to_end(
    starter: &mut Child,
    failed: &impl Fn(String) -> KeeperError,
) -> Result<String, KeeperError> {
    let mut complaint = Vec::new();
    let Some(mut stderr) = starter.stderr.take() else {
        return Ok(String::new());
    };
    let deadline = Instant::now() + START_WAIT_MAX;
    while wait_readable(
        stderr.as_fd(),
        Some(deadline.saturating_duration_since(Instant::now())),
    )? {
        let mut part = [0; 512];
        let length = stderr
            .read(&mut part)
            .map_err(|error| failed(error.to_string()))?;
        complaint.extend_from_slice(&part[..length]);
        if length == 0 || complaint.len() > COMPLAINT_BYTES_MAX {
            return Ok(String::from_utf8_lossy(&complaint).into_owned());
        }
    }
    let _ = starter.kill();
    let _ = starter.wait();
    Err(failed(format!(
        "it did not listen within {START_WAIT_MAX:?}"
    )))
}

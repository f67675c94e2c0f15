//! A daemon's control socket, without a process of the command line in between.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A composition that was sent and may not be applied yet.
pub struct Application(UnixStream);

impl Application {
    /// Sends a composition to the daemon whose control socket this is.
    pub fn send(control: &Path, composition: &str) -> Result<Application> {
        let request = json!({"apply": {"file": "bench.toml", "text": composition}});
        let mut stream = UnixStream::connect(control).context("reach the control socket")?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        Ok(Application(stream))
    }

    /// Waits for the daemon's answer, which must be that it was applied.
    pub fn finish(self) -> Result<()> {
        let mut answer = String::new();
        BufReader::new(self.0).read_line(&mut answer)?;
        ensure!(
            answer.starts_with("{\"ok\""),
            "it was not applied: {answer}"
        );
        Ok(())
    }
}

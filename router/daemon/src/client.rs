//! Speaks to the daemon for the command line.

use crate::protocol::{Request, Response};
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Asks the daemon whose run directory is `run`.
pub fn ask(run: &Path, request: &Request) -> Result<Value> {
    let answer = Conversation::open(run, request)?.next()?;
    answer.context("the daemon went away before it answered")
}

/// Asks for something of a known shape.
pub fn ask_for<T: DeserializeOwned>(run: &Path, request: &Request) -> Result<T> {
    serde_json::from_value(ask(run, request)?)
        .context("the daemon's answer has another shape; are daemon and command of one version?")
}

/// A request whose answers are read one by one.
pub struct Conversation(BufReader<UnixStream>);

impl Conversation {
    /// Asks the daemon whose run directory is `run`.
    pub fn open(run: &Path, request: &Request) -> Result<Conversation> {
        let socket = run.join("control.sock");
        let mut stream = UnixStream::connect(&socket).map_err(|error| {
            let at = socket.display();
            let hint = match error.kind() {
                ErrorKind::PermissionDenied => format!("only root may speak to the daemon on {at}"),
                _ => format!(
                    "no daemon answers on {at}; start one with `margay up`, or say where it is \
                     with --run"
                ),
            };
            anyhow::Error::new(error).context(hint)
        })?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).context("the daemon hung up")?;
        Ok(Conversation(BufReader::new(stream)))
    }

    /// The next answer; `None` once the daemon has hung up.
    pub fn next(&mut self) -> Result<Option<Value>> {
        let mut answer = String::new();
        let read = self.0.read_line(&mut answer);
        if read.context("the daemon hung up")? == 0 {
            return Ok(None);
        }
        match serde_json::from_str(&answer).context("the daemon went away while it answered")? {
            Response::Ok(value) => Ok(Some(value)),
            Response::Error(error) => bail!(error),
        }
    }
}

//! Speaks to the daemon for the command line.

use crate::protocol::{Request, Response};
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Asks the daemon whose run directory is `run`.
pub fn ask(run: &Path, request: &Request) -> Result<Value> {
    let socket = run.join("control.sock");
    let mut stream = UnixStream::connect(&socket).with_context(|| {
        format!(
            "no daemon answers on {}; start one with `margay up`, or say where it is with --run",
            socket.display()
        )
    })?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).context("the daemon hung up")?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .context("the daemon hung up")?;
    match serde_json::from_str(&answer).context("the daemon went away before it answered")? {
        Response::Ok(value) => Ok(value),
        Response::Error(error) => bail!(error),
    }
}

/// Asks for something of a known shape.
pub fn ask_for<T: DeserializeOwned>(run: &Path, request: &Request) -> Result<T> {
    serde_json::from_value(ask(run, request)?)
        .context("the daemon's answer has another shape; are daemon and command of one version?")
}

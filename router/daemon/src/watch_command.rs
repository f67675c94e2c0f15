//! `margay flows --watch`: prints what happens to flows as it happens, until it is interrupted.

use crate::client::Conversation;
use crate::flow_line::FlowLine;
use crate::protocol::Request;
use anyhow::Result;
use std::io::{ErrorKind, Write, stdout};
use std::path::Path;

/// Prints a line for each event, as JSON or for people.
pub fn print(run: &Path, json: bool) -> Result<()> {
    let mut conversation = Conversation::open(run, &Request::Watch)?;
    while let Some(value) = conversation.next()? {
        let line = match json {
            true => value.to_string(),
            false => serde_json::from_value::<FlowLine>(value)?.to_string(),
        };
        match writeln!(stdout(), "{line}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    eprintln!("margay: the daemon went away");
    Ok(())
}

//! `margay network create` and `margay join`: the daemon starts again as somebody else.

use crate::client::{ask, ask_for};
use crate::hosts::make_secret_file;
use crate::protocol::{MemberRow, Request};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long the daemon may take to start again.
const START_MAX: Duration = Duration::from_secs(30);

/// How often that is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Founds a network whose root key is written to `root`.
pub fn create(run: &Path, root: &Path, name: String, site: String, json: bool) -> Result<()> {
    // Whoever cannot found one should hear why before a key lies about.
    ask(run, &Request::Status)?;
    if ask(run, &Request::Members).is_ok() {
        bail!("this host belongs to a network already; `margay members` shows it");
    }
    let key = make_secret_file(root)?;
    let request = Request::Found {
        root: key,
        name,
        site,
    };
    let said: String = match ask_for(run, &request) {
        Ok(said) => said,
        Err(error) => {
            // Nothing was founded by this key.
            fs::remove_file(root).with_context(|| format!("cannot remove {}", root.display()))?;
            return Err(error);
        }
    };
    say(&said, run, json)?;
    let root = root.display();
    eprintln!(
        "the root key is in {root}: move it to where no host is, for whoever has it rules the \
         network, and nobody can make another"
    );
    Ok(())
}

/// Joins the network of a token.
pub fn join(run: &Path, token: String, name: String, json: bool) -> Result<()> {
    let said: String = ask_for(run, &Request::Join { token, name })?;
    say(&said, run, json)
}

/// Says what was done, once the daemon is back.
fn say(said: &str, run: &Path, json: bool) -> Result<()> {
    let asked = Instant::now();
    let members = loop {
        match ask(run, &Request::Members) {
            Ok(members) => break members,
            Err(_) if asked.elapsed() < START_MAX => thread::sleep(LOOK_AGAIN),
            Err(error) => return Err(error).context("the daemon did not start again"),
        }
    };
    if json {
        println!("{members}");
        return Ok(());
    }
    let members: Vec<MemberRow> = serde_json::from_value(members)?;
    if !members.iter().any(|member| member.link == "self") {
        bail!("the daemon does not know its own host; `margay members` shows whom it knows");
    }
    println!("{said}");
    Ok(())
}

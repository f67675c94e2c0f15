//! The verbs by which a person plays with a lab: one a line.

use super::Lab;
use anyhow::Result;
use clap::{Parser, ValueEnum};
use std::net::IpAddr;
use std::time::Duration;

/// What a line can ask for.
#[derive(Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    help_template = "{subcommands}"
)]
enum Verb {
    /// Lose all that a link carries, or one way of it only
    Cut { link: String, way: Option<Way> },
    /// Undo every cut of a link
    Heal { link: String },
    /// Lose what two hosts send to each other, and nothing else
    Part { one: String, other: String },
    /// Undo a part
    Join { one: String, other: String },
    /// Let a link take a time each way: 20ms
    Slow {
        link: String,
        #[arg(value_parser = humantime::parse_duration)]
        latency: Duration,
    },
    /// Lose a part of a link's frames: 0.1
    Drop { link: String, part: f64 },
    /// Let a part of a link's frames come twice
    Duplicate { link: String, part: f64 },
    /// Let a part of a link's frames be overtaken
    Reorder { link: String, part: f64 },
    /// Tell what a link's wire did so far
    Tally { link: String },
    /// Replace a host's address of the same segment and family
    Address { host: String, new: IpAddr },
    /// Start a host's daemon
    Start { host: String },
    /// End a host's daemon as an upgrade does
    Stop { host: String },
    /// Kill a host's daemon
    Crash { host: String },
    /// End everything in a host at once
    Kill { host: String },
    /// Make a killed host anew, with its state, and start its daemon
    Boot { host: String },
    /// Have a host found a network and all others join it, each in its site
    Network { founder: String },
    /// Show hosts, routers and links again
    Show,
    /// End all of it
    Quit,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// What the node sends.
    Outwards,
    /// What is sent to the node.
    Inwards,
}

/// Does what a line asks for and returns what there is to tell.
pub fn command(lab: &mut Lab, line: &str) -> Result<String> {
    let words = line.split_whitespace();
    match Verb::try_parse_from(words) {
        Ok(verb) => verb.run(lab),
        Err(error) => Ok(error.render().to_string()),
    }
}

impl Verb {
    fn run(self, lab: &mut Lab) -> Result<String> {
        match self {
            Verb::Cut { link, way } => {
                let link = lab.find_link(&link)?;
                match way {
                    None => link.cut()?,
                    Some(Way::Outwards) => link.cut_outwards()?,
                    Some(Way::Inwards) => link.cut_inwards()?,
                }
            }
            Verb::Heal { link } => lab.find_link(&link)?.heal()?,
            Verb::Part { one, other } => lab.part(&one, &other)?,
            Verb::Join { one, other } => lab.join(&one, &other)?,
            Verb::Slow { link, latency } => lab.find_link(&link)?.slow(latency)?,
            Verb::Drop { link, part } => lab.find_link(&link)?.drop(part)?,
            Verb::Duplicate { link, part } => lab.find_link(&link)?.duplicate(part)?,
            Verb::Reorder { link, part } => lab.find_link(&link)?.reorder(part)?,
            Verb::Tally { link } => {
                let tally = lab.find_link(&link)?.tally()?;
                return Ok(format!("{}\n", serde_json::to_string(&tally)?));
            }
            Verb::Address { host, new } => lab.change_address(&host, new)?,
            Verb::Start { host } => lab.start_daemon(&host)?,
            Verb::Stop { host } => lab.find_host(&host)?.stop_daemon()?,
            Verb::Crash { host } => lab.find_host(&host)?.kill_daemon_unasked()?,
            Verb::Kill { host } => lab.kill_host(&host)?,
            Verb::Boot { host } => {
                lab.boot_host(&host)?;
                lab.start_daemon(&host)?;
            }
            Verb::Network { founder } => lab.join_running(&founder)?,
            Verb::Show => return Ok(lab.describe()?.to_string()),
            Verb::Quit => return Ok(String::new()),
        }
        Ok("done\n".to_owned())
    }
}

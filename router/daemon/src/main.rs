//! The `margay` command: the daemon (`margay up`) and everything an operator says to it.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that panics has failed, as it should"
    )
)]

mod adoption;
mod cli;
mod client;
mod control;
mod decisions;
mod directories;
mod down;
mod drain;
mod drain_command;
mod explain;
mod flow_line;
mod flow_log;
mod flow_watch;
mod flows_command;
mod host_resolver;
mod hosts;
mod instance_etc;
mod journal;
mod keeper_events;
mod leftovers;
mod logs;
mod logs_command;
mod manual;
mod metrics;
mod network_commands;
mod networks;
mod probe;
mod processors;
mod protocol;
mod render;
mod reserve;
mod resolve;
mod router_thread;
mod schema;
mod supervisor;
mod up;
mod watch_command;
mod worker;
mod world;

use anyhow::{Context, Result, bail};
use clap::Parser;
use cli::{Cli, Command, NetworkCommand};
use client::{ask, ask_for};
use directories::Directories;
use margay_core::explanation::Explanation;
use protocol::{InstanceRow, Invitation, Request, Target};
use serde_json::Value;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use up::Ending;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("margay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let run = cli.run.as_path();
    match cli.command {
        Command::Up { state, options } => {
            log_to_stderr();
            let run = run.to_owned();
            match up::run(Directories { state, run }, options)? {
                Ending::Over => {}
                Ending::Again => return Err(start_again()),
            }
        }
        Command::Network {
            command: NetworkCommand::Create { root, name, site },
        } => network_commands::create(run, &root, name, site, cli.json)?,
        Command::Join { token, name } => network_commands::join(run, token, name, cli.json)?,
        Command::Completions { shell } => manual::completions(shell)?,
        Command::Man { directory } => manual::pages(directory.as_deref())?,
        Command::Flows { watch: true } => watch_command::print(run, cli.json)?,
        Command::Flows { watch: false } => flows_command::print(run, cli.json)?,
        Command::Exec { instance, command } => return exec(run, instance, &command),
        Command::Logs {
            instance,
            follow,
            lines,
        } => {
            let target: Target = ask_for(run, &Request::Target { instance })?;
            logs_command::print(Path::new(&target.log), lines, follow)?;
        }
        Command::Drain {
            instance,
            cancel,
            wait,
        } => {
            let wait = Duration::from_secs(wait);
            let drained = drain_command::run(run, instance, cancel, wait, cli.json)?;
            if !drained {
                return Ok(ExitCode::FAILURE);
            }
        }
        asking => {
            let request = request(asking)?;
            let answer = ask(run, &request)?;
            let text = if cli.json {
                answer.to_string() + "\n"
            } else {
                text(&request, answer)?
            };
            print!("{text}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn request(command: Command) -> Result<Request> {
    Ok(match command {
        Command::Down => Request::Down,
        Command::Apply { file } => {
            let text = if file == Path::new("-") {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(&file)
            };
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            Request::Apply {
                file: file.display().to_string(),
                text,
            }
        }
        Command::Delete { composition } => Request::Delete { composition },
        Command::Ps { all: false } => Request::Ps,
        Command::Ps { all: true } => Request::PsAll,
        Command::Services => Request::Services,
        Command::Drops => Request::Drops,
        Command::Resolve { name, caller, kind } => Request::Resolve { name, caller, kind },
        Command::Explain { target, caller } => Request::Explain {
            target: target.join(" "),
            caller,
        },
        Command::Invite {
            site,
            roles,
            lifetime,
            uses,
        } => Request::Invite(Invitation {
            site,
            roles,
            lifetime_s: lifetime.as_secs(),
            uses,
        }),
        Command::Revoke { host } => Request::Revoke { host },
        Command::Members => Request::Members,
        Command::Metrics => Request::Metrics,
        Command::Status => Request::Status,
        Command::Up { .. }
        | Command::Network { .. }
        | Command::Join { .. }
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Flows { .. }
        | Command::Exec { .. }
        | Command::Logs { .. }
        | Command::Drain { .. } => {
            bail!("this command is no question to the daemon")
        }
    })
}

fn text(request: &Request, answer: Value) -> Result<String> {
    Ok(match request {
        Request::Ps | Request::PsAll => {
            let rows: Vec<InstanceRow> = serde_json::from_value(answer)?;
            render::instances(&rows, matches!(request, Request::PsAll))
        }
        Request::Drops => render::drops(&serde_json::from_value(answer)?),
        Request::Explain { .. } => serde_json::from_value::<Explanation>(answer)?.to_string(),
        Request::Metrics => serde_json::from_value(answer)?,
        Request::Members => render::members(&serde_json::from_value::<Vec<_>>(answer)?),
        Request::Services => render::objects(&answer),
        _ => render::object(&answer),
    })
}

/// Puts the same program with the same words in this process's place; answers why it could not.
fn start_again() -> anyhow::Error {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error.into(),
    };
    let words = std::env::args_os().skip(1);
    let error = std::process::Command::new(own).args(words).exec();
    anyhow::Error::from(error).context("cannot start the daemon again; start it with `margay up`")
}

/// Enters an instance from this very process: it goes on when the daemon is away.
fn exec(run: &Path, instance: String, command: &[String]) -> Result<ExitCode> {
    let target: Target = ask_for(run, &Request::Target { instance })?;
    let Some(init_pid) = target.pid else {
        bail!("{} does not run now; `margay ps` tells why", target.name);
    };
    let entrance = margay_keeper::InstanceTarget {
        instance: margay_core::id::InstanceId(target.instance),
        init_pid,
        cgroup: target.cgroup.into(),
        user: target.user,
        environment: target.environment,
    };
    Ok(margay_keeper::exec_in_instance(&entrance, command)?)
}

/// What is logged unless `MARGAY_LOG` says otherwise. The DNS server of the host's own address would
/// write a line for each question, and libp2p warns of what is usual: that nobody is known yet, or that
/// something was published already.
const LOGGED: &str = "info,hickory_server=warn,hickory_net=warn,libp2p_swarm=warn,\
                      libp2p_gossipsub=error,libp2p_kad=error";

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("MARGAY_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
